//! Federation's own directives and types, whose definitions a subgraph may omit.
//!
//! Source: <https://www.apollographql.com/docs/graphos/schema-design/federated-schemas/reference/directives>.

use std::collections::HashMap;

use apollo_compiler::ast::{DirectiveDefinition, Type};
use apollo_compiler::{Name, Schema, name};

use super::Subgraph;
use crate::error::{CompositionError, Location};

/// The latest supported minor version of Federation 2.
pub(super) const LATEST_MINOR: u32 = 15;

/// Each directive with the minor version that introduced it.
pub(super) const KNOWN: &[(&str, u32)] = &[
    ("key", 0),
    ("requires", 0),
    ("provides", 0),
    ("external", 0),
    ("extends", 0),
    ("shareable", 0),
    ("inaccessible", 0),
    ("override", 0),
    ("tag", 0),
    ("composeDirective", 1),
    ("interfaceObject", 3),
    ("authenticated", 5),
    ("requiresScopes", 5),
    ("policy", 6),
    ("context", 8),
    ("fromContext", 8),
    ("cost", 9),
    ("listSize", 9),
    ("cacheTag", 12),
];

const DEFINITIONS: &str = r#"
directive @link(url: String!, as: String, for: link__Purpose, import: [link__Import]) repeatable on SCHEMA
directive @key(fields: federation__FieldSet!, resolvable: Boolean = true) repeatable on OBJECT | INTERFACE
directive @shareable repeatable on OBJECT | FIELD_DEFINITION
directive @external(reason: String) on OBJECT | FIELD_DEFINITION
directive @requires(fields: federation__FieldSet!) on FIELD_DEFINITION
directive @provides(fields: federation__FieldSet!) on FIELD_DEFINITION
directive @extends on OBJECT | INTERFACE
directive @override(from: String!, label: String) on FIELD_DEFINITION
directive @inaccessible on FIELD_DEFINITION | OBJECT | INTERFACE | UNION | ARGUMENT_DEFINITION | SCALAR | ENUM | ENUM_VALUE | INPUT_OBJECT | INPUT_FIELD_DEFINITION
directive @tag(name: String!) repeatable on FIELD_DEFINITION | OBJECT | INTERFACE | UNION | ARGUMENT_DEFINITION | SCALAR | ENUM | ENUM_VALUE | INPUT_OBJECT | INPUT_FIELD_DEFINITION | SCHEMA
directive @composeDirective(name: String!) repeatable on SCHEMA
directive @interfaceObject on OBJECT
directive @authenticated on FIELD_DEFINITION | OBJECT | INTERFACE | SCALAR | ENUM
directive @requiresScopes(scopes: [[federation__Scope!]!]!) on FIELD_DEFINITION | OBJECT | INTERFACE | SCALAR | ENUM
directive @policy(policies: [[federation__Policy!]!]!) on FIELD_DEFINITION | OBJECT | INTERFACE | SCALAR | ENUM
directive @context(name: String!) repeatable on OBJECT | INTERFACE | UNION
directive @fromContext(field: federation__ContextFieldValue) on ARGUMENT_DEFINITION
directive @cost(weight: Int!) on ARGUMENT_DEFINITION | ENUM | FIELD_DEFINITION | INPUT_FIELD_DEFINITION | OBJECT | SCALAR
directive @listSize(assumedSize: Int, slicingArguments: [String!], sizedFields: [String!], requireOneSlicingArgument: Boolean = true) on FIELD_DEFINITION
directive @cacheTag(format: String!) repeatable on FIELD_DEFINITION | OBJECT
scalar federation__FieldSet
scalar federation__Scope
scalar federation__Policy
scalar federation__ContextFieldValue
scalar link__Import
enum link__Purpose { SECURITY EXECUTION }
"#;

const PLACEHOLDER: &str = "_stoaPlaceholder";

/// Whether a type or field is Federation's own and not the graph's.
pub(crate) fn is_federation_internal(name: &str) -> bool {
    name.starts_with("__")
        || name.starts_with("federation__")
        || name.starts_with("link__")
        || matches!(
            name,
            "_Any" | "_Entity" | "_Service" | "_FieldSet" | "_entities" | "_service" | PLACEHOLDER
        )
}

/// Adds the definitions that the subgraph omits, and checks those it has.
pub(super) fn add_missing_definitions(
    subgraph: &str,
    schema: &mut Schema,
    local: &HashMap<&'static str, Name>,
    errors: &mut Vec<CompositionError>,
) {
    let Ok(known) = Schema::parse(DEFINITIONS, "federation.graphql") else {
        return;
    };
    for (canonical, definition) in &known.directive_definitions {
        if definition.is_built_in() {
            continue;
        }
        let name = local.get(canonical.as_str()).unwrap_or(canonical).clone();
        match schema.directive_definitions.get(&name) {
            // Not @link: its argument types may have short names, such as `Import`.
            Some(own) if canonical != "link" => {
                if let Some(reason) = incompatible(own, definition) {
                    errors.push(
                        CompositionError::new(
                            "DIRECTIVE_DEFINITION_INVALID",
                            format!("[{subgraph}] the definition of @{name} {reason}"),
                        )
                        .at(Location::from_span(
                            subgraph,
                            own.location(),
                            &schema.sources,
                        )),
                    );
                }
            }
            Some(_) => {}
            None => {
                let mut definition = definition.clone();
                definition.make_mut().name = name.clone();
                schema.directive_definitions.insert(name, definition);
            }
        }
    }
    // A directive of a later edition of GraphQL, which apollo-compiler lacks.
    if let Ok(one_of) = Schema::parse(crate::one_of::DEFINITION, "one_of.graphql")
        && let Some(definition) = one_of.directive_definitions.get("oneOf")
    {
        schema
            .directive_definitions
            .entry(name!("oneOf"))
            .or_insert_with(|| definition.clone());
    }
    for (name, ty) in &known.types {
        if ty.is_built_in() {
            continue;
        }
        match schema.types.get(name) {
            Some(own) if own.is_scalar() != ty.is_scalar() => errors.push(
                CompositionError::new(
                    "TYPE_DEFINITION_INVALID",
                    format!("[{subgraph}] \"{name}\" is Federation's own, and of another kind"),
                )
                .at(Location::from_span(
                    subgraph,
                    own.location(),
                    &schema.sources,
                )),
            ),
            Some(_) => {}
            None => {
                schema.types.insert(name.clone(), ty.clone());
            }
        }
    }
    // Types that subgraph libraries print into their SDL.
    for (name, scalar) in [
        ("_Any", true),
        ("_FieldSet", true),
        ("_Service", false),
        ("_Entity", false),
    ] {
        if let Some(own) = schema.types.get(name)
            && own.is_scalar() != scalar
        {
            errors.push(
                CompositionError::new(
                    "TYPE_DEFINITION_INVALID",
                    format!("[{subgraph}] \"{name}\" is Federation's own, and of another kind"),
                )
                .at(Location::from_span(
                    subgraph,
                    own.location(),
                    &schema.sources,
                )),
            );
        }
    }
}

/// Why a subgraph's definition of a directive is incompatible with Federation's.
fn incompatible(own: &DirectiveDefinition, known: &DirectiveDefinition) -> Option<String> {
    if own.repeatable && !known.repeatable {
        return Some("must not be repeatable".to_owned());
    }
    if let Some(location) = own.locations.iter().find(|l| !known.locations.contains(l)) {
        return Some(format!("does not apply to {location}"));
    }
    for argument in &own.arguments {
        let Some(known) = known.arguments.iter().find(|a| a.name == argument.name) else {
            return Some(format!("has no argument \"{}\"", argument.name));
        };
        let compatible = argument.ty.is_list() == known.ty.is_list()
            && (known.ty.is_list() || is_like(&argument.ty, &known.ty));
        if !compatible {
            return Some(format!(
                "has \"{}\" of type {}, not {}",
                argument.name, known.ty, argument.ty
            ));
        }
    }
    known
        .arguments
        .iter()
        .find(|argument| {
            argument.is_required() && !own.arguments.iter().any(|a| a.name == argument.name)
        })
        .filter(|_| !own.arguments.is_empty() || known.name == "tag")
        .map(|argument| format!("needs the argument \"{}\"", argument.name))
}

/// Whether argument types are compatible: Federation's scalars have had many names,
/// and older definitions use String.
fn is_like(own: &Type, known: &Type) -> bool {
    let (own, known) = (own.inner_named_type(), known.inner_named_type());
    let of_federation = known.starts_with("federation__");
    own == known || (of_federation && !matches!(own.as_str(), "Int" | "Float" | "Boolean"))
}

/// Adds a query type with a placeholder field: GraphQL requires one, but a subgraph
/// may have none.
pub(super) fn add_placeholder_query(schema: &mut Schema) {
    let Ok(placeholder) = Schema::parse(
        format!("type Query {{ {PLACEHOLDER}: Boolean }}"),
        "placeholder.graphql",
    ) else {
        return;
    };
    if let Some(query) = placeholder.types.get("Query") {
        schema
            .types
            .entry(name!("Query"))
            .or_insert_with(|| query.clone());
        schema.schema_definition.make_mut().query = Some(name!("Query").into());
    }
}

impl Subgraph {
    /// Whether all fields are Federation's own or the placeholder.
    pub(crate) fn is_placeholder<'a>(&self, mut fields: impl Iterator<Item = &'a Name>) -> bool {
        fields.all(|field| is_federation_internal(field))
    }
}
