//! The cookie that holds a browser's refresh token.

use async_graphql::{Context, Result};
use stoa_service::graphql::call_context;

use super::SecureCookies;

const COOKIE: &str = "stoa_refresh";

/// Sets the cookie for so many seconds; 0 deletes it.
pub fn set_cookie(ctx: &Context<'_>, value: &str, max_age: u64) {
    let secure = if ctx.data::<SecureCookies>().is_ok_and(|secure| secure.0) {
        "; Secure"
    } else {
        ""
    };
    ctx.append_http_header(
        "set-cookie",
        format!(
            "{COOKIE}={value}; Path=/graphql; Max-Age={max_age}; HttpOnly; SameSite=Strict{secure}"
        ),
    );
}

/// The refresh token of the cookie.
pub fn cookie_token(ctx: &Context<'_>) -> Result<Option<String>> {
    Ok(call_context(ctx)?.cookies.get(COOKIE).cloned())
}
