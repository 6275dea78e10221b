//! Whether every field that clients see can be had on every way to it.
//!
//! The search walks states: an object type together with the subgraphs that
//! have the object at hand. From these, keys lead to more; a field that none of
//! them resolves is an error, told with a query that gets there. What the
//! subgraphs at hand resolve together they may resolve on the way to a child,
//! each for its part: planning goes back to a parent for the same reason.

mod report;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use apollo_compiler::Name;
use apollo_compiler::ast::Selection;

use crate::error::CompositionError;
use crate::field_set::{self, FieldSet};
use crate::supergraph::{ContextArgument, FieldJoin, Labels, SubgraphId, Supergraph};

/// How many states are looked at before giving up.
const STATES: usize = 50_000;

/// How a subgraph has an object at hand.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Had {
    /// What the subgraph calls its type.
    name: Name,
    /// What an enclosing `@provides` adds, printed.
    provided: String,
}

type Hand = BTreeMap<SubgraphId, Had>;

/// Of each context that is set on the way: the selections that can be had of
/// the nearest ancestor that sets it, printed.
type Available = BTreeMap<String, BTreeSet<String>>;

/// How many override labels are tried on and off in all combinations.
const LABELS: usize = 4;

/// The sets of labels to check: all sets of a few, of many each alone.
fn label_sets(labels: &Labels) -> BTreeSet<Labels> {
    let mut sets = BTreeSet::from([Labels::new(), labels.clone()]);
    if labels.len() <= LABELS {
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
            setting: Cell::new(false),
            uses: graph.context_uses(),
            path: Vec::new(),
            found: Vec::new(),
            quiet: 0,
        };
        search.roots();
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
    /// Whether everything can be had from a state; true while that is asked.
    seen: HashMap<(Name, Hand, Available), bool>,
    available: RefCell<Available>,
    /// Whether the selections of contexts are being looked at.
    setting: Cell<bool>,
    /// What is selected of each context anywhere.
    uses: BTreeMap<&'g str, Vec<&'g FieldSet>>,
    reported: HashSet<(Name, Name)>,
    path: Vec<String>,
    found: Vec<CompositionError>,
    /// Above nought, errors are not reported: another way may do.
    quiet: usize,
}

impl Search<'_> {
    fn roots(&mut self) {
        let schema = self.graph.api().schema_definition.clone();
        if let Some(query) = &schema.query {
            let hand = self.everywhere(&query.name);
            self.visit(&query.name, hand);
        }
        for root in [&schema.mutation, &schema.subscription]
            .into_iter()
            .flatten()
        {
            let Some(ty) = self.graph.api().get_object(&root.name).cloned() else {
                continue;
            };
            for field in ty.fields.keys() {
                self.root_field(&root.name, field);
            }
        }
    }

    fn everywhere(&self, ty: &Name) -> Hand {
        self.graph
            .ids()
            .filter(|id| self.graph.defines(*id, ty))
            .map(|id| (id, self.plainly(ty)))
            .collect()
    }

    fn plainly(&self, name: &Name) -> Had {
        Had {
            name: name.clone(),
            provided: String::new(),
        }
    }

    /// A field with effects is asked of one subgraph, so one must do.
    fn root_field(&mut self, root: &Name, field: &Name) {
        let hands: Vec<Hand> = self
            .everywhere(root)
            .into_iter()
            .map(|one| Hand::from([one]))
            .filter(|hand| {
                !self
                    .resolvers(root, field, hand, &mut Vec::new())
                    .is_empty()
            })
            .collect();
        self.quiet += 1;
        let any = hands.iter().any(|hand| {
            let before = self.seen.clone();
            let satisfied = self.below(root, field, hand);
            if !satisfied {
                // What rested on the failed assumption is not known.
                self.seen = before;
            }
            satisfied
        });
        self.quiet -= 1;
        if any {
            return;
        }
        match hands.first() {
            Some(hand) => {
                self.seen.clear();
                self.below(root, field, hand);
            }
            None => self.report(root, field, &Hand::new()),
        }
    }

    /// Visits an object type with the subgraphs that have it.
    fn visit(&mut self, ty: &Name, hand: Hand) -> bool {
        let state = (ty.clone(), hand, self.available.borrow().clone());
        if let Some(known) = self.seen.get(&state) {
            return *known;
        }
        if self.seen.len() >= STATES {
            if self.seen.len() == STATES && self.quiet == 0 {
                self.found.push(CompositionError::new(
                    "MAX_VALIDATION_SUBGRAPH_PATHS_EXCEEDED",
                    format!(
                        "the graph has more than {STATES} ways to its fields; not all were checked"
                    ),
                ));
            }
            return true;
        }
        self.seen.insert(state.clone(), true);
        let (ty, hand, _) = &state;
        let Some(object) = self.graph.api().get_object(ty) else {
            return true;
        };
        let fields: Vec<Name> = object.fields.keys().cloned().collect();
        let reached = self.closure(ty, hand, &mut Vec::new());
        let mut all = true;
        for field in &fields {
            all &= self.below(ty, field, &reached);
        }
        self.seen.insert(state, all);
        all
    }

    fn below(&mut self, ty: &Name, field: &Name, hand: &Hand) -> bool {
        let resolvers = self.resolvers(ty, field, hand, &mut Vec::new());
        if resolvers.is_empty() {
            self.report(ty, field, hand);
            return false;
        }
        let Some(inner) = self.graph.field_type(ty, field).cloned() else {
            return true;
        };
        if !self.graph.is_composite(&inner) {
            return true;
        }
        self.path.push(field.to_string());
        let above = self.set_contexts(ty, hand);
        let mut all = true;
        match self.children(field, &inner, &resolvers) {
            Ok(children) => {
                for (child, hand) in children {
                    let typed = child != inner;
                    if typed {
                        self.path.push(format!("... on {child}"));
                    }
                    all &= self.visit(&child, hand);
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

    /// Notes what an object gives those below it; answers what was available
    /// before.
    fn set_contexts(&self, ty: &Name, hand: &Hand) -> Available {
        let above = self.available.borrow().clone();
        // What a context selects is asked for without contexts of its own.
        if self.setting.replace(true) {
            return above;
        }
        for context in self.graph.contexts_of(ty) {
            let had = self
                .uses
                .get(context)
                .into_iter()
                .flatten()
                .filter(|set| {
                    let set = self.graph.selected_of(ty, set);
                    !set.is_empty() && self.obtains(ty, &set, hand, &mut Vec::new())
                })
                .map(|set| field_set::print(set))
                .collect();
            self.available.borrow_mut().insert(context.to_owned(), had);
        }
        self.setting.set(false);
        above
    }

    /// The first context that a field wants and nothing above it gives.
    fn missing_context<'j>(&self, join: &'j FieldJoin) -> Option<&'j str> {
        let missing = |argument: &&'j ContextArgument| {
            let available = self.available.borrow();
            let had = available.get(&argument.context);
            !had.is_some_and(|had| had.contains(&field_set::print(&argument.selection)))
        };
        let found = join.contexts.iter().find(missing);
        found.map(|argument| argument.context.as_str())
    }

    /// The objects that a field may answer, each with who has it. An error is
    /// an interface whose objects nobody at hand can tell apart.
    fn children(
        &self,
        field: &Name,
        inner: &Name,
        resolvers: &Hand,
    ) -> Result<Vec<(Name, Hand)>, Name> {
        let query = &self.graph.api().schema_definition.query;
        if query.as_ref().is_some_and(|query| query.name == *inner) {
            return Ok(vec![(inner.clone(), self.everywhere(inner))]);
        }
        let mut real: Hand = Hand::new();
        let mut held: Hand = Hand::new();
        for (id, had) in resolvers {
            let join = self.graph.field(*id, &had.name, field);
            let answers = self
                .graph
                .field_type_in(*id, &had.name, field)
                .map_or(inner, |ty| ty.inner_named_type())
                .clone();
            let mut provided = given(&parse(&had.provided), field).unwrap_or_default();
            provided.extend(
                join.and_then(|join| join.provides.clone())
                    .unwrap_or_default(),
            );
            let below = Had {
                name: answers.clone(),
                provided: field_set::print(&provided),
            };
            match self.graph.is_interface_object(*id, &answers) {
                true => held.insert(*id, below),
                false => real.insert(*id, below),
            };
        }
        if !self.graph.is_abstract(inner) {
            let mut hand = real;
            hand.append(&mut held);
            return Ok(vec![(inner.clone(), hand)]);
        }
        if real.is_empty() && !held.is_empty() {
            // Somebody who knows the interface must tell what stands there.
            let reached = self.closure(inner, &held, &mut Vec::new());
            real = reached
                .into_iter()
                .filter(|(id, had)| !self.graph.is_interface_object(*id, &had.name))
                .collect();
            if real.is_empty() {
                return Err(inner.clone());
            }
        }
        let mut children: Vec<(Name, Hand)> = Vec::new();
        for (id, had) in &real {
            for possible in self.graph.possible_in(*id, &had.name) {
                let narrowed = Had {
                    name: possible.clone(),
                    provided: had.provided.clone(),
                };
                match children.iter_mut().find(|(name, _)| name == possible) {
                    Some((_, hand)) => {
                        hand.insert(*id, narrowed);
                    }
                    None => {
                        let mut hand = held.clone();
                        hand.insert(*id, narrowed);
                        children.push((possible.clone(), hand));
                    }
                }
            }
        }
        Ok(children)
    }

    /// What is at hand, and what keys lead to from there.
    fn closure(&self, ty: &Name, hand: &Hand, requiring: &mut Vec<(Name, Name)>) -> Hand {
        let mut reached = hand.clone();
        loop {
            let mut added = Vec::new();
            for id in self.graph.ids() {
                if reached.contains_key(&id) {
                    continue;
                }
                let enters = self.graph.keys(id, ty).iter().any(|key| {
                    key.resolvable && self.obtains(ty, &key.fields, &reached, requiring)
                });
                if enters && let Some(name) = self.graph.known_as(id, ty) {
                    added.push((id, self.plainly(name)));
                }
            }
            if added.is_empty() {
                return reached;
            }
            reached.extend(added);
        }
    }

    /// Those at hand that resolve a field.
    fn resolvers(
        &self,
        ty: &Name,
        field: &Name,
        hand: &Hand,
        requiring: &mut Vec<(Name, Name)>,
    ) -> Hand {
        hand.iter()
            .filter(|(id, had)| {
                if given(&parse(&had.provided), field).is_some() {
                    return true;
                }
                let Some(join) = self.graph.field(**id, &had.name, field) else {
                    return false;
                };
                if !join.resolves(&self.labels) {
                    return false;
                }
                if !join.wants() {
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
                let enters =
                    self.graph.keys(**id, ty).iter().any(|key| {
                        key.resolvable && self.obtains(ty, &key.fields, hand, requiring)
                    });
                let wanted = join.requires.as_deref().unwrap_or_default();
                let brings = enters && self.obtains(ty, wanted, hand, requiring);
                requiring.pop();
                brings
            })
            .map(|(id, had)| (*id, had.clone()))
            .collect()
    }

    /// Whether a field set can be had from what is at hand.
    fn obtains(
        &self,
        ty: &Name,
        set: &[Selection],
        hand: &Hand,
        requiring: &mut Vec<(Name, Name)>,
    ) -> bool {
        set.iter().all(|selection| match selection {
            Selection::Field(field) if field.name == "__typename" => true,
            Selection::Field(field) => {
                let resolvers = self.resolvers(ty, &field.name, hand, requiring);
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
                let above = self.set_contexts(ty, hand);
                let all = children.iter().all(|(child, hand)| {
                    // Each step takes a shorter set, so this ends.
                    let reached = self.closure_below(child, hand, &field.selection_set, requiring);
                    self.obtains(child, &field.selection_set, &reached, requiring)
                });
                self.available.replace(above);
                all
            }
            Selection::InlineFragment(inline) => {
                let applies = inline
                    .type_condition
                    .as_ref()
                    .is_none_or(|condition| self.graph.possible_types(condition).contains(ty));
                !applies || self.obtains(ty, &inline.selection_set, hand, requiring)
            }
            Selection::FragmentSpread(_) => false,
        })
    }

    /// Keys may nest in each other without end; what is at hand often does.
    fn closure_below(
        &self,
        ty: &Name,
        hand: &Hand,
        set: &[Selection],
        requiring: &mut Vec<(Name, Name)>,
    ) -> Hand {
        let local = set.iter().all(|selection| match selection {
            Selection::Field(field) if field.selection_set.is_empty() => {
                !self.resolvers(ty, &field.name, hand, requiring).is_empty()
            }
            _ => false,
        });
        let this = (ty.clone(), apollo_compiler::name!("__keys"));
        if local || requiring.contains(&this) {
            return hand.clone();
        }
        requiring.push(this);
        let reached = self.closure(ty, hand, requiring);
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
fn given(set: &[Selection], field: &Name) -> Option<FieldSet> {
    set.iter().find_map(|selection| match selection {
        Selection::Field(other) if other.name == *field => Some(other.selection_set.clone()),
        Selection::InlineFragment(inline) => given(&inline.selection_set, field),
        _ => None,
    })
}
