//! Composition: several subgraphs become one supergraph, or a list of reasons.
//!
//! [`merge`] builds the types, [`check`] holds the rules that span subgraphs
//! (sharing, keys, field sets, `@external`), and [`spec`] the `join` and `link`
//! vocabulary that the result is written in.

mod check;
mod merge;
mod spec;

use apollo_compiler::Schema;
use apollo_compiler::validation::Valid;

use crate::error::{CompositionError, CompositionErrors};
use crate::subgraph::Subgraph;

/// A composed graph.
#[derive(Debug, Clone)]
pub struct Composition {
    /// Standard supergraph SDL: join v0.3, link v1.0.
    pub supergraph_sdl: String,
}

/// Composes subgraphs, which must have distinct names.
///
/// # Errors
/// Every rule broken, with its published code, subgraph and position.
pub fn compose(subgraphs: &[Subgraph]) -> Result<Composition, CompositionErrors> {
    let mut errors = Vec::new();
    check::names(subgraphs, &mut errors);
    for subgraph in subgraphs {
        check::field_sets(subgraph, &mut errors);
    }
    check::externals(subgraphs, &mut errors);
    check::sharing(subgraphs, &mut errors);
    let schema = merge::merge(subgraphs, &mut errors);
    if !errors.is_empty() {
        return Err(CompositionErrors(errors));
    }
    let schema = validate(schema)?;
    Ok(Composition {
        supergraph_sdl: schema.serialize().initial_indent_level(0).to_string(),
    })
}

fn validate(schema: Schema) -> Result<Valid<Schema>, CompositionErrors> {
    schema.validate().map_err(|invalid| {
        CompositionErrors(
            invalid
                .errors
                .iter()
                .map(|diagnostic| {
                    let message = diagnostic.error.to_string();
                    let code = if message.contains("interface") {
                        "INTERFACE_FIELD_NO_IMPLEM"
                    } else {
                        "INVALID_GRAPHQL"
                    };
                    CompositionError::new(code, format!("the merged schema is invalid: {message}"))
                })
                .collect(),
        )
    })
}
