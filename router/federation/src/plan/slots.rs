//! Slots: the keys of fetched data. A slot is for a field, its arguments and
//! directives, independent of the client's aliases, so that a field is fetched once and nothing
//! that planning adds collides with a client's response key.

use std::fmt::Write;
use std::hash::{Hash, Hasher};

use apollo_compiler::ast::{Argument, Directive};
use apollo_compiler::collections::HashMap;
use apollo_compiler::{Name, Node, name};

use crate::operation::Field;
use crate::supergraph::Supergraph;

/// The key under which fetched objects hold a field. Two slots of one plan are equal
/// if their names are; comparing ids is faster.
#[derive(Debug, Clone)]
pub struct Slot {
    pub name: Name,
    /// The position in the plan's table.
    pub id: u32,
}

impl Slot {
    pub(super) fn new(name: Name) -> Self {
        Self { name, id: u32::MAX }
    }
}

impl PartialEq for Slot {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Slot {}

impl Hash for Slot {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

/// The ids of all slots of a finished plan; `__typename` is 0.
#[derive(Debug, Default)]
pub struct SlotTable {
    pub names: Vec<Name>,
    ids: HashMap<Name, u32>,
}

impl SlotTable {
    pub(super) fn new() -> Self {
        let mut table = Self::default();
        table.number(&mut Slot::new(name!("__typename")));
        table
    }

    /// The id of a key in a subgraph's response.
    pub fn id(&self, key: &str) -> Option<u32> {
        self.ids.get(key).copied()
    }

    pub(super) fn number(&mut self, slot: &mut Slot) {
        slot.id = match self.ids.get(&slot.name) {
            Some(id) => *id,
            None => {
                let id = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
                self.names.push(slot.name.clone());
                self.ids.insert(slot.name.clone(), id);
                id
            }
        };
    }
}

/// The slots of one operation. The first use of a field takes the field's name; a use
/// with other arguments, or on a type where GraphQL could not merge the two, takes a
/// numbered name.
#[derive(Debug, Clone)]
pub(super) struct Slots {
    known: HashMap<Name, Vec<String>>,
    /// The mutation root, if it is one: each alias of its fields is a separate call.
    effects: Option<Name>,
}

impl Slots {
    pub fn new(effects: Option<Name>) -> Self {
        Self {
            known: HashMap::default(),
            effects,
        }
    }

    pub fn slot_of(&mut self, graph: &Supergraph, ty: &Name, field: &Field) -> Name {
        let mut text =
            slot_distinction(graph, ty, &field.name, &field.arguments, &field.directives);
        if self.effects.as_ref() == Some(ty) {
            text.push_str(&field.key);
        }
        let known = self.known.entry(field.name.clone()).or_default();
        let index = known
            .iter()
            .position(|other| *other == text)
            .unwrap_or_else(|| {
                known.push(text);
                known.len() - 1
            });
        slot_name(&field.name, index)
    }

    /// The slot of a field, if it was used before; not for fields of the mutation root.
    pub fn known(
        &self,
        graph: &Supergraph,
        ty: &Name,
        field: &Name,
        arguments: &[Node<Argument>],
    ) -> Option<Name> {
        let text = slot_distinction(graph, ty, field, arguments, &[]);
        let known = self.known.get(field)?;
        Some(slot_name(
            field,
            known.iter().position(|other| *other == text)?,
        ))
    }
}

fn slot_name(field: &Name, index: usize) -> Name {
    if index == 0 {
        field.clone()
    } else {
        Name::new_unchecked(&format!("_stoa_{field}_{index}"))
    }
}

fn slot_distinction(
    graph: &Supergraph,
    ty: &Name,
    field: &Name,
    arguments: &[Node<Argument>],
    directives: &[Node<Directive>],
) -> String {
    let mut text = String::new();
    for argument in arguments {
        let value = argument.value.serialize().no_indent().to_string();
        let _ = write!(text, "{}:{value} ", argument.name);
    }
    for directive in directives {
        let _ = write!(text, "{} ", directive.serialize().no_indent());
    }
    if graph.is_conflicted(field) {
        text.push_str(ty);
    }
    text
}
