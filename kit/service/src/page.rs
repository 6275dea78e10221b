//! Keyset pagination: a page begins after the last key of the one before it,
//! so inserted and deleted rows do not shift later pages.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The most entries that one page may hold.
pub const MAX_PAGE: i32 = 100;
const DEFAULT_PAGE: i32 = 20;
/// In bytes; the longest key has a name of 200 characters, which may be 800 bytes and
/// twice that when escaped.
const MAX_CURSOR: usize = 4096;

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
    let key: Value = serde_json::from_slice(&bytes).map_err(|_| PageError::Cursor)?;
    // No key contains NUL, and PostgreSQL would reject it.
    if contains_nul(&key) {
        return Err(PageError::Cursor);
    }
    serde_json::from_value(key).map_err(|_| PageError::Cursor)
}

fn contains_nul(key: &Value) -> bool {
    match key {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(contains_nul),
        Value::Object(fields) => fields.values().any(contains_nul),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_of_any_name_is_accepted() {
        for name in ["😀".repeat(200), "\"".repeat(200), "\\u0000".to_owned()] {
            let cursor = encode(&(&name, "id"));
            let page = request(None, Some(&cursor)).check::<(String, String)>();
            assert_eq!(page.unwrap().after, Some((name, "id".to_owned())));
        }
    }

    fn request(first: Option<i32>, after: Option<&str>) -> PageRequest {
        let after = after.map(str::to_owned);
        PageRequest { first, after }
    }

    #[test]
    fn a_page_has_20_entries_unless_the_client_says_otherwise_and_at_most_100() {
        for (first, size) in [(None, 20), (Some(0), 0), (Some(1), 1), (Some(100), 100)] {
            let page = request(first, None).check::<String>().unwrap();
            assert_eq!((page.size, page.after), (size, None), "{first:?}");
        }
        for first in [i32::MIN, -1, 101, i32::MAX] {
            let refused = request(Some(first), None).check::<String>();
            assert_eq!(refused, Err(PageError::First(first)));
        }
        assert_eq!(
            PageError::First(101).to_string(),
            "first must be between 0 and 100, not 101"
        );
    }

    #[test]
    fn a_cursor_gives_back_the_key_it_was_made_of() {
        for key in [("", 0), ("name", 7), ("größe \"XL\"\n", i64::MIN)] {
            let key = (key.0.to_owned(), key.1);
            let page = request(None, Some(&encode(&key))).check::<(String, i64)>();
            assert_eq!(page.unwrap().after, Some(key));
        }
    }

    #[test]
    fn what_is_no_cursor_of_this_list_is_refused() {
        let long = "x".repeat(MAX_CURSOR);
        let cases = [
            ("empty", String::new()),
            ("not Base64", "%".to_owned()),
            ("padded Base64", "Inh4Ig==".to_owned()),
            ("not JSON", URL_SAFE_NO_PAD.encode("nonsense")),
            ("not UTF-8", URL_SAFE_NO_PAD.encode(b"\"\xff\"")),
            ("of another list", encode(&7)),
            ("with more behind it", URL_SAFE_NO_PAD.encode("\"a\"\"b\"")),
            ("with a NUL", encode(&"a\0b")),
            ("too long", encode(&long)),
        ];
        for (what, cursor) in cases {
            let refused = request(None, Some(&cursor)).check::<String>();
            assert_eq!(refused, Err(PageError::Cursor), "{what}");
        }
    }

    #[test]
    fn one_row_more_than_the_page_shows_that_another_page_follows() {
        let page = |size, after: Option<i32>| Page { size, after };
        // Size and cursor; rows that were fetched; rows, next and previous of the page.
        let cases = [
            (page(2, None), vec![], (vec![], false, false)),
            (page(2, None), vec![1, 2], (vec![1, 2], false, false)),
            (page(2, None), vec![1, 2, 3], (vec![1, 2], true, false)),
            (page(2, Some(0)), vec![1, 2, 3], (vec![1, 2], true, true)),
            (page(2, Some(2)), vec![3], (vec![3], false, true)),
            (page(0, None), vec![1], (vec![], true, false)),
        ];
        for (page, fetched, expected) in cases {
            assert_eq!(page.limit(), page.size + 1);
            let slice = page.slice(fetched.clone());
            let found = (slice.rows, slice.has_next, slice.has_previous);
            assert_eq!(found, expected, "{page:?} of {fetched:?}");
        }
    }
}
