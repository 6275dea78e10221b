//! Access tokens: JWTs signed with Ed25519 (RFC 8037), whose public key is
//! published as a JWK set (RFC 7517). Refresh tokens: 256 random bits, of
//! which only the hash is kept.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use data_encoding::HEXLOWER;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rand_core::{OsRng, RngCore};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use stoa_runtime::clock::Micros;
use stoa_runtime::identity::Role;
use stoa_schema::UserId;

use crate::error::Error;

pub const ISSUER: &str = "stoa";
pub const AUDIENCE: &str = "stoa";

/// Signs access tokens.
#[derive(Clone)]
pub struct SigningKey {
    encoding: EncodingKey,
    id: Arc<str>,
    public: [u8; 32],
}

/// The claims of an access token.
#[derive(Debug, Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    role: &'a str,
    /// The session, so that a token can be traced to a sign-in.
    sid: &'a str,
    iat: i64,
    exp: i64,
}

/// A private key that can be kept in a file: PKCS#8 in PEM.
pub fn generate_signing_key() -> String {
    let mut seed = [0_u8; 32];
    OsRng.fill_bytes(&mut seed);
    ed25519_dalek::SigningKey::from_bytes(&seed)
        .to_pkcs8_pem(LineEnding::LF)
        .map(|pem| pem.to_string())
        .unwrap_or_default()
}

impl SigningKey {
    /// Reads a private key in PKCS#8 PEM.
    ///
    /// # Errors
    /// If it is not an Ed25519 key.
    pub fn from_pem(pem: &str) -> Result<Self, String> {
        let key = ed25519_dalek::SigningKey::from_pkcs8_pem(pem)
            .map_err(|error| format!("not an Ed25519 private key in PKCS#8 PEM: {error}"))?;
        let der = key.to_pkcs8_der().map_err(|error| error.to_string())?;
        let public = key.verifying_key().to_bytes();
        let id = URL_SAFE_NO_PAD.encode(&Sha256::digest(public)[..9]);
        Ok(Self {
            encoding: EncodingKey::from_ed_der(der.as_bytes()),
            id: id.into(),
            public,
        })
    }

    /// The public key as a JWK set.
    pub fn jwks(&self) -> Value {
        json!({
            "keys": [{
                "kty": "OKP",
                "crv": "Ed25519",
                "alg": "EdDSA",
                "use": "sig",
                "kid": &*self.id,
                "x": URL_SAFE_NO_PAD.encode(self.public),
            }]
        })
    }

    /// An access token for a session.
    ///
    /// # Errors
    /// If signing fails.
    pub fn access_token(
        &self,
        user: &UserId,
        role: Role,
        session: &str,
        now: Micros,
        expires_at: Micros,
    ) -> Result<String, Error> {
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(self.id.to_string());
        let claims = Claims {
            iss: ISSUER,
            aud: AUDIENCE,
            sub: user.as_str(),
            role: role.into_str(),
            sid: session,
            iat: now.div_euclid(1_000_000),
            exp: expires_at.div_euclid(1_000_000),
        };
        Ok(jsonwebtoken::encode(&header, &claims, &self.encoding)?)
    }
}

/// A fresh refresh token.
pub fn new_refresh_token() -> String {
    let mut bytes = [0_u8; 32];
    OsRng.fill_bytes(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The hash of a refresh token, as stored. The token is random enough to need
/// no salt.
pub fn hash_refresh_token(token: &str) -> String {
    HEXLOWER.encode(&Sha256::digest(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signing_key_is_read_from_pem_with_the_same_public_key_each_time() {
        let pem = generate_signing_key();
        let jwks = SigningKey::from_pem(&pem).unwrap().jwks();
        assert_eq!(SigningKey::from_pem(&pem).unwrap().jwks(), jwks);
        let other = SigningKey::from_pem(&generate_signing_key()).unwrap();
        assert_ne!(other.jwks()["keys"][0]["kid"], jwks["keys"][0]["kid"]);
        let key = &jwks["keys"][0];
        assert_eq!(key["kty"], "OKP");
        assert_eq!(key["crv"], "Ed25519");
        assert_eq!(key["alg"], "EdDSA");
        let public = URL_SAFE_NO_PAD.decode(key["x"].as_str().unwrap());
        assert_eq!(public.unwrap().len(), 32);
        assert_eq!(key.get("d"), None, "the private key is not published");
    }

    #[test]
    fn what_is_no_ed25519_key_is_refused() {
        let pem = generate_signing_key();
        let cut_off = &pem[..pem.len() / 2];
        for bad in ["", "nonsense", cut_off] {
            let refused = SigningKey::from_pem(bad).map(|_| ());
            let message = refused.unwrap_err();
            assert!(message.contains("Ed25519"), "{bad:?}: {message}");
        }
    }

    #[test]
    fn a_refresh_token_is_random_and_stored_as_its_hash() {
        let (one, two) = (new_refresh_token(), new_refresh_token());
        assert_ne!(one, two);
        assert_eq!(URL_SAFE_NO_PAD.decode(&one).unwrap().len(), 32);
        assert_ne!(hash_refresh_token(&one), hash_refresh_token(&two));
        // SHA-256 of "abc" (FIPS 180-2).
        assert_eq!(
            hash_refresh_token("abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
