//! The stylesheet, the script and the icon. Their addresses contain a hash of their contents, so that a browser can
//! keep each version.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

/// A file that the pages need.
#[derive(Debug)]
pub(crate) struct Asset {
    /// As in `0f3a….css`.
    pub(crate) name: String,
    contents: &'static str,
    kind: &'static str,
}

pub(crate) static STYLE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("css", include_str!("assets/style.css"), "text/css; charset=utf-8"));

pub(crate) static SCRIPT: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("js", include_str!("assets/script.js"), "text/javascript; charset=utf-8"));

pub(crate) static ICON: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("svg", include_str!("assets/icon.svg"), "image/svg+xml"));

impl Asset {
    fn new(extension: &str, contents: &'static str, kind: &'static str) -> Self {
        let mut hasher = DefaultHasher::new();
        contents.hash(&mut hasher);
        Self { name: format!("{:016x}.{extension}", hasher.finish()), contents, kind }
    }
}

/// The file of this name. One of another version is gone.
pub(crate) async fn asset(axum::extract::Path(name): axum::extract::Path<String>) -> Response {
    match [&*STYLE, &*SCRIPT, &*ICON].into_iter().find(|asset| asset.name == name) {
        Some(asset) => {
            let headers =
                [(header::CONTENT_TYPE, asset.kind), (header::CACHE_CONTROL, "public, max-age=31536000, immutable")];
            (headers, asset.contents).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
