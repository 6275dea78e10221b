//! Composition: merges subgraphs into one supergraph, or reports errors.
//!
//! | module | what it does |
//! |---|---|
//! | [`overrides`] | which subgraph resolves a field under `@override` |
//! | [`check`] | the rules that span subgraphs: `@external`, extensions, access |
//! | [`sharing`] | which subgraphs may resolve the same field |
//! | [`merge`] | builds the merged types |
//! | [`interface_objects`] | adds the fields of `@interfaceObject` to implementations |
//! | [`inaccessible`] | whether the schema without hidden elements is still valid |
//! | [`satisfiability`] | whether every field can be resolved on every path to it |
//! | [`spec`] | the `join` and `link` vocabulary that the result is written in |
//!
//! The stages run in order. After one that finds errors, composition stops, as the
//! next stages would only report consequences of these.

mod check;
mod inaccessible;
mod interface_objects;
mod merge;
mod overrides;
mod satisfiability;
mod sharing;
mod spec;

use apollo_compiler::validation::Valid;
use apollo_compiler::{Name, Schema};

use crate::error::{CompositionError, CompositionErrors, Hint};
use crate::subgraph::Subgraph;
use crate::supergraph::{Supergraph, with_canonical_names};

/// A composed graph.
#[derive(Debug, Clone)]
pub struct Composition {
    /// Standard supergraph SDL: join v0.4 (v0.5 where contexts are used), link v1.0.
    pub supergraph_sdl: String,
    /// What is valid but may be a mistake.
    pub hints: Vec<Hint>,
}

/// The state that the stages share.
struct Compose<'a> {
    subgraphs: &'a [Subgraph],
    overrides: overrides::Overrides,
    errors: Vec<CompositionError>,
    hints: Vec<Hint>,
}

/// Composes subgraphs, which must have distinct names. Their order changes nothing: they
/// are composed in the order of their names.
///
/// # Errors
/// Every violation found, with its published code, subgraph and position.
pub fn compose(subgraphs: &[Subgraph]) -> Result<Composition, CompositionErrors> {
    let mut subgraphs = subgraphs.to_vec();
    subgraphs.sort_by(|a, b| a.name.cmp(&b.name));
    let mut compose = Compose {
        subgraphs: &subgraphs,
        overrides: overrides::Overrides::default(),
        errors: Vec::new(),
        hints: Vec::new(),
    };
    compose.check_names();
    compose.read_overrides();
    compose.check_extensions();
    compose.check_externals();
    compose.check_sharing();
    compose.check_directive_names();
    compose.check_interface_objects();
    let mut schema = compose.merge();
    compose.stop_on_errors()?;
    compose.add_interface_object_fields(&mut schema);
    compose.check_implementations(&schema);
    compose.check_required_arguments(&schema);
    compose.stop_on_errors()?;
    let schema = validate(schema)?;
    compose.check_inaccessible(&with_canonical_names(&schema));
    compose.stop_on_errors()?;
    let supergraph_sdl = schema.serialize().initial_indent_level(0).to_string();
    let graph = Supergraph::from_composition(&supergraph_sdl)?;
    satisfiability::check(&graph, &mut compose.errors);
    compose.check_runtime_types(&graph);
    compose.check_transitive_access(&graph);
    compose.stop_on_errors()?;
    Ok(Composition {
        supergraph_sdl,
        hints: compose.hints,
    })
}

impl Compose<'_> {
    fn stop_on_errors(&mut self) -> Result<(), CompositionErrors> {
        if self.errors.is_empty() {
            Ok(())
        } else {
            Err(CompositionErrors(std::mem::take(&mut self.errors)))
        }
    }
}

/// One subgraph's definition of a type, with the subgraph's join name.
#[derive(Clone, Copy)]
struct Source<'a> {
    index: usize,
    subgraph: &'a Subgraph,
    graph: &'a Name,
    ty: &'a apollo_compiler::schema::ExtendedType,
}

fn validate(schema: Schema) -> Result<Valid<Schema>, CompositionErrors> {
    schema.validate().map_err(|invalid| {
        CompositionErrors(
            invalid
                .errors
                .iter()
                .map(|diagnostic| {
                    CompositionError::new(
                        "INVALID_GRAPHQL",
                        format!("the merged schema is invalid: {}", diagnostic.error),
                    )
                })
                .collect(),
        )
    })
}
