//! Server-sent events: WHATWG HTML, section 9.2.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::transport::{Events, SubgraphResponse, TransportError};

/// The subscription's events, which end with `complete`.
pub fn of_body(subgraph: Arc<str>, body: Incoming, limit: usize) -> Events {
    let source = EventSource {
        subgraph,
        chunks: body.into_data_stream().boxed(),
        parser: EventParser::new(limit),
        ended: false,
    };
    futures_util::stream::unfold(source, |mut source| async move {
        let event = source.next().await?;
        Some((event, source))
    })
    .boxed()
}

/// The data of the first event that has any.
pub fn first_data(text: Bytes) -> Option<Vec<u8>> {
    let mut parser = EventParser::new(text.len());
    parser.push(text);
    while let Ok(Some(event)) = parser.next_event() {
        if !event.data.is_empty() {
            return Some(event.data);
        }
    }
    None
}

struct EventSource {
    subgraph: Arc<str>,
    chunks: BoxStream<'static, Result<Bytes, hyper::Error>>,
    parser: EventParser,
    ended: bool,
}

impl EventSource {
    async fn next(&mut self) -> Option<Result<SubgraphResponse, TransportError>> {
        while !self.ended {
            match self.parser.next_event() {
                Ok(Some(event)) if event.name == b"next" => {
                    return Some(Ok(SubgraphResponse {
                        body: event.data.into(),
                        ..SubgraphResponse::default()
                    }));
                }
                Ok(Some(event)) if event.name == b"complete" => {
                    self.ended = true;
                    return None;
                }
                Ok(Some(_)) => continue,
                Ok(None) => {}
                Err(TooLarge) => {
                    self.ended = true;
                    return Some(Err(TransportError::TooLarge {
                        subgraph: self.subgraph.clone(),
                        limit: self.parser.limit,
                    }));
                }
            }
            // A source may be quiet for as long as it wants. Cut off without `complete`,
            // the connection was lost: the stream did not end.
            match self.chunks.next().await {
                Some(Ok(chunk)) => self.parser.push(chunk),
                Some(Err(error)) => return self.fail(super::causes_of(&error)),
                None => return self.fail("the stream was cut off".to_owned()),
            }
        }
        None
    }

    fn fail(&mut self, cause: String) -> Option<Result<SubgraphResponse, TransportError>> {
        self.ended = true;
        Some(Err(TransportError::Unreachable {
            subgraph: self.subgraph.clone(),
            cause,
        }))
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    pub name: Vec<u8>,
    pub data: Vec<u8>,
}

/// An event exceeds the limit.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLarge;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// Splits received bytes into events. `id` and `retry` are ignored: a cursor is in
/// the data, and nothing here reconnects.
#[derive(Debug)]
pub struct EventParser {
    /// Bytes that are not yet parsed.
    chunk: Bytes,
    /// The beginning of a line whose end is in a later chunk.
    line: Vec<u8>,
    /// The event so far.
    event: Event,
    /// Whether the event has a line of data, perhaps an empty one.
    has_data: bool,
    /// The last line ended with CR: an LF that follows belongs to it.
    after_cr: bool,
    /// No line was read so far: one may begin with a byte order mark.
    is_first: bool,
    /// The most bytes of an event.
    limit: usize,
}

impl EventParser {
    pub fn new(limit: usize) -> Self {
        Self {
            chunk: Bytes::new(),
            line: Vec::new(),
            event: Event::default(),
            has_data: false,
            after_cr: false,
            is_first: true,
            limit,
        }
    }

    /// Adds received bytes, when those before are parsed.
    pub fn push(&mut self, chunk: Bytes) {
        if self.chunk.is_empty() {
            self.chunk = chunk;
        } else {
            self.chunk = [&self.chunk[..], &chunk[..]].concat().into();
        }
    }

    /// The next event; `None` if more bytes are needed.
    ///
    /// # Errors
    /// If an event is too large. The parser is of no use afterwards.
    pub fn next_event(&mut self) -> Result<Option<Event>, TooLarge> {
        while let Some(first) = self.chunk.first() {
            if std::mem::take(&mut self.after_cr) && *first == b'\n' {
                self.chunk = self.chunk.slice(1..);
                continue;
            }
            let end = self
                .chunk
                .iter()
                .position(|byte| matches!(byte, b'\n' | b'\r'));
            let until = end.unwrap_or(self.chunk.len());
            // Not `split_to`: the line is needed while `self` changes.
            let part = self.chunk.slice(..until);
            if self.event.data.len() + self.line.len() + part.len() > self.limit {
                return Err(TooLarge);
            }
            let Some(end) = end else {
                self.line.extend_from_slice(&part);
                self.chunk = Bytes::new();
                return Ok(None);
            };
            self.after_cr = self.chunk[end] == b'\r';
            self.chunk = self.chunk.slice(end + 1..);
            let event = if self.line.is_empty() {
                self.end_line(&part)
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(&part);
                self.end_line(&line)
            };
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    /// Takes a whole line; returns an event if it ends one.
    fn end_line(&mut self, line: &[u8]) -> Option<Event> {
        let line = match std::mem::take(&mut self.is_first) {
            true => line.strip_prefix(BOM).unwrap_or(line),
            false => line,
        };
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            let has_data = std::mem::take(&mut self.has_data);
            // The grammar drops an event without data, but many servers send `complete`
            // without any.
            return (has_data || event.name == b"complete").then_some(event);
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let (field, value) = match colon {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &line[line.len()..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"event" => self.event.name = value.to_vec(),
            b"data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.event.data.push(b'\n');
                }
                self.event.data.extend_from_slice(value);
            }
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The events of a text that comes in these pieces.
    fn parse(pieces: &[&[u8]]) -> Vec<(String, String)> {
        let mut parser = EventParser::new(1_000);
        let mut events = Vec::new();
        for piece in pieces {
            parser.push(Bytes::copy_from_slice(piece));
            while let Some(event) = parser.next_event().unwrap() {
                let text = |bytes| String::from_utf8(bytes).unwrap();
                events.push((text(event.name), text(event.data)));
            }
        }
        events
    }

    #[test]
    fn the_grammar_is_read_wherever_the_text_is_split() {
        let next = |data: &str| ("next".to_owned(), data.to_owned());
        let complete = ("complete".to_owned(), String::new());
        let plain = ": hi\n\nevent: next\ndata: {\"a\":\ndata: 1}\n\nevent: complete\ndata:\n\n";
        let both = vec![next("{\"a\":\n1}"), complete.clone()];
        let cases: Vec<(String, Vec<(String, String)>)> = vec![
            (plain.to_owned(), both.clone()),
            (plain.replace('\n', "\r"), both.clone()),
            (plain.replace('\n', "\r\n"), both.clone()),
            (format!("\u{feff}{plain}"), both),
            (
                "\u{feff}event: next\ndata: 1\n\nevent: complete\n\n".to_owned(),
                vec![next("1"), complete.clone()],
            ),
            // Line ends of all kinds in one event.
            (
                "event:next\rdata:1\r\ndata:2\ndata\r\n\revent: complete\r\r".to_owned(),
                vec![next("1\n2\n"), complete],
            ),
            // One space is removed, and no more; a colon may be in the value.
            (
                "event: next\ndata:  a: b \n\n".to_owned(),
                vec![next(" a: b ")],
            ),
            // The last name counts; other fields, and names of another case, do not.
            (
                "event: x\nevent: next\nid: 7\nretry: 5\nData: 0\ndatum: 0\n data: 0\ndata: 1\n\n"
                    .to_owned(),
                vec![next("1")],
            ),
            // Without data there is no event, and its name does not stay.
            (
                "event: next\n\ndata: 1\n\n".to_owned(),
                vec![(String::new(), "1".to_owned())],
            ),
            // A second mark is part of the field's name.
            ("\u{feff}\u{feff}data: 1\n\n".to_owned(), vec![]),
            // What the end of the stream cuts off is no event.
            ("event: next\ndata: 1\n".to_owned(), vec![]),
            ("event: next\ndata: é😀\n\n".to_owned(), vec![next("é😀")]),
        ];
        for (text, events) in cases {
            let bytes = text.as_bytes();
            assert_eq!(parse(&[bytes]), events, "{text:?}");
            for size in 1..bytes.len() {
                let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
                assert_eq!(parse(&pieces), events, "{text:?} in pieces of {size}");
                let (left, right) = bytes.split_at(size);
                assert_eq!(parse(&[left, right]), events, "{text:?} at {size}");
            }
        }
    }

    #[test]
    fn an_event_is_limited_and_not_the_stream() {
        let mut parser = EventParser::new(30);
        // Many events in one chunk, and comments without end.
        let many = "event: next\ndata: 12345\n\n: comment\n".repeat(100);
        parser.push(many.into());
        for _ in 0..100 {
            assert_eq!(parser.next_event().unwrap().unwrap().data, b"12345");
        }
        assert_eq!(parser.next_event(), Ok(None));
        let lines = "data: 123456\n".repeat(5);
        for too_large in ["data: 1234567890123456789012345".to_owned(), lines] {
            let mut parser = EventParser::new(30);
            parser.push(too_large.into());
            assert_eq!(parser.next_event(), Err(TooLarge));
        }
    }

    /// Random texts of what matters to the grammar: splits change nothing.
    #[test]
    fn random_texts_give_the_same_events_in_any_pieces() {
        const PARTS: [&str; 12] = [
            "\r", "\n", "\r\n", ":", " ", "data", "event", "next", "complete", "\u{feff}", "id",
            "x",
        ];
        let mut seed = 7_u64;
        let mut random = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) as usize % below
        };
        let mut events = 0;
        for _ in 0..5_000 {
            let text: String = (0..1 + random(30)).map(|_| PARTS[random(12)]).collect();
            let whole = parse(&[text.as_bytes()]);
            events += whole.len();
            for at in 1..text.len() {
                let (left, right) = text.as_bytes().split_at(at);
                assert_eq!(parse(&[left, right]), whole, "{text:?} at {at}");
            }
        }
        assert!(events > 100, "{events}");
    }
}
