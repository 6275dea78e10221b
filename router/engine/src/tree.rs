//! The data: one tree of all that subgraphs returned. Strings and numbers stay in
//! the buffers they arrived in; the tree holds their positions.
//!
//! Objects are linked lists of fields in one arena, so that merging into an object
//! appends to its list and clones nothing. An entity that occurs at several places
//! is one object at all of them, unless the places have different context values.

use std::sync::Arc;

use bytes::Bytes;

/// A piece of a received response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    buffer: u32,
    start: u32,
    end: u32,
}

/// A value. Copying a node copies no data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    Null,
    Bool(bool),
    Number(Span),
    /// A string as it arrived: escaped, with its quotes.
    Text(Span),
    List(ListId),
    Object(ObjectId),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ObjectId(u32);
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListId(u32);

const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Object {
    raw: Span,
    first: u32,
    last: u32,
}

#[derive(Debug)]
struct List {
    raw: Span,
    start: u32,
    end: u32,
}

#[derive(Debug, Clone, Copy)]
struct Field {
    slot: u32,
    next: u32,
    value: Node,
}

/// The field at which the next lookup in an object begins: fields are mostly
/// looked up in the order in which they arrived.
#[derive(Debug, Clone, Copy)]
pub struct Cursor(u32);

#[derive(Debug)]
pub struct Tree {
    /// Each response, with the name of its subgraph.
    buffers: Vec<(Bytes, Arc<str>)>,
    objects: Vec<Object>,
    fields: Vec<Field>,
    lists: Vec<List>,
    items: Vec<Node>,
    root: ObjectId,
}

impl Default for Tree {
    fn default() -> Self {
        let mut tree = Self {
            buffers: vec![(Bytes::from_static(b"{}"), Arc::from(""))],
            objects: Vec::new(),
            fields: Vec::new(),
            lists: Vec::new(),
            items: Vec::new(),
            root: ObjectId(0),
        };
        let raw = tree.span(0, 0, 2);
        tree.add_object(raw);
        tree
    }
}

/// Positions fit into 32 bits: the limit on received bytes is far below that.
fn to_u32(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(NONE)
}

impl Tree {
    pub fn root(&self) -> ObjectId {
        self.root
    }

    /// How many bytes have been received.
    pub fn received(&self) -> usize {
        self.buffers.iter().map(|(bytes, _)| bytes.len()).sum()
    }

    pub(crate) fn add_buffer(&mut self, bytes: Bytes, source: Arc<str>) -> u32 {
        self.buffers.push((bytes, source));
        to_u32(self.buffers.len() - 1)
    }

    pub(crate) fn span(&self, buffer: u32, start: usize, end: usize) -> Span {
        Span {
            buffer,
            start: to_u32(start),
            end: to_u32(end),
        }
    }

    pub(crate) fn add_object(&mut self, raw: Span) -> ObjectId {
        self.objects.push(Object {
            raw,
            first: NONE,
            last: NONE,
        });
        ObjectId(to_u32(self.objects.len() - 1))
    }

    pub(crate) fn set_raw(&mut self, id: ObjectId, raw: Span) {
        self.objects[id.0 as usize].raw = raw;
    }

    pub(crate) fn add_list(&mut self, raw: Span, items: &mut Vec<Node>, from: usize) -> ListId {
        let start = to_u32(self.items.len());
        self.items.extend(items.drain(from..));
        self.lists.push(List {
            raw,
            start,
            end: to_u32(self.items.len()),
        });
        ListId(to_u32(self.lists.len() - 1))
    }

    pub(crate) fn add_field(&mut self, object: ObjectId, slot: u32, value: Node) {
        self.fields.push(Field {
            slot,
            next: NONE,
            value,
        });
        let at = to_u32(self.fields.len() - 1);
        let object = &mut self.objects[object.0 as usize];
        match object.last {
            NONE => object.first = at,
            last => self.fields[last as usize].next = at,
        }
        object.last = at;
    }

    /// The bytes as they arrived.
    pub fn bytes(&self, span: Span) -> &[u8] {
        let (buffer, _) = &self.buffers[span.buffer as usize];
        &buffer[span.start as usize..span.end as usize]
    }

    /// The subgraph that a value came from; unknown for null and booleans.
    pub fn source(&self, node: Node) -> Option<&str> {
        let span = match node {
            Node::Null | Node::Bool(_) => return None,
            Node::Number(span) | Node::Text(span) => span,
            Node::List(id) => self.lists[id.0 as usize].raw,
            Node::Object(id) => self.objects[id.0 as usize].raw,
        };
        let (_, source) = &self.buffers[span.buffer as usize];
        (!source.is_empty()).then_some(source)
    }

    /// The JSON of a value as it arrived, without what was merged into it.
    pub fn raw(&self, node: Node) -> &[u8] {
        match node {
            Node::Null => b"null",
            Node::Bool(true) => b"true",
            Node::Bool(false) => b"false",
            Node::Number(span) | Node::Text(span) => self.bytes(span),
            Node::List(id) => self.bytes(self.lists[id.0 as usize].raw),
            Node::Object(id) => self.bytes(self.objects[id.0 as usize].raw),
        }
    }

    /// A string without its quotes, if it has no escapes.
    pub fn unescaped_text(&self, node: Node) -> Option<&str> {
        let Node::Text(span) = node else { return None };
        let bytes = self.bytes(span);
        let inner = bytes.get(1..bytes.len().checked_sub(1)?)?;
        if inner.contains(&b'\\') {
            return None;
        }
        std::str::from_utf8(inner).ok()
    }

    pub fn items(&self, list: ListId) -> &[Node] {
        let list = &self.lists[list.0 as usize];
        &self.items[list.start as usize..list.end as usize]
    }

    pub fn start(&self, object: ObjectId) -> Cursor {
        Cursor(self.objects[object.0 as usize].first)
    }

    /// A field of an object, searched from the cursor on and then from the first
    /// field; the cursor moves behind it.
    pub fn field(&self, object: ObjectId, slot: u32, cursor: &mut Cursor) -> Option<Node> {
        let first = self.objects[object.0 as usize].first;
        let found = self
            .find(cursor.0, NONE, slot)
            .or_else(|| self.find(first, cursor.0, slot))?;
        let field = &self.fields[found as usize];
        cursor.0 = field.next;
        Some(field.value)
    }

    pub fn get(&self, object: ObjectId, slot: u32) -> Option<Node> {
        self.field(object, slot, &mut self.start(object))
    }

    fn find(&self, from: u32, until: u32, slot: u32) -> Option<u32> {
        let mut at = from;
        while at != until && at != NONE {
            let field = &self.fields[at as usize];
            if field.slot == slot {
                return Some(at);
            }
            at = field.next;
        }
        None
    }

    /// A deep copy of a value; `None` if it has more than `left` objects and lists.
    pub fn copy(&mut self, node: Node, left: &mut usize) -> Option<Node> {
        if !matches!(node, Node::List(_) | Node::Object(_)) {
            return Some(node);
        }
        *left = left.checked_sub(1)?;
        Some(match node {
            Node::List(list) => {
                let mut items = self.items(list).to_vec();
                for item in &mut items {
                    *item = self.copy(*item, left)?;
                }
                let raw = self.lists[list.0 as usize].raw;
                Node::List(self.add_list(raw, &mut items, 0))
            }
            Node::Object(object) => {
                let Object { raw, first, .. } = self.objects[object.0 as usize];
                let copy = self.add_object(raw);
                let mut at = first;
                while at != NONE {
                    let Field { slot, next, value } = self.fields[at as usize];
                    let value = self.copy(value, left)?;
                    self.add_field(copy, slot, value);
                    at = next;
                }
                Node::Object(copy)
            }
            other => other,
        })
    }

    /// Merges an object into another: existing values stay, except nulls.
    pub fn merge(&mut self, into: ObjectId, from: ObjectId) {
        if into == from {
            return;
        }
        let mut at = self.objects[from.0 as usize].first;
        while at != NONE {
            let Field { slot, next, value } = self.fields[at as usize];
            let first = self.objects[into.0 as usize].first;
            match self.find(first, NONE, slot) {
                None => self.add_field(into, slot, value),
                Some(known) => {
                    let merged = self.merge_node(self.fields[known as usize].value, value);
                    self.fields[known as usize].value = merged;
                }
            }
            at = next;
        }
    }

    fn merge_node(&mut self, known: Node, value: Node) -> Node {
        match (known, value) {
            (Node::Null, value) => value,
            (Node::Object(into), Node::Object(from)) => {
                self.merge(into, from);
                known
            }
            (Node::List(into), Node::List(from)) if into != from => {
                let (start, from_start) = (
                    self.lists[into.0 as usize].start,
                    self.lists[from.0 as usize].start,
                );
                if self.items(into).len() == self.items(from).len() {
                    for offset in 0..to_u32(self.items(into).len()) {
                        let a = self.items[(start + offset) as usize];
                        let b = self.items[(from_start + offset) as usize];
                        let merged = self.merge_node(a, b);
                        self.items[(start + offset) as usize] = merged;
                    }
                }
                known
            }
            _ => known,
        }
    }
}
