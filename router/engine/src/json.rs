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
use crate::tree::{Node, ObjectId, Tree};

/// The deepest nesting of values.
const MAX_DEPTH: usize = 128;

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
        bytes: &body,
        at: 0,
        tree,
        slots,
        buffer,
        source,
        depth: 0,
        known: Vec::new(),
        items: Vec::new(),
        entities: Vec::new(),
    };
    let response = reader.response();
    response.map_err(|reason| format!("{reason} at byte {}", reader.at))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    tree: &'a mut Tree,
    slots: &'a SlotTable,
    buffer: u32,
    /// The subgraph's name.
    source: Arc<str>,
    depth: usize,
    /// By depth: the slots of the previous object's keys, in order.
    known: Vec<Vec<u32>>,
    /// A stack with the items of the lists that are being read.
    items: Vec<Node>,
    entities: Vec<(Box<str>, Node)>,
}

type Read<T> = Result<T, &'static str>;

const UNKNOWN: u32 = u32::MAX;

impl Reader<'_> {
    fn response(&mut self) -> Read<ParsedResponse> {
        let mut response = ParsedResponse::default();
        let mut has_data = false;
        self.skip_whitespace();
        self.expect_byte(b'{')?;
        self.skip_whitespace();
        if self.peek() == Some(b'}') {
            self.at += 1;
        } else {
            loop {
                self.skip_whitespace();
                let (start, end) = self.string()?;
                self.skip_whitespace();
                self.expect_byte(b':')?;
                self.skip_whitespace();
                match &self.bytes[start..end] {
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
                        let from = self.at;
                        self.skip()?;
                        response.errors = errors::read(&self.bytes[from..self.at], &self.source)
                            .ok_or("the errors are not a list")?;
                    }
                    _ => self.skip()?,
                }
                self.skip_whitespace();
                match self.next() {
                    Some(b',') => {}
                    Some(b'}') => break,
                    _ => return Err("expected a comma or a brace"),
                }
            }
        }
        self.skip_whitespace();
        if self.at < self.bytes.len() {
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

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn skip_whitespace(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    fn expect_byte(&mut self, byte: u8) -> Read<()> {
        if self.next() == Some(byte) {
            Ok(())
        } else {
            Err("unexpected character")
        }
    }

    fn value(&mut self) -> Read<Node> {
        match self.peek() {
            Some(b'"') => {
                let (start, end) = self.string()?;
                Ok(Node::Text(self.tree.span(self.buffer, start, end)))
            }
            Some(b'{') => self.object(),
            Some(b'[') => self.list(),
            Some(b't') => self.word(b"true", Node::Bool(true)),
            Some(b'f') => self.word(b"false", Node::Bool(false)),
            Some(b'n') => self.word(b"null", Node::Null),
            Some(b'-' | b'0'..=b'9') => {
                let (start, end) = self.number()?;
                Ok(Node::Number(self.tree.span(self.buffer, start, end)))
            }
            _ => Err("expected a value"),
        }
    }

    fn word(&mut self, word: &[u8], node: Node) -> Read<Node> {
        if self.bytes[self.at..].starts_with(word) {
            self.at += word.len();
            Ok(node)
        } else {
            Err("expected a value")
        }
    }

    /// The start and end of a string, with its quotes.
    fn string(&mut self) -> Read<(usize, usize)> {
        let start = self.at;
        self.expect_byte(b'"')?;
        loop {
            match self.next() {
                Some(b'"') => return Ok((start, self.at)),
                Some(b'\\') => match self.next() {
                    Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {}
                    Some(b'u') => {
                        for _ in 0..4 {
                            if !self.next().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                                return Err("a malformed escape");
                            }
                        }
                    }
                    _ => return Err("a malformed escape"),
                },
                Some(0..=0x1f) => return Err("a control character in a string"),
                Some(_) => {}
                None => return Err("the response is cut off"),
            }
        }
    }

    fn digits(&mut self) -> Read<()> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at > start {
            Ok(())
        } else {
            Err("a malformed number")
        }
    }

    fn number(&mut self) -> Read<(usize, usize)> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok((start, self.at))
    }

    fn enter_level(&mut self) -> Read<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("values nest too deep");
        }
        Ok(())
    }

    fn list(&mut self) -> Read<Node> {
        self.enter_level()?;
        let start = self.at;
        let first = self.items.len();
        self.at += 1;
        self.skip_whitespace();
        if self.peek() == Some(b']') {
            self.at += 1;
        } else {
            loop {
                self.skip_whitespace();
                let item = self.value()?;
                self.items.push(item);
                self.skip_whitespace();
                match self.next() {
                    Some(b',') => {}
                    Some(b']') => break,
                    _ => return Err("expected a comma or a bracket"),
                }
            }
        }
        self.depth -= 1;
        let raw = self.tree.span(self.buffer, start, self.at);
        Ok(Node::List(self.tree.add_list(raw, &mut self.items, first)))
    }

    fn object(&mut self) -> Read<Node> {
        self.enter_level()?;
        let start = self.at;
        let id = self
            .tree
            .add_object(self.tree.span(self.buffer, start, start));
        let depth = self.depth;
        if self.known.len() <= depth {
            self.known.resize_with(depth + 1, Vec::new);
        }
        self.at += 1;
        self.skip_whitespace();
        if self.peek() == Some(b'}') {
            self.at += 1;
        } else {
            let mut ordinal = 0;
            loop {
                self.skip_whitespace();
                let from = self.at;
                let slot = self.key(depth, ordinal)?;
                let key = from..self.at;
                ordinal += 1;
                self.skip_whitespace();
                self.expect_byte(b':')?;
                self.skip_whitespace();
                let value = self.value()?;
                if slot != UNKNOWN {
                    self.tree.add_field(id, slot, value);
                } else if depth == 1 && self.entities.len() < MAX_ENTITIES {
                    let key = String::from_utf8_lossy(&self.bytes[key]);
                    self.entities.push((key.trim_matches('"').into(), value));
                }
                self.skip_whitespace();
                match self.next() {
                    Some(b',') => {}
                    Some(b'}') => break,
                    _ => return Err("expected a comma or a brace"),
                }
            }
        }
        self.depth -= 1;
        let raw = self.tree.span(self.buffer, start, self.at);
        self.tree.set_raw(id, raw);
        Ok(Node::Object(id))
    }

    /// The slot of a key; most likely the previous object's key at this position.
    fn key(&mut self, depth: usize, ordinal: usize) -> Read<u32> {
        if let Some(known) = self.known[depth].get(ordinal)
            && let Some(name) = self.slots.names.get(*known as usize)
        {
            let rest = &self.bytes[self.at..];
            let (name, length) = (name.as_bytes(), name.len());
            if rest.len() > length + 2
                && rest[0] == b'"'
                && rest[length + 1] == b'"'
                && rest[1..=length] == *name
            {
                self.at += length + 2;
                return Ok(*known);
            }
        }
        let (start, end) = self.string()?;
        let text = std::str::from_utf8(&self.bytes[start + 1..end - 1]).unwrap_or_default();
        let slot = if text.contains('\\') {
            let decoded: String =
                serde_json::from_slice(&self.bytes[start..end]).map_err(|_| "a malformed key")?;
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

    /// Skips a value.
    fn skip(&mut self) -> Read<()> {
        match self.peek() {
            Some(open @ (b'{' | b'[')) => {
                self.enter_level()?;
                let close = if open == b'{' { b'}' } else { b']' };
                self.at += 1;
                self.skip_whitespace();
                if self.peek() == Some(close) {
                    self.at += 1;
                } else {
                    loop {
                        self.skip_whitespace();
                        if open == b'{' {
                            self.string()?;
                            self.skip_whitespace();
                            self.expect_byte(b':')?;
                            self.skip_whitespace();
                        }
                        self.skip()?;
                        self.skip_whitespace();
                        match self.next() {
                            Some(b',') => {}
                            Some(byte) if byte == close => break,
                            _ => return Err("expected a comma or a bracket"),
                        }
                    }
                }
                self.depth -= 1;
                Ok(())
            }
            Some(b'"') => self.string().map(|_| ()),
            Some(b'-' | b'0'..=b'9') => self.number().map(|_| ()),
            _ => self.value().map(|_| ()),
        }
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
