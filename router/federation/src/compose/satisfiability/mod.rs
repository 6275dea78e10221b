//! Whether every field that clients see can be resolved on every path to it.
//!
//! The search visits states: an object type together with its holders, the
//! subgraphs that have the object already. Keys lead from these to more
//! subgraphs; a field that none of them resolves is an error, reported with a
//! query that reaches it. All holders that resolve a field hold its child, each
//! for its own part: the planner can go back to a parent for the same reason.

mod contexts;
mod report;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use apollo_compiler::Name;
use apollo_compiler::ast::Selection;

use crate::error::CompositionError;
use crate::field_set::{self, FieldSet};
use crate::supergraph::{Labels, SubgraphId, Supergraph};

/// The most states that are visited.
const MAX_STATES: usize = 50_000;

/// An object as one of its holders has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct LocalView {
    /// The name of its type in the subgraph.
    name: Name,
    /// What an enclosing `@provides` adds, printed.
    provided: String,
}

/// The subgraphs that have an object, each with its view of it.
type Holders = BTreeMap<SubgraphId, LocalView>;

/// For each context that is set on the path: the selections that the nearest
/// ancestor that sets it can provide, printed.
type AvailableContexts = BTreeMap<String, BTreeSet<String>>;

/// The most override labels of which all combinations are checked.
const MAX_COMBINED_LABELS: usize = 4;

/// The sets of labels to check: all combinations of a few labels; of more: none,
/// all, each alone, and each left out.
fn label_sets(labels: &Labels) -> BTreeSet<Labels> {
    let mut sets = BTreeSet::from([Labels::new(), labels.clone()]);
    if labels.len() <= MAX_COMBINED_LABELS {
        for bits in 0..1_u32 << labels.len() {
            let on = labels.iter().enumerate();
            let on = on.filter(|(index, _)| bits >> index & 1 == 1);
            sets.insert(on.map(|(_, label)| label.clone()).collect());
        }
        return sets;
    }
    for label in labels {
        let mut others = labels.clone();
        others.remove(label);
        sets.extend([Labels::from([label.clone()]), others]);
    }
    sets
}

pub(super) fn check(graph: &Supergraph, errors: &mut Vec<CompositionError>) {
    for labels in label_sets(graph.labels()) {
        let mut search = Search {
            graph,
            labels,
            seen: HashMap::new(),
            reported: HashSet::new(),
            available: RefCell::default(),
            in_context_selection: Cell::new(false),
            uses: graph.context_uses(),
            path: Vec::new(),
            found: Vec::new(),
            suppress_reports: 0,
        };
        search.check_roots();
        let failed = !search.found.is_empty();
        errors.append(&mut search.found);
        if failed {
            return;
        }
    }
}

struct Search<'g> {
    graph: &'g Supergraph,
    labels: Labels,
    /// Whether everything can be resolved from a state; true while it is being
    /// checked.
    seen: HashMap<(Name, Holders, AvailableContexts), bool>,
    available: RefCell<AvailableContexts>,
    /// Whether the selections of contexts are being checked.
    in_context_selection: Cell<bool>,
    /// All selections that arguments make of each context.
    uses: BTreeMap<&'g str, Vec<&'g FieldSet>>,
    reported: HashSet<(Name, Name)>,
    path: Vec<String>,
    found: Vec<CompositionError>,
    /// Above zero, errors are not reported: another path may succeed.
    suppress_reports: usize,
}

impl Search<'_> {
    fn check_roots(&mut self) {
        let schema = self.graph.api().schema_definition.clone();
        if let Some(query) = &schema.query {
            let holders = self.all_holders(&query.name);
            self.check_object(&query.name, holders);
        }
        for root in [&schema.mutation, &schema.subscription]
            .into_iter()
            .flatten()
        {
            let Some(ty) = self.graph.api().get_object(&root.name).cloned() else {
                continue;
            };
            for field in ty.fields.keys() {
                self.check_root_field(&root.name, field);
            }
        }
    }

    fn all_holders(&self, ty: &Name) -> Holders {
        self.graph
            .ids()
            .filter(|id| self.graph.defines(*id, ty))
            .map(|id| (id, self.local_view(ty)))
            .collect()
    }

    fn local_view(&self, name: &Name) -> LocalView {
        LocalView {
            name: name.clone(),
            provided: String::new(),
        }
    }

    /// A mutation or subscription field is fetched from one subgraph, so one subgraph
    /// alone must be able to resolve it.
    fn check_root_field(&mut self, root: &Name, field: &Name) {
        let candidates: Vec<Holders> = self
            .all_holders(root)
            .into_iter()
            .map(|one| Holders::from([one]))
            .filter(|holders| {
                !self
                    .resolvers(root, field, holders, &mut Vec::new())
                    .is_empty()
            })
            .collect();
        self.suppress_reports += 1;
        let any = candidates.iter().any(|holders| {
            let before = self.seen.clone();
            let satisfied = self.check_field(root, field, holders);
            if !satisfied {
                // Results that depended on the failed assumption are dropped.
                self.seen = before;
            }
            satisfied
        });
        self.suppress_reports -= 1;
        if any {
            return;
        }
        match candidates.first() {
            Some(holders) => {
                self.seen.clear();
                self.check_field(root, field, holders);
            }
            None => self.report(root, field, &Holders::new()),
        }
    }

    /// Visits an object type with the subgraphs that have it.
    fn check_object(&mut self, ty: &Name, holders: Holders) -> bool {
        let state = (ty.clone(), holders, self.available.borrow().clone());
        if let Some(known) = self.seen.get(&state) {
            return *known;
        }
        if self.seen.len() >= MAX_STATES {
            if self.seen.len() == MAX_STATES && self.suppress_reports == 0 {
                self.found.push(CompositionError::new(
                    "MAX_VALIDATION_SUBGRAPH_PATHS_EXCEEDED",
                    format!(
                        "the graph has more than {MAX_STATES} paths to its fields; not all were checked"
                    ),
                ));
            }
            return true;
        }
        self.seen.insert(state.clone(), true);
        let (ty, holders, _) = &state;
        let Some(object) = self.graph.api().get_object(ty) else {
            return true;
        };
        let fields: Vec<Name> = object.fields.keys().cloned().collect();
        let reached = self.reachable_holders(ty, holders, &mut Vec::new());
        let mut all = true;
        for field in &fields {
            all &= self.check_field(ty, field, &reached);
        }
        self.seen.insert(state, all);
        all
    }

    fn check_field(&mut self, ty: &Name, field: &Name, holders: &Holders) -> bool {
        let resolvers = self.resolvers(ty, field, holders, &mut Vec::new());
        if resolvers.is_empty() {
            self.report(ty, field, holders);
            return false;
        }
        let Some(inner) = self.graph.field_type(ty, field).cloned() else {
            return true;
        };
        if !self.graph.is_composite(&inner) {
            return true;
        }
        self.path.push(field.to_string());
        let above = self.set_contexts(ty, holders);
        let mut all = true;
        match self.children(field, &inner, &resolvers) {
            Ok(children) => {
                for (child, holders) in children {
                    let typed = child != inner;
                    if typed {
                        self.path.push(format!("... on {child}"));
                    }
                    all &= self.check_object(&child, holders);
                    if typed {
                        self.path.pop();
                    }
                }
            }
            Err(interface) => {
                self.report(
                    &interface,
                    &apollo_compiler::name!("__typename"),
                    &resolvers,
                );
                all = false;
            }
        }
        self.path.pop();
        self.available.replace(above);
        all
    }

    /// The object types that a field may return, each with its holders. The error is
    /// an interface of whose objects no reachable subgraph knows the type.
    fn children(
        &self,
        field: &Name,
        inner: &Name,
        resolvers: &Holders,
    ) -> Result<Vec<(Name, Holders)>, Name> {
        // A field that returns the query root: every subgraph can be queried anew.
        let query = &self.graph.api().schema_definition.query;
        if query.as_ref().is_some_and(|query| query.name == *inner) {
            return Ok(vec![(inner.clone(), self.all_holders(inner))]);
        }
        // Subgraphs that know the object's type, and those with an interface object.
        let mut real: Holders = Holders::new();
        let mut held: Holders = Holders::new();
        for (id, had) in resolvers {
            let join = self.graph.field(*id, &had.name, field);
            // The subgraph's own type, which may be narrower than the merged one.
            let answers = self
                .graph
                .field_type_in(*id, &had.name, field)
                .map_or(inner, |ty| ty.inner_named_type())
                .clone();
            // What an enclosing @provides leaves for below, and the field's own.
            let mut provided = nested_selection(&parse(&had.provided), field).unwrap_or_default();
            provided.extend(
                join.and_then(|join| join.provides.clone())
                    .unwrap_or_default(),
            );
            let below = LocalView {
                name: answers.clone(),
                provided: field_set::print(&provided),
            };
            match self.graph.is_interface_object(*id, &answers) {
                true => held.insert(*id, below),
                false => real.insert(*id, below),
            };
        }
        if !self.graph.is_abstract(inner) {
            let mut holders = real;
            holders.append(&mut held);
            return Ok(vec![(inner.clone(), holders)]);
        }
        if real.is_empty() && !held.is_empty() {
            // A subgraph that knows the interface must resolve the object's type.
            let reached = self.reachable_holders(inner, &held, &mut Vec::new());
            real = reached
                .into_iter()
                .filter(|(id, had)| !self.graph.is_interface_object(*id, &had.name))
                .collect();
            if real.is_empty() {
                return Err(inner.clone());
            }
        }
        let mut children: Vec<(Name, Holders)> = Vec::new();
        for (id, had) in &real {
            // A subgraph returns only the object types that it knows.
            for possible in self.graph.possible_types_in(*id, &had.name) {
                let narrowed = LocalView {
                    name: possible.clone(),
                    provided: had.provided.clone(),
                };
                match children.iter_mut().find(|(name, _)| name == possible) {
                    Some((_, holders)) => {
                        holders.insert(*id, narrowed);
                    }
                    // Interface objects hold every type.
                    None => {
                        let mut holders = held.clone();
                        holders.insert(*id, narrowed);
                        children.push((possible.clone(), holders));
                    }
                }
            }
        }
        Ok(children)
    }

    /// The holders of an object, and the subgraphs that keys lead to from them.
    fn reachable_holders(
        &self,
        ty: &Name,
        holders: &Holders,
        requiring: &mut Vec<(Name, Name)>,
    ) -> Holders {
        let mut reached = holders.clone();
        loop {
            let mut added = Vec::new();
            for id in self.graph.ids() {
                if reached.contains_key(&id) {
                    continue;
                }
                let enters = self.graph.keys(id, ty).iter().any(|key| {
                    key.resolvable && self.can_resolve_set(ty, &key.fields, &reached, requiring)
                });
                if enters && let Some(name) = self.graph.local_type_name(id, ty) {
                    added.push((id, self.local_view(name)));
                }
            }
            if added.is_empty() {
                return reached;
            }
            reached.extend(added);
        }
    }

    /// The holders that resolve a field.
    fn resolvers(
        &self,
        ty: &Name,
        field: &Name,
        holders: &Holders,
        requiring: &mut Vec<(Name, Name)>,
    ) -> Holders {
        holders
            .iter()
            .filter(|(id, had)| {
                if nested_selection(&parse(&had.provided), field).is_some() {
                    return true;
                }
                let Some(join) = self.graph.field(**id, &had.name, field) else {
                    return false;
                };
                if !join.resolves(&self.labels) {
                    return false;
                }
                if !join.has_requirements() {
                    return true;
                }
                if self.missing_context(join).is_some() {
                    return false;
                }
                let this = (ty.clone(), field.clone());
                if requiring.contains(&this) {
                    return false;
                }
                requiring.push(this);
                let enters = self.graph.keys(**id, ty).iter().any(|key| {
                    key.resolvable && self.can_resolve_set(ty, &key.fields, holders, requiring)
                });
                let wanted = join.requires.as_deref().unwrap_or_default();
                let brings = enters && self.can_resolve_set(ty, wanted, holders, requiring);
                requiring.pop();
                brings
            })
            .map(|(id, had)| (*id, had.clone()))
            .collect()
    }

    /// Whether the holders of an object can resolve a field set.
    fn can_resolve_set(
        &self,
        ty: &Name,
        set: &[Selection],
        holders: &Holders,
        requiring: &mut Vec<(Name, Name)>,
    ) -> bool {
        set.iter().all(|selection| match selection {
            Selection::Field(field) if field.name == "__typename" => true,
            Selection::Field(field) => {
                let resolvers = self.resolvers(ty, &field.name, holders, requiring);
                if resolvers.is_empty() {
                    return false;
                }
                if field.selection_set.is_empty() {
                    return true;
                }
                let Some(inner) = self.graph.field_type(ty, &field.name) else {
                    return false;
                };
                let Ok(children) = self.children(&field.name, inner, &resolvers) else {
                    return false;
                };
                let above = self.set_contexts(ty, holders);
                let all = children.iter().all(|(child, holders)| {
                    // The recursion ends, as each step takes a smaller set.
                    let reached =
                        self.reachable_holders_for(child, holders, &field.selection_set, requiring);
                    self.can_resolve_set(child, &field.selection_set, &reached, requiring)
                });
                self.available.replace(above);
                all
            }
            Selection::InlineFragment(inline) => {
                let applies = inline
                    .type_condition
                    .as_ref()
                    .is_none_or(|condition| self.graph.possible_types(condition).contains(ty));
                !applies || self.can_resolve_set(ty, &inline.selection_set, holders, requiring)
            }
            Selection::FragmentSpread(_) => false,
        })
    }

    /// Keys may refer to each other endlessly, so keys are only followed if the
    /// holders cannot resolve the set themselves, and once for each type.
    fn reachable_holders_for(
        &self,
        ty: &Name,
        holders: &Holders,
        set: &[Selection],
        requiring: &mut Vec<(Name, Name)>,
    ) -> Holders {
        let local = set.iter().all(|selection| match selection {
            Selection::Field(field) if field.selection_set.is_empty() => !self
                .resolvers(ty, &field.name, holders, requiring)
                .is_empty(),
            _ => false,
        });
        let this = (ty.clone(), apollo_compiler::name!("__keys"));
        if local || requiring.contains(&this) {
            return holders.clone();
        }
        requiring.push(this);
        let reached = self.reachable_holders(ty, holders, requiring);
        requiring.pop();
        reached
    }
}

fn parse(text: &str) -> FieldSet {
    match text {
        "" => FieldSet::new(),
        text => field_set::parse(text).unwrap_or_default(),
    }
}

/// What a field set selects below one of its fields.
fn nested_selection(set: &[Selection], field: &Name) -> Option<FieldSet> {
    set.iter().find_map(|selection| match selection {
        Selection::Field(other) if other.name == *field => Some(other.selection_set.clone()),
        Selection::InlineFragment(inline) => nested_selection(&inline.selection_set, field),
        _ => None,
    })
}
