//! The pages.

use askama::Template;
use axum::Form;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};

use crate::orders::{NewOrder, Order, OrderJob};
use crate::{Shop, ShopError};

pub fn pages(shop: Shop) -> Router {
    Router::new()
        .route("/", get(show_orders))
        .route("/orders", post(place_order))
        .route("/orders/{id}", get(show_order))
        .with_state(shop)
}

#[derive(Template)]
#[template(path = "orders.html")]
struct OrdersPage {
    orders: Vec<Order>,
}

#[derive(Template)]
#[template(path = "order.html")]
struct OrderPage {
    order: Order,
    jobs: Vec<OrderJob>,
}

async fn show_orders(State(shop): State<Shop>) -> Result<Response, ShopError> {
    let orders = Order::latest(&mut *shop.pool.get().await?).await?;
    Ok(page(&OrdersPage { orders }))
}

async fn place_order(State(shop): State<Shop>, Form(new): Form<NewOrder>) -> Result<Redirect, ShopError> {
    let order = Order::place(new, &mut *shop.pool.get().await?).await?;
    Ok(Redirect::to(&format!("/orders/{}", order.id)))
}

async fn show_order(State(shop): State<Shop>, Path(id): Path<i64>) -> Result<Response, ShopError> {
    let mut connection = shop.pool.get().await?;
    let order = Order::find(id, &mut connection).await?;
    let jobs = order.jobs(&mut connection).await?;
    Ok(page(&OrderPage { order, jobs }))
}

fn page(page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => Html(html).into_response(),
        Err(error) => {
            tracing::error!("could not render a page: {error}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

impl IntoResponse for ShopError {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::FreeOfCharge { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Database(diesel::result::Error::NotFound) => StatusCode::NOT_FOUND,
            Self::Pool(_) => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if status.is_server_error() {
            tracing::error!("{self}: {:?}", std::error::Error::source(&self));
        }
        (status, self.to_string()).into_response()
    }
}
