//! Resumable subscriptions: selects the cursor, and adds the argument that takes it.

use apollo_compiler::ast::{self, Argument};
use apollo_compiler::executable::OperationType;
use apollo_compiler::{Name, Node, name};

use super::Planner;
use crate::field_set;
use crate::operation::Field;
use crate::plan::{Resume, Slot};

impl Planner<'_> {
    /// If the field is `@resumable`: the field with its cursor selected and its `after`
    /// argument as a variable.
    pub(super) fn resumable(
        &mut self,
        kind: OperationType,
        root: &Name,
        field: &Field,
    ) -> Option<Field> {
        if kind != OperationType::Subscription {
            return None;
        }
        let resumable = self.graph.resumable(&field.name)?;
        let mut field = field.clone();
        let set = field_set::parse(&resumable.cursor).ok()?;
        let (added, required) = self.plan_field_set(&field.ty.clone(), &set);
        let cursor = required.first()?.key.clone();
        field.selections.0.extend(added.0);
        let given = field
            .arguments
            .iter()
            .find(|argument| argument.name == resumable.after)
            .map(|argument| argument.value.clone());
        // The field keeps the slot that the client's arguments gave it.
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
}
