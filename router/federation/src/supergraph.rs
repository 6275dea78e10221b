//! The supergraph as planning reads it: which subgraph defines what, by which
//! keys an entity is reached, and the schema that clients see.

use std::collections::{BTreeMap, HashMap};

use apollo_compiler::ast::{Directive, FieldDefinition};
use apollo_compiler::collections::IndexMap;
use apollo_compiler::schema::{Component, ExtendedType, Implementers};
use apollo_compiler::validation::Valid;
use apollo_compiler::{Name, Node, Schema};

use crate::error::{CompositionError, CompositionErrors, diagnostic_location};
use crate::field_set::{self, FieldSet};
use crate::subgraph::{bool_argument, string_argument};

/// An index into [`Supergraph::subgraphs`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub struct SubgraphId(pub u16);

/// A subgraph as the supergraph names it.
#[derive(Debug, Clone)]
pub struct SubgraphInfo {
    pub name: String,
    pub url: String,
}

/// One `@key` of an entity in one subgraph.
#[derive(Debug, Clone)]
pub struct Key {
    pub fields: FieldSet,
    /// Whether the subgraph answers `_entities` by this key.
    pub resolvable: bool,
}

/// What a subgraph says of a field.
#[derive(Debug, Clone, Default)]
pub struct FieldJoin {
    pub requires: Option<FieldSet>,
    pub provides: Option<FieldSet>,
    /// Mentioned there, resolved elsewhere.
    pub external: bool,
}

/// What a subgraph says of a type.
#[derive(Debug, Clone, Default)]
pub struct TypeJoin {
    pub keys: Vec<Key>,
}

/// Where a type and its fields are defined.
#[derive(Debug, Clone, Default)]
pub struct TypeInfo {
    pub joins: BTreeMap<SubgraphId, TypeJoin>,
    pub fields: HashMap<Name, BTreeMap<SubgraphId, FieldJoin>>,
    /// Of an abstract type: the object types it can be, by subgraph.
    pub possible: BTreeMap<SubgraphId, Vec<Name>>,
}

/// How a subscription field resumes after a lost connection.
///
/// `@resumable(cursor: "cursor", after: "after")`: the payload's field that
/// holds the cursor, and the argument that takes it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resumable {
    pub cursor: Name,
    pub after: Name,
}

/// A loaded supergraph.
#[derive(Debug)]
pub struct Supergraph {
    /// All types, public or not, without the join machinery.
    pub(crate) schema: Schema,
    api: Valid<Schema>,
    pub subgraphs: Vec<SubgraphInfo>,
    types: HashMap<Name, TypeInfo>,
    possible: HashMap<Name, Vec<Name>>,
    implementers: apollo_compiler::collections::HashMap<Name, Implementers>,
}

const MACHINERY: &[&str] = &["join__", "link__", "core__", "federation__"];

/// Supergraph features whose meaning planning does not carry yet; ignoring one
/// would answer wrongly or without the access check that it stands for.
const UNSUPPORTED: &[&str] = &[
    "authenticated",
    "requiresScopes",
    "policy",
    "context",
    "fromContext",
    "interfaceObject",
];

impl Supergraph {
    /// Loads supergraph SDL in the `join` format.
    ///
    /// # Errors
    /// `INVALID_GRAPHQL` for what is not a schema, `INVALID_SUPERGRAPH` for a
    /// schema without `join__Graph`, `UNSUPPORTED_FEATURE` for what this
    /// version cannot execute faithfully.
    pub fn parse(sdl: &str) -> Result<Self, CompositionErrors> {
        let schema = Schema::parse_and_validate(sdl, "supergraph.graphql").map_err(|invalid| {
            CompositionErrors(
                invalid
                    .errors
                    .iter()
                    .map(|d| {
                        CompositionError::new("INVALID_GRAPHQL", d.error.to_string())
                            .at(diagnostic_location("supergraph", &d))
                    })
                    .collect(),
            )
        })?;
        let mut loader = Loader::default();
        loader.read_graphs(&schema);
        if loader.subgraphs.is_empty() {
            return Err(CompositionErrors(vec![CompositionError::new(
                "INVALID_SUPERGRAPH",
                "the file has no join__Graph enum: it is not supergraph SDL; compose the subgraphs first (stoa schema compose --help)",
            )]));
        }
        loader.refuse_unsupported(&schema);
        for (name, ty) in &schema.types {
            if !is_machinery(name) && !ty.is_built_in() {
                loader.read_type(name, ty);
            }
        }
        if !loader.errors.is_empty() {
            return Err(CompositionErrors(loader.errors));
        }
        loader.read_possible(&schema);
        let schema = without_machinery(schema.into_inner());
        let api = public(&schema)?;
        let implementers = api.implementers_map();
        let possible = loader
            .types
            .iter()
            .filter(|(_, info)| !info.possible.is_empty())
            .map(|(name, info)| {
                let mut all: Vec<Name> = Vec::new();
                for ty in info.possible.values().flatten() {
                    if !all.contains(ty) {
                        all.push(ty.clone());
                    }
                }
                (name.clone(), all)
            })
            .collect();
        Ok(Self {
            schema,
            api,
            subgraphs: loader.subgraphs,
            types: loader.types,
            possible,
            implementers,
        })
    }

    /// The schema that clients see.
    pub fn api(&self) -> &Valid<Schema> {
        &self.api
    }

    /// The implementers of each interface that clients see.
    pub fn implementers(&self) -> &apollo_compiler::collections::HashMap<Name, Implementers> {
        &self.implementers
    }

    pub fn subgraph(&self, id: SubgraphId) -> &SubgraphInfo {
        &self.subgraphs[usize::from(id.0)]
    }

    /// The object types that a composite type can be; for an object, itself.
    pub fn possible_types<'a>(&'a self, ty: &'a Name) -> &'a [Name] {
        self.possible
            .get(ty)
            .map_or(std::slice::from_ref(ty), Vec::as_slice)
    }

    pub(crate) fn possible_in<'a>(&'a self, subgraph: SubgraphId, ty: &'a Name) -> &'a [Name] {
        match self.types.get(ty) {
            Some(info) if self.possible.contains_key(ty) => {
                info.possible.get(&subgraph).map_or(&[], Vec::as_slice)
            }
            Some(info) if info.joins.contains_key(&subgraph) => std::slice::from_ref(ty),
            _ => &[],
        }
    }

    pub fn is_abstract(&self, ty: &str) -> bool {
        matches!(
            self.schema.types.get(ty),
            Some(ExtendedType::Interface(_) | ExtendedType::Union(_))
        )
    }

    pub(crate) fn defines(&self, subgraph: SubgraphId, ty: &str) -> bool {
        self.types
            .get(ty)
            .is_some_and(|info| info.joins.contains_key(&subgraph))
    }

    /// What `subgraph` says of a field, if it knows the field at all.
    pub(crate) fn field(&self, subgraph: SubgraphId, ty: &str, field: &str) -> Option<&FieldJoin> {
        self.types.get(ty)?.fields.get(field)?.get(&subgraph)
    }

    /// The subgraphs that resolve a field, in the supergraph's order.
    pub(crate) fn resolvers(&self, ty: &str, field: &str) -> Vec<SubgraphId> {
        self.types
            .get(ty)
            .and_then(|info| info.fields.get(field))
            .into_iter()
            .flatten()
            .filter(|(_, join)| !join.external)
            .map(|(id, _)| *id)
            .collect()
    }

    pub(crate) fn keys(&self, subgraph: SubgraphId, ty: &str) -> &[Key] {
        self.types
            .get(ty)
            .and_then(|info| info.joins.get(&subgraph))
            .map_or(&[], |join| &join.keys)
    }

    /// The named type that a field of a composite type answers.
    pub(crate) fn field_type(&self, ty: &str, field: &str) -> Option<&Name> {
        Some(self.definition(ty, field)?.ty.inner_named_type())
    }

    pub(crate) fn definition(&self, ty: &str, field: &str) -> Option<&Node<FieldDefinition>> {
        self.schema
            .type_field(ty, field)
            .ok()
            .map(|component| &component.node)
    }

    /// How a subscription field resumes, if it says so.
    pub fn resumable(&self, field: &str) -> Option<Resumable> {
        let directive = self
            .definition("Subscription", field)?
            .directives
            .get("resumable")?;
        let argument = |name| {
            let text = string_argument(directive, name).unwrap_or(name);
            Name::new(text).ok()
        };
        Some(Resumable {
            cursor: argument("cursor")?,
            after: argument("after")?,
        })
    }
}

fn is_machinery(name: &str) -> bool {
    MACHINERY.iter().any(|prefix| name.starts_with(prefix))
}

#[derive(Default)]
struct Loader {
    graphs: HashMap<Name, SubgraphId>,
    subgraphs: Vec<SubgraphInfo>,
    types: HashMap<Name, TypeInfo>,
    errors: Vec<CompositionError>,
}

impl Loader {
    fn read_graphs(&mut self, schema: &Schema) {
        let Some(graphs) = schema.get_enum("join__Graph") else {
            return;
        };
        for (value, definition) in &graphs.values {
            let info = definition.directives.get("join__graph");
            let text = |name| info.and_then(|d| string_argument(d, name));
            let id = SubgraphId(u16::try_from(self.subgraphs.len()).unwrap_or(u16::MAX));
            self.graphs.insert(value.clone(), id);
            self.subgraphs.push(SubgraphInfo {
                name: text("name").unwrap_or(value).to_owned(),
                url: text("url").unwrap_or_default().to_owned(),
            });
        }
    }

    fn refuse_unsupported(&mut self, schema: &Schema) {
        for name in UNSUPPORTED {
            if schema.directive_definitions.contains_key(*name) {
                self.errors.push(CompositionError::new(
                    "UNSUPPORTED_FEATURE",
                    format!("the supergraph uses @{name}, which is not supported yet"),
                ));
            }
        }
    }

    fn graph(&self, directive: &Directive) -> Option<SubgraphId> {
        let value = directive.specified_argument_by_name("graph")?.as_enum()?;
        self.graphs.get(value).copied()
    }

    fn set(&mut self, at: &str, directive: &Directive, argument: &str) -> Option<FieldSet> {
        let text = string_argument(directive, argument)?;
        match field_set::parse(text) {
            Ok(fields) => Some(fields),
            Err(error) => {
                self.errors.push(CompositionError::new(
                    "INVALID_SUPERGRAPH",
                    format!("\"{at}\": {error}"),
                ));
                None
            }
        }
    }

    fn read_type(&mut self, name: &Name, ty: &ExtendedType) {
        let mut info = TypeInfo::default();
        for directive in ty.directives().get_all("join__type") {
            let Some(graph) = self.graph(directive) else {
                continue;
            };
            if bool_argument(directive, "isInterfaceObject") == Some(true) {
                self.errors.push(CompositionError::new(
                    "UNSUPPORTED_FEATURE",
                    format!("\"{name}\" is an @interfaceObject, which is not supported yet"),
                ));
            }
            let join = info.joins.entry(graph).or_default();
            if let Some(fields) = self.set(name, directive, "key") {
                join.keys.push(Key {
                    fields,
                    resolvable: bool_argument(directive, "resolvable").unwrap_or(true),
                });
            }
        }
        let fields = match ty {
            ExtendedType::Object(object) => &object.fields,
            ExtendedType::Interface(interface) => &interface.fields,
            _ => {
                self.types.insert(name.clone(), info);
                return;
            }
        };
        // A root type without any @join__type is defined wherever its fields are.
        let everywhere: Vec<SubgraphId> = info.joins.keys().copied().collect();
        for (field_name, field) in fields {
            let joins = self.read_field(name, field, &everywhere);
            for id in joins.keys() {
                info.joins.entry(*id).or_default();
            }
            info.fields.insert(field_name.clone(), joins);
        }
        // A key field that is marked external is known all the same: every
        // representation brings it.
        for (graph, join) in &info.joins {
            for key in &join.keys {
                for selection in &key.fields {
                    if let Some(field) = selection.as_field()
                        && let Some(join) = info
                            .fields
                            .get_mut(&field.name)
                            .and_then(|f| f.get_mut(graph))
                    {
                        join.external = false;
                    }
                }
            }
        }
        self.types.insert(name.clone(), info);
    }

    fn read_field(
        &mut self,
        ty: &Name,
        field: &Component<FieldDefinition>,
        everywhere: &[SubgraphId],
    ) -> BTreeMap<SubgraphId, FieldJoin> {
        let at = format!("{ty}.{}", field.name);
        let mut joins = BTreeMap::new();
        let mut any = false;
        for directive in field.directives.get_all("join__field") {
            if directive
                .specified_argument_by_name("contextArguments")
                .is_some()
                || directive
                    .specified_argument_by_name("overrideLabel")
                    .is_some()
            {
                self.errors.push(CompositionError::new(
                    "UNSUPPORTED_FEATURE",
                    format!("\"{at}\" uses a context or a progressive override, which are not supported yet"),
                ));
            }
            any = true;
            // Without a graph the field comes from an interface object or is overridden.
            let Some(graph) = self.graph(directive) else {
                continue;
            };
            if bool_argument(directive, "usedOverridden") == Some(true) {
                continue;
            }
            let requires = self.set(&at, directive, "requires");
            let provides = self.set(&at, directive, "provides");
            joins.insert(
                graph,
                FieldJoin {
                    requires,
                    provides,
                    external: bool_argument(directive, "external") == Some(true),
                },
            );
        }
        if !any {
            joins.extend(everywhere.iter().map(|id| (*id, FieldJoin::default())));
        }
        joins
    }

    /// Which objects each subgraph may answer for an abstract type.
    fn read_possible(&mut self, schema: &Schema) {
        let mut found: Vec<(Name, SubgraphId, Name)> = Vec::new();
        for (name, ty) in &schema.types {
            match ty {
                ExtendedType::Object(object) => {
                    for directive in object.directives.get_all("join__implements") {
                        if let (Some(graph), Some(interface)) = (
                            self.graph(directive),
                            string_argument(directive, "interface").and_then(|i| Name::new(i).ok()),
                        ) {
                            found.push((interface, graph, name.clone()));
                        }
                    }
                }
                ExtendedType::Union(union) => {
                    for directive in union.directives.get_all("join__unionMember") {
                        if let (Some(graph), Some(member)) = (
                            self.graph(directive),
                            string_argument(directive, "member").and_then(|m| Name::new(m).ok()),
                        ) {
                            found.push((name.clone(), graph, member));
                        }
                    }
                }
                _ => {}
            }
        }
        for (ty, graph, object) in found {
            if let Some(info) = self.types.get_mut(&ty) {
                info.possible.entry(graph).or_default().push(object);
            }
        }
    }
}

fn without_machinery(mut schema: Schema) -> Schema {
    schema.types.retain(|name, _| !is_machinery(name));
    schema
        .directive_definitions
        .retain(|name, _| !is_machinery(name) && name != "link" && name != "core");
    let strip = |directive: &Node<Directive>| {
        is_machinery(&directive.name) || directive.name == "link" || directive.name == "core"
    };
    schema
        .schema_definition
        .make_mut()
        .directives
        .retain(|d| !strip(d));
    for ty in schema.types.values_mut() {
        map_directives(ty, &|list| list.retain(|d| !strip(d)));
    }
    schema
}

/// Applies an edit to every directive list of a type.
fn map_directives(ty: &mut ExtendedType, edit: &dyn Fn(&mut Vec<Node<Directive>>)) {
    fn on_component(
        list: &mut apollo_compiler::schema::DirectiveList,
        edit: &dyn Fn(&mut Vec<Node<Directive>>),
    ) {
        let mut nodes: Vec<_> = list.0.iter().map(|d| d.node.clone()).collect();
        edit(&mut nodes);
        *list = nodes.into_iter().collect();
    }
    fn on_fields(
        fields: &mut IndexMap<Name, Component<FieldDefinition>>,
        edit: &dyn Fn(&mut Vec<Node<Directive>>),
    ) {
        for field in fields.values_mut() {
            let field = field.make_mut();
            edit(&mut field.directives.0);
            for argument in &mut field.arguments {
                edit(&mut argument.make_mut().directives.0);
            }
        }
    }
    match ty {
        ExtendedType::Scalar(ty) => on_component(&mut ty.make_mut().directives, edit),
        ExtendedType::Object(ty) => {
            let ty = ty.make_mut();
            on_component(&mut ty.directives, edit);
            on_fields(&mut ty.fields, edit);
        }
        ExtendedType::Interface(ty) => {
            let ty = ty.make_mut();
            on_component(&mut ty.directives, edit);
            on_fields(&mut ty.fields, edit);
        }
        ExtendedType::Union(ty) => on_component(&mut ty.make_mut().directives, edit),
        ExtendedType::Enum(ty) => {
            let ty = ty.make_mut();
            on_component(&mut ty.directives, edit);
            for value in ty.values.values_mut() {
                edit(&mut value.make_mut().directives.0);
            }
        }
        ExtendedType::InputObject(ty) => {
            let ty = ty.make_mut();
            on_component(&mut ty.directives, edit);
            for field in ty.fields.values_mut() {
                edit(&mut field.make_mut().directives.0);
            }
        }
    }
}

/// The schema without what is `@inaccessible`, and without directives that
/// are not part of GraphQL itself.
fn public(schema: &Schema) -> Result<Valid<Schema>, CompositionErrors> {
    let mut api = schema.clone();
    let hidden_types: Vec<Name> = api
        .types
        .iter()
        .filter(|(_, ty)| ty.directives().has("inaccessible"))
        .map(|(name, _)| name.clone())
        .collect();
    let hidden = |name: &Name| hidden_types.contains(name);
    api.types.retain(|name, _| !hidden(name));
    let visible = |field: &FieldDefinition| {
        !field.directives.has("inaccessible") && !hidden(field.ty.inner_named_type())
    };
    let on_fields = |fields: &mut IndexMap<Name, Component<FieldDefinition>>| {
        fields.retain(|_, field| visible(field));
        for field in fields.values_mut() {
            field
                .make_mut()
                .arguments
                .retain(|a| !a.directives.has("inaccessible"));
        }
    };
    for ty in api.types.values_mut() {
        match ty {
            ExtendedType::Object(ty) => {
                let ty = ty.make_mut();
                on_fields(&mut ty.fields);
                ty.implements_interfaces.retain(|i| !hidden(&i.name));
            }
            ExtendedType::Interface(ty) => {
                let ty = ty.make_mut();
                on_fields(&mut ty.fields);
                ty.implements_interfaces.retain(|i| !hidden(&i.name));
            }
            ExtendedType::Union(ty) => ty.make_mut().members.retain(|m| !hidden(&m.name)),
            ExtendedType::Enum(ty) => ty
                .make_mut()
                .values
                .retain(|_, value| !value.directives.has("inaccessible")),
            ExtendedType::InputObject(ty) => ty
                .make_mut()
                .fields
                .retain(|_, field| !field.directives.has("inaccessible")),
            ExtendedType::Scalar(_) => {}
        }
        map_directives(ty, &|list| {
            list.retain(|d| {
                matches!(
                    d.name.as_str(),
                    "deprecated" | "specifiedBy" | "oneOf" | "resumable"
                )
            });
        });
    }
    api.directive_definitions
        .retain(|name, definition| definition.is_built_in() || name == "resumable");
    api.validate().map_err(|invalid| {
        CompositionErrors(
            invalid
                .errors
                .iter()
                .map(|d| {
                    CompositionError::new(
                        "INVALID_SUPERGRAPH",
                        format!("the public schema is invalid: {}", d.error),
                    )
                })
                .collect(),
        )
    })
}
