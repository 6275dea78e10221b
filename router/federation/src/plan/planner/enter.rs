//! Entity fetches, and the field sets for their representations.

use std::collections::BTreeSet;

use apollo_compiler::ast::{self, Type};
use apollo_compiler::collections::IndexMap;
use apollo_compiler::executable::OperationType;
use apollo_compiler::{Name, name};

use super::{Entities, GroupId, Instance, Parent, Planner, PositionId};
use crate::operation::{Field, Item, Selections};
use crate::plan::{ContextValue, EntityInput, PathStep, PlanError, Required, Slot};
use crate::supergraph::SubgraphId;

/// What a field needs from other fetches: the fields of its representation, the
/// fetches that provide them, an id for the set, and context variables.
#[derive(Default)]
pub(super) struct Requires {
    pub fields: Vec<Required>,
    pub waits: BTreeSet<GroupId>,
    pub id: String,
    pub contexts: Vec<ContextValue>,
}

impl Planner<'_> {
    /// The entity fetch for a position's objects in a subgraph: a new one, or an existing
    /// one for objects at the same path.
    pub(super) fn enter(
        &mut self,
        at: PositionId,
        to: SubgraphId,
        key: &[ast::Selection],
        requires: Option<Requires>,
    ) -> Result<Instance, PlanError> {
        let ty = self.positions[at].ty.clone();
        let typename = self.graph.local_type_name(to, &ty).unwrap_or(&ty).clone();
        self.entering.push((at, to));
        let mark = self.touched.len();
        let (added, mut keys) = self.plan_field_set(&ty, key);
        self.allow_nulls(to, &typename, &mut keys);
        let planned = self.plan_selections(at, &added);
        self.entering.pop();
        planned?;
        let plain = requires.is_none();
        let Requires {
            fields,
            waits: mut parents,
            id,
            contexts,
        } = requires.unwrap_or_default();
        parents.extend(&self.touched[mark..]);
        parents.extend(self.type_resolving_group(at));
        if self.touched.len() == mark {
            // The key is only `__typename`: wait for the fetch that has the object.
            parents.extend(self.positions[at].instances.first().map(|i| i.group));
        }
        let input = EntityInput {
            types: if self.graph.is_abstract(&ty) {
                self.graph.possible_types(&ty).to_vec()
            } else {
                vec![ty.clone()]
            },
            typename: typename.clone(),
            keys,
            requires: fields,
        };
        let group = self.entity_group(at, to, input, parents, id);
        if let Some(entities) = &mut self.groups[group].entities {
            entities.contexts = contexts;
        }
        let node = self.arena.fragment(self.groups[group].root, &typename);
        if self.graph.is_abstract(&ty) && !self.graph.is_interface_object(to, &typename) {
            // This may be the first fetch that knows the object's type.
            self.arena.select_typename(node);
        }
        let instance = Instance {
            subgraph: to,
            group,
            node,
            ty: typename,
            provided: Default::default(),
        };
        if plain {
            self.positions[at].instances.push(instance.clone());
        }
        Ok(instance)
    }

    /// Notes which fields of a key may be null: those whose type allows it in the subgraph
    /// that is entered.
    fn allow_nulls(&self, to: SubgraphId, ty: &Name, keys: &mut [Required]) {
        for key in keys {
            // Within a fragment, the fields are those of an object type.
            let only = key.only.as_ref().and_then(|types| types.first());
            let ty = only.unwrap_or(ty);
            let Some(mut field_type) = self.graph.field_type_in(to, ty, &key.field) else {
                continue;
            };
            let inner = field_type.inner_named_type();
            self.allow_nulls(to, inner, &mut key.nested);
            key.nullable.push(!field_type.is_non_null());
            while let Type::List(item) | Type::NonNullList(item) = field_type {
                field_type = item;
                key.nullable.push(!field_type.is_non_null());
            }
        }
    }

    /// The fetch that resolves the types of a narrowed position's objects, if another
    /// subgraph has them as an interface object.
    fn type_resolving_group(&self, at: PositionId) -> Option<GroupId> {
        let Parent::Narrow { of } = self.positions[at].parent else {
            return None;
        };
        let held = |instance: &Instance| {
            self.graph
                .is_interface_object(instance.subgraph, &instance.ty)
        };
        let instances = &self.positions[of].instances;
        if !instances.iter().any(held) {
            return None;
        }
        instances
            .iter()
            .find(|instance| !held(instance))
            .map(|instance| instance.group)
    }

    fn entity_group(
        &mut self,
        at: PositionId,
        to: SubgraphId,
        input: EntityInput,
        parents: BTreeSet<GroupId>,
        requires: String,
    ) -> GroupId {
        let position = &self.positions[at];
        let ty = position.ty.clone();
        let abstract_input = self.graph.is_abstract(&ty);
        // Types at one path share a fetch: it has an input for each type.
        let mut path = position.path.clone();
        if let Some(PathStep::Types(_)) = path.last()
            && !abstract_input
        {
            path.pop();
        }
        let depth = parents.iter().map(|p| self.groups[*p].depth + 1).max();
        let found = (0..self.groups.len()).find(|index| {
            let group = &self.groups[*index];
            group.subgraph == to
                && group.path == path
                && group.entities.as_ref().is_some_and(|entities| {
                    entities.abstract_input == abstract_input
                        && entities.requires == requires
                        && entities.inputs.get(&ty).is_none_or(|known| *known == input)
                })
                // The fetch must not get later, nor depend on itself.
                && depth.is_none_or(|depth| depth <= group.depth)
                && parents.iter().all(|parent| !self.depends(*parent, *index))
        });
        let group = found.unwrap_or_else(|| {
            let root = self.arena.add();
            let group = self.add_group(to, root, OperationType::Query, BTreeSet::new());
            self.groups[group].path = path;
            self.groups[group].entities = Some(Entities {
                abstract_input,
                requires,
                contexts: Vec::new(),
                inputs: IndexMap::default(),
            });
            group
        });
        let target = &mut self.groups[group];
        target.parents.extend(parents);
        target.depth = target.depth.max(depth.unwrap_or(0));
        if let Some(entities) = &mut target.entities {
            entities.inputs.entry(ty).or_insert(input);
        }
        group
    }

    /// Whether `group` depends on `other`, directly or indirectly, or is the same.
    pub(super) fn depends(&self, group: GroupId, other: GroupId) -> bool {
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

    /// Converts a field set to selections, and to the fields that representations read
    /// from the data.
    pub(super) fn plan_field_set(
        &mut self,
        ty: &Name,
        fields: &[ast::Selection],
    ) -> (Selections, Vec<Required>) {
        let mut selections = Selections::default();
        let mut required = Vec::new();
        for selection in fields {
            match selection {
                ast::Selection::Field(field)
                    if self.graph.is_abstract(ty) && self.graph.is_conflicted(&field.name) =>
                {
                    // Its types do not merge under one key, so each type has its own slot.
                    for possible in self.graph.possible_types(ty).to_vec() {
                        let one = std::slice::from_ref(selection);
                        let (inner, nested) = self.plan_field_set(&possible, one);
                        required.extend(nested.into_iter().map(|required| Required {
                            only: Some(vec![possible.clone()]),
                            ..required
                        }));
                        selections.0.push(Item::Fragment(possible, inner));
                    }
                }
                ast::Selection::Field(field) => {
                    let inner_ty = self
                        .graph
                        .field_type(ty, &field.name)
                        .cloned()
                        .unwrap_or_else(|| name!("String"));
                    let (inner, nested) = self.plan_field_set(&inner_ty, &field.selection_set);
                    let mut added = Field {
                        key: field.name.clone(),
                        slot: None,
                        // Denial is decided above: a field has the demands of all it reads.
                        denied: false,
                        name: field.name.clone(),
                        arguments: field.arguments.clone(),
                        directives: Vec::new(),
                        ty: inner_ty,
                        selections: inner,
                    };
                    // `__typename` is never renamed: the engine looks it up by name.
                    let key = if field.name == "__typename" {
                        field.name.clone()
                    } else {
                        self.slots.slot_of(self.graph, ty, &added)
                    };
                    added.key = key.clone();
                    selections.0.push(Item::Field(added));
                    let key = Slot::new(key);
                    required.push(Required {
                        field: field.name.clone(),
                        key,
                        only: None,
                        nested,
                        nullable: Vec::new(),
                    });
                }
                ast::Selection::InlineFragment(inline) => {
                    let condition = inline.type_condition.as_ref().unwrap_or(ty);
                    let (inner, nested) = self.plan_field_set(condition, &inline.selection_set);
                    // Nested conditions must all hold.
                    let only = self.graph.possible_types(condition).to_vec();
                    required.extend(nested.into_iter().map(|mut required| {
                        required.only = Some(match required.only {
                            Some(inner) => {
                                inner.into_iter().filter(|ty| only.contains(ty)).collect()
                            }
                            None => only.clone(),
                        });
                        required
                    }));
                    selections.0.push(Item::Fragment(condition.clone(), inner));
                }
                ast::Selection::FragmentSpread(_) => {}
            }
        }
        (selections, required)
    }
}
