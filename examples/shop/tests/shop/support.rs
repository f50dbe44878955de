//! A shop on one connection, in a transaction that is rolled back.

use std::sync::OnceLock;

use axum::body::{Body, to_bytes};
use axum::http::{Request, header};
use procrastinate::{App, DieselConnector, testing};
use shop::mail::Mailer;
use shop::orders::{NewOrder, Order};
use shop::queue::{migrations, pool, queue};
use shop::{Shop, web};
use throwaway_postgres::{Database, Server};
use tokio::sync::OnceCell;
use tower::ServiceExt;

pub struct TestShop {
    pub shop: Shop,
    pub queue: App,
}

pub struct Page {
    pub status: u16,
    pub location: Option<String>,
    pub body: String,
}

/// Creates an empty database.
pub fn database() -> Database {
    Server::shared().unwrap().create_database("shop").unwrap()
}

/// Returns the database of all tests that roll back.
async fn migrated() -> &'static Database {
    static DATABASE: OnceLock<Database> = OnceLock::new();
    static MIGRATED: OnceCell<()> = OnceCell::const_new();
    let database = DATABASE.get_or_init(database);
    MIGRATED
        .get_or_init(|| async {
            let connector = DieselConnector::new(pool(database.url()).await.unwrap());
            connector.run_pending_migrations(migrations()).await.unwrap();
        })
        .await;
    database
}

impl TestShop {
    pub async fn new() -> Self {
        let pool = testing::test_pool(migrated().await.url()).await.unwrap();
        let shop = Shop { pool, mailer: Mailer::outbox() };
        Self { queue: queue(&shop).unwrap(), shop }
    }

    pub async fn place(&self, new: NewOrder) -> Order {
        Order::place(new, &mut self.shop.pool.get().await.unwrap()).await.unwrap()
    }

    pub async fn get(&self, path: &str) -> Page {
        self.ask(Request::get(path).body(Body::empty()).unwrap()).await
    }

    pub async fn post(&self, path: &str, form: &'static str) -> Page {
        let request = Request::post(path).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.ask(request.body(Body::from(form)).unwrap()).await
    }

    async fn ask(&self, request: Request<Body>) -> Page {
        let response = web::pages(self.shop.clone()).oneshot(request).await.unwrap();
        let location = response.headers().get(header::LOCATION).map(|value| value.to_str().unwrap().to_owned());
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        Page { status, location, body: String::from_utf8(body.to_vec()).unwrap() }
    }
}

pub fn by_ada(amount_cents: i64) -> NewOrder {
    NewOrder { customer: "Ada".into(), email: "ada@example.org".into(), amount_cents }
}
