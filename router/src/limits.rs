//! How deep and how large an operation may be. Each fragment is measured once,
//! so measuring costs no more than reading the document.

use std::collections::HashMap;

use apollo_compiler::executable::{Operation, Selection, SelectionSet};
use apollo_compiler::{ExecutableDocument, Name};
use stoa_engine::GraphQLError;
use stoa_federation::apollo_compiler;

use crate::config::Limits;

/// The measures of a selection set, with its fragments expanded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Size {
    depth: usize,
    fields: usize,
    aliases: usize,
    /// Fields below `__schema` and `__type`, which the router resolves itself.
    introspection: usize,
}

/// A separate limit, as introspection multiplies: it resolves each nested field
/// for each type of the schema.
const INTROSPECTION_FIELDS: usize = 500;

/// Checks an operation of a valid document.
///
/// # Errors
/// `QUERY_TOO_DEEP` or `QUERY_TOO_LARGE`, with the measure and its limit.
pub fn check(
    document: &ExecutableDocument,
    operation: &Operation,
    limits: &Limits,
) -> Result<(), Box<GraphQLError>> {
    let mut known = HashMap::new();
    let size = measure(document, &operation.selection_set, &mut known);
    if size.depth > limits.depth {
        return Err(Box::new(GraphQLError::new(
            "QUERY_TOO_DEEP",
            format!(
                "the operation nests {} fields deep; the limit is {}",
                size.depth, limits.depth
            ),
        )));
    }
    let roots = operation.root_fields(document).count();
    for (what, actual, limit) in [
        ("fields", size.fields, limits.fields),
        ("aliases", size.aliases, limits.aliases),
        ("fields at the root", roots, limits.root_fields),
        (
            "fields of introspection",
            size.introspection,
            INTROSPECTION_FIELDS,
        ),
    ] {
        if actual > limit {
            return Err(Box::new(GraphQLError::new(
                "QUERY_TOO_LARGE",
                format!("the operation has {actual} {what}; the limit is {limit}"),
            )));
        }
    }
    Ok(())
}

fn measure<'d>(
    document: &'d ExecutableDocument,
    set: &'d SelectionSet,
    known: &mut HashMap<&'d Name, Size>,
) -> Size {
    let mut total = Size::default();
    for selection in &set.selections {
        let size = match selection {
            Selection::Field(field) => {
                let below = measure(document, &field.selection_set, known);
                // The depth of introspection is checked in the pipeline.
                let own = field.name.starts_with("__");
                Size {
                    depth: if own { 0 } else { below.depth + 1 },
                    fields: below.fields.saturating_add(1),
                    aliases: below
                        .aliases
                        .saturating_add(usize::from(field.alias.is_some())),
                    introspection: if own {
                        below.fields
                    } else {
                        below.introspection
                    },
                }
            }
            Selection::InlineFragment(inline) => measure(document, &inline.selection_set, known),
            Selection::FragmentSpread(spread) => match known.get(&spread.fragment_name) {
                Some(size) => *size,
                None => {
                    let size = spread
                        .fragment_def(document)
                        .map(|fragment| measure(document, &fragment.selection_set, known))
                        .unwrap_or_default();
                    known.insert(&spread.fragment_name, size);
                    size
                }
            },
        };
        total.depth = total.depth.max(size.depth);
        total.fields = total.fields.saturating_add(size.fields);
        total.aliases = total.aliases.saturating_add(size.aliases);
        total.introspection = total.introspection.saturating_add(size.introspection);
    }
    total
}
