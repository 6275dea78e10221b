//! Cursors: a subscriber's position in the stream. A cursor is signed and bound
//! to the stream's identity, the subjects and the subscriber: another user
//! cannot use it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use stoa_schema::UserId;
use stoa_service::bus::StreamInfo;

use crate::error::Error;

const MAX_LENGTH: usize = 1024;
const TAG_LENGTH: usize = 16;
/// The scope of a cursor that is valid for every subscription of its principal.
pub const ANY_SCOPE: &str = "*";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Claims {
    /// The stream's identity.
    s: String,
    /// The subjects that were subscribed to, or [`ANY_SCOPE`].
    f: String,
    /// The principal.
    p: String,
    /// The last sequence seen.
    n: u64,
}

/// Makes and checks cursors.
#[derive(Clone)]
pub struct CursorKey(Hmac<Sha256>);

impl CursorKey {
    pub fn new(secret: &str) -> Self {
        Self(stoa_service::signing::mac(secret))
    }

    pub fn sign(&self, stream: &str, scope: &str, principal: &UserId, sequence: u64) -> String {
        let claims = Claims {
            s: stream.to_owned(),
            f: scope.to_owned(),
            p: principal.to_string(),
            n: sequence,
        };
        let mut bytes = serde_json::to_vec(&claims).unwrap_or_default();
        let tag = self.0.clone().chain_update(&bytes).finalize().into_bytes();
        bytes.extend_from_slice(&tag[..TAG_LENGTH]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Verifies a client's cursor; returns its sequence.
    ///
    /// # Errors
    /// `CURSOR_INVALID` if it does not verify, `FORBIDDEN` if it belongs
    /// to another user or subscription, `CURSOR_EXPIRED` if it belongs to another
    /// stream, or the stream no longer holds the events after it.
    pub fn verify(
        &self,
        cursor: &str,
        stream: &StreamInfo,
        scope: &str,
        principal: &UserId,
    ) -> Result<u64, Error> {
        if cursor.len() > MAX_LENGTH {
            return Err(Error::CursorInvalid);
        }
        let bytes = URL_SAFE_NO_PAD
            .decode(cursor)
            .map_err(|_| Error::CursorInvalid)?;
        let (claims, tag) = bytes
            .len()
            .checked_sub(TAG_LENGTH)
            .and_then(|at| bytes.split_at_checked(at))
            .ok_or(Error::CursorInvalid)?;
        self.0
            .clone()
            .chain_update(claims)
            .verify_truncated_left(tag)
            .map_err(|_| Error::CursorInvalid)?;
        let claims: Claims = serde_json::from_slice(claims).map_err(|_| Error::CursorInvalid)?;
        if claims.p != principal.as_str() || (claims.f != scope && claims.f != ANY_SCOPE) {
            return Err(Error::CursorNotOwned);
        }
        if claims.s != stream.identity || claims.n + 1 < stream.first || claims.n > stream.last {
            return Err(Error::CursorExpired);
        }
        Ok(claims.n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_opens_only_what_it_was_made_for() {
        let key = CursorKey::new("a secret");
        let (ada, lin) = (UserId::new(), UserId::new());
        let stream = |first, last| StreamInfo {
            identity: "one".into(),
            first,
            last,
        };
        let cursor = key.sign("one", "stoa.orders.a.*", &ada, 5);
        let open = |cursor: &str, stream: &StreamInfo, scope: &str, who: &UserId| {
            key.verify(cursor, stream, scope, who)
                .map_err(|error| stoa_service::error::CodedError::code(&error))
        };
        let scope = "stoa.orders.a.*";
        assert_eq!(open(&cursor, &stream(1, 9), scope, &ada), Ok(5));
        assert_eq!(open(&cursor, &stream(6, 9), scope, &ada), Ok(5));
        assert_eq!(
            open(&cursor, &stream(7, 9), scope, &ada),
            Err("CURSOR_EXPIRED")
        );
        assert_eq!(
            open(&cursor, &stream(1, 4), scope, &ada),
            Err("CURSOR_EXPIRED")
        );
        let other = StreamInfo {
            identity: "two".into(),
            ..stream(1, 9)
        };
        assert_eq!(open(&cursor, &other, scope, &ada), Err("CURSOR_EXPIRED"));
        assert_eq!(open(&cursor, &stream(1, 9), scope, &lin), Err("FORBIDDEN"));
        assert_eq!(
            open(&cursor, &stream(1, 9), "stoa.orders.a.b", &ada),
            Err("FORBIDDEN")
        );
        let any = key.sign("one", ANY_SCOPE, &ada, 5);
        assert_eq!(open(&any, &stream(1, 9), "stoa.orders.a.b", &ada), Ok(5));
        for index in 0..cursor.len() {
            let mut forged = cursor.clone().into_bytes();
            forged[index] = if forged[index] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            assert_eq!(
                open(&forged, &stream(1, 9), scope, &ada),
                Err("CURSOR_INVALID")
            );
        }
        assert_eq!(open("", &stream(1, 9), scope, &ada), Err("CURSOR_INVALID"));
    }
}
