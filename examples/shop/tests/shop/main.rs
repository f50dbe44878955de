//! Tests of the shop. Most of them run in a transaction on one migrated database, and two run the program itself.
#![allow(missing_docs, unreachable_pub, reason = "nothing here is a public surface")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod program;
mod support;

use std::time::Duration;

use procrastinate::testing::JobOutcome;
use procrastinate::{assert_deferred, assert_not_deferred, testing};
use shop::ShopError;
use shop::mail::Mail;
use shop::orders::{NewOrder, Order};
use shop::tasks::{mail_invoice, report_sales, send_confirmation, write_invoice};
use support::{TestShop, by_ada};

#[tokio::test]
async fn an_order_comes_with_its_confirmation_and_its_invoice() {
    let test = TestShop::new().await;
    let mut connection = test.shop.pool.get().await.unwrap();
    let order = Order::place(by_ada(500), &mut connection).await.unwrap();

    assert_deferred!(&mut connection, send_confirmation(order.id));
    assert_deferred!(&mut connection, write_invoice(order.id).lock("invoices"));
    assert_not_deferred!(&mut connection, mail_invoice(1, order.id));
    let jobs = order.jobs(&mut connection).await.unwrap();
    let states: Vec<_> =
        jobs.iter().map(|line| (line.purpose.as_str(), line.job.as_ref().unwrap().status.as_str())).collect();
    assert_eq!(states, [("confirmation", "todo"), ("invoice", "todo")]);
}

#[tokio::test]
async fn an_order_that_is_refused_leaves_nothing_to_do() {
    let test = TestShop::new().await;
    let mut connection = test.shop.pool.get().await.unwrap();
    let refused = Order::place(by_ada(0), &mut connection).await.unwrap_err();
    assert!(matches!(refused, ShopError::FreeOfCharge { amount_cents: 0 }), "{refused}");
    assert_eq!(testing::deferred_jobs(&mut connection).await.unwrap(), []);
}

#[tokio::test]
async fn the_customer_gets_two_mails_and_the_page_shows_what_is_done() {
    let test = TestShop::new().await;
    let page = test.post("/orders", "customer=Ada+%3C3&email=ada%40example.org&amount_cents=500").await;
    assert_eq!(page.status, 303);
    let place = page.location.unwrap();
    let page = test.get(&place).await;
    assert!(page.body.contains("<td>confirmation</td><td>todo</td>"), "{}", page.body);
    assert!(page.body.contains("of Ada &#60;3</h1>"), "{}", page.body);

    let ran = test.queue.test_worker().unwrap().run_until_empty().await.unwrap().expect_success();
    assert_eq!(ran.task_names(), ["send_confirmation", "write_invoice", "mail_invoice"]);
    let texts: Vec<String> = test.shop.mailer.sent().into_iter().map(|mail| mail.text).collect();
    let order = place.rsplit('/').next().unwrap();
    assert_eq!(texts, [format!("Dear Ada <3, thank you for order {order}."), "Invoice 1: 500 cents, please.".into()]);
    let page = test.get(&place).await;
    assert!(page.body.contains("<td>confirmation</td><td>succeeded</td><td>1</td>"), "{}", page.body);
    assert!(page.body.contains("<td>invoice</td><td>succeeded</td><td>1</td>"), "{}", page.body);
}

#[tokio::test]
async fn a_busy_mail_server_is_tried_again() {
    let test = TestShop::new().await;
    let order = test.place(by_ada(500)).await;
    test.shop.mailer.fail_once("busy");
    let mut worker = test.queue.worker().queues(["mails"]).into_test_worker().unwrap();
    let ran = worker.run_until_empty().await.unwrap();
    let JobOutcome::Retried { error, .. } = &ran[0].ending else { panic!("{ran}") };
    assert_eq!(error, "could not send a mail to ada@example.org: busy");
    assert_eq!(test.shop.mailer.sent(), []);

    // 10 seconds, and 2 to the power of the attempts.
    worker.advance(Duration::from_secs(11));
    assert_eq!(worker.run_until_empty().await.unwrap().len(), 0);
    worker.advance(Duration::from_secs(1));
    let _ = worker.run_until_empty().await.unwrap().expect_success();
    let text = format!("Dear Ada, thank you for order {}.", order.id);
    assert_eq!(test.shop.mailer.sent(), [Mail { to: "ada@example.org".into(), text }]);
}

#[tokio::test]
async fn an_invoice_that_is_written_twice_has_one_number() {
    let test = TestShop::new().await;
    let order = test.place(by_ada(500)).await;
    // As after a crash: the work was done, but its outcome was not stored.
    test.queue.defer(write_invoice(order.id)).await.unwrap();
    let ran = test.queue.test_worker().unwrap().run_until_empty().await.unwrap().expect_success();
    assert_eq!(ran.task_names().iter().filter(|name| **name == "mail_invoice").count(), 1, "{ran}");
}

#[tokio::test]
async fn the_office_gets_the_sales_of_the_day_at_seven() {
    let test = TestShop::new().await;
    for cents in [500, 700] {
        test.place(by_ada(cents)).await;
    }
    let today = chrono::Utc::now().date_naive();
    let tomorrow_at_seven = (today + chrono::Days::new(1)).and_hms_opt(7, 0, 0).unwrap().and_utc();
    let mut worker = test.queue.worker().queues(["reports"]).into_test_worker().unwrap();
    worker.advance_to(tomorrow_at_seven);
    let ran = worker.run_until_empty().await.unwrap().expect_success();
    let last = ran.last().expect("a report is due at seven");
    assert_eq!(last.job.args["timestamp"], tomorrow_at_seven.timestamp());
    assert!(
        test.shop
            .mailer
            .sent()
            .contains(&Mail { to: "office@shop.example".into(), text: "2 orders, 1200 cents".into() })
    );
    assert_not_deferred!(&mut test.shop.pool.get().await.unwrap(), report_sales(0));
}

#[tokio::test]
async fn an_order_outlives_the_jobs_about_it() {
    let test = TestShop::new().await;
    let order = test.place(by_ada(500)).await;
    let _ = test.queue.test_worker().unwrap().run_until_empty().await.unwrap().expect_success();
    {
        let mut connection = test.shop.pool.get().await.unwrap();
        let jobs = procrastinate::schema::procrastinate_jobs::table;
        diesel_async::RunQueryDsl::execute(diesel::delete(jobs), &mut *connection).await.unwrap();
        assert!(order.jobs(&mut connection).await.unwrap().iter().all(|line| line.job.is_none()));
    }
    let page = test.get(&format!("/orders/{}", order.id)).await;
    assert!(page.body.contains("<td>invoice</td><td>done long ago</td>"), "{}", page.body);
}

#[tokio::test]
async fn there_are_pages_for_what_there_is() {
    let test = TestShop::new().await;
    assert_eq!(test.get("/orders/0").await.status, 404);
    assert_eq!(test.post("/orders", "customer=Ada&email=ada%40example.org&amount_cents=0").await.status, 422);
    let order = test.place(NewOrder { customer: "Grace".into(), ..by_ada(1) }).await;
    let page = test.get("/").await;
    assert!(page.body.contains(&format!("Order {}</a> of Grace", order.id)), "{}", page.body);
}
