//! Chooses fetches by walking the client's selection with a [`Cursor`]: the
//! fetch we are in, and where. A field that this fetch's subgraph resolves is
//! selected here; any other sends the walk through a key into an entity fetch
//! of a subgraph that does, the nearest first.
//!
//! One walk over one set of state: longer than most files, because its steps
//! call each other and nothing else.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Write;
use std::rc::Rc;
use std::sync::Arc;

use apollo_compiler::ast::{self, Argument};
use apollo_compiler::collections::{HashMap, IndexMap};
use apollo_compiler::executable::{Operation, OperationType};
use apollo_compiler::{Name, Node, name};

use super::selection::{Arena, NodeId, SelectedField};
use super::{
    EntityInput, Fetch, FetchKind, PathStep, PlanError, REPRESENTATIONS, Required, Resume,
};
use crate::field_set::{self, FieldSet};
use crate::operation::{Field, Item, Selections};
use crate::supergraph::{SubgraphId, Supergraph};

type GroupId = usize;

/// A fetch while its selection grows.
struct Group {
    subgraph: SubgraphId,
    root: NodeId,
    /// `None` for a fetch from a root type.
    entities: Option<Entities>,
    parents: BTreeSet<GroupId>,
}

struct Entities {
    path: Vec<PathStep>,
    /// The fetch whose objects these are.
    from: GroupId,
    /// Distinguishes fetches that wait for different `@requires`.
    requires: String,
    inputs: IndexMap<Name, EntityInput>,
}

/// The response keys that a client uses at one place, so that fields which
/// planning adds there never take one of them for something else.
#[derive(Default)]
struct Level(IndexMap<Name, LevelEntry>);

struct LevelEntry {
    name: Name,
    plain: bool,
    level: Rc<Level>,
}

#[derive(Clone)]
struct Cursor {
    group: GroupId,
    node: NodeId,
    ty: Name,
    path: Vec<PathStep>,
    level: Rc<Level>,
    /// What an enclosing `@provides` makes resolvable here.
    provided: Rc<FieldSet>,
}

struct Planner<'a> {
    graph: &'a Supergraph,
    arena: Arena,
    groups: Vec<Group>,
    /// The groups that received a field, in order; read in windows.
    touched: Vec<GroupId>,
    /// Aliases for added fields that take arguments, by what they print as.
    aliases: HashMap<String, usize>,
    /// The fields whose `@requires` is being planned, outermost first.
    requiring: Vec<(Name, Name)>,
    resume: Option<Resume>,
    /// A variable that the plan itself declares, with its type.
    added_variable: Option<(Name, String)>,
    budget: &'a mut usize,
}

pub(super) fn fetches(
    graph: &Supergraph,
    operation: &Operation,
    root: &Name,
    selections: &Selections,
    budget: &mut usize,
) -> Result<(Vec<Fetch>, Option<Resume>), PlanError> {
    let mut planner = Planner {
        graph,
        arena: Arena::default(),
        groups: Vec::new(),
        touched: Vec::new(),
        aliases: HashMap::default(),
        requiring: Vec::new(),
        resume: None,
        added_variable: None,
        budget,
    };
    planner.plan_root(operation.operation_type, root, selections)?;
    let resume = planner.resume.take();
    Ok((planner.finish(operation), resume))
}

impl Planner<'_> {
    fn plan_root(
        &mut self,
        kind: OperationType,
        root: &Name,
        selections: &Selections,
    ) -> Result<(), PlanError> {
        let level = Rc::new(levels(&[selections]));
        let mut by_subgraph: HashMap<SubgraphId, GroupId> = HashMap::default();
        let mut last: Option<(SubgraphId, GroupId)> = None;
        for item in &selections.0 {
            let Item::Field(field) = item else { continue };
            if field.name.starts_with("__") {
                continue;
            }
            let subgraph = self.pick_root(root, field, &by_subgraph)?;
            let group = if kind == OperationType::Mutation {
                // Side effects happen in the order asked for: neighbours in one
                // subgraph share a fetch, any other waits for all before it.
                match last {
                    Some((previous, group)) if previous == subgraph => group,
                    _ => {
                        let before = (0..self.groups.len()).collect();
                        self.add_root(subgraph, before)
                    }
                }
            } else {
                match by_subgraph.get(&subgraph) {
                    Some(group) => *group,
                    None => self.add_root(subgraph, BTreeSet::new()),
                }
            };
            by_subgraph.insert(subgraph, group);
            last = Some((subgraph, group));
            let cursor = Cursor {
                group,
                node: self.groups[group].root,
                ty: root.clone(),
                path: Vec::new(),
                level: level.clone(),
                provided: Rc::default(),
            };
            match self.resumable(kind, &level, field) {
                Some(field) => self.plan_field(&cursor, &field)?,
                None => self.plan_field(&cursor, field)?,
            }
        }
        Ok(())
    }

    /// A `@resumable` subscription field that selects its cursor and takes one.
    fn resumable(&mut self, kind: OperationType, level: &Level, field: &Field) -> Option<Field> {
        if kind != OperationType::Subscription {
            return None;
        }
        let resumable = self.graph.resumable(&field.name)?;
        let mut field = field.clone();
        let inner = level.0.get(&field.key).map(|entry| entry.level.clone());
        let set = field_set::parse(&resumable.cursor).ok()?;
        let (added, required) = self.internal(&inner.unwrap_or_default(), &field.ty.clone(), &set);
        let cursor = required.first()?.key.clone();
        field.selections.0.extend(added.0);
        let given = field
            .arguments
            .iter()
            .find(|argument| argument.name == resumable.after)
            .map(|argument| argument.value.clone());
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
        self.resume = Some(Resume {
            cursor: [field.key.clone(), cursor],
            variable,
        });
        Some(field)
    }

    fn add_root(&mut self, subgraph: SubgraphId, parents: BTreeSet<GroupId>) -> GroupId {
        let root = self.arena.add();
        self.groups.push(Group {
            subgraph,
            root,
            entities: None,
            parents,
        });
        self.groups.len() - 1
    }

    /// The subgraph that leaves the least to fetch elsewhere.
    fn pick_root(
        &self,
        root: &Name,
        field: &Field,
        open: &HashMap<SubgraphId, GroupId>,
    ) -> Result<SubgraphId, PlanError> {
        self.graph
            .resolvers(root, &field.name)
            .into_iter()
            .min_by_key(|id| {
                (
                    self.missing(*id, &field.ty, &field.selections),
                    !open.contains_key(id),
                )
            })
            .ok_or_else(|| PlanError::Unresolvable {
                ty: root.clone(),
                field: field.name.clone(),
                from: "any root".to_owned(),
            })
    }

    /// How many fields of a selection a subgraph cannot resolve by itself.
    fn missing(&self, subgraph: SubgraphId, ty: &Name, selections: &Selections) -> usize {
        selections
            .0
            .iter()
            .map(|item| match item {
                Item::Field(field) if field.name == "__typename" => 0,
                Item::Field(field) => match self.graph.field(subgraph, ty, &field.name) {
                    Some(join) if !join.external && join.requires.is_none() => {
                        self.missing(subgraph, &field.ty, &field.selections)
                    }
                    _ => 1,
                },
                Item::Fragment(condition, inner) => self.missing(subgraph, condition, inner),
            })
            .sum()
    }

    fn plan_selections(
        &mut self,
        cursor: &Cursor,
        selections: &Selections,
    ) -> Result<(), PlanError> {
        for item in &selections.0 {
            match item {
                Item::Field(field) => self.plan_field(cursor, field)?,
                Item::Fragment(condition, inner) => self.plan_fragment(cursor, condition, inner)?,
            }
        }
        Ok(())
    }

    fn plan_fragment(
        &mut self,
        cursor: &Cursor,
        condition: &Name,
        inner: &Selections,
    ) -> Result<(), PlanError> {
        let subgraph = self.groups[cursor.group].subgraph;
        let wanted = self.graph.possible_types(condition);
        let here: Vec<Name> = self
            .graph
            .possible_in(subgraph, &cursor.ty)
            .iter()
            .filter(|ty| wanted.contains(ty))
            .cloned()
            .collect();
        if !self.graph.is_abstract(&cursor.ty) {
            return if wanted.contains(&cursor.ty) {
                self.plan_selections(cursor, inner)
            } else {
                Ok(())
            };
        }
        // The condition can stand as it is where the subgraph means by it what
        // the supergraph means.
        let known = self.graph.possible_in(subgraph, condition);
        if self.graph.defines(subgraph, condition) && here.iter().all(|ty| known.contains(ty)) {
            if here.is_empty() {
                return Ok(());
            }
            let inside = self.narrow(cursor, condition, here);
            return self.plan_selections(&inside, inner);
        }
        for ty in here {
            let inside = self.narrow(cursor, &ty, vec![ty.clone()]);
            self.plan_selections(&inside, inner)?;
        }
        Ok(())
    }

    /// The same place, for objects of a narrower type.
    fn narrow(&mut self, cursor: &Cursor, ty: &Name, objects: Vec<Name>) -> Cursor {
        self.arena.select_typename(cursor.node);
        let node = self.arena.fragment(cursor.node, ty);
        let mut path = cursor.path.clone();
        if let Some(PathStep::Types(_)) = path.last() {
            path.pop();
        }
        path.push(PathStep::Types(objects));
        Cursor {
            node,
            ty: ty.clone(),
            path,
            ..cursor.clone()
        }
    }

    fn plan_field(&mut self, cursor: &Cursor, field: &Field) -> Result<(), PlanError> {
        *self.budget = self.budget.checked_sub(1).ok_or(PlanError::TooLarge)?;
        if field.name == "__typename" {
            // Under its own name whatever the alias: the shape restores that.
            self.arena.select_typename(cursor.node);
            return Ok(());
        }
        if !self.graph.is_abstract(&cursor.ty) {
            return self.plan_object_field(cursor, field);
        }
        let subgraph = self.groups[cursor.group].subgraph;
        let objects: Vec<Name> = match cursor.path.last() {
            Some(PathStep::Types(types)) => types.clone(),
            _ => self.graph.possible_in(subgraph, &cursor.ty).to_vec(),
        };
        let resolves = |ty: &Name| self.resolves_here(cursor, ty, &field.name);
        let direct = self
            .graph
            .field(subgraph, &cursor.ty, &field.name)
            .is_some_and(|join| !join.external);
        if direct && objects.iter().all(resolves) {
            return self.select(cursor, field);
        }
        for ty in objects {
            let inside = self.narrow(cursor, &ty, vec![ty.clone()]);
            self.plan_object_field(&inside, field)?;
        }
        Ok(())
    }

    /// Whether the cursor's own fetch resolves a field of an object type.
    fn resolves_here(&self, cursor: &Cursor, ty: &Name, field: &Name) -> bool {
        let subgraph = self.groups[cursor.group].subgraph;
        match self.graph.field(subgraph, ty, field) {
            Some(join) => {
                (!join.external && join.requires.is_none())
                    || selected_by(&cursor.provided, field).is_some()
            }
            None => false,
        }
    }

    fn plan_object_field(&mut self, cursor: &Cursor, field: &Field) -> Result<(), PlanError> {
        if self.resolves_here(cursor, &cursor.ty, &field.name) {
            return self.select(cursor, field);
        }
        let from = self.groups[cursor.group].subgraph;
        let unresolvable = || PlanError::Unresolvable {
            ty: cursor.ty.clone(),
            field: field.name.clone(),
            from: self.graph.subgraph(from).name.clone(),
        };
        let (_, route) = self
            .graph
            .resolvers(&cursor.ty, &field.name)
            .into_iter()
            .filter_map(|to| {
                let route = self.route(cursor, to)?;
                let cost = (
                    route.len(),
                    !self.has_group(cursor, to),
                    self.missing(to, &field.ty, &field.selections),
                );
                Some((cost, route))
            })
            .min_by_key(|(cost, _)| *cost)
            .ok_or_else(unresolvable)?;
        let to = route.last().map_or(from, |(to, _)| *to);
        let requires = self
            .graph
            .field(to, &cursor.ty, &field.name)
            .and_then(|join| join.requires.clone());
        let inside = match requires {
            None => self.follow(cursor, &route, None)?,
            Some(requires) => {
                let this = (cursor.ty.clone(), field.name.clone());
                if self.requiring.contains(&this) {
                    let (ty, field) = this;
                    return Err(PlanError::RequiresCycle { ty, field });
                }
                self.requiring.push(this);
                let mark = self.touched.len();
                let (added, required) = self.internal(&cursor.level, &cursor.ty, &requires);
                self.plan_selections(cursor, &added)?;
                self.requiring.pop();
                let waits: BTreeSet<GroupId> = self.touched[mark..].iter().copied().collect();
                let id = field_set::print(&requires);
                self.follow(cursor, &route, Some((required, waits, id)))?
            }
        };
        self.select(&inside, field)
    }

    /// The shortest way by keys from the cursor's object into subgraph `to`:
    /// the subgraphs passed, each with the key that enters it. From a subgraph
    /// into itself it is one step: that is how `@requires` is served.
    fn route(&self, cursor: &Cursor, to: SubgraphId) -> Option<Vec<(SubgraphId, FieldSet)>> {
        let start = self.groups[cursor.group].subgraph;
        let mut queue = VecDeque::from([(start, Vec::<(SubgraphId, FieldSet)>::new())]);
        let mut seen = BTreeSet::new();
        while let Some((at, route)) = queue.pop_front() {
            for index in 0..self.graph.subgraphs.len() {
                let next = SubgraphId(u16::try_from(index).ok()?);
                if seen.contains(&next) || (next == start && next != to) {
                    continue;
                }
                let provided: &[ast::Selection] = if route.is_empty() {
                    &cursor.provided
                } else {
                    &[]
                };
                let key = self
                    .graph
                    .keys(next, &cursor.ty)
                    .iter()
                    .filter(|key| key.resolvable)
                    .find(|key| self.has_fields(at, &cursor.ty, &key.fields, provided));
                if let Some(key) = key {
                    let mut longer = route.clone();
                    longer.push((next, key.fields.clone()));
                    if next == to {
                        return Some(longer);
                    }
                    seen.insert(next);
                    queue.push_back((next, longer));
                }
            }
        }
        None
    }

    /// Whether a subgraph resolves a whole field set by itself.
    fn has_fields(
        &self,
        subgraph: SubgraphId,
        ty: &Name,
        fields: &[ast::Selection],
        provided: &[ast::Selection],
    ) -> bool {
        fields.iter().all(|selection| match selection {
            ast::Selection::Field(field) if field.name == "__typename" => true,
            ast::Selection::Field(field) => {
                let own = self
                    .graph
                    .field(subgraph, ty, &field.name)
                    .is_some_and(|join| !join.external && join.requires.is_none());
                let given = selected_by(provided, &field.name);
                (own || given.is_some())
                    && self.graph.field_type(ty, &field.name).is_some_and(|inner| {
                        self.has_fields(
                            subgraph,
                            inner,
                            &field.selection_set,
                            given.unwrap_or_default(),
                        )
                    })
            }
            ast::Selection::InlineFragment(inline) => self.has_fields(
                subgraph,
                inline.type_condition.as_ref().unwrap_or(ty),
                &inline.selection_set,
                provided,
            ),
            ast::Selection::FragmentSpread(_) => false,
        })
    }

    fn has_group(&self, cursor: &Cursor, to: SubgraphId) -> bool {
        let path = entity_path(cursor);
        self.groups.iter().any(|group| {
            group.subgraph == to
                && group.entities.as_ref().is_some_and(|entities| {
                    entities.from == cursor.group
                        && entities.path == path
                        && entities.requires.is_empty()
                })
        })
    }

    /// Enters entity fetches along a route; what `@requires` needs goes to the
    /// last of them.
    #[allow(clippy::type_complexity, reason = "used here alone, named at once")]
    fn follow(
        &mut self,
        cursor: &Cursor,
        route: &[(SubgraphId, FieldSet)],
        mut requires: Option<(Vec<Required>, BTreeSet<GroupId>, String)>,
    ) -> Result<Cursor, PlanError> {
        let mut at = cursor.clone();
        for (index, (to, key)) in route.iter().enumerate() {
            let (required, waits, id) = if index + 1 == route.len() {
                requires.take().unwrap_or_default()
            } else {
                Default::default()
            };
            let (added, keys) = self.internal(&at.level, &at.ty, key);
            self.plan_selections(&at, &added)?;
            at = self.enter(&at, *to, keys, required, waits, id);
        }
        Ok(at)
    }

    /// The entity fetch for the cursor's object in another subgraph, new or
    /// shared with what was entered from the same place.
    fn enter(
        &mut self,
        cursor: &Cursor,
        to: SubgraphId,
        keys: Vec<Required>,
        requires: Vec<Required>,
        mut parents: BTreeSet<GroupId>,
        id: String,
    ) -> Cursor {
        parents.insert(cursor.group);
        let path = entity_path(cursor);
        let found = (0..self.groups.len()).find(|index| {
            let group = &self.groups[*index];
            group.subgraph == to
                && group.entities.as_ref().is_some_and(|entities| {
                    entities.from == cursor.group
                        && entities.path == path
                        && entities.requires == id
                })
                && parents.iter().all(|parent| !self.depends(*parent, *index))
        });
        let group = found.unwrap_or_else(|| {
            let root = self.arena.add();
            self.groups.push(Group {
                subgraph: to,
                root,
                entities: Some(Entities {
                    path,
                    from: cursor.group,
                    requires: id,
                    inputs: IndexMap::default(),
                }),
                parents: BTreeSet::new(),
            });
            self.groups.len() - 1
        });
        let target = &mut self.groups[group];
        target.parents.extend(parents);
        if let Some(entities) = &mut target.entities {
            entities
                .inputs
                .entry(cursor.ty.clone())
                .or_insert(EntityInput {
                    ty: cursor.ty.clone(),
                    keys,
                    requires,
                });
        }
        let root = target.root;
        let node = self.arena.fragment(root, &cursor.ty);
        Cursor {
            group,
            node,
            provided: Rc::default(),
            ..cursor.clone()
        }
    }

    /// Whether `group` waits for `other`, at any distance, or is it.
    fn depends(&self, group: GroupId, other: GroupId) -> bool {
        let mut queue = vec![group];
        let mut seen = BTreeSet::new();
        while let Some(at) = queue.pop() {
            if at == other {
                return true;
            }
            if seen.insert(at) {
                queue.extend(&self.groups[at].parents);
            }
        }
        false
    }

    /// Selects a field in the cursor's own fetch and plans what is below it.
    fn select(&mut self, cursor: &Cursor, field: &Field) -> Result<(), PlanError> {
        self.touched.push(cursor.group);
        if self.arena.len() > super::BUDGET {
            return Err(PlanError::TooLarge);
        }
        let composite = self
            .graph
            .schema
            .types
            .get(&field.ty)
            .is_some_and(|ty| !ty.is_leaf());
        let existing = self
            .arena
            .get(cursor.node)
            .fields
            .get(&field.key)
            .map(|selected| selected.child);
        let child = match existing {
            Some(child) => child,
            None => {
                let child = composite.then(|| self.arena.add());
                self.arena.get_mut(cursor.node).fields.insert(
                    field.key.clone(),
                    SelectedField {
                        name: field.name.clone(),
                        arguments: field.arguments.clone(),
                        child,
                    },
                );
                child
            }
        };
        let Some(child) = child else { return Ok(()) };
        if self.graph.is_abstract(&field.ty) {
            self.arena.select_typename(child);
        }
        let subgraph = self.groups[cursor.group].subgraph;
        let mut provided: FieldSet = selected_by(&cursor.provided, &field.name)
            .unwrap_or_default()
            .to_vec();
        if let Some(provides) = self
            .graph
            .field(subgraph, &cursor.ty, &field.name)
            .and_then(|join| join.provides.as_ref())
        {
            provided.extend(provides.iter().cloned());
        }
        let mut path = cursor.path.clone();
        path.push(PathStep::Key(field.key.clone()));
        let below = Cursor {
            group: cursor.group,
            node: child,
            ty: field.ty.clone(),
            path,
            level: cursor
                .level
                .0
                .get(&field.key)
                .map(|entry| entry.level.clone())
                .unwrap_or_default(),
            provided: Rc::new(provided),
        };
        self.plan_selections(&below, &field.selections)
    }

    /// A field set as selections under keys that no client field holds, and
    /// how a representation reads them back.
    fn internal(
        &mut self,
        level: &Level,
        ty: &Name,
        fields: &[ast::Selection],
    ) -> (Selections, Vec<Required>) {
        let mut selections = Selections::default();
        let mut required = Vec::new();
        for selection in fields {
            match selection {
                ast::Selection::Field(field) => {
                    let key = self.internal_key(level, &field.name, &field.arguments);
                    let inner_level = level.0.get(&key).map(|entry| entry.level.clone());
                    let inner_ty = self
                        .graph
                        .field_type(ty, &field.name)
                        .cloned()
                        .unwrap_or_else(|| name!("String"));
                    let (inner, nested) = self.internal(
                        &inner_level.unwrap_or_default(),
                        &inner_ty,
                        &field.selection_set,
                    );
                    selections.0.push(Item::Field(Field {
                        key: key.clone(),
                        name: field.name.clone(),
                        arguments: field.arguments.clone(),
                        ty: inner_ty,
                        selections: inner,
                    }));
                    required.push(Required {
                        field: field.name.clone(),
                        key,
                        only: None,
                        nested,
                    });
                }
                ast::Selection::InlineFragment(inline) => {
                    let condition = inline.type_condition.as_ref().unwrap_or(ty);
                    let (inner, nested) = self.internal(level, condition, &inline.selection_set);
                    let only = self.graph.possible_types(condition).to_vec();
                    required.extend(nested.into_iter().map(|mut required| {
                        required.only.get_or_insert_with(|| only.clone());
                        required
                    }));
                    selections.0.push(Item::Fragment(condition.clone(), inner));
                }
                ast::Selection::FragmentSpread(_) => {}
            }
        }
        (selections, required)
    }

    fn internal_key(&mut self, level: &Level, field: &Name, arguments: &[Node<Argument>]) -> Name {
        if arguments.is_empty() {
            return match level.0.get(field) {
                Some(entry) if entry.name != *field || !entry.plain => {
                    Name::new_unchecked(&format!("_stoa_{field}"))
                }
                _ => field.clone(),
            };
        }
        let mut text = field.to_string();
        for argument in arguments {
            let value = argument.value.serialize().no_indent().to_string();
            let _ = write!(text, " {}:{value}", argument.name);
        }
        let next = self.aliases.len();
        let number = *self.aliases.entry(text).or_insert(next);
        Name::new_unchecked(&format!("_stoa_{field}_{number}"))
    }

    fn finish(self, operation: &Operation) -> Vec<Fetch> {
        // Groups that share a path may have been given a later parent, so ids
        // are not yet an order.
        let order = self.order();
        let mut position = vec![0; self.groups.len()];
        for (index, group) in order.iter().enumerate() {
            position[*group] = index;
        }
        order
            .iter()
            .enumerate()
            .map(|(index, id)| self.fetch(operation, index, *id, &position))
            .collect()
    }

    fn order(&self) -> Vec<GroupId> {
        let mut order = Vec::with_capacity(self.groups.len());
        let mut done = BTreeSet::new();
        while order.len() < self.groups.len() {
            let before = order.len();
            for id in 0..self.groups.len() {
                if !done.contains(&id)
                    && self.groups[id]
                        .parents
                        .iter()
                        .all(|parent| done.contains(parent))
                {
                    done.insert(id);
                    order.push(id);
                }
            }
            if order.len() == before {
                break;
            }
        }
        order
    }

    fn fetch(&self, operation: &Operation, index: usize, id: GroupId, position: &[usize]) -> Fetch {
        let group = &self.groups[id];
        let mut body = String::new();
        let mut used = BTreeSet::new();
        self.arena.print(group.root, &mut body, &mut used);
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
        if group.entities.is_some() {
            declared.push(format!("${REPRESENTATIONS}:[_Any!]!"));
        }
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
        let mut text = match &group.entities {
            Some(_) => "query".to_owned(),
            None => operation.operation_type.name().to_owned(),
        };
        if let Some(name) = &operation_name {
            let _ = write!(text, " {name}");
        }
        if !declared.is_empty() {
            let _ = write!(text, "({})", declared.join(","));
        }
        match &group.entities {
            Some(_) => {
                let _ = write!(
                    text,
                    "{{_entities(representations:${REPRESENTATIONS}){body}}}"
                );
            }
            None => text.push_str(&body),
        }
        let mut depends_on: Vec<usize> = group.parents.iter().map(|p| position[*p]).collect();
        depends_on.sort_unstable();
        Fetch {
            subgraph: group.subgraph,
            depends_on,
            kind: match &group.entities {
                None => FetchKind::Root {
                    keys: self.arena.get(group.root).fields.keys().cloned().collect(),
                },
                Some(entities) => FetchKind::Entities {
                    path: entities.path.clone(),
                    inputs: entities.inputs.values().cloned().collect(),
                },
            },
            text: text.into(),
            operation_name,
            variables,
        }
    }
}

/// Where the entities of a cursor stand; their types are told apart by the
/// fetch's inputs, so that types at one place share a fetch.
fn entity_path(cursor: &Cursor) -> Vec<PathStep> {
    let mut path = cursor.path.clone();
    if let Some(PathStep::Types(_)) = path.last() {
        path.pop();
    }
    path
}

/// What a field set selects below one of its fields.
fn selected_by<'a>(fields: &'a [ast::Selection], name: &Name) -> Option<&'a [ast::Selection]> {
    fields.iter().find_map(|selection| match selection {
        ast::Selection::Field(field) if field.name == *name => Some(&*field.selection_set),
        ast::Selection::InlineFragment(inline) => selected_by(&inline.selection_set, name),
        _ => None,
    })
}

fn levels(sets: &[&Selections]) -> Level {
    let mut fields: IndexMap<&Name, Vec<&Field>> = IndexMap::default();
    for set in sets {
        note_fields(set, &mut fields);
    }
    Level(
        fields
            .into_iter()
            .map(|(key, same)| {
                let plain = same
                    .iter()
                    .all(|field| field.name == same[0].name && field.arguments.is_empty());
                let below: Vec<_> = same.iter().map(|field| &field.selections).collect();
                let level = Rc::new(levels(&below));
                let name = same[0].name.clone();
                (key.clone(), LevelEntry { name, plain, level })
            })
            .collect(),
    )
}

fn note_fields<'a>(set: &'a Selections, out: &mut IndexMap<&'a Name, Vec<&'a Field>>) {
    for item in &set.0 {
        match item {
            Item::Field(field) => out.entry(&field.key).or_default().push(field),
            Item::Fragment(_, inner) => note_fields(inner, out),
        }
    }
}
