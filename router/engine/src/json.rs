//! Reads a subgraph's response into the tree.
//!
//! Every byte is checked (RFC 8259), none is decoded: strings and numbers become
//! spans. Keys usually come in the same order as in the previous object, so each
//! is first compared with the key at that position. Keys that the plan does not
//! know are skipped.

use std::sync::Arc;

use bytes::Bytes;
use stoa_federation::plan::SlotTable;

use crate::errors;
use crate::response::GraphQLError;
use crate::scan::{Scan, Scanner};
use crate::tree::{Node, ObjectId, Tree};

/// How many root keys that the plan does not know are kept.
const MAX_ENTITIES: usize = 200;

/// A parsed response; its data is in the tree.
#[derive(Debug, Default)]
pub struct ParsedResponse {
    /// `None` if it is null or absent.
    pub data: Option<ObjectId>,
    /// The values of root keys that the plan does not know: `_entities`, or its
    /// aliases.
    pub entities: Vec<(Box<str>, Node)>,
    pub errors: Vec<GraphQLError>,
}

/// Reads `{"data": ..., "errors": [...]}` and skips all other keys.
///
/// # Errors
/// What is wrong with the text, for the log.
pub fn read(
    tree: &mut Tree,
    slots: &SlotTable,
    body: Bytes,
    source: Arc<str>,
) -> Result<ParsedResponse, String> {
    if std::str::from_utf8(&body).is_err() {
        return Err("the response is not UTF-8".to_owned());
    }
    let buffer = tree.add_buffer(body.clone(), source.clone());
    let mut reader = Reader {
        scan: Scanner::new(&body),
        tree,
        slots,
        buffer,
        source,
        known: Vec::new(),
        items: Vec::new(),
        entities: Vec::new(),
    };
    let response = reader.response();
    response.map_err(|reason| format!("{reason} at byte {}", reader.scan.at))
}

struct Reader<'a> {
    scan: Scanner<'a>,
    tree: &'a mut Tree,
    slots: &'a SlotTable,
    buffer: u32,
    /// The subgraph's name.
    source: Arc<str>,
    /// By depth: the slots of the previous object's keys, in order.
    known: Vec<Vec<u32>>,
    /// A stack with the items of the lists that are being read.
    items: Vec<Node>,
    entities: Vec<(Box<str>, Node)>,
}

const UNKNOWN: u32 = u32::MAX;

impl Reader<'_> {
    fn response(&mut self) -> Scan<ParsedResponse> {
        let mut response = ParsedResponse::default();
        let mut has_data = false;
        self.scan.skip_whitespace();
        self.scan.expect_byte(b'{')?;
        self.scan.skip_whitespace();
        if self.scan.peek() == Some(b'}') {
            self.scan.at += 1;
        } else {
            loop {
                self.scan.skip_whitespace();
                let (start, end) = self.scan.string()?;
                self.scan.colon()?;
                match &self.scan.bytes[start..end] {
                    b"\"data\"" => {
                        has_data = true;
                        match self.value()? {
                            Node::Object(id) => response.data = Some(id),
                            Node::Null => {}
                            _ => return Err("the data is not an object"),
                        }
                        response.entities = std::mem::take(&mut self.entities);
                    }
                    b"\"errors\"" => {
                        let from = self.scan.at;
                        self.scan.skip()?;
                        response.errors =
                            errors::read(&self.scan.bytes[from..self.scan.at], &self.source)
                                .ok_or("the errors are not a list")?;
                    }
                    _ => self.scan.skip()?,
                }
                self.scan.skip_whitespace();
                match self.scan.next() {
                    Some(b',') => {}
                    Some(b'}') => break,
                    _ => return Err("expected a comma or a brace"),
                }
            }
        }
        self.scan.skip_whitespace();
        if self.scan.at < self.scan.bytes.len() {
            return Err("there is text after the response");
        }
        if response.data.is_none() && response.errors.is_empty() {
            return Err(match has_data {
                true => "the data is null without an error",
                false => "neither data nor errors",
            });
        }
        Ok(response)
    }

    fn value(&mut self) -> Scan<Node> {
        match self.scan.peek() {
            Some(b'"') => {
                let (start, end) = self.scan.string()?;
                Ok(Node::Text(self.tree.span(self.buffer, start, end)))
            }
            Some(b'{') => self.object(),
            Some(b'[') => self.list(),
            Some(b't') => self.scan.word(b"true").map(|()| Node::Bool(true)),
            Some(b'f') => self.scan.word(b"false").map(|()| Node::Bool(false)),
            Some(b'n') => self.scan.word(b"null").map(|()| Node::Null),
            Some(b'-' | b'0'..=b'9') => {
                let (start, end) = self.scan.number()?;
                Ok(Node::Number(self.tree.span(self.buffer, start, end)))
            }
            _ => Err("expected a value"),
        }
    }

    fn list(&mut self) -> Scan<Node> {
        let start = self.scan.at;
        let first = self.items.len();
        let mut has_item = self.scan.open(b']')?;
        while has_item {
            let item = self.value()?;
            self.items.push(item);
            has_item = self.scan.another(b']')?;
        }
        let raw = self.tree.span(self.buffer, start, self.scan.at);
        Ok(Node::List(self.tree.add_list(raw, &mut self.items, first)))
    }

    fn object(&mut self) -> Scan<Node> {
        let start = self.scan.at;
        let id = self
            .tree
            .add_object(self.tree.span(self.buffer, start, start));
        let mut has_field = self.scan.open(b'}')?;
        let depth = self.scan.depth;
        if self.known.len() <= depth {
            self.known.resize_with(depth + 1, Vec::new);
        }
        let mut ordinal = 0;
        while has_field {
            let from = self.scan.at;
            let slot = self.key(depth, ordinal)?;
            let key = from..self.scan.at;
            ordinal += 1;
            self.scan.colon()?;
            let value = self.value()?;
            if slot != UNKNOWN {
                self.tree.add_field(id, slot, value);
            } else if depth == 1 && self.entities.len() < MAX_ENTITIES {
                let key = String::from_utf8_lossy(&self.scan.bytes[key]);
                self.entities.push((key.trim_matches('"').into(), value));
            }
            has_field = self.scan.another(b'}')?;
        }
        let raw = self.tree.span(self.buffer, start, self.scan.at);
        self.tree.set_raw(id, raw);
        Ok(Node::Object(id))
    }

    /// The slot of a key; most likely the previous object's key at this position.
    fn key(&mut self, depth: usize, ordinal: usize) -> Scan<u32> {
        if let Some(known) = self.known[depth].get(ordinal)
            && let Some(name) = self.slots.names.get(*known as usize)
        {
            let rest = &self.scan.bytes[self.scan.at..];
            let (name, length) = (name.as_bytes(), name.len());
            if rest.len() > length + 2
                && rest[0] == b'"'
                && rest[length + 1] == b'"'
                && rest[1..=length] == *name
            {
                self.scan.at += length + 2;
                return Ok(*known);
            }
        }
        let (start, end) = self.scan.string()?;
        let text = std::str::from_utf8(&self.scan.bytes[start + 1..end - 1]).unwrap_or_default();
        let slot = if text.contains('\\') {
            let decoded: String = serde_json::from_slice(&self.scan.bytes[start..end])
                .map_err(|_| "a malformed key")?;
            self.slots.id(&decoded)
        } else {
            self.slots.id(text)
        }
        .unwrap_or(UNKNOWN);
        let known = &mut self.known[depth];
        if known.len() <= ordinal {
            known.resize(ordinal + 1, UNKNOWN);
        }
        known[ordinal] = slot;
        Ok(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(text: &str) -> Result<ParsedResponse, String> {
        read(
            &mut Tree::default(),
            &SlotTable::default(),
            Bytes::copy_from_slice(text.as_bytes()),
            Arc::from("a"),
        )
    }

    #[test]
    fn what_is_no_response_is_refused() {
        let deep = format!(
            "{{\"data\":{{\"a\":{}{}}}}}",
            "[".repeat(500),
            "]".repeat(500)
        );
        for text in [
            "",
            "null",
            "[]",
            "{",
            "{}",
            "{\"data\":null}",
            "{\"data\":1}",
            "{\"data\":{}",
            "{\"data\":{}}x",
            "{\"data\":{\"a\":01}}",
            "{\"data\":{\"a\":1.}}",
            "{\"data\":{\"a\":\"\u{1}\"}}",
            "{\"data\":{\"a\":\"\\x\"}}",
            "{\"data\":{\"a\":\"\\u12\"}}",
            "{\"data\":{\"a\":tru}}",
            "{\"data\":{\"a\":1,}}",
            "{\"data\":{\"a\":[1,]}}",
            "{\"data\":{a:1}}",
            "{\"errors\":{}}",
            "<html>",
            &deep,
        ] {
            assert!(reads(text).is_err(), "{text}");
        }
        assert!(
            read(
                &mut Tree::default(),
                &SlotTable::default(),
                Bytes::from_static(b"{\"data\":{\"a\":\"\xff\"}}"),
                Arc::from("a"),
            )
            .is_err()
        );
    }

    #[test]
    fn what_is_a_response_is_read() {
        for text in [
            "{\"data\":{}}",
            " { \"errors\" : [ { \"message\" : \"m\" } ] , \"data\" : null } ",
            "{\"data\":{\"a\":[-0.5e+10,\"\\u00e9\\n\",true,null,{}]},\"extensions\":{\"x\":[1,{\"y\":\"z\"}]}}",
        ] {
            assert!(reads(text).is_ok(), "{text}: {:?}", reads(text));
        }
    }
}
