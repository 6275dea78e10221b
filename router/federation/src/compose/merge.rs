//! Merges the subgraphs' types into one schema with `join__` directives.
//!
//! Merging by kind, as Federation 2 defines it: objects, interfaces, unions
//! and output enums are unions of what the subgraphs define; inputs, arguments
//! and input enums are intersections; an output type is as nullable as its most
//! nullable definition, an input type as strict as its strictest.

use std::collections::HashSet;

use apollo_compiler::ast::{Directive, FieldDefinition, InputValueDefinition, Type, Value};
use apollo_compiler::collections::{IndexMap, IndexSet};
use apollo_compiler::schema::{
    Component, EnumType, ExtendedType, InputObjectType, InterfaceType, ObjectType, ScalarType,
    UnionType,
};
use apollo_compiler::{Name, Node, Schema, name};

use super::check::{Fields, fields_of, is_external, own_types};
use super::spec::{self, Apply, graph_name};
use crate::error::CompositionError;
use crate::subgraph::{Subgraph, bool_argument, is_machinery, string_argument};

/// One subgraph's definition of a type, with the subgraph's join name.
struct Source<'a> {
    subgraph: &'a Subgraph,
    graph: Name,
    ty: &'a ExtendedType,
}

pub(super) fn merge(subgraphs: &[Subgraph], errors: &mut Vec<CompositionError>) -> Schema {
    let mut merge = Merge {
        errors,
        used_as_input: HashSet::new(),
        used_as_output: HashSet::new(),
        uses_inaccessible: false,
        uses_tag: false,
    };
    let mut schema = parse_spec(spec::DEFINITIONS);
    schema.types.shift_remove("Query");
    declare_graphs(&mut schema, subgraphs);
    merge.note_uses(subgraphs);

    let mut by_name: IndexMap<Name, Vec<Source<'_>>> = IndexMap::default();
    for subgraph in subgraphs {
        for (name, ty) in own_types(subgraph) {
            // A root that holds nothing but the placeholder is no definition.
            if fields_of(ty).is_some_and(|fields| {
                !fields.is_empty() && fields.keys().all(|field| is_machinery(field))
            }) && subgraph.public_name(name) == "Query"
            {
                continue;
            }
            by_name
                .entry(subgraph.public_name(name))
                .or_default()
                .push(Source {
                    subgraph,
                    graph: graph_name(&subgraph.name),
                    ty,
                });
        }
    }
    // Roots first, then by name: the output does not depend on declaration order.
    by_name.sort_by(|a, _, b, _| (root_rank(a), a.as_str()).cmp(&(root_rank(b), b.as_str())));
    if !by_name.contains_key("Query") {
        merge.errors.push(CompositionError::new(
            "NO_QUERIES",
            "no subgraph defines a field of Query",
        ));
    }
    for (name, sources) in &by_name {
        if let Some(ty) = merge.merge_type(name, sources) {
            schema.types.insert(name.clone(), ty);
        }
    }
    let root = schema.schema_definition.make_mut();
    root.query = Some(name!("Query").into());
    root.mutation = by_name
        .contains_key("Mutation")
        .then(|| name!("Mutation").into());
    root.subscription = by_name
        .contains_key("Subscription")
        .then(|| name!("Subscription").into());
    if merge.uses_inaccessible {
        adopt(&mut schema, spec::INACCESSIBLE);
        link(&mut schema, spec::INACCESSIBLE_URL, Some("SECURITY"));
    }
    if merge.uses_tag {
        adopt(&mut schema, spec::TAG);
        link(&mut schema, spec::TAG_URL, None);
    }
    adopt_composed(&mut schema, subgraphs);
    schema
}

fn root_rank(name: &str) -> u8 {
    match name {
        "Query" => 0,
        "Mutation" => 1,
        "Subscription" => 2,
        _ => 3,
    }
}

/// Parses one of our own constants; what fails to parse shows in the result's
/// validation.
fn parse_spec(text: &str) -> Schema {
    match Schema::parse(text, "spec.graphql") {
        Ok(schema) => schema,
        Err(invalid) => invalid.partial,
    }
}

fn adopt(schema: &mut Schema, definitions: &str) {
    for (name, definition) in parse_spec(definitions).directive_definitions {
        schema
            .directive_definitions
            .entry(name)
            .or_insert(definition);
    }
}

fn link(schema: &mut Schema, url: &str, purpose: Option<&'static str>) {
    let mut directive = Apply::new("link").string("url", url);
    if let Some(purpose) = purpose {
        directive = directive.value("for", Value::Enum(Name::new_static_unchecked(purpose)));
    }
    let directives = &mut schema.schema_definition.make_mut().directives;
    directives.push(directive.done());
}

fn adopt_composed(schema: &mut Schema, subgraphs: &[Subgraph]) {
    let mut links = HashSet::new();
    for composed in subgraphs.iter().flat_map(|s| &s.composed) {
        schema
            .directive_definitions
            .entry(composed.name.clone())
            .or_insert_with(|| composed.definition.clone());
        if links.insert(composed.link.serialize().to_string()) {
            schema
                .schema_definition
                .make_mut()
                .directives
                .push(composed.link.clone());
        }
    }
}

fn declare_graphs(schema: &mut Schema, subgraphs: &[Subgraph]) {
    if let Some(ExtendedType::Enum(graphs)) = schema.types.get_mut("join__Graph") {
        let values = &mut graphs.make_mut().values;
        for subgraph in subgraphs {
            let graph = graph_name(&subgraph.name);
            values.insert(
                graph.clone(),
                Component::new(apollo_compiler::ast::EnumValueDefinition {
                    description: None,
                    value: graph,
                    directives: apollo_compiler::ast::DirectiveList(vec![
                        Apply::new("join__graph")
                            .string("name", &subgraph.name)
                            .string("url", &subgraph.url)
                            .done(),
                    ]),
                }),
            );
        }
    }
}

struct Merge<'e> {
    errors: &'e mut Vec<CompositionError>,
    used_as_input: HashSet<Name>,
    used_as_output: HashSet<Name>,
    uses_inaccessible: bool,
    uses_tag: bool,
}

impl Merge<'_> {
    /// Enums merge by where they are used.
    fn note_uses(&mut self, subgraphs: &[Subgraph]) {
        for subgraph in subgraphs {
            for (_, ty) in own_types(subgraph) {
                for field in fields_of(ty).into_iter().flat_map(Fields::values) {
                    self.used_as_output
                        .insert(field.ty.inner_named_type().clone());
                    for argument in &field.arguments {
                        self.used_as_input
                            .insert(argument.ty.inner_named_type().clone());
                    }
                }
                if let ExtendedType::InputObject(input) = ty {
                    for field in input.fields.values() {
                        self.used_as_input
                            .insert(field.ty.inner_named_type().clone());
                    }
                }
            }
        }
    }

    fn merge_type(&mut self, name: &Name, sources: &[Source<'_>]) -> Option<ExtendedType> {
        let first = sources.first()?;
        if let Some(other) = sources
            .iter()
            .find(|s| std::mem::discriminant(s.ty) != std::mem::discriminant(first.ty))
        {
            let mut error = CompositionError::new(
                "TYPE_KIND_MISMATCH",
                format!(
                    "\"{name}\" is {} in {} but {} in {}",
                    kind(first.ty),
                    first.subgraph.name,
                    kind(other.ty),
                    other.subgraph.name
                ),
            );
            for source in sources {
                error = error.at(source.subgraph.location(source.ty.name().location()));
            }
            self.errors.push(error);
            return None;
        }
        let description = sources.iter().find_map(|s| s.ty.description().cloned());
        let mut directives = Vec::new();
        for source in sources {
            self.join_type(source, &mut directives);
        }
        self.carry(
            sources
                .iter()
                .map(|s| (s.subgraph, s.ty.directives().iter().map(|d| &d.node))),
            &mut directives,
        );
        Some(match first.ty {
            ExtendedType::Scalar(scalar) => {
                if let Some(url) = scalar.directives.get("specifiedBy") {
                    directives.push(url.node.clone());
                }
                ExtendedType::Scalar(Node::new(ScalarType {
                    description,
                    name: name.clone(),
                    directives: directives.into_iter().collect(),
                }))
            }
            ExtendedType::Object(_) => {
                let implements = self.join_implements(sources, &mut directives);
                let fields = self.merge_fields(name, sources);
                ExtendedType::Object(Node::new(ObjectType {
                    description,
                    name: name.clone(),
                    implements_interfaces: implements,
                    directives: directives.into_iter().collect(),
                    fields,
                }))
            }
            ExtendedType::Interface(_) => {
                let implements = self.join_implements(sources, &mut directives);
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
                let mut members = IndexSet::default();
                for source in sources {
                    let ExtendedType::Union(union) = source.ty else {
                        continue;
                    };
                    for member in &union.members {
                        directives.push(
                            Apply::new("join__unionMember")
                                .graph(&source.graph)
                                .string("member", member)
                                .done(),
                        );
                        members.insert(member.name.clone().into());
                    }
                }
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
                ExtendedType::InputObject(Node::new(InputObjectType {
                    description,
                    name: name.clone(),
                    directives: directives.into_iter().collect(),
                    fields,
                }))
            }
        })
    }

    fn join_type(&mut self, source: &Source<'_>, out: &mut Vec<Node<Directive>>) {
        let directives = || source.ty.directives().iter().map(|d| &d.node);
        let keys = source.subgraph.applied(directives(), "key");
        let extension = source.subgraph.federation_1
            && !source.subgraph.applied(directives(), "extends").is_empty();
        if keys.is_empty() {
            out.push(Apply::new("join__type").graph(&source.graph).done());
        }
        for key in keys {
            let mut join = Apply::new("join__type").graph(&source.graph);
            if let Some(fields) = string_argument(key, "fields") {
                join = join.string("key", fields);
            }
            if extension {
                join = join.flag("extension", true);
            }
            if bool_argument(key, "resolvable") == Some(false) {
                join = join.flag("resolvable", false);
            }
            out.push(join.done());
        }
    }

    fn join_implements(
        &mut self,
        sources: &[Source<'_>],
        out: &mut Vec<Node<Directive>>,
    ) -> IndexSet<apollo_compiler::schema::ComponentName> {
        let mut all = IndexSet::default();
        for source in sources {
            let interfaces = match source.ty {
                ExtendedType::Object(object) => &object.implements_interfaces,
                ExtendedType::Interface(interface) => &interface.implements_interfaces,
                _ => continue,
            };
            for interface in interfaces {
                out.push(
                    Apply::new("join__implements")
                        .graph(&source.graph)
                        .string("interface", interface)
                        .done(),
                );
                all.insert(interface.name.clone().into());
            }
        }
        all
    }

    /// Carries `@inaccessible`, `@tag`, `@deprecated` and composed directives.
    fn carry<'a, D>(
        &mut self,
        applied: impl Iterator<Item = (&'a Subgraph, D)>,
        out: &mut Vec<Node<Directive>>,
    ) where
        D: Iterator<Item = &'a Node<Directive>>,
    {
        let mut seen = HashSet::new();
        for (subgraph, directives) in applied {
            for directive in directives {
                let carried = if !subgraph.applied([directive], "inaccessible").is_empty() {
                    self.uses_inaccessible = true;
                    Apply::new("inaccessible").done()
                } else if !subgraph.applied([directive], "tag").is_empty() {
                    self.uses_tag = true;
                    let name = string_argument(directive, "name").unwrap_or_default();
                    Apply::new("tag").string("name", name).done()
                } else if directive.name == "deprecated"
                    || subgraph.composed.iter().any(|c| c.name == directive.name)
                {
                    Node::new((**directive).clone())
                } else {
                    continue;
                };
                let once = if carried.name == "deprecated" {
                    "deprecated".to_owned()
                } else {
                    carried.serialize().to_string()
                };
                if seen.insert(once) {
                    out.push(carried);
                }
            }
        }
    }

    fn merge_fields(&mut self, ty: &Name, sources: &[Source<'_>]) -> Fields {
        let mut names: IndexSet<&Name> = IndexSet::default();
        for source in sources {
            names.extend(fields_of(source.ty).into_iter().flat_map(Fields::keys));
        }
        let mut merged = Fields::default();
        for field in names {
            if is_machinery(field) {
                continue;
            }
            let definitions: Vec<_> = sources
                .iter()
                .filter_map(|s| Some((s, fields_of(s.ty)?.get(field)?)))
                .collect();
            if let Some(definition) = self.merge_field(ty, field, sources.len(), &definitions) {
                merged.insert(field.clone(), Component::new(definition));
            }
        }
        merged
    }

    fn merge_field(
        &mut self,
        ty: &Name,
        field: &Name,
        type_sources: usize,
        definitions: &[(&Source<'_>, &Component<FieldDefinition>)],
    ) -> Option<FieldDefinition> {
        let coordinate = format!("{ty}.{field}");
        let merged_type = self.merge_types(
            "FIELD_TYPE_MISMATCH",
            &coordinate,
            definitions.iter().map(|(s, d)| (*s, &d.ty)),
            loosest,
        )?;
        let arguments = self.merge_arguments(&coordinate, definitions);
        let mut directives = Vec::new();
        let mut joins = Vec::new();
        let mut plain = definitions.len() == type_sources;
        for (source, definition) in definitions {
            let mut join = Apply::new("join__field").graph(&source.graph);
            for (directive, argument) in [("requires", "requires"), ("provides", "provides")] {
                for applied in source.subgraph.applied(&definition.directives, directive) {
                    if let Some(fields) = string_argument(applied, "fields") {
                        join = join.string(argument, fields);
                        plain = false;
                    }
                }
            }
            if definition.ty != merged_type {
                join = join.string("type", &definition.ty.to_string());
                plain = false;
            }
            if is_external(source.subgraph, source.ty, definition) {
                join = join.flag("external", true);
                plain = false;
            }
            joins.push(join.done());
        }
        if !plain {
            directives.extend(joins);
        }
        self.carry(
            definitions
                .iter()
                .map(|(s, d)| (s.subgraph, d.directives.iter())),
            &mut directives,
        );
        Some(FieldDefinition {
            description: definitions.iter().find_map(|(_, d)| d.description.clone()),
            name: field.clone(),
            arguments,
            ty: merged_type,
            directives: apollo_compiler::ast::DirectiveList(directives),
        })
    }

    fn merge_arguments(
        &mut self,
        coordinate: &str,
        definitions: &[(&Source<'_>, &Component<FieldDefinition>)],
    ) -> Vec<Node<InputValueDefinition>> {
        let mut names: IndexSet<&Name> = IndexSet::default();
        for (_, definition) in definitions {
            names.extend(definition.arguments.iter().map(|a| &a.name));
        }
        let mut merged = Vec::new();
        for name in names {
            let found: Vec<_> = definitions
                .iter()
                .filter_map(|(s, d)| Some((*s, d.argument_by_name(name)?)))
                .collect();
            let at = format!("{coordinate}({name}:)");
            if let Some(argument) = self.merge_input_value(
                "FIELD_ARGUMENT",
                "REQUIRED_ARGUMENT_MISSING_IN_SOME_SUBGRAPH",
                &at,
                definitions.len(),
                &found,
            ) {
                merged.push(Node::new(argument));
            }
        }
        merged
    }

    /// An argument or input field: kept where every subgraph has it.
    fn merge_input_value(
        &mut self,
        kind: &'static str,
        missing: &'static str,
        coordinate: &str,
        sources: usize,
        found: &[(&Source<'_>, &Node<InputValueDefinition>)],
    ) -> Option<InputValueDefinition> {
        let (_, first) = found.first()?;
        if found.len() < sources {
            if let Some((source, required)) = found.iter().find(|(_, d)| d.is_required()) {
                self.errors.push(
                    CompositionError::new(
                        missing,
                        format!(
                            "\"{coordinate}\" is required in {} but some subgraph does not define it",
                            source.subgraph.name
                        ),
                    )
                    .at(source.subgraph.location(required.location())),
                );
            }
            return None;
        }
        let (type_code, default_code) = if kind == "FIELD_ARGUMENT" {
            (
                "FIELD_ARGUMENT_TYPE_MISMATCH",
                "FIELD_ARGUMENT_DEFAULT_MISMATCH",
            )
        } else {
            ("FIELD_TYPE_MISMATCH", "INPUT_FIELD_DEFAULT_MISMATCH")
        };
        let ty = self.merge_types(
            type_code,
            coordinate,
            found.iter().map(|(s, d)| (*s, &*d.ty)),
            strictest,
        )?;
        if found
            .iter()
            .any(|(_, d)| d.default_value != first.default_value)
        {
            let mut error = CompositionError::new(
                default_code,
                format!("\"{coordinate}\" has different default values"),
            );
            for (source, definition) in found {
                error = error.at(source.subgraph.location(definition.location()));
            }
            self.errors.push(error);
        }
        let mut directives = Vec::new();
        self.carry(
            found.iter().map(|(s, d)| (s.subgraph, d.directives.iter())),
            &mut directives,
        );
        Some(InputValueDefinition {
            description: found.iter().find_map(|(_, d)| d.description.clone()),
            name: first.name.clone(),
            ty: Node::new(ty),
            default_value: first.default_value.clone(),
            directives: apollo_compiler::ast::DirectiveList(directives),
        })
    }

    fn merge_input(
        &mut self,
        ty: &Name,
        sources: &[Source<'_>],
    ) -> IndexMap<Name, Component<InputValueDefinition>> {
        let mut names: IndexSet<&Name> = IndexSet::default();
        let inputs: Vec<(&Source<'_>, &InputObjectType)> = sources
            .iter()
            .filter_map(|s| Some((s, s.ty.as_input_object()?)))
            .collect();
        for (_, input) in &inputs {
            names.extend(input.fields.keys());
        }
        let mut merged = IndexMap::default();
        for name in names {
            let found: Vec<_> = inputs
                .iter()
                .filter_map(|(s, input)| Some((*s, &input.fields.get(name)?.node)))
                .collect();
            if let Some(field) = self.merge_input_value(
                "INPUT_FIELD",
                "REQUIRED_INPUT_FIELD_MISSING_IN_SOME_SUBGRAPH",
                &format!("{ty}.{name}"),
                sources.len(),
                &found,
            ) {
                merged.insert(name.clone(), Component::new(field));
            }
        }
        if merged.is_empty() {
            self.errors.push(CompositionError::new(
                "EMPTY_MERGED_INPUT_TYPE",
                format!("the subgraphs share no field of input \"{ty}\""),
            ));
        }
        merged
    }

    fn merge_enum(
        &mut self,
        ty: &Name,
        sources: &[Source<'_>],
    ) -> IndexMap<Name, Component<apollo_compiler::ast::EnumValueDefinition>> {
        let enums: Vec<(&Source<'_>, &EnumType)> = sources
            .iter()
            .filter_map(|s| Some((s, s.ty.as_enum()?)))
            .collect();
        let input = self.used_as_input.contains(ty);
        let output = self.used_as_output.contains(ty);
        let mut names: IndexSet<&Name> = IndexSet::default();
        for (_, definition) in &enums {
            names.extend(definition.values.keys());
        }
        let mut merged = IndexMap::default();
        for name in names {
            let found: Vec<_> = enums
                .iter()
                .filter_map(|(s, e)| Some((*s, e.values.get(name)?)))
                .collect();
            if found.len() < enums.len() && input {
                if output {
                    let mut error = CompositionError::new(
                        "ENUM_VALUE_MISMATCH",
                        format!(
                            "enum \"{ty}\" is both input and output, so every subgraph must define \"{name}\""
                        ),
                    );
                    for (source, value) in &found {
                        error = error.at(source.subgraph.location(value.location()));
                    }
                    self.errors.push(error);
                }
                continue;
            }
            let mut directives: Vec<_> = found
                .iter()
                .map(|(s, _)| Apply::new("join__enumValue").graph(&s.graph).done())
                .collect();
            self.carry(
                found.iter().map(|(s, d)| (s.subgraph, d.directives.iter())),
                &mut directives,
            );
            merged.insert(
                name.clone(),
                Component::new(apollo_compiler::ast::EnumValueDefinition {
                    description: found.iter().find_map(|(_, d)| d.description.clone()),
                    value: name.clone(),
                    directives: apollo_compiler::ast::DirectiveList(directives),
                }),
            );
        }
        if merged.is_empty() {
            self.errors.push(CompositionError::new(
                "EMPTY_MERGED_ENUM_TYPE",
                format!("the subgraphs share no value of enum \"{ty}\""),
            ));
        }
        merged
    }

    /// Folds the types of one coordinate; `pick` decides between nullabilities.
    fn merge_types<'a>(
        &mut self,
        code: &'static str,
        coordinate: &str,
        mut types: impl Iterator<Item = (&'a Source<'a>, &'a Type)>,
        pick: fn(&Type, &Type) -> Option<Type>,
    ) -> Option<Type> {
        let (first_source, first) = types.next()?;
        let mut merged = first.clone();
        for (source, ty) in types {
            match pick(&merged, ty) {
                Some(picked) => merged = picked,
                None => {
                    self.errors.push(
                        CompositionError::new(
                            code,
                            format!(
                                "\"{coordinate}\" is \"{first}\" in {} but \"{ty}\" in {}",
                                first_source.subgraph.name, source.subgraph.name
                            ),
                        )
                        .at(first_source
                            .subgraph
                            .location(first.inner_named_type().location()))
                        .at(source.subgraph.location(ty.inner_named_type().location())),
                    );
                    return None;
                }
            }
        }
        Some(merged)
    }
}

fn kind(ty: &ExtendedType) -> &'static str {
    match ty {
        ExtendedType::Scalar(_) => "a scalar",
        ExtendedType::Object(_) => "an object",
        ExtendedType::Interface(_) => "an interface",
        ExtendedType::Union(_) => "a union",
        ExtendedType::Enum(_) => "an enum",
        ExtendedType::InputObject(_) => "an input object",
    }
}

/// The output type that holds both: nullable where either is.
fn loosest(a: &Type, b: &Type) -> Option<Type> {
    combine(a, b, |a, b| a && b)
}

/// The input type that both accept: non-null where either is.
fn strictest(a: &Type, b: &Type) -> Option<Type> {
    combine(a, b, |a, b| a || b)
}

fn combine(a: &Type, b: &Type, non_null: fn(bool, bool) -> bool) -> Option<Type> {
    let inner = match (a, b) {
        (Type::Named(x) | Type::NonNullNamed(x), Type::Named(y) | Type::NonNullNamed(y)) => {
            (x == y).then(|| Type::Named(x.clone()))?
        }
        (Type::List(x) | Type::NonNullList(x), Type::List(y) | Type::NonNullList(y)) => {
            combine(x, y, non_null)?.list()
        }
        _ => return None,
    };
    Some(if non_null(a.is_non_null(), b.is_non_null()) {
        inner.non_null()
    } else {
        inner
    })
}
