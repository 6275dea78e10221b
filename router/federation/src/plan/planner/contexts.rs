//! Arguments whose values come from an ancestor: `@context` and `@fromContext`.
//!
//! The value comes from the nearest ancestor whose type sets the context. If only
//! some of the ancestor's possible types set it, ancestors further up provide the
//! value for the others.

use std::collections::BTreeSet;

use apollo_compiler::ast::{Argument, Value};
use apollo_compiler::{Name, Node};

use super::{GroupId, Parent, Planner, PositionId};
use crate::field_set::FieldSet;
use crate::operation::{Item, Selections};
use crate::plan::contexts::{ContextSource, ContextValue, GROUP_MARK};
use crate::plan::{PathStep, PlanError};
use crate::supergraph::ContextArgument;

/// Arguments with their variables, and the fetches that provide the values.
#[derive(Default)]
pub(super) struct Filled {
    pub arguments: Vec<Node<Argument>>,
    pub values: Vec<ContextValue>,
    pub waits: BTreeSet<GroupId>,
}

impl Planner<'_> {
    /// The ancestors of a position that set a context, nearest first, each with those of
    /// its types that set it; `None` if no ancestor does.
    fn context_setters(
        &self,
        at: PositionId,
        context: &str,
    ) -> Option<Vec<(PositionId, Vec<Name>)>> {
        let mut found = Vec::new();
        let mut here = at;
        loop {
            here = match self.positions[here].parent {
                Parent::Root { .. } => break,
                Parent::Narrow { of } => {
                    here = of;
                    continue;
                }
                Parent::Field { of, .. } => of,
            };
            let runtime = &self.positions[here].runtime;
            let setting: Vec<Name> = runtime
                .iter()
                .filter(|ty| self.graph.sets_context(ty, context))
                .cloned()
                .collect();
            let all = setting.len() == runtime.len();
            if !setting.is_empty() {
                found.push((here, setting));
            }
            if all {
                break;
            }
        }
        (!found.is_empty()).then_some(found)
    }

    /// An estimate of the depth at which an argument's value is known; `None` if no
    /// ancestor sets its context.
    pub(super) fn context_depth(
        &self,
        at: PositionId,
        argument: &ContextArgument,
    ) -> Option<usize> {
        let mut deepest = 0;
        for (position, types) in self.context_setters(at, &argument.context)? {
            let reach = self.reach(position);
            for ty in types {
                let set = self.graph.selection_for_type(&ty, &argument.selection);
                let depth = self.set_depth(position, &ty, &set, &reach);
                deepest = deepest.max(depth.unwrap_or(super::UNKNOWN_DEPTH));
            }
        }
        Some(deepest)
    }

    /// Plans the fields that the arguments' contexts select.
    pub(super) fn fill_contexts(
        &mut self,
        at: PositionId,
        arguments: &[ContextArgument],
    ) -> Result<Filled, PlanError> {
        let mut filled = Filled::default();
        let mark = self.touched.len();
        for argument in arguments {
            let mut sources = Vec::new();
            for (position, types) in self
                .context_setters(at, &argument.context)
                .unwrap_or_default()
            {
                self.plan_context(position, &types, &argument.selection, &mut sources)?;
            }
            let variable = self.context_variable(&argument.ty, &sources);
            filled.arguments.push(Node::new(Argument {
                name: argument.name.clone(),
                value: Node::new(Value::Variable(Name::new_unchecked(&format!(
                    "{variable}{GROUP_MARK}"
                )))),
            }));
            let value = ContextValue {
                variable,
                ty: argument.ty.clone(),
                sources,
            };
            if !filled.values.contains(&value) {
                filled.values.push(value);
            }
        }
        filled.waits = self.touched[mark..].iter().copied().collect();
        Ok(filled)
    }

    fn plan_context(
        &mut self,
        position: PositionId,
        types: &[Name],
        selection: &FieldSet,
        sources: &mut Vec<ContextSource>,
    ) -> Result<(), PlanError> {
        let keys = self.positions[position].path.iter();
        let depth = keys.filter(|s| matches!(s, PathStep::Key(_))).count();
        let several = self.graph.is_abstract(&self.positions[position].ty);
        for ty in types {
            let set = self.graph.selection_for_type(ty, selection);
            let (added, mut required) = self.plan_field_set(ty, &set);
            let added = if several {
                Selections(vec![Item::Fragment(ty.clone(), added)])
            } else {
                added
            };
            self.plan_selections(position, &added)?;
            if let Some(field) = required.pop() {
                sources.push(ContextSource {
                    depth,
                    only: several.then(|| vec![ty.clone()]),
                    field,
                });
            }
        }
        Ok(())
    }

    /// Equal values share a variable.
    fn context_variable(&mut self, ty: &str, sources: &[ContextSource]) -> Name {
        let id = format!("{ty} {sources:?}");
        let known = self.contexts.iter().position(|known| *known == id);
        let number = known.unwrap_or_else(|| {
            self.contexts.push(id);
            self.contexts.len() - 1
        });
        Name::new_unchecked(&format!("_stoa_context_{number}"))
    }
}
