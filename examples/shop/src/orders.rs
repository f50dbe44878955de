//! Orders, and the jobs that belong to them.

use chrono::{DateTime, Utc};
use diesel::dsl::{count_star, sql};
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use procrastinate::JobId;
use procrastinate::models::ProcrastinateJob;
use procrastinate::schema::procrastinate_jobs;
use serde::Deserialize;

use crate::ShopError;
use crate::schema::{order_jobs, orders};
use crate::tasks::{send_confirmation, write_invoice};

// Lets queries join the shop's tables with the queue's, along the foreign key.
procrastinate::allow_with_procrastinate!(orders, order_jobs);
diesel::joinable!(order_jobs -> procrastinate_jobs (job_id));

#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = orders, check_for_backend(diesel::pg::Pg))]
pub struct Order {
    pub id: i64,
    pub customer: String,
    pub email: String,
    pub amount_cents: i64,
    pub placed_at: DateTime<Utc>,
}

/// The fields of the order form.
#[derive(Debug, Clone, Deserialize, Insertable)]
#[diesel(table_name = orders)]
pub struct NewOrder {
    pub customer: String,
    pub email: String,
    pub amount_cents: i64,
}

/// A job about an order. `None` if the job was deleted because of its age.
#[derive(Debug, Queryable)]
pub struct OrderJob {
    pub purpose: String,
    pub job: Option<ProcrastinateJob>,
}

impl Order {
    pub async fn find(id: i64, connection: &mut AsyncPgConnection) -> QueryResult<Self> {
        orders::table.find(id).select(Self::as_select()).first(connection).await
    }

    pub async fn latest(connection: &mut AsyncPgConnection) -> QueryResult<Vec<Self>> {
        orders::table.order(orders::id.desc()).limit(50).select(Self::as_select()).load(connection).await
    }

    /// Stores an order and defers its confirmation and its invoice, in one transaction.
    pub async fn place(new: NewOrder, connection: &mut AsyncPgConnection) -> Result<Self, ShopError> {
        if new.amount_cents < 1 {
            return Err(ShopError::FreeOfCharge { amount_cents: new.amount_cents });
        }
        connection
            .transaction(async |connection| {
                let insert = diesel::insert_into(orders::table).values(new).returning(Self::as_select());
                let order: Self = insert.get_result(connection).await?;
                let job = send_confirmation(order.id).defer(connection).await?;
                order.add_job("confirmation", job, connection).await?;
                let job = write_invoice(order.id).defer(connection).await?;
                order.add_job("invoice", job, connection).await?;
                Ok(order)
            })
            .await
    }

    async fn add_job(&self, purpose: &str, job: JobId, connection: &mut AsyncPgConnection) -> QueryResult<()> {
        let values =
            (order_jobs::order_id.eq(self.id), order_jobs::purpose.eq(purpose), order_jobs::job_id.eq(i64::from(job)));
        diesel::insert_into(order_jobs::table).values(values).execute(connection).await?;
        Ok(())
    }

    /// Loads the jobs about this order in one query.
    pub async fn jobs(&self, connection: &mut AsyncPgConnection) -> QueryResult<Vec<OrderJob>> {
        order_jobs::table
            .left_join(procrastinate_jobs::table)
            .filter(order_jobs::order_id.eq(self.id))
            .order(order_jobs::purpose)
            .select((order_jobs::purpose, Option::<ProcrastinateJob>::as_select()))
            .load(connection)
            .await
    }

    /// Returns the number and the total amount of the orders since then.
    pub async fn sales_since(since: DateTime<Utc>, connection: &mut AsyncPgConnection) -> QueryResult<(i64, i64)> {
        let cents = sql::<BigInt>("coalesce(sum(amount_cents), 0)::bigint");
        orders::table.filter(orders::placed_at.ge(since)).select((count_star(), cents)).first(connection).await
    }
}
