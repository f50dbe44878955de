//! The tasks. Each task can run more than once, for example after a crash.

use chrono::{DateTime, TimeDelta};
use diesel::dsl::max;
use diesel::prelude::*;
use diesel_async::{AsyncConnection, RunQueryDsl};
use procrastinate::retry::RetryStrategy;
use procrastinate::{State, TaskError, periodic, task};

use crate::Shop;
use crate::ShopError;
use crate::orders::Order;
use crate::schema::invoices;

/// The address that receives the reports.
const OFFICE: &str = "office@shop.example";

fn patiently() -> RetryStrategy {
    RetryStrategy::new().max_attempts(5).wait(10).exponential_wait(2)
}

/// Sends the confirmation of an order. Retries while the mail server is busy.
#[task(queue = "mails", retry = patiently())]
pub async fn send_confirmation(shop: State<Shop>, order: i64) -> Result<(), TaskError> {
    // Return the connection to the pool before sending the mail, which can take long.
    let order = Order::find(order, &mut *shop.pool.get().await?).await?;
    let text = format!("Dear {}, thank you for order {}.", order.customer, order.id);
    shop.mailer.send(&order.email, text).await?;
    Ok(())
}

/// Writes the invoice and defers its mail. Only one runs at a time, so the invoice numbers have no gaps.
#[task(queue = "invoices", lock = "invoices", retry = patiently())]
pub async fn write_invoice(shop: State<Shop>, order: i64) -> Result<(), TaskError> {
    let mut connection = shop.pool.get().await?;
    connection
        .transaction(async |connection| {
            let written: Option<i64> = invoices::table
                .filter(invoices::order_id.eq(order))
                .select(invoices::number)
                .first(connection)
                .await
                .optional()?;
            if written.is_none() {
                let last: Option<i64> = invoices::table.select(max(invoices::number)).first(connection).await?;
                let number = last.unwrap_or(0) + 1;
                let values = (invoices::number.eq(number), invoices::order_id.eq(order));
                diesel::insert_into(invoices::table).values(values).execute(connection).await?;
                // Defers the mail in the transaction that stores the invoice.
                mail_invoice(number, order).defer(connection).await?;
            }
            Ok::<_, ShopError>(())
        })
        .await?;
    Ok(())
}

#[task(queue = "mails", retry = patiently())]
pub async fn mail_invoice(shop: State<Shop>, number: i64, order: i64) -> Result<(), TaskError> {
    let order = Order::find(order, &mut *shop.pool.get().await?).await?;
    let text = format!("Invoice {number}: {} cents, please.", order.amount_cents);
    shop.mailer.send(&order.email, text).await?;
    Ok(())
}

/// Reports the orders of the last day, every morning at seven (UTC).
#[periodic(cron = "0 7 * * *")]
#[task(queue = "reports")]
pub async fn report_sales(shop: State<Shop>, timestamp: i64) -> Result<(), TaskError> {
    let morning = DateTime::from_timestamp(timestamp, 0).ok_or("invalid timestamp")?;
    let (orders, cents) = Order::sales_since(morning - TimeDelta::days(1), &mut *shop.pool.get().await?).await?;
    shop.mailer.send(OFFICE, format!("{orders} orders, {cents} cents")).await?;
    Ok(())
}
