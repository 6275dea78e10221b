//! Reads supergraph SDL, from any composer.
//!
//! Source: the `join` specification, versions 0.1 to 0.5
//! (<https://specs.apollo.dev/join/v0.3/>). Version 0.1 names an owner for each
//! entity and has no `@join__type` on value types; up to 0.2, every subgraph that
//! defines a type has all of its implementations and union members.

use std::collections::BTreeMap;
use std::sync::Arc;

use apollo_compiler::ast::{Directive, FieldDefinition, Type, Value};
use apollo_compiler::collections::{HashMap, HashSet};
use apollo_compiler::schema::{Component, ExtendedType};
use apollo_compiler::{Name, Schema};

use crate::access::Access;

use super::names;
use super::types::{contexts, possible};
use super::{
    ContextArgument, FieldJoin, Key, SubgraphId, SubgraphInfo, Supergraph, TypeInfo, api,
    is_federation_internal,
};
use crate::arguments::{bool_argument, string_argument};
use crate::error::{CompositionError, CompositionErrors, diagnostic_location};
use crate::field_set::{self, FieldSet};

impl Supergraph {
    /// Loads supergraph SDL in the `join` format.
    ///
    /// # Errors
    /// `INVALID_GRAPHQL` if it is not a schema, `INVALID_FEDERATION_SUPERGRAPH` for a
    /// schema without `join__Graph`, `UNSUPPORTED_FEATURE` for features that this
    /// version cannot execute correctly.
    pub fn parse(sdl: &str) -> Result<Self, CompositionErrors> {
        Self::load(sdl, true)
    }

    /// Loads the result of composition, to check it; features that this version can
    /// compose but not execute are allowed.
    pub(crate) fn from_composition(sdl: &str) -> Result<Self, CompositionErrors> {
        Self::load(sdl, false)
    }

    fn load(sdl: &str, to_execute: bool) -> Result<Self, CompositionErrors> {
        // Some composers print GraphQL's own scalars.
        let builder = Schema::builder().ignore_builtin_redefinitions();
        let parsed = builder.parse(sdl, "supergraph.graphql").build();
        let schema = parsed.and_then(Schema::validate).map_err(|invalid| {
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
        let mut schema = schema.into_inner();
        let links = names::read_links(&schema, &mut loader.errors);
        if !to_execute {
            loader.errors.clear();
        }
        names::canonicalize(&mut schema, &links);
        loader.read_graphs(&schema);
        if loader.subgraphs.is_empty() {
            return Err(CompositionErrors(vec![CompositionError::new(
                "INVALID_FEDERATION_SUPERGRAPH",
                "the file has no join__Graph enum: it is not supergraph SDL; compose the subgraphs first (stoa schema compose --help)",
            )]));
        }
        // Version 0.1 lists no members for each subgraph, and lacks this directive.
        loader.joined_members = schema
            .directive_definitions
            .contains_key("join__implements");
        for (name, ty) in &schema.types {
            if !is_federation_internal(name) && !ty.is_built_in() {
                loader.read_type(name, ty);
            }
        }
        loader.read_interface_objects(&schema);
        if !loader.errors.is_empty() {
            return Err(CompositionErrors(loader.errors));
        }
        loader.read_possible(&schema);
        let contexts = contexts(&schema);
        let schema = api::without_join_definitions(schema);
        let api = api::public(&schema)?;
        let implementers = api.implementers_map();
        let mut graph = Self {
            access: Access::read(&schema),
            possible: possible(&schema),
            schema,
            api,
            subgraphs: loader.subgraphs,
            labels: loader
                .types
                .values()
                .flat_map(|info| info.fields.values())
                .flat_map(BTreeMap::values)
                .filter_map(|join| Some(join.label.as_ref()?.0.clone()))
                .collect(),
            types: loader.types,
            contexts,
            conflicted: HashSet::default(),
            implementers,
        };
        graph.conflicted = graph.find_conflicts();
        // Before the demands of required fields, which include inherited ones.
        graph.access.inherit_from_interfaces(&graph.schema);
        if to_execute {
            // Composition instead reports fields without these demands as errors.
            graph.add_required_demands();
        }
        Ok(graph)
    }
}

#[derive(Default)]
struct Loader {
    graphs: HashMap<Name, SubgraphId>,
    subgraphs: Vec<SubgraphInfo>,
    types: HashMap<Name, TypeInfo>,
    /// Whether implementations and union members are listed for each subgraph.
    joined_members: bool,
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

    fn graph(&self, directive: &Directive) -> Option<SubgraphId> {
        let value = directive.specified_argument_by_name("graph")?.as_enum()?;
        self.graphs.get(value).copied()
    }

    fn invalid(&mut self, at: &str, reason: &str) {
        self.errors.push(CompositionError::new(
            "INVALID_FEDERATION_SUPERGRAPH",
            format!("\"{at}\": {reason}"),
        ));
    }

    fn set(&mut self, at: &str, directive: &Directive, argument: &str) -> Option<FieldSet> {
        let text = string_argument(directive, argument)?;
        match field_set::parse(text) {
            Ok(fields) => Some(fields),
            Err(error) => {
                self.invalid(at, &error);
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
            let join = info.joins.entry(graph).or_default();
            join.interface_object |= bool_argument(directive, "isInterfaceObject") == Some(true);
            if let Some(fields) = self.set(name, directive, "key") {
                info.joins.entry(graph).or_default().keys.push(Key {
                    fields,
                    resolvable: bool_argument(directive, "resolvable").unwrap_or(true),
                });
            }
        }
        let owner = ty
            .directives()
            .get("join__owner")
            .and_then(|directive| self.graph(directive));
        // Roots have no @join__type in version 0.1; their fields name the graphs.
        let root = matches!(name.as_str(), "Query" | "Mutation" | "Subscription");
        if info.joins.is_empty() && !root {
            // A value type of version 0.1: any subgraph may have it.
            info.joins = (0..self.subgraphs.len())
                .map(|index| SubgraphId(u16::try_from(index).unwrap_or(u16::MAX)))
                .map(|id| (id, Default::default()))
                .collect();
        }
        let fields = match ty {
            ExtendedType::Object(object) => &object.fields,
            ExtendedType::Interface(interface) => &interface.fields,
            _ => {
                self.types.insert(name.clone(), info);
                return;
            }
        };
        // A field without any @join__field is defined wherever its type is.
        let everywhere: Vec<SubgraphId> = match owner {
            Some(owner) => vec![owner],
            None => info.joins.keys().copied().collect(),
        };
        for (field_name, field) in fields {
            let joins = self.read_field(name, field, &everywhere);
            for id in joins.keys() {
                info.joins.entry(*id).or_default();
            }
            info.fields.insert(field_name.clone(), joins);
        }
        // Version 0.1 does not mention the key fields outside the owner, which resolve
        // them as well. Later versions do, and their word counts: a key field that is
        // external is known where the key was read from, and not from this subgraph.
        if owner.is_some() {
            for (graph, join) in &info.joins {
                for field in join.keys.iter().flat_map(|key| &key.fields) {
                    let name = field.as_field().map(|field| &field.name);
                    if let Some(joins) = name.and_then(|name| info.fields.get_mut(name)) {
                        joins.entry(*graph).or_default();
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
            any = true;
            // Without a graph, an interface object resolves the field.
            let Some(graph) = self.graph(directive) else {
                continue;
            };
            if bool_argument(directive, "usedOverridden") == Some(true)
                && string_argument(directive, "overrideLabel").is_none()
            {
                continue;
            }
            let requires = self.set(&at, directive, "requires");
            let provides = self.set(&at, directive, "provides");
            let contexts = self.context_arguments(&at, directive);
            let declared = string_argument(directive, "type").map(|text| Type::parse(text, "type"));
            let declared = match declared {
                Some(Err(_)) => {
                    self.invalid(&at, "the type of its @join__field is not a type");
                    None
                }
                Some(Ok(ty)) => Some(ty),
                None => None,
            };
            let label = string_argument(directive, "overrideLabel").map(|label| {
                (
                    Arc::from(label),
                    string_argument(directive, "override").is_some(),
                )
            });
            joins.insert(
                graph,
                FieldJoin {
                    requires,
                    provides,
                    external: bool_argument(directive, "external") == Some(true),
                    ty: declared,
                    label,
                    contexts,
                },
            );
        }
        if !any {
            joins.extend(everywhere.iter().map(|id| (*id, FieldJoin::default())));
        }
        joins
    }

    fn context_arguments(&mut self, at: &str, directive: &Directive) -> Vec<ContextArgument> {
        let Some(Value::List(items)) = directive
            .specified_argument_by_name("contextArguments")
            .map(|value| &**value)
        else {
            return Vec::new();
        };
        let read = |item: &Value| {
            let fields = item.as_object()?;
            let text = |name: &str| {
                let (_, value) = fields.iter().find(|(key, _)| key == name)?;
                value.as_str()
            };
            Some(ContextArgument {
                name: Name::new(text("name")?).ok()?,
                ty: text("type")?.to_owned(),
                context: text("context")?.to_owned(),
                selection: field_set::parse(field_set::unbraced(text("selection")?)).ok()?,
            })
        };
        let found: Option<Vec<_>> = items.iter().map(|item| read(item)).collect();
        found.unwrap_or_else(|| {
            self.invalid(
                at,
                "one of its contextArguments lacks a name, type, context or selection",
            );
            Vec::new()
        })
    }

    fn read_interface_objects(&mut self, schema: &Schema) {
        for (name, ty) in &schema.types {
            let ExtendedType::Object(object) = ty else {
                continue;
            };
            let held: Vec<Name> = object
                .implements_interfaces
                .iter()
                .map(|interface| interface.name.clone())
                .filter(|interface| {
                    self.types
                        .get(interface)
                        .is_some_and(|info| info.joins.values().any(|join| join.interface_object))
                })
                .collect();
            if let Some(info) = self.types.get_mut(name) {
                info.interface_objects = held;
            }
        }
    }

    /// Reads the object types that each subgraph may return for an abstract type.
    fn read_possible(&mut self, schema: &Schema) {
        let mut found: Vec<(Name, SubgraphId, Name)> = Vec::new();
        for (name, ty) in &schema.types {
            let (directive, argument, members): (_, _, Vec<Name>) = match ty {
                ExtendedType::Object(object) => (
                    "join__implements",
                    "interface",
                    object
                        .implements_interfaces
                        .iter()
                        .map(|i| i.name.clone())
                        .collect(),
                ),
                ExtendedType::Union(union) => (
                    "join__unionMember",
                    "member",
                    union.members.iter().map(|m| m.name.clone()).collect(),
                ),
                _ => continue,
            };
            let is_union = ty.is_union();
            let mut note = |other: Name, graph| {
                found.push(if is_union {
                    (name.clone(), graph, other)
                } else {
                    (other, graph, name.clone())
                });
            };
            let mut any = false;
            for applied in ty.directives().get_all(directive) {
                if let (Some(graph), Some(other)) = (
                    self.graph(applied),
                    string_argument(applied, argument).and_then(|text| Name::new(text).ok()),
                ) {
                    any = true;
                    note(other, graph);
                }
            }
            // Later versions omit the members of a union if every subgraph has all of
            // them.
            if !self.joined_members || (is_union && !any) {
                let joins = |name: &Name| self.types.get(name).map(|info| &info.joins);
                let own = joins(name);
                for other in members {
                    for graph in own.into_iter().flat_map(BTreeMap::keys) {
                        if joins(&other).is_some_and(|joins| joins.contains_key(graph)) {
                            note(other.clone(), *graph);
                        }
                    }
                }
            }
        }
        found.sort_by(|a, b| (&a.0, a.1, &a.2).cmp(&(&b.0, b.1, &b.2)));
        found.dedup();
        for (ty, graph, object) in found {
            if let Some(info) = self.types.get_mut(&ty) {
                info.possible.entry(graph).or_default().push(object);
            }
        }
    }
}
