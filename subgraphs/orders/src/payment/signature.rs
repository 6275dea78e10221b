//! Signed webhooks, in Stripe's format: `t=SECONDS,v1=HEX`, where the hex
//! is the HMAC-SHA256 of `SECONDS.BODY`
//! (<https://docs.stripe.com/webhooks#verify-manually>).

use std::time::Duration;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use stoa_runtime::clock::Micros;
use stoa_service::signing;

/// How far a signature's time may differ from the current time.
pub const TOLERANCE: Duration = Duration::from_secs(5 * 60);
const MICROS: i64 = 1_000_000;

/// Why a webhook's signature is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSignature {
    #[error("the signature header is missing, or not of the form t=SECONDS,v1=HEX")]
    Malformed,
    #[error("the signature's time is more than five minutes off")]
    TooOld,
    #[error("the signature does not match")]
    Wrong,
}

/// The signature header's value for a body.
pub fn sign(secret: &str, body: &[u8], now: Micros) -> String {
    let at = now / MICROS;
    let tag = mac(secret, at, body).finalize().into_bytes();
    format!("t={at},v1={}", HEXLOWER.encode(&tag))
}

/// Checks that one of a header's signatures matches the body, in constant time.
/// There may be several while a secret is being rotated.
///
/// # Errors
/// Why the header is rejected.
pub fn verify(secret: &str, header: &str, body: &[u8], now: Micros) -> Result<(), BadSignature> {
    let mut at = None;
    let mut tags = Vec::new();
    for (name, value) in header.split(',').filter_map(|part| part.split_once('=')) {
        match name.trim() {
            "t" => at = value.trim().parse::<i64>().ok(),
            "v1" => tags.extend(HEXLOWER_PERMISSIVE.decode(value.trim().as_bytes())),
            _ => {}
        }
    }
    let at = at.filter(|_| !tags.is_empty());
    let at = at.ok_or(BadSignature::Malformed)?;
    if (now / MICROS).abs_diff(at) > TOLERANCE.as_secs() {
        return Err(BadSignature::TooOld);
    }
    let expected = mac(secret, at, body);
    tags.iter()
        .any(|tag| expected.clone().verify_slice(tag).is_ok())
        .then_some(())
        .ok_or(BadSignature::Wrong)
}

fn mac(secret: &str, at: i64, body: &[u8]) -> Hmac<Sha256> {
    let mut mac = signing::mac(secret);
    mac.update(at.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Micros = 1_800_000_000_000_000;
    const SECRET: &str = "whsec_test";

    #[test]
    fn only_the_same_body_secret_and_time_verify() {
        let header = sign(SECRET, b"{}", NOW);
        assert_eq!(verify(SECRET, &header, b"{}", NOW), Ok(()));
        let replaced = format!("{header},v1={}", "0".repeat(64));
        assert_eq!(verify(SECRET, &replaced, b"{}", NOW), Ok(()));
        for (secret, body) in [("other", &b"{}"[..]), (SECRET, b"{ }")] {
            assert_eq!(verify(secret, &header, body, NOW), Err(BadSignature::Wrong));
        }
        let late = NOW + 301 * MICROS;
        assert_eq!(
            verify(SECRET, &header, b"{}", late),
            Err(BadSignature::TooOld)
        );
        let early = NOW - 301 * MICROS;
        assert_eq!(
            verify(SECRET, &header, b"{}", early),
            Err(BadSignature::TooOld)
        );
        // The time is signed too.
        let moved = header.replace("t=18", "t=17");
        assert!(verify(SECRET, &moved, b"{}", NOW).is_err());
        for bad in [
            "",
            "t=1",
            "v1=00",
            "t=x,v1=00",
            "t=1800000000,v1=zz",
            "t=1800000000,v1=é",
        ] {
            assert_eq!(
                verify(SECRET, bad, b"{}", NOW),
                Err(BadSignature::Malformed),
                "{bad}"
            );
        }
    }

    #[test]
    fn signs_as_the_documentation_says() {
        // echo -n '1800000000.{}' | openssl dgst -sha256 -hmac whsec_test
        assert_eq!(
            sign(SECRET, b"{}", NOW),
            "t=1800000000,v1=482e6337ac5272392d375c6fdc4d52a7e615dc2facedab0ffe155ddfd6a56e66"
        );
    }
}
