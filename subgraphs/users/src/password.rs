//! Passwords: Argon2id with the library's parameters (19 MiB, two passes),
//! on blocking threads, a few at a time.

use std::sync::Arc;
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use tokio::sync::Semaphore;

use crate::error::Error;

/// How many hashes may be computed at once; each takes 19 MiB.
const MAX_CONCURRENT_HASHES: usize = 4;
/// How long to wait until a hash may be computed.
const PERMIT_TIMEOUT: Duration = Duration::from_secs(5);

/// Hashes and verifies.
#[derive(Clone)]
pub struct Hasher {
    permits: Arc<Semaphore>,
    /// Verified against when there is no account, so that the response takes as
    /// long as when there is one.
    dummy_hash: Arc<str>,
}

impl Hasher {
    pub fn new() -> Self {
        let dummy_hash = hash_blocking("no account has this password").unwrap_or_default();
        Self {
            permits: Arc::new(Semaphore::new(MAX_CONCURRENT_HASHES)),
            dummy_hash: dummy_hash.into(),
        }
    }

    /// A new hash in PHC format, with a fresh salt.
    ///
    /// # Errors
    /// [`Error::Busy`] if too many wait.
    pub async fn hash(&self, password: &str) -> Result<String, Error> {
        let password = password.to_owned();
        self.run(move || hash_blocking(&password)).await?
    }

    /// Whether a password matches a hash; without a hash, false after the same time.
    ///
    /// # Errors
    /// [`Error::Busy`] if too many wait.
    pub async fn verify(&self, password: &str, hash: Option<&str>) -> Result<bool, Error> {
        let known = hash.is_some();
        let hash = hash.unwrap_or(&self.dummy_hash).to_owned();
        let password = password.to_owned();
        let fits = self
            .run(move || {
                PasswordHash::new(&hash).is_ok_and(|hash| {
                    Argon2::default()
                        .verify_password(password.as_bytes(), &hash)
                        .is_ok()
                })
            })
            .await?;
        Ok(fits && known)
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let permit = tokio::time::timeout(PERMIT_TIMEOUT, self.permits.clone().acquire_owned())
            .await
            .map_err(|_| Error::Busy)?
            .map_err(|_| Error::Busy)?;
        tokio::task::spawn_blocking(move || {
            let done = work();
            drop(permit);
            done
        })
        .await
        .map_err(|_| Error::Hashing)
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self::new()
    }
}

fn hash_blocking(password: &str) -> Result<String, Error> {
    Argon2::default()
        .hash_password(password.as_bytes())
        .map(|hash| hash.to_string())
        .map_err(|_| Error::Hashing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_matches_its_own_hash_alone() {
        let hasher = Hasher::new();
        let hash = hasher.hash("a long enough secret").await.unwrap();
        let cases = [
            ("a long enough secret", Some(&*hash), true),
            ("a long enough secret ", Some(&*hash), false),
            ("A long enough secret", Some(&*hash), false),
            ("", Some(&*hash), false),
            ("a long enough secret", None, false),
            // The password of the hash that is used when there is no account.
            ("no account has this password", None, false),
            // The hash of a deleted account.
            ("!", Some("!"), false),
            ("", Some(""), false),
        ];
        for (password, hash, expected) in cases {
            let matches = hasher.verify(password, hash).await.unwrap();
            assert_eq!(matches, expected, "{password:?} {hash:?}");
        }
    }

    #[tokio::test]
    async fn every_hash_has_its_own_salt() {
        let hasher = Hasher::new();
        let one = hasher.hash("a long enough secret").await.unwrap();
        let two = hasher.hash("a long enough secret").await.unwrap();
        assert_ne!(one, two);
    }
}
