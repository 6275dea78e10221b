//! Keyset pagination: a page begins after the last key of the one before it,
//! so inserted and deleted rows do not shift later pages.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The most entries that one page may hold.
pub const MAX_PAGE: i32 = 100;
const DEFAULT_PAGE: i32 = 20;
const MAX_CURSOR: usize = 1024;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    #[error("first must be between 0 and {MAX_PAGE}, not {0}")]
    First(i32),
    #[error("after is not a cursor of this list")]
    Cursor,
}

/// A client's pagination arguments.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct PageRequest {
    pub first: Option<i32>,
    pub after: Option<String>,
}

/// A checked request: how many, and after which key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<K> {
    pub size: u64,
    pub after: Option<K>,
}

/// One page of rows.
#[derive(Debug, Clone)]
pub struct Slice<T> {
    pub rows: Vec<T>,
    pub has_next: bool,
    pub has_previous: bool,
}

impl PageRequest {
    /// # Errors
    /// [`PageError`], naming the argument and its limit.
    pub fn check<K: DeserializeOwned>(&self) -> Result<Page<K>, PageError> {
        let first = self.first.unwrap_or(DEFAULT_PAGE);
        if !(0..=MAX_PAGE).contains(&first) {
            return Err(PageError::First(first));
        }
        let after = self.after.as_deref().map(decode).transpose()?;
        Ok(Page {
            size: u64::from(first.unsigned_abs()),
            after,
        })
    }
}

impl<K> Page<K> {
    /// How many rows to fetch: one more than the page, to see whether another follows.
    pub fn limit(&self) -> u64 {
        self.size + 1
    }

    /// Makes the page from rows that were fetched with [`Page::limit`].
    pub fn slice<T>(&self, mut rows: Vec<T>) -> Slice<T> {
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        let has_next = rows.len() > size;
        rows.truncate(size);
        Slice {
            rows,
            has_next,
            has_previous: self.after.is_some(),
        }
    }
}

/// A key as an opaque cursor.
pub fn encode<K: Serialize>(key: &K) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(key).unwrap_or_default())
}

fn decode<K: DeserializeOwned>(cursor: &str) -> Result<K, PageError> {
    if cursor.len() > MAX_CURSOR {
        return Err(PageError::Cursor);
    }
    let bytes = URL_SAFE_NO_PAD
        .decode(cursor)
        .map_err(|_| PageError::Cursor)?;
    // No key contains NUL, and PostgreSQL would reject it.
    if bytes.windows(6).any(|window| window == b"\\u0000") {
        return Err(PageError::Cursor);
    }
    serde_json::from_slice(&bytes).map_err(|_| PageError::Cursor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_have_limits_and_cursors_come_back() {
        let request = |first, after: Option<String>| PageRequest { first, after };
        assert_eq!(
            request(Some(-1), None).check::<String>(),
            Err(PageError::First(-1))
        );
        assert_eq!(
            request(Some(101), None).check::<String>(),
            Err(PageError::First(101))
        );
        assert_eq!(
            request(None, Some("nonsense".into())).check::<String>(),
            Err(PageError::Cursor)
        );
        let key = ("name".to_owned(), 7_i64);
        let page: Page<(String, i64)> = request(Some(2), Some(encode(&key))).check().unwrap();
        assert_eq!(page.after, Some(key));
        let slice = page.slice(vec![1, 2, 3]);
        assert_eq!(
            (slice.rows.len(), slice.has_next, slice.has_previous),
            (2, true, true)
        );
    }
}
