//! An application whose tables are in a crate of their own, which only knows `procrastinate-schema`.

use application_tables::orders;
use diesel::prelude::*;
use procrastinate::models::ProcrastinateJob;
use procrastinate::schema::procrastinate_jobs;
use procrastinate::{JobId, JobStatus, configure_task};
use serde_json::json;

use crate::support::{connect, database, sql};

#[test]
fn tables_of_another_crate_are_joined_with_the_models_and_store_job_ids() {
    let database = database();
    let mut connection = connect(&database);
    sql(
        &mut connection,
        "CREATE TABLE orders (
             id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
             customer text NOT NULL,
             mail_job_id bigint REFERENCES procrastinate_jobs (id) ON DELETE SET NULL
         )",
    );
    let mail = configure_task("mail", json!({})).defer_blocking(&mut connection).unwrap();
    diesel::insert_into(orders::table)
        .values([
            (orders::customer.eq("Ada"), orders::mail_job_id.eq(Some(mail))),
            (orders::customer.eq("Grace"), orders::mail_job_id.eq(None::<JobId>)),
        ])
        .execute(&mut connection)
        .unwrap();

    let waiting: Vec<(String, ProcrastinateJob)> = orders::table
        .inner_join(procrastinate_jobs::table)
        .filter(ProcrastinateJob::has_status(JobStatus::Todo))
        .select((orders::customer, ProcrastinateJob::as_select()))
        .load(&mut connection)
        .unwrap();
    assert_eq!(waiting.len(), 1);
    assert_eq!((waiting[0].0.as_str(), waiting[0].1.id), ("Ada", mail.into()));
}
