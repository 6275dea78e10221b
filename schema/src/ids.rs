//! Typed identifiers: UUIDv7 (RFC 9562) in lower-case text, opaque to clients.
//! They sort by the time at which they were created.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A new UUIDv7 as text.
pub fn new_id() -> String {
    Uuid::now_v7().to_string()
}

/// Whether a client's text has the form of an identifier.
pub fn is_id(text: &str) -> bool {
    text.len() == 36 && Uuid::try_parse(text).is_ok()
}

macro_rules! id {
    ($(#[$doc:meta] $name:ident),+ $(,)?) => {$(
        #[$doc]
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// A fresh identifier.
            #[allow(clippy::new_without_default, reason = "a default identifier makes no sense")]
            pub fn new() -> Self {
                Self(new_id())
            }

            /// Reads a client's text; `None` if it is not an identifier.
            pub fn parse(text: &str) -> Option<Self> {
                is_id(text).then(|| Self(text.to_ascii_lowercase()))
            }

            /// Takes text from our own databases or services, without checking it.
            pub fn trusted(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    )+};
}

id! {
    /// Identifies a user of the users service.
    UserId,
    /// Identifies a product of the products service.
    ProductId,
    /// Identifies a category of the products service.
    CategoryId,
    /// Identifies an order of the orders service.
    OrderId,
    /// Identifies a notification of the notifications service.
    NotificationId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_age_and_reject_what_is_no_id() {
        let ids: Vec<_> = (0..100).map(|_| OrderId::new()).collect();
        assert!(ids.is_sorted());
        for text in [
            "",
            "1",
            "not-an-id",
            "0193f3c8-0000-7000-8000-00000000000g",
            "{0193f3c8-0000-7000-8000-000000000000}",
        ] {
            assert_eq!(OrderId::parse(text), None, "{text}");
        }
    }
}
