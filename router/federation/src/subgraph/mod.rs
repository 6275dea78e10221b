//! One subgraph: parses its SDL, resolves its `@link`s, validates its schema and reads
//! its federation directives.
//!
//! | module | what it does |
//! |---|---|
//! | [`link`] | what `@link` imports, and under which names |
//! | [`definitions`] | Federation's own directives and types |
//! | [`text`] | what the text says and the schema no longer does |
//! | [`validate`] | the rules that one subgraph can break by itself |
//!
//! A subgraph without a link to Federation 2 uses Federation 1. Its schema is read in
//! terms of Federation 2: every field is shareable, unused `@external` is ignored, and
//! the parts of field sets that are not external are left out.

mod contexts;
mod definitions;
mod link;
mod text;
mod validate;

use std::collections::{HashMap, HashSet};

use apollo_compiler::ast::{self, Directive, DirectiveLocation, FieldDefinition, Selection, Value};
use apollo_compiler::parser::SourceSpan;
use apollo_compiler::schema::{Component, ExtendedType};
use apollo_compiler::validation::Valid;
use apollo_compiler::{Name, Node, Schema, name};

pub(crate) use contexts::context_parts;
pub(crate) use definitions::is_federation_internal;

use crate::arguments::string_argument;
use crate::error::{CompositionError, CompositionErrors, Location, diagnostic_location};
use crate::field_set::{self, FieldSet};
use crate::links::Link;

/// A directive that `@composeDirective` carries into the supergraph.
#[derive(Debug, Clone)]
pub(crate) struct ComposedDirective {
    /// The name here, without `@`.
    pub name: Name,
    /// The name in its specification, without `@`.
    pub canonical: String,
    /// The specification that a `@link` imports it from.
    pub identity: String,
    pub version: (u32, u32),
    pub at: Option<Location>,
}

/// A type and one of its fields.
pub(crate) type Coordinate = (Name, Name);
pub(crate) type Fields = apollo_compiler::collections::IndexMap<Name, Component<FieldDefinition>>;

/// A parsed and valid subgraph.
#[derive(Debug, Clone)]
pub struct Subgraph {
    pub name: String,
    pub url: String,
    pub(crate) schema: Valid<Schema>,
    /// The local name of each federation directive, by its canonical name.
    local: HashMap<&'static str, Name>,
    pub(crate) composed: Vec<ComposedDirective>,
    /// The links to the specifications of third parties.
    pub(crate) links: Vec<Link>,
    /// The names here of Federation's own types.
    own_names: HashSet<String>,
    /// The minor version of Federation 2; `None` for Federation 1.
    federation: Option<u32>,
    /// Types that are extended here and defined elsewhere.
    pub(crate) extensions: HashSet<Name>,
    /// Those of them that have no definition here, not even one with `@extends`.
    pub(crate) undefined: HashSet<Name>,
    /// Fields that are mentioned here and resolved elsewhere.
    pub(crate) externals: HashSet<Coordinate>,
    /// Fields that some key selects.
    pub(crate) key_fields: HashSet<Coordinate>,
    /// Fields that some `@provides` selects.
    pub(crate) provided: HashSet<Coordinate>,
    /// Fields that any field set selects.
    pub(crate) used: HashSet<Coordinate>,
}

impl Subgraph {
    /// Parses the SDL that a subgraph serves as `_service { sdl }`.
    ///
    /// # Errors
    /// Every rule that the subgraph breaks by itself, with positions.
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
        // Federation 1 extends types that other subgraphs define. Some libraries print
        // GraphQL's own scalars.
        let mut schema = Schema::builder()
            .adopt_orphan_extensions()
            .ignore_builtin_redefinitions()
            .parse(sdl, name)
            .build()
            .map_err(|error| invalid(&error.errors))?;
        // Links first: they decide under which names the directives are used.
        let mut errors = Vec::new();
        if name == "_" {
            errors.push(CompositionError::new(
                "INVALID_SUBGRAPH_NAME",
                "a subgraph cannot be called \"_\"",
            ));
        }
        let links = link::Links::read(name, &schema, &mut errors);
        let local: HashMap<&'static str, Name> = definitions::KNOWN
            .iter()
            .filter(|(known, since)| links.has(known, *since, &schema))
            .filter_map(|(known, _)| Some((*known, Name::new(&links.local(known)).ok()?)))
            .collect();
        let names = definitions::Names {
            directives: &local,
            types: definitions::TYPES
                .iter()
                .map(|(specification, name)| links.local_type(specification, name))
                .collect(),
            linked: links.any,
            old: links.federation.is_none(),
        };
        definitions::add_missing_definitions(name, &mut schema, &names, &mut errors);
        let own_names = names.types.into_iter().collect();
        definitions::add_placeholder_query(&mut schema);
        let text = text::definitions(sdl);
        errors.extend(text::redefined_scalars(name, &text));
        // Before validation, which would also report what follows from these errors.
        if !errors.is_empty() {
            return Err(CompositionErrors(errors));
        }
        // From the text: in the schema, adopted extensions look like definitions.
        let undefined = text::undefined(&text);
        let mut extensions = undefined.clone();
        extensions.extend(
            schema
                .types
                .iter()
                .filter(|(_, ty)| {
                    let mut directives = ty.directives().iter();
                    directives.any(|d| Some(&d.name) == local.get("extends"))
                })
                .map(|(name, _)| name.clone()),
        );
        let schema = schema.validate().map_err(|error| invalid(&error.errors))?;
        let composed = links.composed(name, &schema, &local, &mut errors);
        let mut subgraph = Self {
            name: name.to_owned(),
            url: url.to_owned(),
            schema,
            local,
            composed,
            own_names,
            federation: links.federation,
            links: links.other,
            extensions,
            undefined,
            externals: HashSet::new(),
            key_fields: HashSet::new(),
            provided: HashSet::new(),
            used: HashSet::new(),
        };
        subgraph.collect_field_uses();
        errors.extend(validate::check(&subgraph));
        if errors.is_empty() {
            Ok(subgraph)
        } else {
            Err(CompositionErrors(errors))
        }
    }

    /// The subgraph's schema, with the federation definitions it left out.
    pub fn schema(&self) -> &Valid<Schema> {
        &self.schema
    }

    pub(crate) fn is_federation_1(&self) -> bool {
        self.federation.is_none()
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

    pub(crate) fn on_type<'a>(
        &'a self,
        ty: &'a ExtendedType,
        canonical: &str,
    ) -> Vec<&'a Node<Directive>> {
        self.applied(ty.directives().iter().map(|d| &d.node), canonical)
    }

    /// The name here of a federation directive, if this version has it.
    pub(crate) fn local_name(&self, canonical: &str) -> Option<&Name> {
        self.local.get(canonical)
    }

    /// The canonical name of a directive, if it is one of Federation's.
    pub(crate) fn canonical(&self, directive: &Directive) -> Option<&'static str> {
        self.local
            .iter()
            .find(|(_, local)| **local == directive.name)
            .map(|(canonical, _)| *canonical)
    }

    pub(crate) fn location(&self, span: Option<SourceSpan>) -> Option<Location> {
        Location::from_span(&self.name, span, &self.schema.sources)
    }

    /// The types that the subgraph itself defines.
    pub(crate) fn own_types(&self) -> impl Iterator<Item = (&Name, &ExtendedType)> {
        self.schema
            .types
            .iter()
            .filter(|(name, ty)| !ty.is_built_in() && !self.is_federations(name))
    }

    /// Whether a type is Federation's, perhaps imported under a short name.
    fn is_federations(&self, name: &str) -> bool {
        is_federation_internal(name) || self.own_names.contains(name)
    }

    pub(crate) fn is_interface_object(&self, ty: &ExtendedType) -> bool {
        !self.on_type(ty, "interfaceObject").is_empty()
    }

    /// Whether a field is only mentioned here and resolved elsewhere.
    pub(crate) fn is_external(&self, ty: &Name, field: &Name) -> bool {
        self.externals.contains(&(ty.clone(), field.clone()))
    }

    /// The field set of a `@key`, `@requires` or `@provides` on a type, as composition
    /// uses it; `None` if nothing is left of it.
    pub(crate) fn field_set_of(
        &self,
        directive: &Directive,
        ty: &Name,
        is_key: bool,
    ) -> Option<FieldSet> {
        let set = field_set::parse(&set_text(directive)?).ok()?;
        if !self.is_federation_1() || is_key {
            return Some(set);
        }
        let kept = self.external_parts(&set, ty);
        (!kept.is_empty()).then_some(kept)
    }

    /// The external parts of a field set: Federation 1 allowed others, and ignored them.
    fn external_parts(&self, set: &[Selection], ty: &Name) -> FieldSet {
        set.iter()
            .filter_map(|selection| match selection {
                Selection::Field(field) if field.selection_set.is_empty() => self
                    .is_marked_external(ty, &field.name)
                    .then(|| selection.clone()),
                Selection::Field(field) => {
                    if self.is_marked_external(ty, &field.name) {
                        return Some(selection.clone());
                    }
                    let inner = self.schema.type_field(ty, &field.name).ok()?;
                    let inner = inner.ty.inner_named_type();
                    let kept = self.external_parts(&field.selection_set, inner);
                    (!kept.is_empty()).then(|| {
                        Selection::Field(Node::new(ast::Field {
                            selection_set: kept,
                            ..(**field).clone()
                        }))
                    })
                }
                other => Some(other.clone()),
            })
            .collect()
    }

    /// Whether `@external` is written on a field, or on its type.
    fn is_marked_external(&self, ty: &Name, field: &Name) -> bool {
        let Some(definition) = self.schema.types.get(ty) else {
            return false;
        };
        let on_field = fields_of(definition)
            .and_then(|fields| fields.get(field))
            .is_some_and(|field| !self.applied(&field.directives, "external").is_empty());
        match definition {
            // Federation 1 ignored it on interfaces.
            ExtendedType::Interface(_) if self.is_federation_1() => false,
            _ => {
                on_field
                    || (!self.is_federation_1() && !self.on_type(definition, "external").is_empty())
            }
        }
    }

    fn collect_field_uses(&mut self) {
        let mut key_fields = HashSet::new();
        let mut extension_keys = HashSet::new();
        let mut provided = HashSet::new();
        let mut required = HashSet::new();
        for (name, ty) in self.own_types() {
            for key in self.on_type(ty, "key") {
                if let Some(set) = self.field_set_of(key, name, true) {
                    self.collect(name, &set, &mut key_fields);
                    // Federation 1 did not look below the extension itself.
                    if self.extensions.contains(name) && !self.is_federation_1() {
                        self.collect(name, &set, &mut extension_keys);
                    }
                }
            }
            for field in fields_of(ty).into_iter().flat_map(Fields::values) {
                for directive in self.applied(&field.directives, "requires") {
                    if let Some(set) = self.field_set_of(directive, name, false) {
                        self.collect(name, &set, &mut required);
                    }
                }
                for argument in &field.arguments {
                    let from = self.context_of(argument);
                    let text = from.and_then(|directive| string_argument(directive, "field"));
                    let Some((context, selection)) = text.and_then(context_parts) else {
                        continue;
                    };
                    let set = field_set::parse(field_set::unbraced(selection));
                    for ty in self.types_setting(context) {
                        if let Ok(set) = &set {
                            self.collect(ty.name(), set, &mut required);
                        }
                    }
                }
                for directive in self.applied(&field.directives, "provides") {
                    let target = field.ty.inner_named_type();
                    if let Some(set) = self.field_set_of(directive, target, false) {
                        self.collect(target, &set, &mut provided);
                    }
                }
            }
        }
        let mut externals = HashSet::new();
        for (name, ty) in self.own_types() {
            let extended = self.extensions.contains(name);
            for field in fields_of(ty).into_iter().flat_map(Fields::keys) {
                let at = (name.clone(), field.clone());
                // An external key field of an extension counts as resolved here, as it did
                // in Federation 1, where it could not be written otherwise.
                let resolved = extension_keys.contains(&at) || extended && key_fields.contains(&at);
                if self.is_marked_external(name, field) && !resolved {
                    externals.insert(at);
                }
            }
        }
        self.used = key_fields
            .iter()
            .chain(&provided)
            .chain(&required)
            .cloned()
            .collect();
        self.key_fields = key_fields;
        self.provided = provided;
        self.externals = externals;
    }

    fn collect(&self, ty: &Name, set: &[Selection], used: &mut HashSet<Coordinate>) {
        for selection in set {
            match selection {
                Selection::Field(field) => {
                    used.insert((ty.clone(), field.name.clone()));
                    // A field selected on an interface is selected on its
                    // implementations.
                    if let Some(implementers) = self.schema.implementers_map().get(ty) {
                        for object in &implementers.objects {
                            used.insert((object.clone(), field.name.clone()));
                        }
                    }
                    if let Ok(definition) = self.schema.type_field(ty, &field.name) {
                        let inner = definition.ty.inner_named_type().clone();
                        self.collect(&inner, &field.selection_set, used);
                    }
                }
                Selection::InlineFragment(fragment) => {
                    let inner = fragment.type_condition.as_ref().unwrap_or(ty);
                    self.collect(inner, &fragment.selection_set, used);
                }
                Selection::FragmentSpread(_) => {}
            }
        }
    }

    /// Whether a field of this subgraph may be resolved elsewhere as well.
    pub(crate) fn is_shareable(
        &self,
        ty: &ExtendedType,
        field: &Component<FieldDefinition>,
    ) -> bool {
        let at = (ty.name().clone(), field.name.clone());
        self.is_federation_1()
            || self.key_fields.contains(&at)
            || (self.externals.contains(&at) && self.provided.contains(&at))
            || !self.applied(&field.directives, "shareable").is_empty()
            || ty
                .directives()
                .iter()
                .any(|d| Some(&d.name) == self.local.get("shareable") && d.origin == field.origin)
    }

    /// A type's name in the supergraph: `Query`, `Mutation` or `Subscription` for a root
    /// type, else its own.
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

/// Whether a location is in documents, so that clients may use the directive.
pub(crate) fn is_executable(location: &DirectiveLocation) -> bool {
    use DirectiveLocation as At;
    matches!(
        location,
        At::Query
            | At::Mutation
            | At::Subscription
            | At::Field
            | At::FragmentDefinition
            | At::FragmentSpread
            | At::InlineFragment
            | At::VariableDefinition
    )
}

/// The fields of an object or interface.
pub(crate) fn fields_of(ty: &ExtendedType) -> Option<&Fields> {
    match ty {
        ExtendedType::Object(object) => Some(&object.fields),
        ExtendedType::Interface(interface) => Some(&interface.fields),
        _ => None,
    }
}

/// The `fields` of a directive; Federation 1 took lists and bare names too.
pub(crate) fn set_text(directive: &Directive) -> Option<String> {
    match &**directive.specified_argument_by_name("fields")? {
        Value::String(text) => Some(text.clone()),
        Value::Enum(name) => Some(name.to_string()),
        Value::List(items) => items
            .iter()
            .map(|item| match &**item {
                Value::String(text) => Some(text.clone()),
                Value::Enum(name) => Some(name.to_string()),
                _ => None,
            })
            .collect::<Option<Vec<_>>>()
            .map(|parts| parts.join(" ")),
        _ => None,
    }
}
