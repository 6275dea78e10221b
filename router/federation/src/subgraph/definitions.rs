//! Federation's own directives and types, whose definitions a subgraph may omit.
//!
//! Source: <https://www.apollographql.com/docs/graphos/schema-design/federated-schemas/reference/directives>.

use std::collections::HashMap;

use apollo_compiler::ast::{DirectiveDefinition, Type};
use apollo_compiler::parser::SourceMap;
use apollo_compiler::schema::ExtendedType;
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

/// The directives of Federation 1, and `@tag`, which it knew without a link.
pub(super) const FEDERATION_1: &[&str] =
    &["key", "requires", "provides", "external", "extends", "tag"];

/// Directives of Federation 2 that a schema without a link may define, and then means.
pub(super) const DEFINED_BY_FEDERATION_1: &[&str] = &[
    "shareable",
    "inaccessible",
    "override",
    "composeDirective",
    "interfaceObject",
];

/// The types of Federation and of the link specification.
pub(super) const TYPES: &[(&str, &str)] = &[
    ("federation", "FieldSet"),
    ("federation", "Scope"),
    ("federation", "Policy"),
    ("federation", "ContextFieldValue"),
    ("link", "Import"),
    ("link", "Purpose"),
];

const DEFINITIONS: &str = r#"
directive @link(url: String, as: String, for: link__Purpose, import: [link__Import]) repeatable on SCHEMA
directive @key(fields: federation__FieldSet!, resolvable: Boolean = true) repeatable on OBJECT | INTERFACE
directive @shareable repeatable on OBJECT | FIELD_DEFINITION
directive @external(reason: String) on OBJECT | FIELD_DEFINITION
directive @requires(fields: federation__FieldSet!) on FIELD_DEFINITION
directive @provides(fields: federation__FieldSet!) on FIELD_DEFINITION
directive @extends on OBJECT | INTERFACE
directive @override(from: String!, label: String) on FIELD_DEFINITION
directive @inaccessible on FIELD_DEFINITION | OBJECT | INTERFACE | UNION | ARGUMENT_DEFINITION | SCALAR | ENUM | ENUM_VALUE | INPUT_OBJECT | INPUT_FIELD_DEFINITION
directive @tag(name: String!) repeatable on FIELD_DEFINITION | OBJECT | INTERFACE | UNION | ARGUMENT_DEFINITION | SCALAR | ENUM | ENUM_VALUE | INPUT_OBJECT | INPUT_FIELD_DEFINITION | SCHEMA
directive @composeDirective(name: String) repeatable on SCHEMA
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

/// The names that a subgraph has for what is Federation's.
pub(super) struct Names<'a> {
    /// Directives, by their own names.
    pub directives: &'a HashMap<&'static str, Name>,
    /// Types, in the order of [`TYPES`].
    pub types: Vec<String>,
    /// Whether anything is linked.
    pub linked: bool,
    /// Whether it is Federation 1.
    pub old: bool,
}

/// Federation's definitions under the names that a subgraph has them by.
fn known(names: &Names<'_>) -> Option<Schema> {
    let mut text = DEFINITIONS.to_owned();
    for ((specification, name), local) in TYPES.iter().zip(&names.types) {
        text = text.replace(&format!("{specification}__{name}"), local);
    }
    Schema::parse(text, "federation.graphql").ok()
}

/// Adds the definitions that the subgraph omits, and checks those it has.
pub(super) fn add_missing_definitions(
    subgraph: &str,
    schema: &mut Schema,
    names: &Names<'_>,
    errors: &mut Vec<CompositionError>,
) {
    let Some(known) = known(names) else {
        return;
    };
    for (canonical, definition) in &known.directive_definitions {
        let name = match names.directives.get(canonical.as_str()) {
            Some(local) => local.clone(),
            // Without a link, the name is the subgraph's own.
            None if canonical == "link" && names.linked => canonical.clone(),
            None => continue,
        };
        let own = schema.directive_definitions.get(&name);
        let own = own.filter(|own| !names.old || !is_of_old_library(canonical, own));
        match own {
            Some(own) => {
                if let Some(reason) = incompatible(own, definition, names.old) {
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
    add_missing_types(subgraph, schema, &known, errors);
}

fn add_missing_types(
    subgraph: &str,
    schema: &mut Schema,
    known: &Schema,
    errors: &mut Vec<CompositionError>,
) {
    let mut check = |name: &str, own: &ExtendedType, scalar: bool, sources: &SourceMap| {
        if own.is_scalar() != scalar {
            errors.push(
                CompositionError::new(
                    "TYPE_DEFINITION_INVALID",
                    format!("[{subgraph}] \"{name}\" is Federation's own, and of another kind"),
                )
                .at(Location::from_span(subgraph, own.location(), sources)),
            );
        }
    };
    for (name, ty) in &known.types {
        if ty.is_built_in() {
            continue;
        }
        match schema.types.get(name) {
            Some(own) => check(name, own, ty.is_scalar(), &schema.sources),
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
        if let Some(own) = schema.types.get(name) {
            check(name, own, scalar, &schema.sources);
        }
    }
}

/// Whether a definition in Federation 1 is wrong as those of older libraries are: without
/// arguments, or with optional fields. It is ignored.
fn is_of_old_library(canonical: &str, own: &DirectiveDefinition) -> bool {
    let fields = |ty: &Type| matches!(ty, Type::Named(name) if matches!(name.as_str(), "String" | "_FieldSet" | "FieldSet"));
    matches!(canonical, "key" | "requires" | "provides")
        && match &own.arguments[..] {
            [] => true,
            [one] => one.name == "fields" && fields(&one.ty),
            _ => false,
        }
}

/// Why a subgraph's definition of a directive is incompatible with Federation's; `old`:
/// with Federation 1's.
fn incompatible(
    own: &DirectiveDefinition,
    known: &DirectiveDefinition,
    old: bool,
) -> Option<String> {
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
        // An argument may be required that Federation does not require.
        let stricter = argument.ty.is_non_null() && !known.ty.is_non_null();
        let known_type = match stricter {
            true => &(*known.ty).clone().non_null(),
            false => &*known.ty,
        };
        if !is_like(&argument.ty, known_type, old) {
            return Some(format!(
                "has \"{}\" of type {}, not {}",
                argument.name, known.ty, argument.ty
            ));
        }
        if !argument.ty.is_non_null() && argument.default_value != known.default_value {
            return Some(format!(
                "has another default value for \"{}\"",
                argument.name
            ));
        }
    }
    known
        .arguments
        .iter()
        .find(|argument| {
            argument.is_required() && !own.arguments.iter().any(|a| a.name == argument.name)
        })
        .map(|argument| format!("needs the argument \"{}\"", argument.name))
}

/// Whether a type may stand for Federation's own. For a scalar of Federation a definition
/// may have String or ID, or a list of them; in Federation 1 the scalar had other names.
fn is_like(own: &Type, known: &Type, old: bool) -> bool {
    let is_scalar = |name: &Name| {
        !matches!(name.as_str(), "String" | "Int" | "Float" | "Boolean" | "ID")
            && !name.ends_with("Purpose")
    };
    match (own, known) {
        (Type::NonNullNamed(own), Type::NonNullNamed(known))
        | (Type::Named(own), Type::Named(known)) => {
            own == known
                || (is_scalar(known) && matches!(own.as_str(), "String" | "ID"))
                || (old && own == "_FieldSet")
        }
        (Type::List(own), Type::List(known))
        | (Type::NonNullList(own), Type::NonNullList(known)) => is_like(own, known, old),
        (Type::List(own), Type::Named(known))
        | (Type::NonNullList(own), Type::NonNullNamed(known)) => {
            is_scalar(known) && matches!(own.inner_named_type().as_str(), "String" | "ID")
        }
        _ => false,
    }
}

/// Adds a placeholder field to the query type: GraphQL requires one, but a subgraph may
/// have none, and then omits the type or leaves it empty.
pub(super) fn add_placeholder_query(schema: &mut Schema) {
    let Ok(placeholder) = Schema::parse(
        format!("type Query {{ {PLACEHOLDER}: Boolean }}"),
        "placeholder.graphql",
    ) else {
        return;
    };
    let root = schema.schema_definition.query.clone();
    let root = root.map_or(name!("Query"), |root| root.name);
    if let Some(ExtendedType::Object(query)) = placeholder.types.get("Query") {
        match schema.types.get_mut(&root) {
            None => {
                schema
                    .types
                    .insert(root.clone(), ExtendedType::Object(query.clone()));
            }
            Some(ExtendedType::Object(own)) if own.fields.is_empty() => {
                own.make_mut().fields.extend(query.fields.clone());
            }
            Some(_) => {}
        }
        schema
            .schema_definition
            .make_mut()
            .query
            .get_or_insert_with(|| root.into());
    }
}

impl Subgraph {
    /// Whether all fields are Federation's own or the placeholder.
    pub(crate) fn is_placeholder<'a>(&self, mut fields: impl Iterator<Item = &'a Name>) -> bool {
        fields.all(|field| is_federation_internal(field))
    }
}
