//! Chooses fetches.
//!
//! The planner walks the client's selection. A *position* is a place in the
//! data where an object of one (perhaps abstract) type stands; an *instance* is
//! a fetch that is selecting from that object, in one subgraph. A field is
//! resolved at a position by one of its instances, or by one that can be had:
//! by a key, or by going back to an ancestor and selecting the same way down in
//! another subgraph.
//!
//! | module | what it does |
//! |---|---|
//! | here | the state, and the walk over selections |
//! | [`reach`] | which subgraphs can be had at a position, how, and at what cost |
//! | [`choose`] | which subgraph resolves a field |
//! | [`enter`] | entity fetches, `@requires`, and the field sets that feed them |
//! | [`finish`] | merges fetches, orders and prints them |
//!
//! Each choice is the best as seen from its place; [`super::search`] tries the
//! others where a place could not see far enough.

mod choose;
mod enter;
mod finish;
mod reach;

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use apollo_compiler::ast::{self, Argument};
use apollo_compiler::collections::IndexMap;
use apollo_compiler::executable::{Operation, OperationType};
use apollo_compiler::{Name, Node, name};

use super::selection::{Arena, NodeId, SelectedField};
use super::slots::Slots;
use super::{EntityInput, Fetch, PathStep, PlanError, Resume, Slot};
use crate::field_set::{self, FieldSet};
use crate::operation::{Field, Item, Selections};
use crate::supergraph::{Labels, SubgraphId, Supergraph};

type GroupId = usize;
type PositionId = usize;

/// A fetch while its selection grows.
struct Group {
    subgraph: SubgraphId,
    root: NodeId,
    operation: OperationType,
    /// Where the objects stand that it is about.
    path: Vec<PathStep>,
    /// `None` for a fetch from a root type.
    entities: Option<Entities>,
    parents: BTreeSet<GroupId>,
    /// The most fetches that must end one after another before this one.
    depth: usize,
    /// Merged into another.
    gone: bool,
}

struct Entities {
    /// Whether the objects' types are unknown when they are asked for.
    abstract_input: bool,
    /// Distinguishes fetches that wait for different `@requires`.
    requires: String,
    inputs: IndexMap<Name, EntityInput>,
}

struct Position {
    parent: Parent,
    ty: Name,
    path: Vec<PathStep>,
    /// The object types that can stand here.
    runtime: Rc<[Name]>,
    instances: Vec<Instance>,
}

#[derive(Clone)]
enum Parent {
    /// The root; open if any subgraph may be asked from it.
    Root {
        open: bool,
    },
    Field {
        of: PositionId,
        field: Field,
    },
    /// The same objects, of a narrower type.
    Narrow {
        of: PositionId,
    },
}

#[derive(Clone)]
struct Instance {
    subgraph: SubgraphId,
    group: GroupId,
    node: NodeId,
    /// The type as the subgraph knows it.
    ty: Name,
    /// What an enclosing `@provides` makes resolvable here.
    provided: Rc<FieldSet>,
}

/// Which instance resolves a field, once that is chosen.
#[derive(Clone)]
struct Resolved {
    group: GroupId,
    child: Option<PositionId>,
}

/// A choice by where it is made.
type ChoiceKey = String;

/// A place where more than one subgraph could have been chosen.
#[derive(Debug, Clone)]
pub(super) struct ChoicePoint {
    pub key: ChoiceKey,
    pub others: Vec<SubgraphId>,
}

/// What a plan costs, compared in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PlanCost {
    pub depth: usize,
    pub fetches: usize,
    pub selections: usize,
}

/// What one walk made.
pub(super) struct Planned {
    pub fetches: Vec<Fetch>,
    pub resume: Option<Resume>,
    pub cost: PlanCost,
    pub choices: Vec<ChoicePoint>,
}

/// What a walk plans, and by which decisions.
pub(super) struct Task<'a> {
    pub graph: &'a Supergraph,
    pub labels: &'a Labels,
    pub operation: &'a Operation,
    pub root: &'a Name,
    pub selections: &'a Selections,
    pub slots: &'a Slots,
}

struct Planner<'a> {
    graph: &'a Supergraph,
    labels: &'a Labels,
    slots: Slots,
    arena: Arena,
    groups: Vec<Group>,
    positions: Vec<Position>,
    resolved: HashMap<(PositionId, Name), Resolved>,
    narrowed: HashMap<(PositionId, Name), PositionId>,
    /// The groups that received a field, in order; read in windows.
    touched: Vec<GroupId>,
    /// The fields whose `@requires` is being planned, outermost first.
    requiring: Vec<(Name, Name)>,
    /// The entity fetches whose keys are being planned, outermost first.
    entering: Vec<(PositionId, SubgraphId)>,
    hops: reach::Hops,
    decided: &'a HashMap<ChoiceKey, SubgraphId>,
    choices: Vec<ChoicePoint>,
    resume: Option<Resume>,
    /// A variable that the plan itself declares, with its type.
    added_variable: Option<(Name, String)>,
    operation: OperationType,
    budget: &'a mut usize,
}

/// Plans one operation, each choice as `decided` says or else the best.
pub(super) fn walk(
    task: &Task<'_>,
    decided: &HashMap<ChoiceKey, SubgraphId>,
    budget: &mut usize,
) -> Result<Planned, PlanError> {
    let mut planner = Planner {
        graph: task.graph,
        labels: task.labels,
        slots: task.slots.clone(),
        arena: Arena::default(),
        groups: Vec::new(),
        positions: Vec::new(),
        resolved: HashMap::new(),
        narrowed: HashMap::new(),
        touched: Vec::new(),
        requiring: Vec::new(),
        entering: Vec::new(),
        hops: reach::Hops::default(),
        decided,
        choices: Vec::new(),
        resume: None,
        added_variable: None,
        operation: task.operation.operation_type,
        budget,
    };
    planner.plan_root(task.operation.operation_type, task.root, task.selections)?;
    Ok(planner.finish(task.operation))
}

impl Planner<'_> {
    fn plan_root(
        &mut self,
        kind: OperationType,
        root: &Name,
        selections: &Selections,
    ) -> Result<(), PlanError> {
        let fields = selections.0.iter().filter_map(|item| match item {
            Item::Field(field) if !field.name.starts_with("__") && !field.denied => Some(field),
            _ => None,
        });
        if kind == OperationType::Query {
            let at = self.add_root_position(root, true);
            for field in fields {
                self.plan_field(at, field)?;
            }
            return Ok(());
        }
        // Side effects happen in the order asked for: neighbours in one
        // subgraph share a fetch, any other waits for all before it.
        let mut last: Option<Instance> = None;
        for field in fields {
            let subgraph = self.pick_root(root, field)?;
            let instance = match last.take() {
                Some(instance) if instance.subgraph == subgraph => instance,
                _ => self.add_root_group(subgraph, root, (0..self.groups.len()).collect()),
            };
            let at = self.add_root_position(root, false);
            self.positions[at].instances.push(instance.clone());
            last = Some(instance);
            match self.resumable(kind, root, field) {
                Some(field) => self.plan_field(at, &field)?,
                None => self.plan_field(at, field)?,
            }
        }
        Ok(())
    }

    fn add_root_position(&mut self, root: &Name, open: bool) -> PositionId {
        self.positions.push(Position {
            parent: Parent::Root { open },
            ty: root.clone(),
            path: Vec::new(),
            runtime: Rc::from([root.clone()]),
            instances: Vec::new(),
        });
        self.positions.len() - 1
    }

    fn add_root_group(
        &mut self,
        subgraph: SubgraphId,
        root: &Name,
        parents: BTreeSet<GroupId>,
    ) -> Instance {
        let node = self.arena.add();
        let group = self.add_group(subgraph, node, self.operation, parents);
        Instance {
            subgraph,
            group,
            node,
            ty: root.clone(),
            provided: Rc::default(),
        }
    }

    fn add_group(
        &mut self,
        subgraph: SubgraphId,
        root: NodeId,
        operation: OperationType,
        parents: BTreeSet<GroupId>,
    ) -> GroupId {
        let deepest = parents.iter().map(|parent| self.groups[*parent].depth + 1);
        let depth = deepest.max().unwrap_or(0);
        self.groups.push(Group {
            subgraph,
            root,
            operation,
            path: Vec::new(),
            entities: None,
            parents,
            depth,
            gone: false,
        });
        self.groups.len() - 1
    }

    /// A `@resumable` subscription field that selects its cursor and takes one.
    fn resumable(&mut self, kind: OperationType, root: &Name, field: &Field) -> Option<Field> {
        if kind != OperationType::Subscription {
            return None;
        }
        let resumable = self.graph.resumable(&field.name)?;
        let mut field = field.clone();
        let set = field_set::parse(&resumable.cursor).ok()?;
        let (added, required) = self.internal(&field.ty.clone(), &set);
        let cursor = required.first()?.key.clone();
        field.selections.0.extend(added.0);
        let given = field
            .arguments
            .iter()
            .find(|argument| argument.name == resumable.after)
            .map(|argument| argument.value.clone());
        // The field keeps the slot that its own arguments gave it.
        let slot = self.slot(root, &field);
        let variable = match given.as_deref() {
            Some(ast::Value::Variable(name)) => Some(name.clone()),
            Some(ast::Value::Null) | None => {
                let variable = name!("_stoa_after");
                let ty = self
                    .graph
                    .definition("Subscription", &field.name)?
                    .argument_by_name(&resumable.after)?
                    .ty
                    .to_string();
                field
                    .arguments
                    .retain(|argument| argument.name != resumable.after);
                field.arguments.push(Node::new(Argument {
                    name: resumable.after,
                    value: Node::new(ast::Value::Variable(variable.clone())),
                }));
                self.added_variable = Some((variable.clone(), ty));
                Some(variable)
            }
            Some(_) => None,
        };
        field.slot = Some(slot.clone());
        self.resume = Some(Resume {
            cursor: [Slot::new(slot), cursor],
            variable,
        });
        Some(field)
    }

    fn slot(&mut self, ty: &Name, field: &Field) -> Name {
        match &field.slot {
            Some(slot) => slot.clone(),
            None => self.slots.of(self.graph, ty, field),
        }
    }

    fn plan_selections(
        &mut self,
        at: PositionId,
        selections: &Selections,
    ) -> Result<(), PlanError> {
        for item in &selections.0 {
            match item {
                Item::Field(field) if field.denied => {}
                Item::Field(field) => self.plan_field(at, field)?,
                Item::Fragment(condition, inner) => self.plan_fragment(at, condition, inner)?,
            }
        }
        Ok(())
    }

    fn plan_fragment(
        &mut self,
        at: PositionId,
        condition: &Name,
        inner: &Selections,
    ) -> Result<(), PlanError> {
        let wanted = self.graph.possible_types(condition);
        let runtime = self.positions[at].runtime.clone();
        if !self.graph.is_abstract(&self.positions[at].ty) {
            return if wanted.contains(&self.positions[at].ty) {
                self.plan_selections(at, inner)
            } else {
                Ok(())
            };
        }
        let objects: Vec<Name> = runtime
            .iter()
            .filter(|ty| wanted.contains(ty))
            .cloned()
            .collect();
        if objects.is_empty() {
            return Ok(());
        }
        let typed = self.ensure_typed(at)?;
        // The condition can stand as it is where the subgraph means by it what
        // the supergraph means.
        let known = self.graph.possible_in(typed.subgraph, condition);
        if self.graph.is_abstract(condition)
            && self.graph.defines(typed.subgraph, condition)
            && objects.iter().all(|ty| known.contains(ty))
        {
            let inside = self.narrow(at, condition, objects.into());
            return self.plan_selections(inside, inner);
        }
        for ty in objects {
            let inside = self.narrow(at, &ty, Rc::from([ty.clone()]));
            self.plan_selections(inside, inner)?;
        }
        Ok(())
    }

    /// An instance at an abstract position that tells the objects' types.
    fn ensure_typed(&mut self, at: PositionId) -> Result<Instance, PlanError> {
        let tells = |planner: &Self, instance: &Instance| {
            !planner
                .graph
                .is_interface_object(instance.subgraph, &instance.ty)
        };
        let known = self.positions[at].instances.iter();
        if let Some(instance) = known.clone().find(|instance| tells(self, instance)) {
            let instance = instance.clone();
            self.touched.push(instance.group);
            return Ok(instance);
        }
        let ty = self.positions[at].ty.clone();
        let to = self
            .reach(at)
            .into_iter()
            .filter(|(id, _)| !self.graph.is_interface_object(*id, &ty))
            .min_by_key(|(id, reach)| (reach.depth, reach.fetches, *id))
            .map(|(id, _)| id)
            .ok_or_else(|| self.unresolvable(at, &ty, &name!("__typename")))?;
        let instance = self.obtain(at, to)?;
        self.arena.select_typename(instance.node);
        self.touched.push(instance.group);
        Ok(instance)
    }

    /// The same place, for objects of a narrower type.
    fn narrow(&mut self, at: PositionId, ty: &Name, objects: Rc<[Name]>) -> PositionId {
        if self.positions[at].ty == *ty {
            return at;
        }
        let known = (at, ty.clone());
        if let Some(position) = self.narrowed.get(&known) {
            return *position;
        }
        let mut path = self.positions[at].path.clone();
        if let Some(PathStep::Types(_)) = path.last() {
            path.pop();
        }
        path.push(PathStep::Types(objects.to_vec()));
        self.positions.push(Position {
            parent: Parent::Narrow { of: at },
            ty: ty.clone(),
            path,
            runtime: objects,
            instances: Vec::new(),
        });
        let position = self.positions.len() - 1;
        self.narrowed.insert(known, position);
        for instance in self.positions[at].instances.clone() {
            self.narrow_instance(position, &instance);
        }
        position
    }

    /// Lets an instance of a wider position serve a narrower one, if its
    /// subgraph knows the narrower type.
    fn narrow_instance(&mut self, at: PositionId, wider: &Instance) -> Option<Instance> {
        let name = self.narrowed_type(at, wider.subgraph, &wider.ty)?;
        let node = if name == wider.ty {
            wider.node
        } else {
            self.arena.select_typename(wider.node);
            self.arena.fragment(wider.node, &name)
        };
        let instance = Instance {
            node,
            ty: name,
            ..wider.clone()
        };
        self.positions[at].instances.push(instance.clone());
        Some(instance)
    }

    /// The name by which a subgraph that has `wider` at a position knows the
    /// position's narrower objects; `None` if it does not know them all.
    fn narrowed_type(&self, at: PositionId, subgraph: SubgraphId, wider: &Name) -> Option<Name> {
        let position = &self.positions[at];
        if self.graph.is_interface_object(subgraph, wider) {
            return Some(wider.clone());
        }
        let here = self.graph.possible_in(subgraph, wider);
        if self.graph.is_abstract(&position.ty) {
            let known = self.graph.possible_in(subgraph, &position.ty);
            (self.graph.defines(subgraph, &position.ty)
                && position.runtime.iter().all(|ty| known.contains(ty)))
            .then(|| position.ty.clone())
        } else {
            here.contains(&position.ty).then(|| position.ty.clone())
        }
    }

    fn plan_field(&mut self, at: PositionId, field: &Field) -> Result<(), PlanError> {
        *self.budget = self.budget.checked_sub(1).ok_or(PlanError::TooLarge)?;
        let ty = self.positions[at].ty.clone();
        if field.name == "__typename" {
            // The name of an object type is known without asking.
            return if self.graph.is_abstract(&ty) {
                self.ensure_typed(at).map(|_| ())
            } else {
                Ok(())
            };
        }
        let slot = self.slot(&ty, field);
        if let Some(resolved) = self.resolution(at, &slot) {
            self.touched.push(resolved.group);
            return match resolved.child {
                Some(child) => self.plan_selections(child, &field.selections),
                None => Ok(()),
            };
        }
        if self.graph.is_abstract(&ty) {
            return self.plan_abstract_field(at, field, slot);
        }
        let instance = self.choose(at, field)?;
        self.select(at, &instance, field, slot)
    }

    /// How a slot is resolved already, here or (a leaf) for all wider objects.
    fn resolution(&self, at: PositionId, slot: &Name) -> Option<Resolved> {
        if let Some(resolved) = self.resolved.get(&(at, slot.clone())) {
            return Some(resolved.clone());
        }
        match self.positions[at].parent {
            Parent::Narrow { of } => self
                .resolution(of, slot)
                .filter(|resolved| resolved.child.is_none()),
            _ => None,
        }
    }

    fn plan_abstract_field(
        &mut self,
        at: PositionId,
        field: &Field,
        slot: Name,
    ) -> Result<(), PlanError> {
        let instances = &self.positions[at].instances;
        let direct = instances
            .iter()
            .find(|instance| self.is_direct(at, instance.subgraph, &instance.ty, &field.name))
            .cloned();
        if let Some(instance) = direct {
            return self.select(at, &instance, field, slot);
        }
        let ty = self.positions[at].ty.clone();
        let untyped = instances.iter().all(|instance| {
            self.graph
                .is_interface_object(instance.subgraph, &instance.ty)
        });
        if untyped {
            let direct = self
                .reach(at)
                .into_iter()
                .filter(|(id, _)| self.is_direct(at, *id, &ty, &field.name))
                .min_by_key(|(id, reach)| {
                    let holds = self.graph.is_interface_object(*id, &ty);
                    (reach.depth, reach.fetches, holds, *id)
                });
            if let Some((to, _)) = direct {
                let instance = self.obtain(at, to)?;
                return self.select(at, &instance, field, slot);
            }
        }
        self.ensure_typed(at)?;
        for ty in self.positions[at].runtime.clone().iter() {
            let inside = self.narrow(at, ty, Rc::from([ty.clone()]));
            self.plan_field(inside, field)?;
        }
        Ok(())
    }

    /// Whether a subgraph that has `name` at an abstract position resolves a
    /// field for whatever stands there, asked without regard to its type.
    fn is_direct(&self, at: PositionId, subgraph: SubgraphId, name: &Name, field: &Name) -> bool {
        let plain = |ty: &Name| {
            self.graph
                .field(subgraph, ty, field)
                .is_some_and(|join| join.resolves(self.labels) && join.requires.is_none())
        };
        if !plain(name) || self.graph.is_conflicted(field) {
            return false;
        }
        if self.graph.is_interface_object(subgraph, name) {
            return true;
        }
        let here = self.graph.possible_in(subgraph, name);
        self.positions[at]
            .runtime
            .iter()
            .all(|ty| here.contains(ty) && plain(ty))
    }

    /// Selects a field in an instance and plans what is below it.
    fn select(
        &mut self,
        at: PositionId,
        instance: &Instance,
        field: &Field,
        slot: Name,
    ) -> Result<(), PlanError> {
        let child = self.select_alone(at, instance, field, slot)?;
        match child {
            Some(child) => self.plan_selections(child, &field.selections),
            None => Ok(()),
        }
    }

    /// Selects a field in an instance; answers the position below it.
    fn select_alone(
        &mut self,
        at: PositionId,
        instance: &Instance,
        field: &Field,
        slot: Name,
    ) -> Result<Option<PositionId>, PlanError> {
        self.touched.push(instance.group);
        if self.arena.len() > super::BUDGET {
            return Err(PlanError::TooLarge);
        }
        let composite = self.graph.is_composite(&field.ty);
        let selected = self.arena.get(instance.node).fields.get(&slot);
        let node = match selected {
            Some(selected) => selected.child,
            None => {
                let child = composite.then(|| self.arena.add());
                self.arena.get_mut(instance.node).fields.insert(
                    slot.clone(),
                    SelectedField {
                        name: field.name.clone(),
                        arguments: field.arguments.clone(),
                        child,
                    },
                );
                child
            }
        };
        let known = self.resolved.get(&(at, slot.clone()));
        let Some(node) = node else {
            self.resolved.entry((at, slot)).or_insert_with(|| Resolved {
                group: instance.group,
                child: None,
            });
            return Ok(None);
        };
        let answers = self
            .graph
            .field_type_in(instance.subgraph, &instance.ty, &field.name)
            .map_or_else(|| field.ty.clone(), |ty| ty.inner_named_type().clone());
        let held = self.graph.is_interface_object(instance.subgraph, &answers);
        if held {
            self.arena.get_mut(node).opaque = true;
        } else if self.graph.is_abstract(&field.ty) {
            self.arena.select_typename(node);
        }
        let mut provided: FieldSet = selected_by(&instance.provided, &field.name)
            .unwrap_or_default()
            .to_vec();
        if let Some(provides) = self
            .graph
            .field(instance.subgraph, &instance.ty, &field.name)
            .and_then(|join| join.provides.as_ref())
        {
            provided.extend(provides.iter().cloned());
        }
        let child = match known.and_then(|known| known.child) {
            Some(child) => child,
            None => {
                let mut path = self.positions[at].path.clone();
                path.push(PathStep::Key(Slot::new(slot.clone())));
                let runtime = if held {
                    self.graph.possible_types(&field.ty)
                } else {
                    self.graph.possible_in(instance.subgraph, &answers)
                };
                self.positions.push(Position {
                    parent: Parent::Field {
                        of: at,
                        field: Field {
                            slot: Some(slot.clone()),
                            selections: Selections::default(),
                            ..field.clone()
                        },
                    },
                    ty: field.ty.clone(),
                    path,
                    runtime: runtime.into(),
                    instances: Vec::new(),
                });
                let child = self.positions.len() - 1;
                let resolved = Resolved {
                    group: instance.group,
                    child: Some(child),
                };
                self.resolved.insert((at, slot), resolved);
                child
            }
        };
        let below = Instance {
            subgraph: instance.subgraph,
            group: instance.group,
            node,
            ty: answers,
            provided: Rc::new(provided),
        };
        self.positions[child].instances.push(below);
        Ok(Some(child))
    }

    fn unresolvable(&self, at: PositionId, ty: &Name, field: &Name) -> PlanError {
        let from: Vec<_> = self.positions[at]
            .instances
            .iter()
            .map(|instance| self.graph.subgraph(instance.subgraph).name.as_str())
            .collect();
        PlanError::Unresolvable {
            ty: ty.clone(),
            field: field.clone(),
            from: if from.is_empty() {
                "any root".to_owned()
            } else {
                from.join(", ")
            },
        }
    }
}

/// What a field set selects below one of its fields.
fn selected_by<'a>(fields: &'a [ast::Selection], name: &Name) -> Option<&'a [ast::Selection]> {
    fields.iter().find_map(|selection| match selection {
        ast::Selection::Field(field) if field.name == *name => Some(&*field.selection_set),
        ast::Selection::InlineFragment(inline) => selected_by(&inline.selection_set, name),
        _ => None,
    })
}
