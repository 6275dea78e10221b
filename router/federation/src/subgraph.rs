//! One subgraph: its SDL parsed, its `@link`s resolved, its schema valid.

use std::collections::HashMap;

use apollo_compiler::ast::{Directive, DirectiveDefinition, Value};
use apollo_compiler::parser::SourceSpan;
use apollo_compiler::schema::{Component, ExtendedType};
use apollo_compiler::validation::Valid;
use apollo_compiler::{Name, Node, Schema, name};

use crate::error::{CompositionError, CompositionErrors, Location, diagnostic_location};

/// The federation directives, by their canonical names, as SDL that a
/// subgraph may leave out.
const DEFINITIONS: &str = r#"
directive @link(url: String!, as: String, for: link__Purpose, import: [link__Import]) repeatable on SCHEMA
directive @key(fields: federation__FieldSet!, resolvable: Boolean = true) repeatable on OBJECT | INTERFACE
directive @shareable repeatable on OBJECT | FIELD_DEFINITION
directive @external(reason: String) on OBJECT | FIELD_DEFINITION
directive @requires(fields: federation__FieldSet!) on FIELD_DEFINITION
directive @provides(fields: federation__FieldSet!) on FIELD_DEFINITION
directive @extends on OBJECT | INTERFACE
directive @inaccessible on FIELD_DEFINITION | OBJECT | INTERFACE | UNION | ARGUMENT_DEFINITION | SCALAR | ENUM | ENUM_VALUE | INPUT_OBJECT | INPUT_FIELD_DEFINITION
directive @tag(name: String!) repeatable on FIELD_DEFINITION | OBJECT | INTERFACE | UNION | ARGUMENT_DEFINITION | SCALAR | ENUM | ENUM_VALUE | INPUT_OBJECT | INPUT_FIELD_DEFINITION | SCHEMA
directive @composeDirective(name: String!) repeatable on SCHEMA
scalar federation__FieldSet
scalar link__Import
enum link__Purpose { SECURITY EXECUTION }
"#;

/// Federation directives that we read but whose meaning composition does not
/// carry yet. To ignore one would change what a graph means, so each is refused.
const UNSUPPORTED: &[&str] = &[
    "override",
    "interfaceObject",
    "context",
    "fromContext",
    "authenticated",
    "requiresScopes",
    "policy",
    "cost",
    "listSize",
];

const FEDERATION_URL: &str = "https://specs.apollo.dev/federation/";
const CONNECT_URL: &str = "https://specs.apollo.dev/connect/";

/// A directive that `@composeDirective` carries into the supergraph.
#[derive(Debug, Clone)]
pub(crate) struct ComposedDirective {
    pub name: Name,
    pub definition: Node<DirectiveDefinition>,
    /// The `@link` that the directive was imported by.
    pub link: Node<Directive>,
}

/// A parsed and valid subgraph.
#[derive(Debug, Clone)]
pub struct Subgraph {
    pub name: String,
    pub url: String,
    pub(crate) schema: Valid<Schema>,
    /// The local name of each federation directive, by its canonical name.
    local: HashMap<&'static str, Name>,
    pub(crate) composed: Vec<ComposedDirective>,
    /// Without a link to Federation 2, every field may be shared.
    pub(crate) federation_1: bool,
}

impl Subgraph {
    /// Parses the SDL that a subgraph serves as `_service { sdl }`.
    ///
    /// # Errors
    /// `INVALID_GRAPHQL`, `INVALID_LINK_DIRECTIVE_USAGE`,
    /// `DIRECTIVE_COMPOSITION_ERROR`, or `UNSUPPORTED_FEATURE`, with positions.
    pub fn parse(name: &str, url: &str, sdl: &str) -> Result<Self, CompositionErrors> {
        let invalid = |errors: &apollo_compiler::validation::DiagnosticList| {
            CompositionErrors(
                errors
                    .iter()
                    .map(|diagnostic| {
                        CompositionError::new(
                            "INVALID_GRAPHQL",
                            format!("[{name}] {}", diagnostic.error),
                        )
                        .at(diagnostic_location(name, &diagnostic))
                    })
                    .collect(),
            )
        };
        let mut schema = Schema::builder()
            .adopt_orphan_extensions()
            .parse(sdl, name)
            .build()
            .map_err(|error| invalid(&error.errors))?;

        let links = Links::read(name, &schema)?;
        let local = links.local_names();
        add_missing_definitions(&mut schema, &local);
        let needs_query = schema.schema_definition.query.is_none();
        if needs_query {
            add_placeholder_query(&mut schema);
        }
        let composed = links.composed(name, &schema)?;
        refuse_unsupported(name, &schema, &links)?;
        let schema = schema.validate().map_err(|error| invalid(&error.errors))?;
        Ok(Self {
            name: name.to_owned(),
            url: url.to_owned(),
            schema,
            local,
            composed,
            federation_1: !links.federation_2,
        })
    }

    /// The subgraph's schema, with the federation definitions it left out.
    pub fn schema(&self) -> &Valid<Schema> {
        &self.schema
    }

    /// The applications of a federation directive, by its canonical name.
    pub(crate) fn applied<'a>(
        &'a self,
        directives: impl IntoIterator<Item = &'a Node<Directive>>,
        canonical: &str,
    ) -> Vec<&'a Node<Directive>> {
        let Some(local) = self.local.get(canonical) else {
            return Vec::new();
        };
        directives
            .into_iter()
            .filter(|d| d.name == *local)
            .collect()
    }

    pub(crate) fn location(&self, span: Option<SourceSpan>) -> Option<Location> {
        Location::of(&self.name, span, &self.schema.sources)
    }

    /// The root type of this subgraph that plays `Query`, `Mutation` or
    /// `Subscription` under the name that all supergraphs use.
    pub(crate) fn public_name(&self, ty: &Name) -> Name {
        let root = &self.schema.schema_definition;
        let is = |slot: &Option<apollo_compiler::schema::ComponentName>| {
            slot.as_ref().is_some_and(|root| root.name == *ty)
        };
        if is(&root.query) {
            name!("Query")
        } else if is(&root.mutation) {
            name!("Mutation")
        } else if is(&root.subscription) {
            name!("Subscription")
        } else {
            ty.clone()
        }
    }
}

/// The string argument `name` of a directive.
pub(crate) fn string_argument<'a>(directive: &'a Directive, name: &str) -> Option<&'a str> {
    directive.specified_argument_by_name(name)?.as_str()
}

pub(crate) fn bool_argument(directive: &Directive, name: &str) -> Option<bool> {
    directive.specified_argument_by_name(name)?.to_bool()
}

/// Whether a type or field belongs to the federation machinery itself.
pub(crate) fn is_machinery(name: &str) -> bool {
    name.starts_with("__")
        || name.starts_with("federation__")
        || name.starts_with("link__")
        || matches!(
            name,
            "_Any" | "_Entity" | "_Service" | "_FieldSet" | "_entities" | "_service" | PLACEHOLDER
        )
}

const PLACEHOLDER: &str = "_stoaPlaceholder";

/// Directives as (name there, name here), without `@`.
type Imports = Vec<(String, String)>;

/// What a schema's `@link` directives import.
struct Links {
    federation_2: bool,
    /// Local directive name to canonical federation name.
    imported: HashMap<String, String>,
    namespace: String,
    other: Vec<(Node<Directive>, Imports)>,
    compose: Vec<(String, Option<SourceSpan>)>,
}

impl Links {
    fn read(subgraph: &str, schema: &Schema) -> Result<Self, CompositionErrors> {
        let mut links = Self {
            federation_2: false,
            imported: HashMap::new(),
            namespace: "federation".to_owned(),
            other: Vec::new(),
            compose: Vec::new(),
        };
        let mut errors = Vec::new();
        for directive in &schema.schema_definition.directives {
            if directive.name != "link" {
                continue;
            }
            let at = Location::of(subgraph, directive.location(), &schema.sources);
            let Some(url) = string_argument(directive, "url") else {
                errors.push(
                    CompositionError::new(
                        "INVALID_LINK_DIRECTIVE_USAGE",
                        format!("[{subgraph}] @link needs a url"),
                    )
                    .at(at),
                );
                continue;
            };
            if url.starts_with(CONNECT_URL) {
                errors.push(
                    CompositionError::new(
                        "UNSUPPORTED_FEATURE",
                        format!("[{subgraph}] connectors are not supported"),
                    )
                    .at(at),
                );
                continue;
            }
            let imports = imports(directive);
            if url.starts_with(FEDERATION_URL) {
                links.federation_2 = true;
                if let Some(namespace) = string_argument(directive, "as") {
                    links.namespace = namespace.to_owned();
                }
                links
                    .imported
                    .extend(imports.into_iter().map(|(from, to)| (to, from)));
            } else {
                links.other.push((directive.node.clone(), imports));
            }
        }
        let compose = links.local("composeDirective");
        for directive in &schema.schema_definition.directives {
            if directive.name == compose.as_str()
                && let Some(name) = string_argument(directive, "name")
            {
                links.compose.push((
                    name.trim_start_matches('@').to_owned(),
                    directive.location(),
                ));
            }
        }
        if errors.is_empty() {
            Ok(links)
        } else {
            Err(CompositionErrors(errors))
        }
    }

    fn local(&self, canonical: &str) -> String {
        if !self.federation_2 {
            return canonical.to_owned();
        }
        self.imported
            .iter()
            .find(|(_, from)| *from == canonical)
            .map_or_else(
                || format!("{}__{canonical}", self.namespace),
                |(local, _)| local.clone(),
            )
    }

    fn local_names(&self) -> HashMap<&'static str, Name> {
        [
            "key",
            "shareable",
            "external",
            "requires",
            "provides",
            "extends",
            "inaccessible",
            "tag",
            "composeDirective",
        ]
        .into_iter()
        .filter_map(|canonical| Some((canonical, Name::new(&self.local(canonical)).ok()?)))
        .collect()
    }

    fn composed(
        &self,
        subgraph: &str,
        schema: &Schema,
    ) -> Result<Vec<ComposedDirective>, CompositionErrors> {
        let mut composed = Vec::new();
        let mut errors = Vec::new();
        for (name, span) in &self.compose {
            let link = self
                .other
                .iter()
                .find(|(_, imports)| imports.iter().any(|(_, to)| to == name));
            let definition = schema.directive_definitions.get(name.as_str());
            match (link, definition) {
                (Some((link, _)), Some(definition)) => composed.push(ComposedDirective {
                    name: definition.name.clone(),
                    definition: definition.clone(),
                    link: link.clone(),
                }),
                (None, _) => errors.push(
                    CompositionError::new(
                        "DIRECTIVE_COMPOSITION_ERROR",
                        format!("[{subgraph}] @composeDirective names \"@{name}\", which no @link imports"),
                    )
                    .at(Location::of(subgraph, *span, &schema.sources)),
                ),
                (_, None) => errors.push(
                    CompositionError::new(
                        "DIRECTIVE_COMPOSITION_ERROR",
                        format!("[{subgraph}] @composeDirective names \"@{name}\", which is not defined"),
                    )
                    .at(Location::of(subgraph, *span, &schema.sources)),
                ),
            }
        }
        if errors.is_empty() {
            Ok(composed)
        } else {
            Err(CompositionErrors(errors))
        }
    }
}

/// The directives that a `@link` imports.
fn imports(link: &Directive) -> Imports {
    let Some(Value::List(items)) = link.specified_argument_by_name("import").map(|v| &**v) else {
        return Vec::new();
    };
    let bare = |text: &str| text.trim_start_matches('@').to_owned();
    items
        .iter()
        .filter_map(|item| match &**item {
            Value::String(name) => Some((bare(name), bare(name))),
            Value::Object(fields) => {
                let field = |key: &str| {
                    fields
                        .iter()
                        .find(|(name, _)| name == key)
                        .and_then(|(_, value)| value.as_str())
                };
                let name = field("name")?;
                Some((bare(name), bare(field("as").unwrap_or(name))))
            }
            _ => None,
        })
        .collect()
}

fn add_missing_definitions(schema: &mut Schema, local: &HashMap<&'static str, Name>) {
    let Ok(known) = Schema::parse(DEFINITIONS, "federation.graphql") else {
        return;
    };
    for (canonical, definition) in &known.directive_definitions {
        if definition.is_built_in() {
            continue;
        }
        let name = local.get(canonical.as_str()).unwrap_or(canonical).clone();
        schema
            .directive_definitions
            .entry(name.clone())
            .or_insert_with(|| {
                let mut definition = definition.clone();
                definition.make_mut().name = name;
                definition
            });
    }
    for (name, ty) in &known.types {
        if !ty.is_built_in() {
            schema
                .types
                .entry(name.clone())
                .or_insert_with(|| ty.clone());
        }
    }
}

/// GraphQL wants a query type; a subgraph may have none.
fn add_placeholder_query(schema: &mut Schema) {
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

fn refuse_unsupported(
    subgraph: &str,
    schema: &Schema,
    links: &Links,
) -> Result<(), CompositionErrors> {
    let mut errors = Vec::new();
    let mut check = |directive: &Node<Directive>| {
        let canonical = links
            .imported
            .get(directive.name.as_str())
            .map(String::as_str)
            .or_else(|| {
                directive
                    .name
                    .strip_prefix(links.namespace.as_str())?
                    .strip_prefix("__")
            });
        if let Some(canonical) = canonical
            && UNSUPPORTED.contains(&canonical)
        {
            errors.push(
                CompositionError::new(
                    "UNSUPPORTED_FEATURE",
                    format!("[{subgraph}] @{} is not supported yet", directive.name),
                )
                .at(Location::of(
                    subgraph,
                    directive.location(),
                    &schema.sources,
                )),
            );
        }
    };
    for ty in schema.types.values() {
        ty.directives().iter().for_each(|d| check(d));
        let fields: Vec<&Component<apollo_compiler::ast::FieldDefinition>> = match ty {
            ExtendedType::Object(object) => object.fields.values().collect(),
            ExtendedType::Interface(interface) => interface.fields.values().collect(),
            _ => Vec::new(),
        };
        for field in fields {
            field.directives.iter().for_each(&mut check);
            for argument in &field.arguments {
                argument.directives.iter().for_each(&mut check);
            }
        }
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(CompositionErrors(errors))
    }
}
