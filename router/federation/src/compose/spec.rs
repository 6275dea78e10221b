//! The vocabulary of supergraph SDL: the `join` and `link` definitions, and
//! constructors for their directives.
//!
//! Source: <https://specs.apollo.dev/join/v0.4>, <https://specs.apollo.dev/link/v1.0>.

use apollo_compiler::ast::{Argument, Directive, Value};
use apollo_compiler::{Name, Node, Schema};

use crate::subgraph::Subgraph;

pub(super) const DEFINITIONS: &str = r#"
schema @link(url: "https://specs.apollo.dev/link/v1.0") @link(url: "https://specs.apollo.dev/join/v0.4", for: EXECUTION) { query: Query }
type Query
directive @join__enumValue(graph: join__Graph!) repeatable on ENUM_VALUE
directive @join__field(graph: join__Graph, requires: join__FieldSet, provides: join__FieldSet, type: String, external: Boolean, override: String, usedOverridden: Boolean, overrideLabel: String) repeatable on FIELD_DEFINITION | INPUT_FIELD_DEFINITION
directive @join__graph(name: String!, url: String!) on ENUM_VALUE
directive @join__implements(graph: join__Graph!, interface: String!) repeatable on OBJECT | INTERFACE
directive @join__type(graph: join__Graph!, key: join__FieldSet, extension: Boolean! = false, resolvable: Boolean! = true, isInterfaceObject: Boolean! = false) repeatable on OBJECT | INTERFACE | UNION | ENUM | INPUT_OBJECT | SCALAR
directive @join__unionMember(graph: join__Graph!, member: String!) repeatable on UNION
directive @link(url: String, as: String, for: link__Purpose, import: [link__Import]) repeatable on SCHEMA
scalar join__FieldSet
scalar link__Import
enum link__Purpose {
  "`SECURITY` features provide metadata necessary to securely resolve fields."
  SECURITY
  "`EXECUTION` features provide metadata necessary for operation execution."
  EXECUTION
}
enum join__Graph
"#;

pub(super) const JOIN: &str = "https://specs.apollo.dev/join/v0.4";
pub(super) const JOIN_WITH_CONTEXTS: &str = "https://specs.apollo.dev/join/v0.5";

/// The definitions that version 0.5 of join adds.
pub(super) const CONTEXTS: &str = r#"
directive @join__field(graph: join__Graph, requires: join__FieldSet, provides: join__FieldSet, type: String, external: Boolean, override: String, usedOverridden: Boolean, overrideLabel: String, contextArguments: [join__ContextArgument!]) repeatable on FIELD_DEFINITION | INPUT_FIELD_DEFINITION
input join__ContextArgument { name: String! type: String! context: String! selection: join__FieldValue! }
scalar join__FieldValue
"#;

pub(super) const JOIN_DIRECTIVE: &str = r#"
directive @join__directive(graphs: [join__Graph!], name: String!, args: join__DirectiveArguments) repeatable on SCHEMA | OBJECT | INTERFACE | FIELD_DEFINITION
scalar join__DirectiveArguments
"#;

/// A specification whose directives a supergraph carries: the directives, its
/// URL, what it is for, and its definitions.
type Carried = (
    &'static [&'static str],
    &'static str,
    Option<&'static str>,
    &'static str,
);

pub(super) const CARRIED: &[Carried] = &[
    (
        &["inaccessible"],
        "https://specs.apollo.dev/inaccessible/v0.2",
        Some("SECURITY"),
        "directive @inaccessible on FIELD_DEFINITION | OBJECT | INTERFACE | UNION | ARGUMENT_DEFINITION | SCALAR | ENUM | ENUM_VALUE | INPUT_OBJECT | INPUT_FIELD_DEFINITION",
    ),
    (
        &["tag"],
        "https://specs.apollo.dev/tag/v0.3",
        None,
        "directive @tag(name: String!) repeatable on FIELD_DEFINITION | OBJECT | INTERFACE | UNION | ARGUMENT_DEFINITION | SCALAR | ENUM | ENUM_VALUE | INPUT_OBJECT | INPUT_FIELD_DEFINITION | SCHEMA",
    ),
    (
        &["authenticated"],
        "https://specs.apollo.dev/authenticated/v0.1",
        Some("SECURITY"),
        "directive @authenticated on FIELD_DEFINITION | OBJECT | INTERFACE | SCALAR | ENUM",
    ),
    (
        &["requiresScopes"],
        "https://specs.apollo.dev/requiresScopes/v0.1",
        Some("SECURITY"),
        "scalar requiresScopes__Scope directive @requiresScopes(scopes: [[requiresScopes__Scope!]!]!) on FIELD_DEFINITION | OBJECT | INTERFACE | SCALAR | ENUM",
    ),
    (
        &["policy"],
        "https://specs.apollo.dev/policy/v0.1",
        Some("SECURITY"),
        "scalar policy__Policy directive @policy(policies: [[policy__Policy!]!]!) on FIELD_DEFINITION | OBJECT | INTERFACE | SCALAR | ENUM",
    ),
    (
        &["context"],
        "https://specs.apollo.dev/context/v0.1",
        Some("SECURITY"),
        "directive @context(name: String!) repeatable on INTERFACE | OBJECT | UNION directive @context__fromContext(field: context__ContextFieldValue) on ARGUMENT_DEFINITION scalar context__ContextFieldValue",
    ),
    (
        &["cost", "listSize"],
        "https://specs.apollo.dev/cost/v0.1",
        None,
        "directive @cost(weight: Int!) on ARGUMENT_DEFINITION | ENUM | FIELD_DEFINITION | INPUT_FIELD_DEFINITION | OBJECT | SCALAR directive @listSize(assumedSize: Int, slicingArguments: [String!], sizedFields: [String!], requireOneSlicingArgument: Boolean = true) on FIELD_DEFINITION",
    ),
];

/// Parses one of the constants here. If that failed, the validation of the result
/// would report it.
pub(super) fn parse(text: &str) -> Schema {
    let mut schema = match Schema::parse(text, "spec.graphql") {
        Ok(schema) => schema,
        Err(invalid) => invalid.partial,
    };
    schema
        .types
        .retain(|_, ty| !ty.is_built_in() || text == DEFINITIONS);
    schema
}

/// Builds a directive application; arguments are added in the order given.
pub(super) struct DirectiveBuilder(Directive);

impl DirectiveBuilder {
    pub fn new(name: &'static str) -> Self {
        Self(Directive::new(Name::new_static_unchecked(name)))
    }

    pub fn value(mut self, name: &'static str, value: Value) -> Self {
        self.0.arguments.push(Node::new(Argument {
            name: Name::new_static_unchecked(name),
            value: Node::new(value),
        }));
        self
    }

    pub fn graph(self, graph: &Name) -> Self {
        self.value("graph", Value::Enum(graph.clone()))
    }

    pub fn string(self, name: &'static str, text: &str) -> Self {
        self.value(name, Value::String(text.to_owned()))
    }

    pub fn flag(self, name: &'static str, value: bool) -> Self {
        self.value(name, Value::Boolean(value))
    }

    pub fn build(self) -> Node<Directive> {
        Node::new(self.0)
    }
}

/// The subgraphs' `join__Graph` enum values: upper case, with `_` for characters that a
/// name cannot have. Those that would be equal are numbered; a name that ends in a number
/// gets another `_`, so that no numbered one is equal to it.
pub(super) fn graph_names(subgraphs: &[Subgraph]) -> Vec<Name> {
    let texts: Vec<String> = subgraphs.iter().map(|s| graph_name(&s.name)).collect();
    let named = texts.iter().enumerate().map(|(index, text)| {
        let equal = |other: &&String| *other == text;
        if texts.iter().filter(equal).count() == 1 {
            return Name::new_unchecked(text);
        }
        let number = texts[..=index].iter().filter(equal).count();
        Name::new_unchecked(&format!("{text}_{number}"))
    });
    named.collect()
}

fn graph_name(subgraph: &str) -> String {
    let mut text: String = subgraph
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_uppercase()
            } else {
                '_'
            }
        })
        .collect();
    if !text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        text.insert(0, '_');
    }
    let before = text.trim_end_matches(|c: char| c.is_ascii_digit());
    if before.len() < text.len() && before.ends_with('_') {
        text.push('_');
    }
    text
}
