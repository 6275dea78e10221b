//! Turns groups into fetches: merges those that can be merged, orders and prints
//! them.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;

use apollo_compiler::ast::{Directive, DirectiveLocation};
use apollo_compiler::collections::HashMap;
use apollo_compiler::executable::Operation;
use apollo_compiler::executable::OperationType;
use apollo_compiler::{Name, Node};

use super::{Entities, GroupId, PlanCost, Planned, Planner};
use crate::operation::passed_on;
use crate::plan::contexts::{ContextValue, Contexts, prefix};
use crate::plan::selection::print_directives;
use crate::plan::{EntityInput, Fetch, FetchKind, REPRESENTATIONS, Required, Slot};

impl Planner<'_> {
    pub(super) fn finish(mut self, operation: &Operation) -> Planned {
        self.coalesce();
        let order = self.order();
        let mut position = HashMap::default();
        for (index, group) in order.iter().enumerate() {
            position.insert(*group, index);
        }
        let fetches: Vec<Fetch> = order
            .iter()
            .enumerate()
            .map(|(index, id)| self.fetch(operation, index, *id, &position))
            .collect();
        let cost = PlanCost {
            depth: order
                .iter()
                .map(|id| self.groups[*id].depth)
                .max()
                .unwrap_or(0),
            fetches: fetches.len(),
            selections: order
                .iter()
                .map(|id| self.arena.count(self.groups[*id].root))
                .sum(),
        };
        Planned {
            fetches,
            resume: self.resume,
            cost,
            choices: self.choices,
        }
    }

    /// Merges two fetches of the same objects from one subgraph, if neither depends on the
    /// other and the plan does not get deeper.
    fn coalesce(&mut self) {
        let entity: Vec<GroupId> = (0..self.groups.len())
            .filter(|id| self.groups[*id].entities.is_some())
            .collect();
        let mut merged_away: BTreeSet<GroupId> = BTreeSet::new();
        for (index, into) in entity.iter().enumerate() {
            for from in &entity[index + 1..] {
                if merged_away.contains(into)
                    || merged_away.contains(from)
                    || !self.mergeable(*into, *from)
                {
                    continue;
                }
                let before = self.groups.iter().map(|group| group.depth).max();
                let parents: Vec<BTreeSet<GroupId>> = self
                    .groups
                    .iter()
                    .map(|group| group.parents.clone())
                    .collect();
                self.join_parents(*into, *from);
                self.update_depths();
                if self.groups.iter().map(|group| group.depth).max() > before {
                    for (group, parents) in self.groups.iter_mut().zip(parents) {
                        group.parents = parents;
                    }
                    self.update_depths();
                    continue;
                }
                self.join(*into, *from);
                merged_away.insert(*from);
            }
        }
        for id in merged_away {
            // Merged into another: nothing refers to it any more.
            self.groups[id].entities = None;
            self.groups[id].parents.clear();
            self.groups[id].merged_away = true;
        }
    }

    fn mergeable(&self, a: GroupId, b: GroupId) -> bool {
        let (left, right) = (&self.groups[a], &self.groups[b]);
        let (Some(x), Some(y)) = (&left.entities, &right.entities) else {
            return false;
        };
        // If a context value is missing, or null where it must not be, the whole fetch
        // is skipped: only fetches that need the same values may share it.
        let contextual = !x.contexts.is_empty() || !y.contexts.is_empty();
        let binding = |value: &ContextValue, other: &Entities| {
            value.ty.ends_with('!') && !other.contexts.contains(value)
        };
        let alike = x.inputs.len() == 1
            && x.inputs.keys().eq(y.inputs.keys())
            && left.parents == right.parents
            && !x.contexts.iter().any(|value| binding(value, y))
            && !y.contexts.iter().any(|value| binding(value, x));
        if contextual && !alike {
            return false;
        }
        left.subgraph == right.subgraph
            && left.path == right.path
            && x.abstract_input == y.abstract_input
            && inputs_agree(x, y)
            && !self.depends(a, b)
            && !self.depends(b, a)
    }

    fn join_parents(&mut self, into: GroupId, from: GroupId) {
        let parents = std::mem::take(&mut self.groups[from].parents);
        self.groups[into].parents.extend(parents);
        for group in &mut self.groups {
            if group.parents.remove(&from) {
                group.parents.insert(into);
            }
        }
    }

    fn join(&mut self, into: GroupId, from: GroupId) {
        let root = self.groups[from].root;
        self.arena.merge(self.groups[into].root, root);
        let from = self.groups[from].entities.take();
        if let (Some(entities), Some(from)) = (&mut self.groups[into].entities, from) {
            for value in from.contexts {
                if !entities.contexts.contains(&value) {
                    entities.contexts.push(value);
                }
            }
            for (ty, input) in from.inputs {
                match entities.inputs.get_mut(&ty) {
                    Some(known) => {
                        for required in input.requires {
                            if !known.requires.contains(&required) {
                                known.requires.push(required);
                            }
                        }
                    }
                    None => {
                        entities.inputs.insert(ty, input);
                    }
                }
            }
        }
    }

    fn update_depths(&mut self) {
        loop {
            let mut changed = false;
            for id in 0..self.groups.len() {
                let parents = &self.groups[id].parents;
                let depth = parents.iter().map(|p| self.groups[*p].depth + 1).max();
                let depth = depth.unwrap_or(0);
                if self.groups[id].depth != depth {
                    self.groups[id].depth = depth;
                    changed = true;
                }
            }
            if !changed {
                return;
            }
        }
    }

    fn order(&self) -> Vec<GroupId> {
        let live: Vec<GroupId> = (0..self.groups.len())
            .filter(|id| !self.groups[*id].merged_away)
            .collect();
        let mut order = Vec::with_capacity(live.len());
        let mut done = BTreeSet::new();
        while order.len() < live.len() {
            let before = order.len();
            for id in &live {
                let parents = &self.groups[*id].parents;
                if !done.contains(id) && parents.iter().all(|parent| done.contains(parent)) {
                    done.insert(*id);
                    order.push(*id);
                }
            }
            if order.len() == before {
                break;
            }
        }
        order
    }

    fn fetch(
        &self,
        operation: &Operation,
        index: usize,
        id: GroupId,
        position: &HashMap<GroupId, usize>,
    ) -> Fetch {
        let group = &self.groups[id];
        let mut body = String::new();
        let mut used = BTreeSet::new();
        self.arena.print(group.root, &mut body, &mut used);
        let mut directives = String::new();
        let passed_on = self.directives_for(operation, group.operation);
        print_directives(passed_on, &mut directives, &mut used);
        // A subgraph's name may have characters that a GraphQL name may not.
        let operation_name = operation.name.as_ref().map(|name| {
            let subgraph: String = self
                .graph
                .subgraph(group.subgraph)
                .name
                .chars()
                .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
                .collect();
            Arc::<str>::from(format!("{name}__{subgraph}__{index}"))
        });
        let mut declared = Vec::new();
        let variables = self.declare(operation, &used, &mut declared);
        // The operation depends on the number of groups, known only at execution: its
        // parts are kept.
        let contexts = group
            .entities
            .as_ref()
            .filter(|entities| !entities.contexts.is_empty())
            .map(|entities| Contexts {
                values: entities.contexts.clone(),
                name: operation_name.clone(),
                declared: declared.clone(),
                directives: directives.clone(),
                body: body.clone(),
            });
        // After the copy for `contexts`, which declares representations for each group.
        if group.entities.is_some() {
            declared.insert(0, format!("${REPRESENTATIONS}:[_Any!]!"));
        }
        let mut text = group.operation.name().to_owned();
        if let Some(name) = &operation_name {
            let _ = write!(text, " {name}");
        }
        if !declared.is_empty() {
            let _ = write!(text, "({})", declared.join(","));
        }
        text.push_str(&directives);
        match &group.entities {
            Some(_) => {
                let _ = write!(
                    text,
                    "{{_entities(representations:${REPRESENTATIONS}){body}}}"
                );
            }
            None => text.push_str(&body),
        }
        let (text, prefix) = match &contexts {
            Some(contexts) => contexts.text(1),
            None => {
                let prefix = prefix(&text, operation_name.as_deref());
                (text.into(), prefix)
            }
        };
        let mut depends_on: Vec<usize> = group
            .parents
            .iter()
            .filter_map(|parent| position.get(parent).copied())
            .collect();
        depends_on.sort_unstable();
        Fetch {
            subgraph: group.subgraph,
            depends_on,
            path: group.path.clone(),
            // Set once all fetches of the plan are known.
            copy_per_target: false,
            is_repeatable: self.is_repeatable(group),
            kind: match &group.entities {
                None => FetchKind::Root {
                    keys: {
                        let fields = &self.arena.get(group.root).fields;
                        fields.keys().cloned().map(Slot::new).collect()
                    },
                },
                Some(entities) => FetchKind::Entities {
                    inputs: entities.inputs.values().cloned().collect(),
                    contexts,
                },
            },
            prefix,
            text,
            operation_name,
            variables,
        }
    }

    /// The directives of the client's operation that one of this type may have, too:
    /// below a mutation, entities are fetched by queries.
    fn directives_for<'o>(
        &self,
        operation: &'o Operation,
        ty: OperationType,
    ) -> impl Iterator<Item = &'o Node<Directive>> {
        let location = DirectiveLocation::from(ty);
        let known = &self.graph.api().directive_definitions;
        passed_on(&operation.directives).filter(move |directive| {
            let definition = known.get(&directive.name);
            definition.is_some_and(|known| known.locations.contains(&location))
        })
    }

    fn declare(
        &self,
        operation: &Operation,
        used: &BTreeSet<Name>,
        declared: &mut Vec<String>,
    ) -> Vec<Name> {
        let mut variables = Vec::new();
        for variable in operation
            .variables
            .iter()
            .filter(|v| used.contains(&v.name))
        {
            let mut text = format!("${}:{}", variable.name, variable.ty);
            if let Some(default) = &variable.default_value {
                let _ = write!(text, "={}", default.serialize().no_indent());
            }
            declared.push(text);
            variables.push(variable.name.clone());
        }
        if let Some((name, ty)) = self
            .added_variable
            .as_ref()
            .filter(|(name, _)| used.contains(name))
        {
            declared.push(format!("${name}:{ty}"));
            variables.push(name.clone());
        }
        variables
    }
}

/// Whether one representation can hold the fields of both fetches, and brings all that
/// the merged selection requires.
fn inputs_agree(x: &Entities, y: &Entities) -> bool {
    x.inputs.iter().all(|(ty, a)| {
        y.inputs.iter().all(|(other, b): (_, &EntityInput)| {
            if ty == other {
                a.keys == b.keys
                    && a.typename == b.typename
                    && fields_agree(&a.requires, &b.requires)
            } else {
                // Types of one interface object share its selection, and then what this
                // requires must be sent for each of them.
                a.typename != b.typename || a.requires == b.requires
            }
        })
    })
}

/// A representation has one value for each field.
fn fields_agree(a: &[Required], b: &[Required]) -> bool {
    a.iter().all(|left| {
        b.iter()
            .filter(|right| right.field == left.field)
            .all(|right| right == left)
    })
}
