//! Merges the subgraphs' types into one schema with `join__` directives.
//!
//! Merging by kind, as Federation 2 defines it: objects, interfaces, unions
//! and output enums are unions of what the subgraphs define; inputs, arguments
//! and input enums are intersections; an output type is the widest of its
//! definitions, an input type the strictest.
//!
//! | module | what it merges |
//! |---|---|
//! | this module | types, their keys, interfaces and members |
//! | [`fields`] | fields of objects and interfaces |
//! | [`inputs`] | arguments, input fields and enum values |
//! | [`directives`] | applied directives, descriptions and directive definitions |
//! | [`composed`] | the directives that `@composeDirective` names |
//! | [`executable`] | directives that clients may write |
//! | [`values`] | whether values mean the same |

mod composed;
mod directives;
mod executable;
mod fields;
mod inputs;
mod join;
mod values;

use std::collections::{HashMap, HashSet};

use apollo_compiler::ast::{Directive, Type};
use apollo_compiler::collections::{IndexMap, IndexSet};
use apollo_compiler::schema::{
    Component, ComponentName, EnumType, ExtendedType, InputObjectType, InterfaceType, ObjectType,
    ScalarType, UnionType,
};
use apollo_compiler::{Name, Node, Schema, name};

use super::spec::{self, DirectiveBuilder, graph_names};
use super::{Compose, Source};
use crate::error::{CompositionError, Hint, Level};
use crate::subgraph::{Fields, fields_of};

use composed::ComposedSpec;
use join::{context_name, join_implements, join_type, kind};

struct Merge<'c, 'a> {
    compose: &'c mut Compose<'a>,
    used_as_input: HashSet<Name>,
    used_as_output: HashSet<Name>,
    /// For each type: its interfaces and unions.
    supertypes: HashMap<Name, HashSet<Name>>,
    /// The directives of `spec::CARRIED` that the result uses.
    carried: HashSet<&'static str>,
    /// What is composed of third parties' specifications.
    composed: Vec<ComposedSpec<'a>>,
    /// The carried directives that have other names than their specifications give them.
    renamed: HashMap<&'static str, Name>,
    uses_one_of: bool,
    /// Some field has arguments that contexts fill.
    uses_contexts: bool,
    uses_join_directive: bool,
}

impl Compose<'_> {
    pub(super) fn merge(&mut self) -> Schema {
        let subgraphs = self.subgraphs;
        let graphs = graph_names(subgraphs);
        let mut merge = Merge {
            compose: self,
            used_as_input: HashSet::new(),
            used_as_output: HashSet::new(),
            supertypes: HashMap::new(),
            carried: HashSet::new(),
            composed: Vec::new(),
            renamed: HashMap::new(),
            uses_one_of: false,
            uses_contexts: false,
            uses_join_directive: false,
        };
        let mut schema = spec::parse(spec::DEFINITIONS);
        // A stand-in of the definitions; merging adds the real one.
        schema.types.shift_remove("Query");
        merge.declare_graphs(&mut schema, &graphs);
        // First: it decides what the applications of directives are merged into.
        merge.composed = merge.choose_composed();
        merge.rename_carried();
        // Before any type is merged: enums depend on their uses, fields on supertypes.
        merge.record_type_uses();

        let mut by_name: IndexMap<Name, Vec<Source<'_>>> = IndexMap::default();
        for (index, subgraph) in subgraphs.iter().enumerate() {
            for (name, ty) in subgraph.own_types() {
                let public = subgraph.public_name(name);
                // A root type with only `_entities`, `_service` or the placeholder does
                // not count as a definition.
                let root = matches!(public.as_str(), "Query" | "Mutation" | "Subscription");
                let empty =
                    fields_of(ty).is_some_and(|fields| subgraph.is_placeholder(fields.keys()));
                if root && empty {
                    continue;
                }
                let graph = &graphs[index];
                by_name.entry(public).or_default().push(Source {
                    index,
                    subgraph,
                    graph,
                    ty,
                });
            }
        }
        // Roots first, then by name: the output does not depend on declaration order.
        by_name.sort_by(|a, _, b, _| (root_rank(a), a.as_str()).cmp(&(root_rank(b), b.as_str())));
        if !by_name.contains_key("Query") {
            merge.compose.errors.push(CompositionError::new(
                "NO_QUERIES",
                "no subgraph defines a field of Query",
            ));
        }
        for (name, sources) in &by_name {
            if let Some(ty) = merge.merge_type(name, sources) {
                schema.types.insert(name.clone(), ty);
            }
        }
        let described = subgraphs.iter().map(|s| &s.schema.schema_definition);
        let description = merge.description("schema", described.map(|d| d.description.as_ref()));
        let root = schema.schema_definition.make_mut();
        root.description = description;
        root.query = Some(name!("Query").into());
        root.mutation = by_name
            .contains_key("Mutation")
            .then(|| name!("Mutation").into());
        root.subscription = by_name
            .contains_key("Subscription")
            .then(|| name!("Subscription").into());
        // After the types, whose merging records which definitions are used.
        merge.add_carried_definitions(&mut schema);
        if merge.uses_one_of {
            let one_of = spec::parse(crate::one_of::DEFINITION);
            schema
                .directive_definitions
                .extend(one_of.directive_definitions);
        }
        merge.add_composed_definitions(&mut schema);
        merge.add_later_join_definitions(&mut schema);
        // Last: it leaves out directives that are defined by now.
        merge.add_executable_directives(&mut schema);
        schema
    }
}

fn root_rank(name: &str) -> u8 {
    match name {
        "Query" => 0,
        "Mutation" => 1,
        "Subscription" => 2,
        _ => 3,
    }
}

impl Merge<'_, '_> {
    fn declare_graphs(&self, schema: &mut Schema, graphs: &[Name]) {
        let Some(ExtendedType::Enum(definition)) = schema.types.get_mut("join__Graph") else {
            return;
        };
        let values = &mut definition.make_mut().values;
        for (subgraph, graph) in self.compose.subgraphs.iter().zip(graphs) {
            let join = DirectiveBuilder::new("join__graph")
                .string("name", &subgraph.name)
                .string("url", &subgraph.url)
                .build();
            values.insert(
                graph.clone(),
                Component::new(apollo_compiler::ast::EnumValueDefinition {
                    description: None,
                    value: graph.clone(),
                    directives: apollo_compiler::ast::DirectiveList(vec![join]),
                }),
            );
        }
    }

    /// Records which types the arguments of merged directives use.
    fn record_directive_uses(&mut self) {
        let count = self.compose.subgraphs.len();
        let mut definitions = Vec::new();
        for name in self.executable_names() {
            let all = self.definitions_of(name);
            if all.len() == count {
                definitions.extend(all.into_iter().map(|(_, definition)| definition.clone()));
            }
        }
        let composed = self.composed.iter().flat_map(|spec| &spec.directives);
        definitions.extend(composed.map(|(_, _, definition)| definition.clone()));
        for argument in definitions.iter().flat_map(|d| &d.arguments) {
            self.used_as_input
                .insert(argument.ty.inner_named_type().clone());
        }
    }

    /// Records which types are used as input and as output, and the supertypes.
    fn record_type_uses(&mut self) {
        self.record_directive_uses();
        for subgraph in self.compose.subgraphs {
            for (name, ty) in subgraph.own_types() {
                for field in fields_of(ty).into_iter().flat_map(Fields::values) {
                    self.used_as_output
                        .insert(field.ty.inner_named_type().clone());
                    for argument in &field.arguments {
                        self.used_as_input
                            .insert(argument.ty.inner_named_type().clone());
                    }
                }
                match ty {
                    ExtendedType::InputObject(input) => {
                        for field in input.fields.values() {
                            self.used_as_input
                                .insert(field.ty.inner_named_type().clone());
                        }
                    }
                    ExtendedType::Object(object) => {
                        let interfaces = object.implements_interfaces.iter();
                        self.supertypes
                            .entry(name.clone())
                            .or_default()
                            .extend(interfaces.map(|i| i.name.clone()));
                    }
                    ExtendedType::Interface(interface) => {
                        let interfaces = interface.implements_interfaces.iter();
                        self.supertypes
                            .entry(name.clone())
                            .or_default()
                            .extend(interfaces.map(|i| i.name.clone()));
                    }
                    ExtendedType::Union(union) => {
                        for member in &union.members {
                            self.supertypes
                                .entry(member.name.clone())
                                .or_default()
                                .insert(name.clone());
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    fn hint(&mut self, level: Level, code: &'static str, message: String) {
        self.compose.hints.push(Hint::new(level, code, message));
    }

    fn merge_type(&mut self, name: &Name, sources: &[Source<'_>]) -> Option<ExtendedType> {
        let first = sources.first()?;
        // An interface object counts as an interface.
        if let Some(other) = sources.iter().find(|s| kind(s) != kind(first)) {
            let mut error = CompositionError::new(
                "TYPE_KIND_MISMATCH",
                format!(
                    "\"{name}\" is {} in {} but {} in {}",
                    kind(first),
                    first.subgraph.name,
                    kind(other),
                    other.subgraph.name
                ),
            );
            for source in sources {
                error = error.at(source.subgraph.location(source.ty.name().location()));
            }
            self.compose.errors.push(error);
            return None;
        }
        let description = self.description(name, sources.iter().map(|s| s.ty.description()));
        let mut directives = self.type_directives(name, sources);
        // An interface definition decides the kind over interface objects.
        // If there is none, check_interface_objects has reported it.
        let real = sources
            .iter()
            .find(|s| !s.subgraph.is_interface_object(s.ty))
            .unwrap_or(first);
        Some(match real.ty {
            ExtendedType::Scalar(_) => {
                let url = sources
                    .iter()
                    .find_map(|s| s.ty.directives().get("specifiedBy"));
                directives.extend(url.map(|url| url.node.clone()));
                ExtendedType::Scalar(Node::new(ScalarType {
                    description,
                    name: name.clone(),
                    directives: directives.into_iter().collect(),
                }))
            }
            ExtendedType::Object(_) if kind(real) == "an object" => {
                let implements = join_implements(sources, &mut directives);
                let fields = self.merge_fields(name, sources);
                self.hint_missing_keys(name, sources);
                if fields.is_empty() {
                    return self.report_type_without_fields(name, sources);
                }
                ExtendedType::Object(Node::new(ObjectType {
                    description,
                    name: name.clone(),
                    implements_interfaces: implements,
                    directives: directives.into_iter().collect(),
                    fields,
                }))
            }
            ExtendedType::Object(_) | ExtendedType::Interface(_) => {
                let implements = join_implements(sources, &mut directives);
                let fields = self.merge_fields(name, sources);
                ExtendedType::Interface(Node::new(InterfaceType {
                    description,
                    name: name.clone(),
                    implements_interfaces: implements,
                    directives: directives.into_iter().collect(),
                    fields,
                }))
            }
            ExtendedType::Union(_) => {
                let members = self.merge_union(name, sources, &mut directives);
                ExtendedType::Union(Node::new(UnionType {
                    description,
                    name: name.clone(),
                    directives: directives.into_iter().collect(),
                    members,
                }))
            }
            ExtendedType::Enum(_) => {
                let values = self.merge_enum(name, sources);
                ExtendedType::Enum(Node::new(EnumType {
                    description,
                    name: name.clone(),
                    directives: directives.into_iter().collect(),
                    values,
                }))
            }
            ExtendedType::InputObject(_) => {
                let fields = self.merge_input(name, sources);
                // Composed, it is applied already.
                let composed = directives.iter().any(|d| d.name == "oneOf");
                if !composed && sources.iter().all(|s| s.ty.directives().has("oneOf")) {
                    self.uses_one_of = true;
                    directives.push(DirectiveBuilder::new("oneOf").build());
                }
                ExtendedType::InputObject(Node::new(InputObjectType {
                    description,
                    name: name.clone(),
                    directives: directives.into_iter().collect(),
                    fields,
                }))
            }
        })
    }

    /// The directives of a merged type: where it is, and what its subgraphs apply.
    fn type_directives(&mut self, name: &Name, sources: &[Source<'_>]) -> Vec<Node<Directive>> {
        let mut directives = Vec::new();
        for source in sources {
            join_type(source, &mut directives);
            for context in source.subgraph.contexts_of(source.ty) {
                self.carried.insert("context");
                let name = context_name(source.subgraph, context);
                directives.push(
                    DirectiveBuilder::new("context")
                        .string("name", &name)
                        .build(),
                );
            }
            for applied in source.subgraph.on_type(source.ty, "cacheTag") {
                directives.push(self.join_directive(source, "cacheTag", applied));
            }
        }
        self.merge_applied_directives(
            name,
            sources
                .iter()
                .map(|s| (s.subgraph, s.ty.directives().iter().map(|d| &d.node))),
            &mut directives,
        );
        directives
    }

    /// Leaves out a type without fields; an error if it is used. Only in Federation 1:
    /// unused external fields are ignored there.
    fn report_type_without_fields(
        &mut self,
        name: &Name,
        sources: &[Source<'_>],
    ) -> Option<ExtendedType> {
        if self.used_as_output.contains(name)
            && sources.iter().all(|s| s.subgraph.is_federation_1())
        {
            let mut error = CompositionError::new(
                "TYPE_WITH_ONLY_UNUSED_EXTERNAL",
                format!("\"{name}\" has no field but external ones that nothing uses"),
            );
            for source in sources {
                error = error.at(source.subgraph.location(source.ty.name().location()));
            }
            self.compose.errors.push(error);
        }
        None
    }

    fn hint_missing_keys(&mut self, name: &Name, sources: &[Source<'_>]) {
        let keyed = |s: &&Source<'_>| !s.subgraph.on_type(s.ty, "key").is_empty();
        let count = sources.iter().filter(keyed).count();
        if count > 0 && count < sources.len() {
            let without: Vec<_> = sources
                .iter()
                .filter(|s| !keyed(s))
                .map(|s| s.subgraph.name.as_str())
                .collect();
            let message = format!(
                "\"{name}\" is an entity, but has no @key in {}",
                without.join(", ")
            );
            self.hint(Level::Info, "INCONSISTENT_ENTITY", message);
        }
    }

    fn merge_union(
        &mut self,
        name: &Name,
        sources: &[Source<'_>],
        directives: &mut Vec<Node<Directive>>,
    ) -> IndexSet<ComponentName> {
        let mut members: IndexMap<ComponentName, usize> = IndexMap::default();
        for source in sources {
            let ExtendedType::Union(union) = source.ty else {
                continue;
            };
            for member in &union.members {
                directives.push(
                    DirectiveBuilder::new("join__unionMember")
                        .graph(source.graph)
                        .string("member", member)
                        .build(),
                );
                *members.entry(member.name.clone().into()).or_default() += 1;
            }
        }
        let partial: Vec<_> = members
            .iter()
            .filter(|(_, count)| **count < sources.len())
            .map(|(member, _)| member.name.to_string())
            .collect();
        if !partial.is_empty() {
            let message = format!(
                "union \"{name}\" has {} in only some subgraphs",
                partial.join(", ")
            );
            self.hint(Level::Debug, "INCONSISTENT_UNION_MEMBER", message);
        }
        members.into_keys().collect()
    }

    /// Whether a type is equal to another or a subtype of it, in the merged schema.
    fn is_subtype(&self, a: &Type, b: &Type) -> bool {
        match (a, b) {
            (Type::NonNullNamed(a), Type::NonNullNamed(b) | Type::Named(b))
            | (Type::Named(a), Type::Named(b)) => self.is_named_subtype(a, b),
            (Type::NonNullList(a), Type::NonNullList(b) | Type::List(b))
            | (Type::List(a), Type::List(b)) => self.is_subtype(a, b),
            _ => false,
        }
    }

    fn is_named_subtype(&self, a: &Name, b: &Name) -> bool {
        a == b
            || self.supertypes.get(a).is_some_and(|supertypes| {
                supertypes.contains(b)
                    || supertypes.iter().any(|middle| {
                        middle != a && self.supertypes.get(middle).is_some_and(|s| s.contains(b))
                    })
            })
    }
}
