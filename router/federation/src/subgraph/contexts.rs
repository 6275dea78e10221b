//! The contexts of a subgraph: `@context` and `@fromContext`.

use apollo_compiler::Node;
use apollo_compiler::ast::{Directive, InputValueDefinition};
use apollo_compiler::schema::ExtendedType;

use super::Subgraph;
use crate::arguments::string_argument;

/// Splits the `field` of `@fromContext` into the context's name and the selection.
pub(crate) fn context_parts(text: &str) -> Option<(&str, &str)> {
    let rest = text.trim_start().strip_prefix('$')?;
    let end = rest
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(rest.len());
    (end > 0).then(|| rest.split_at(end))
}

impl Subgraph {
    /// The `@fromContext` of an argument.
    pub(crate) fn context_of<'a>(
        &'a self,
        argument: &'a InputValueDefinition,
    ) -> Option<&'a Node<Directive>> {
        self.applied(&argument.directives, "fromContext")
            .first()
            .copied()
    }

    /// The names of the contexts that a type sets.
    pub(crate) fn contexts_of<'a>(&'a self, ty: &'a ExtendedType) -> Vec<&'a str> {
        let set = self.on_type(ty, "context").into_iter();
        set.filter_map(|directive| string_argument(directive, "name"))
            .collect()
    }

    /// The types that set a context.
    pub(crate) fn types_setting(&self, context: &str) -> Vec<&ExtendedType> {
        self.own_types()
            .map(|(_, ty)| ty)
            .filter(|ty| self.contexts_of(ty).contains(&context))
            .collect()
    }
}
