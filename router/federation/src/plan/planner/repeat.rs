//! Whether a fetch may be sent again when its response is lost.

use apollo_compiler::ast;
use apollo_compiler::executable::OperationType;

use super::{Group, Planner};
use crate::plan::selection::SelectedField;

impl Planner<'_> {
    pub(super) fn is_repeatable(&self, group: &Group) -> bool {
        let root = self.arena.get(group.root);
        match group.operation {
            OperationType::Query => true,
            OperationType::Mutation => {
                root.fragments.is_empty()
                    && root.fields.values().all(|field| self.is_idempotent(field))
            }
            OperationType::Subscription => false,
        }
    }

    /// Whether a mutation's field is `@idempotent` and surely has its key: of a variable
    /// that may be null, the plan does not know.
    fn is_idempotent(&self, field: &SelectedField) -> bool {
        let Some(key) = self.graph.idempotency_key(&field.name) else {
            return false;
        };
        let given = field.arguments.iter().find(|given| given.name == key.name);
        given.is_some_and(|given| match &*given.value {
            ast::Value::Null => false,
            ast::Value::Variable(_) => key.ty.is_non_null(),
            _ => true,
        })
    }
}
