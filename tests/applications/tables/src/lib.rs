//! The tables of an application, in a crate that does not depend on the whole queue. The test `database::tables_crate`
//! joins them with the models.

#![allow(missing_docs, reason = "Diesel generates the items of a table")]

use procrastinate_schema::schema::procrastinate_jobs;

diesel::table! {
    orders (id) {
        id -> BigInt,
        customer -> Text,
        mail_job_id -> Nullable<BigInt>,
    }
}
diesel::joinable!(orders -> procrastinate_jobs (mail_job_id));
procrastinate_schema::allow_with_procrastinate!(orders);
