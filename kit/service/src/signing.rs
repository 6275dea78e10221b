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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keyed_hash_is_that_of_rfc_4231() {
        let tag = mac("Jefe").chain_update("what do ya want for nothing?");
        assert_eq!(
            HEXLOWER.encode(&tag.finalize().into_bytes()),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn a_derived_secret_depends_on_the_secret_and_the_purpose() {
        let cursors = derived_secret("a secret", "cursors");
        assert_eq!(cursors.len(), 64);
        assert_eq!(cursors, derived_secret("a secret", "cursors"));
        assert_ne!(cursors, derived_secret("a secret", "carts"));
        assert_ne!(cursors, derived_secret("another secret", "cursors"));
    }
}
