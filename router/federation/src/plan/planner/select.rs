//! Selects a field in an instance, and makes the position below it.

use std::rc::Rc;

use super::{Instance, Parent, Planner, Position, PositionId, Resolved, selected_by};
use crate::field_set::FieldSet;
use crate::operation::{Field, Selections};
use crate::plan::selection::SelectedField;
use crate::plan::{PathStep, PlanError, Slot};
use apollo_compiler::ast::Argument;
use apollo_compiler::{Name, Node};

impl Planner<'_> {
    /// Selects a field in an instance and plans its selections.
    pub(super) fn select(
        &mut self,
        at: PositionId,
        instance: &Instance,
        field: &Field,
        slot: Name,
        filled: Vec<Node<Argument>>,
    ) -> Result<(), PlanError> {
        let child = self.select_filled(at, instance, field, slot, filled)?;
        match child {
            Some(child) => self.plan_selections(child, &field.selections),
            None => Ok(()),
        }
    }

    /// Selects a field in an instance, with context arguments, which clients do not see;
    /// returns the position below it.
    pub(super) fn select_filled(
        &mut self,
        at: PositionId,
        instance: &Instance,
        field: &Field,
        slot: Name,
        filled: Vec<Node<Argument>>,
    ) -> Result<Option<PositionId>, PlanError> {
        self.touched.push(instance.group);
        // The budget of fields does not count what `reach` selects again on its way.
        if self.arena.len() > crate::plan::BUDGET {
            return Err(PlanError::TooLarge);
        }
        let composite = self.graph.is_composite(&field.ty);
        // A slot stands for field and arguments: this fetch may select it already.
        let selected = self.arena.get(instance.node).fields.get(&slot);
        let node = match selected {
            Some(selected) => selected.child,
            None => {
                let child = composite.then(|| self.arena.add());
                self.arena.get_mut(instance.node).fields.insert(
                    slot.clone(),
                    SelectedField {
                        name: field.name.clone(),
                        arguments: field.arguments.iter().cloned().chain(filled).collect(),
                        directives: field.directives.clone(),
                        child,
                    },
                );
                child
            }
        };
        let known = self.resolved.get(&(at, slot.clone()));
        let Some(node) = node else {
            // Later uses wait for the first fetch that selects it.
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
        // An interface object's subgraph does not know the object's type.
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
        // Several instances may select the same field; they share one position below.
        let child = match known.and_then(|known| known.child) {
            Some(child) => child,
            None => {
                let mut path = self.positions[at].path.clone();
                path.push(PathStep::Key(Slot::new(slot.clone())));
                let runtime = if held {
                    self.graph.possible_types(&field.ty)
                } else {
                    self.graph.possible_types_in(instance.subgraph, &answers)
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
}
