//! The output of `diesel print-schema`, and the relation between the shop's tables and the queue's.

diesel::table! {
    orders (id) {
        id -> Int8,
        customer -> Text,
        email -> Text,
        amount_cents -> Int8,
        placed_at -> Timestamptz,
    }
}

diesel::table! {
    invoices (number) {
        number -> Int8,
        order_id -> Int8,
    }
}

diesel::table! {
    order_jobs (order_id, purpose) {
        order_id -> Int8,
        purpose -> Text,
        job_id -> Nullable<Int8>,
    }
}

diesel::joinable!(invoices -> orders (order_id));
diesel::joinable!(order_jobs -> orders (order_id));
diesel::allow_tables_to_appear_in_same_query!(orders, invoices, order_jobs);
