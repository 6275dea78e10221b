//! Slots: the keys under which fetched data lies. A slot stands for a field
//! and its arguments, whatever aliases clients give it, so that a field is
//! asked for once and nothing that planning adds collides with a client's key.

use std::collections::HashMap;
use std::fmt::Write;
use std::hash::{Hash, Hasher};

use apollo_compiler::ast::Argument;
use apollo_compiler::{Name, Node, name};

use crate::operation::Field;
use crate::supergraph::Supergraph;

/// Where fetched objects hold a field. Two slots of one plan are the same if
/// their names are; by their numbers that is told faster.
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

/// Every slot of a finished plan, numbered; `__typename` is 0.
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

    /// The number of a key that subgraphs answer.
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

/// The slots of one operation. The first use of a field name takes the name
/// itself; a use with other arguments, or on a type where GraphQL would not
/// merge the two, takes a numbered one.
#[derive(Debug, Clone)]
pub(super) struct Slots {
    known: HashMap<Name, Vec<String>>,
    /// The root type whose fields have effects: each alias is a call.
    effects: Option<Name>,
}

impl Slots {
    pub fn new(effects: Option<Name>) -> Self {
        Self {
            known: HashMap::new(),
            effects,
        }
    }

    pub fn of(&mut self, graph: &Supergraph, ty: &Name, field: &Field) -> Name {
        let mut text = distinction(graph, ty, &field.name, &field.arguments);
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

    /// The slot of a field without effects, if it was used before.
    pub fn known(
        &self,
        graph: &Supergraph,
        ty: &Name,
        field: &Name,
        arguments: &[Node<Argument>],
    ) -> Option<Name> {
        let text = distinction(graph, ty, field, arguments);
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

fn distinction(
    graph: &Supergraph,
    ty: &Name,
    field: &Name,
    arguments: &[Node<Argument>],
) -> String {
    let mut text = String::new();
    for argument in arguments {
        let value = argument.value.serialize().no_indent().to_string();
        let _ = write!(text, "{}:{value} ", argument.name);
    }
    if graph.is_conflicted(field) {
        text.push_str(ty);
    }
    text
}
