//! The selection sets of a plan's fetches while it is built: an arena of nodes, and
//! printing them.

use std::collections::BTreeSet;
use std::fmt::Write;

use apollo_compiler::ast::{Argument, Directive, Value};
use apollo_compiler::collections::IndexMap;
use apollo_compiler::{Name, Node};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct NodeId(usize);

/// The selections of one type in one fetch.
#[derive(Debug, Default)]
pub(super) struct SelectionNode {
    pub fields: IndexMap<Name, SelectedField>,
    pub fragments: IndexMap<Name, NodeId>,
    /// Whether it is an interface object, whose subgraph does not know the object's
    /// type.
    pub opaque: bool,
}

#[derive(Debug, Clone)]
pub(super) struct SelectedField {
    pub name: Name,
    pub arguments: Vec<Node<Argument>>,
    pub directives: Vec<Node<Directive>>,
    pub child: Option<NodeId>,
}

#[derive(Debug, Default)]
pub(super) struct Arena(Vec<SelectionNode>);

impl Arena {
    pub fn add(&mut self) -> NodeId {
        self.0.push(SelectionNode::default());
        NodeId(self.0.len() - 1)
    }

    pub fn get(&self, id: NodeId) -> &SelectionNode {
        &self.0[id.0]
    }

    pub fn get_mut(&mut self, id: NodeId) -> &mut SelectionNode {
        &mut self.0[id.0]
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The node for the fragment on `ty` within `id`.
    pub fn fragment(&mut self, id: NodeId, ty: &Name) -> NodeId {
        if let Some(existing) = self.get(id).fragments.get(ty) {
            return *existing;
        }
        let node = self.add();
        self.get_mut(id).fragments.insert(ty.clone(), node);
        node
    }

    pub fn select_typename(&mut self, id: NodeId) {
        let name = apollo_compiler::name!("__typename");
        self.get_mut(id)
            .fields
            .entry(name.clone())
            .or_insert(SelectedField {
                name,
                arguments: Vec::new(),
                directives: Vec::new(),
                child: None,
            });
    }

    /// Moves what `from` selects into `into`.
    pub fn merge(&mut self, into: NodeId, from: NodeId) {
        let from = std::mem::take(self.get_mut(from));
        for (key, field) in from.fields {
            match self.get(into).fields.get(&key).map(|known| known.child) {
                Some(Some(known)) => {
                    if let Some(child) = field.child {
                        self.merge(known, child);
                    }
                }
                Some(None) => {}
                None => {
                    self.get_mut(into).fields.insert(key, field);
                }
            }
        }
        for (ty, child) in from.fragments {
            match self.get(into).fragments.get(&ty).copied() {
                Some(known) => self.merge(known, child),
                None => {
                    self.get_mut(into).fragments.insert(ty, child);
                }
            }
        }
    }

    /// How many fields a node selects, including nested ones.
    pub fn count(&self, id: NodeId) -> usize {
        let node = self.get(id);
        let below = node.fields.values().filter_map(|field| field.child);
        node.fields.len()
            + below
                .chain(node.fragments.values().copied())
                .map(|child| self.count(child))
                .sum::<usize>()
    }

    /// Whether a node selects nothing, including its fragments.
    pub fn is_empty(&self, id: NodeId) -> bool {
        let node = self.get(id);
        node.fields.is_empty() && node.fragments.values().all(|child| self.is_empty(*child))
    }

    /// Writes `{...}` and collects the variables that arguments use.
    pub fn print(&self, id: NodeId, out: &mut String, variables: &mut BTreeSet<Name>) {
        out.push('{');
        let node = self.get(id);
        let mut first = true;
        let mut space = |out: &mut String| {
            if !std::mem::take(&mut first) {
                out.push(' ');
            }
        };
        for (key, field) in &node.fields {
            space(out);
            if *key != field.name {
                let _ = write!(out, "{key}:");
            }
            out.push_str(&field.name);
            if !field.arguments.is_empty() {
                out.push('(');
                for (index, argument) in field.arguments.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    let _ = write!(
                        out,
                        "{}:{}",
                        argument.name,
                        argument.value.serialize().no_indent()
                    );
                    note_variables(&argument.value, variables);
                }
                out.push(')');
            }
            print_directives(&field.directives, out, variables);
            if let Some(child) = field.child {
                self.print(child, out, variables);
            }
        }
        for (ty, child) in &node.fragments {
            if self.is_empty(*child) {
                continue;
            }
            space(out);
            let _ = write!(out, "...on {ty}");
            self.print(*child, out, variables);
        }
        if first {
            out.push_str(if node.opaque {
                "_stoa_:__typename"
            } else {
                "__typename"
            });
        }
        out.push('}');
    }
}

/// Writes directives, each after a space, and collects the variables that they use.
pub(super) fn print_directives<'a>(
    directives: impl IntoIterator<Item = &'a Node<Directive>>,
    out: &mut String,
    variables: &mut BTreeSet<Name>,
) {
    for directive in directives {
        let _ = write!(out, " {}", directive.serialize().no_indent());
        for argument in &directive.arguments {
            note_variables(&argument.value, variables);
        }
    }
}

fn note_variables(value: &Value, out: &mut BTreeSet<Name>) {
    match value {
        Value::Variable(name) => {
            out.insert(name.clone());
        }
        Value::List(items) => items.iter().for_each(|item| note_variables(item, out)),
        Value::Object(fields) => fields
            .iter()
            .for_each(|(_, value)| note_variables(value, out)),
        _ => {}
    }
}
