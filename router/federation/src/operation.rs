//! A normalised client operation: fragments inlined, `@skip` and `@include`
//! decided, fields with the same response key merged.
//!
//! A plan is made for an operation *and* the values of the variables that its
//! conditions read, so the code after this step needs no conditions.

use std::collections::BTreeSet;

use apollo_compiler::ast::{Argument, Directive, DirectiveList, Value};
use apollo_compiler::executable::{self, Operation, Selection, SelectionSet};
use apollo_compiler::{ExecutableDocument, Name, Node};

use crate::access::DemandId;
use crate::decisions::{Decisions, PlanError};
use crate::supergraph::Supergraph;

/// The prefix of the slots and variables that planning adds.
pub const RESERVED: &str = "_stoa_";

/// The share that an override label of the form `percent(N)` gives: from 0 to
/// 100, with up to eight decimals.
pub fn percent(label: &str) -> Option<f64> {
    percent_of(label.strip_prefix("percent(")?.strip_suffix(')')?)
}

pub(crate) fn percent_of(text: &str) -> Option<f64> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str, most: usize| {
        (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
    };
    let fits = text == "100" || (digits(whole, 2) && digits(decimals, 8));
    fits.then(|| text.parse().ok()).flatten()
}

/// Selections of one parent type, in the order in which a client wrote them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selections(pub Vec<Item>);

#[derive(Debug, Clone)]
pub(crate) enum Item {
    Field(Field),
    /// Only for a type condition that narrows the parent.
    Fragment(Name, Selections),
}

#[derive(Debug, Clone)]
pub(crate) struct Field {
    pub key: Name,
    /// The slot that holds it in the data, if already decided.
    pub slot: Option<Name>,
    pub name: Name,
    pub arguments: Vec<Node<Argument>>,
    /// The executable directives that the subgraph gets, too.
    pub directives: Vec<Node<Directive>>,
    /// The named type that the field returns.
    pub ty: Name,
    pub selections: Selections,
    /// The client may not see it: null in the response.
    pub denied: bool,
}

/// The variables that some `@skip` or `@include` of the operation reads.
pub fn condition_variables(document: &ExecutableDocument, operation: &Operation) -> BTreeSet<Name> {
    let mut found = BTreeSet::new();
    let mut visited = BTreeSet::new();
    note_conditions(document, &operation.selection_set, &mut visited, &mut found);
    found
}

fn note_conditions(
    document: &ExecutableDocument,
    set: &SelectionSet,
    visited: &mut BTreeSet<Name>,
    found: &mut BTreeSet<Name>,
) {
    for selection in &set.selections {
        for name in ["skip", "include"] {
            if let Some(variable) = condition(selection.directives(), name)
                .and_then(|value| value.as_variable().cloned())
            {
                found.insert(variable);
            }
        }
        match selection {
            Selection::Field(field) => {
                note_conditions(document, &field.selection_set, visited, found);
            }
            Selection::InlineFragment(inline) => {
                note_conditions(document, &inline.selection_set, visited, found);
            }
            Selection::FragmentSpread(spread) => {
                if visited.insert(spread.fragment_name.clone())
                    && let Some(fragment) = spread.fragment_def(document)
                {
                    note_conditions(document, &fragment.selection_set, visited, found);
                }
            }
        }
    }
}

pub(crate) fn condition<'a>(directives: &'a DirectiveList, name: &str) -> Option<&'a Value> {
    Some(directives.get(name)?.specified_argument_by_name("if")?)
}

/// The directives of a client that subgraphs get: all but those that the router obeys.
pub(crate) fn passed_on(directives: &DirectiveList) -> impl Iterator<Item = &Node<Directive>> {
    let own = ["skip", "include"];
    directives
        .iter()
        .filter(move |directive| !own.contains(&directive.name.as_str()))
}

/// The access demands that an operation's fields may have.
pub fn demands(
    graph: &Supergraph,
    document: &ExecutableDocument,
    operation: &Operation,
) -> BTreeSet<DemandId> {
    let mut found = BTreeSet::new();
    if graph.demands().is_empty() {
        return found;
    }
    let fragments = document.fragments.values();
    let sets = fragments.map(|fragment| &fragment.selection_set);
    for set in sets.chain([&operation.selection_set]) {
        note_demands(graph, set, &mut found);
    }
    found
}

fn note_demands(graph: &Supergraph, set: &SelectionSet, found: &mut BTreeSet<DemandId>) {
    found.extend(graph.demands_of_type(&set.ty));
    for selection in &set.selections {
        match selection {
            Selection::Field(field) => {
                found.extend(graph.demands_of(&set.ty, &field.name));
                note_demands(graph, &field.selection_set, found);
            }
            Selection::InlineFragment(inline) => note_demands(graph, &inline.selection_set, found),
            Selection::FragmentSpread(_) => {}
        }
    }
}

/// A field that was denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    pub ty: Name,
    pub field: Name,
    /// The response keys of the path to it.
    pub path: Vec<Name>,
}

/// Inlines an operation.
///
/// # Errors
/// [`PlanError::TooLarge`] past `budget` selections: fragments can make a
/// short document exponentially long.
pub(crate) fn flatten(
    graph: &Supergraph,
    document: &ExecutableDocument,
    operation: &Operation,
    decisions: &Decisions,
    budget: &mut usize,
) -> Result<(Selections, Vec<Denied>), PlanError> {
    let mut flatten = Flatten {
        graph,
        document,
        decisions,
        budget,
        path: Vec::new(),
        // The whole root type may be denied.
        in_denied_type: graph
            .demands_of_type(&operation.selection_set.ty)
            .any(|demand| decisions.denied.contains(&demand)),
        denied: Vec::new(),
    };
    let mut out = Selections::default();
    flatten.set(
        &operation.selection_set.ty,
        &operation.selection_set,
        &mut out,
    )?;
    Ok((out, flatten.denied))
}

struct Flatten<'a> {
    graph: &'a Supergraph,
    document: &'a ExecutableDocument,
    decisions: &'a Decisions,
    budget: &'a mut usize,
    path: Vec<Name>,
    /// Inside a fragment on a type that this client may not see.
    in_denied_type: bool,
    denied: Vec<Denied>,
}

impl Flatten<'_> {
    fn set(
        &mut self,
        parent: &Name,
        set: &SelectionSet,
        out: &mut Selections,
    ) -> Result<(), PlanError> {
        for selection in &set.selections {
            if !self.included(selection.directives()) {
                continue;
            }
            *self.budget = self.budget.checked_sub(1).ok_or(PlanError::TooLarge)?;
            match selection {
                Selection::Field(field) => self.field(parent, field, out)?,
                Selection::InlineFragment(inline) => {
                    let condition = inline.type_condition.as_ref().unwrap_or(parent);
                    self.fragment(parent, condition, &inline.selection_set, out)?;
                }
                Selection::FragmentSpread(spread) => {
                    if let Some(fragment) = spread.fragment_def(self.document) {
                        self.fragment(
                            parent,
                            &fragment.selection_set.ty,
                            &fragment.selection_set,
                            out,
                        )?;
                    }
                }
            }
        }
        Ok(())
    }

    fn field(
        &mut self,
        parent: &Name,
        field: &executable::Field,
        out: &mut Selections,
    ) -> Result<(), PlanError> {
        let key = field.response_key().clone();
        let denied = self.is_denied(parent, field);
        if denied {
            let mut path = self.path.clone();
            path.push(key.clone());
            if !self.denied.iter().any(|known| known.path == path) {
                self.denied.push(Denied {
                    ty: parent.clone(),
                    field: field.name.clone(),
                    path,
                });
            }
        }
        let existing = out.0.iter().position(
            |item| matches!(item, Item::Field(other) if other.key == key && other.name == field.name && other.denied == denied),
        );
        let index = existing.unwrap_or_else(|| {
            out.0.push(Item::Field(Field {
                key: key.clone(),
                slot: None,
                denied,
                name: field.name.clone(),
                arguments: field.arguments.clone(),
                directives: Vec::new(),
                ty: field.ty().inner_named_type().clone(),
                selections: Selections::default(),
            }));
            out.0.len() - 1
        });
        if let Some(Item::Field(merged)) = out.0.get_mut(index) {
            for directive in passed_on(&field.directives) {
                if !merged.directives.contains(directive) {
                    merged.directives.push(directive.clone());
                }
            }
            let ty = merged.ty.clone();
            // Below a denied field nothing is fetched or reported.
            if !denied {
                self.path.push(key);
                self.set(&ty, &field.selection_set, &mut merged.selections)?;
                self.path.pop();
            }
        }
        Ok(())
    }

    fn fragment(
        &mut self,
        parent: &Name,
        condition: &Name,
        set: &SelectionSet,
        out: &mut Selections,
    ) -> Result<(), PlanError> {
        let wanted = self.graph.possible_types(condition);
        let here = self.graph.possible_types(parent);
        if here.iter().all(|ty| wanted.contains(ty)) && !self.graph.is_abstract(parent) {
            return self.set(parent, set, out);
        }
        if condition == parent {
            return self.set(parent, set, out);
        }
        if !here.iter().any(|ty| wanted.contains(ty)) {
            return Ok(());
        }
        let mut inner = Selections::default();
        let before = self.in_denied_type;
        self.in_denied_type |= self
            .graph
            .demands_of_type(condition)
            .any(|demand| self.decisions.denied.contains(&demand));
        let done = self.set(condition, set, &mut inner);
        self.in_denied_type = before;
        done?;
        if !inner.0.is_empty() {
            out.0.push(Item::Fragment(condition.clone(), inner));
        }
        Ok(())
    }

    fn is_denied(&self, parent: &Name, field: &executable::Field) -> bool {
        let denied = &self.decisions.denied;
        field.name != "__typename"
            && (self.in_denied_type
                || (!denied.is_empty()
                    && !self
                        .graph
                        .demands_of(parent, &field.name)
                        .is_disjoint(denied)))
    }

    fn included(&self, directives: &DirectiveList) -> bool {
        let holds = |name, default| match condition(directives, name) {
            None => default,
            Some(Value::Boolean(value)) => *value,
            Some(Value::Variable(variable)) => self
                .decisions
                .conditions
                .get(variable)
                .copied()
                .unwrap_or(default),
            Some(_) => default,
        };
        !holds("skip", false) && holds("include", true)
    }
}
