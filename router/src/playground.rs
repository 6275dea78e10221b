//! The GraphQL playground page; embedded if Node was installed at build time.

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use include_dir::{Dir, include_dir};

static PAGE: Dir<'_> = include_dir!("$OUT_DIR/playground");

const MISSING: &str = "<!doctype html><meta charset=utf-8><title>Stoa</title><p>The playground is not part of this build: install Node.js 20 or later and run <code>cargo build --release</code> again; meanwhile <code>/graphql</code> works as usual.";

/// All resources are our own; the editor uses inline styles.
const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'";

pub(crate) async fn page() -> Response {
    match PAGE.get_file("index.html") {
        Some(file) => (
            [
                (header::CONTENT_SECURITY_POLICY, POLICY),
                (header::CACHE_CONTROL, "no-cache"),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            ],
            Html(file.contents()),
        )
            .into_response(),
        None => Html(MISSING).into_response(),
    }
}

/// The page's files; their names hold a hash of their content.
pub(crate) async fn asset(Path(path): Path<String>) -> Response {
    let Some(file) = PAGE.get_file(format!("assets/{path}")) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let kind = match path.rsplit_once('.').map(|(_, ending)| ending) {
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("ttf") => "font/ttf",
        Some("woff2") => "font/woff2",
        _ => "application/octet-stream",
    };
    (
        [
            (header::CONTENT_TYPE, kind),
            (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ],
        file.contents(),
    )
        .into_response()
}
