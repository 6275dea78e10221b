//! Keyed hashes (HMAC-SHA-256, RFC 2104): to sign what comes back later.

use data_encoding::HEXLOWER;
use hmac::digest::Key;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// A keyed hash under a secret of any length.
pub fn mac(secret: &str) -> Hmac<Sha256> {
    // HMAC takes a key of any length: the second case never comes.
    Hmac::new_from_slice(secret.as_bytes())
        .unwrap_or_else(|_| Hmac::new(&Key::<Hmac<Sha256>>::default()))
}

/// A secret for one purpose, derived from another secret.
pub fn derived_secret(secret: &str, purpose: &str) -> String {
    let tag = mac(secret).chain_update(purpose).finalize().into_bytes();
    HEXLOWER.encode(&tag)
}
