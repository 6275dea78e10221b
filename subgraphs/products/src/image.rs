//! Product images, drawn from the SKU, so that the shop looks like one without
//! image files or a network.

use axum::Router;
use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::domain::MAX_SKU;

/// The URL path of the image for a SKU.
pub fn path(sku: &str) -> String {
    format!("/images/products/{sku}.svg")
}

pub fn routes() -> Router {
    Router::new().route("/images/products/{file}", get(image))
}

async fn image(Path(file): Path<String>) -> Response {
    let Some(sku) = file.strip_suffix(".svg").filter(|sku| {
        (1..=MAX_SKU).contains(&sku.len())
            && sku
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    }) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, "image/svg+xml"),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'",
        ),
    ];
    (headers, svg(sku)).into_response()
}

/// A gradient, three shapes and the SKU; the same for the same SKU.
fn svg(sku: &str) -> String {
    // FNV-1a: any spread of bits will do.
    let mut seed = sku.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut next = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % below
    };
    let hue = next(360);
    let other = (hue + 40 + next(80)) % 360;
    let shapes: String = (0..3)
        .map(|index| {
            let (x, y, size) = (60 + next(280), 60 + next(220), 50 + next(90));
            let opacity = 35 + index * 15;
            match next(3) {
                0 => format!("<circle cx=\"{x}\" cy=\"{y}\" r=\"{size}\" opacity=\".{opacity}\"/>"),
                1 => format!("<rect x=\"{x}\" y=\"{y}\" width=\"{size}\" height=\"{size}\" rx=\"18\" opacity=\".{opacity}\"/>"),
                _ => format!("<path d=\"M{x} {y}l{size} {size}h-{size}z\" opacity=\".{opacity}\"/>"),
            }
        })
        .collect();
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 400 400\" role=\"img\" aria-label=\"{sku}\">\
<defs><linearGradient id=\"g\" x1=\"0\" y1=\"0\" x2=\"1\" y2=\"1\"><stop stop-color=\"hsl({hue} 70% 62%)\"/><stop offset=\"1\" stop-color=\"hsl({other} 65% 42%)\"/></linearGradient></defs>\
<rect width=\"400\" height=\"400\" fill=\"url(#g)\"/><g fill=\"#fff\">{shapes}</g>\
<text x=\"200\" y=\"372\" font-family=\"system-ui,sans-serif\" font-size=\"26\" font-weight=\"600\" fill=\"#fff\" text-anchor=\"middle\">{sku}</text></svg>"
    )
}
