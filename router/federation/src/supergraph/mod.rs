//! The supergraph as planning reads it: which subgraph defines what, by which
//! keys an entity is reached, and the schema that clients see.
//!
//! [`load`] reads supergraph SDL into this model; [`api`] derives the public
//! schema, [`conflicts`] what cannot stand under one key, and [`demands`] what
//! clients must have been granted.

mod api;
mod conflicts;
mod demands;
mod load;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use apollo_compiler::ast::{FieldDefinition, Selection, Type};
use apollo_compiler::schema::{ExtendedType, Implementers};
use apollo_compiler::validation::Valid;
use apollo_compiler::{Name, Node, Schema};

use crate::access::Access;
use crate::field_set::FieldSet;
use crate::subgraph::string_argument;

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
    /// The field's type there, if it is not the supergraph's.
    pub ty: Option<Type>,
    /// Of a field under a progressive `@override`: resolved there only while
    /// this label is on (or, for the subgraph that it is taken from, off).
    pub label: Option<(Arc<str>, bool)>,
    /// Arguments that clients do not see: an ancestor's context fills them.
    pub contexts: Vec<ContextArgument>,
}

/// An argument with `@fromContext`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextArgument {
    pub name: Name,
    /// The argument's type, as the subgraph has it.
    pub ty: String,
    /// The context, under the supergraph's name for it.
    pub context: String,
    /// What is selected of the type that sets the context.
    pub selection: FieldSet,
}

/// What a subgraph says of a type.
#[derive(Debug, Clone, Default)]
pub struct TypeJoin {
    pub keys: Vec<Key>,
    /// Whether the subgraph holds this interface as an `@interfaceObject`.
    pub interface_object: bool,
}

/// Where a type and its fields are defined.
#[derive(Debug, Clone, Default)]
struct TypeInfo {
    joins: BTreeMap<SubgraphId, TypeJoin>,
    fields: HashMap<Name, BTreeMap<SubgraphId, FieldJoin>>,
    /// Of an abstract type: the object types it can be, by subgraph.
    possible: BTreeMap<SubgraphId, Vec<Name>>,
    /// Of an object type: the interfaces it has that some subgraph holds as
    /// interface objects.
    interface_objects: Vec<Name>,
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

/// The override labels that are on.
pub type Labels = BTreeSet<Arc<str>>;

/// A loaded supergraph.
#[derive(Debug)]
pub struct Supergraph {
    /// All types, public or not, without the join machinery.
    pub(crate) schema: Schema,
    api: Valid<Schema>,
    pub subgraphs: Vec<SubgraphInfo>,
    types: HashMap<Name, TypeInfo>,
    possible: HashMap<Name, Vec<Name>>,
    /// See [`Supergraph::is_conflicted`].
    conflicted: HashSet<Name>,
    labels: BTreeSet<Arc<str>>,
    /// The object types that set each context.
    contexts: HashMap<String, BTreeSet<Name>>,
    access: Access,
    implementers: apollo_compiler::collections::HashMap<Name, Implementers>,
}

/// A type, its field, and what that can be by subgraph.
pub(crate) type SharedField = (Name, Name, Vec<(String, Vec<Name>)>);

impl Supergraph {
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

    pub(crate) fn ids(&self) -> impl Iterator<Item = SubgraphId> + use<> {
        (0..self.subgraphs.len()).map(|index| SubgraphId(u16::try_from(index).unwrap_or(u16::MAX)))
    }

    /// Whether an object type sets a context.
    pub(crate) fn sets_context(&self, ty: &Name, context: &str) -> bool {
        self.contexts
            .get(context)
            .is_some_and(|types| types.contains(ty))
    }

    /// The contexts that an object type sets.
    pub(crate) fn contexts_of(&self, ty: &Name) -> Vec<&str> {
        let setting = self.contexts.iter().filter(|(_, types)| types.contains(ty));
        setting.map(|(context, _)| context.as_str()).collect()
    }

    /// Each selection that some argument makes of each context.
    pub(crate) fn context_uses(&self) -> BTreeMap<&str, Vec<&FieldSet>> {
        let mut uses: BTreeMap<&str, Vec<&FieldSet>> = BTreeMap::new();
        let fields = self.types.values().flat_map(|info| info.fields.values());
        for argument in fields
            .flat_map(BTreeMap::values)
            .flat_map(|join| &join.contexts)
        {
            let known = uses.entry(&argument.context).or_default();
            if !known.contains(&&argument.selection) {
                known.push(&argument.selection);
            }
        }
        uses
    }

    /// What a field set selects of one object type.
    pub(crate) fn selected_of(&self, ty: &Name, set: &[Selection]) -> FieldSet {
        let mut found = FieldSet::new();
        for selection in set {
            match selection {
                Selection::InlineFragment(inline) => {
                    let condition = inline.type_condition.as_ref().unwrap_or(ty);
                    if self.possible_types(condition).contains(ty) {
                        found.extend(self.selected_of(ty, &inline.selection_set));
                    }
                }
                other => found.push(other.clone()),
            }
        }
        found
    }

    /// The labels of progressive overrides that some field has.
    pub fn labels(&self) -> &BTreeSet<Arc<str>> {
        &self.labels
    }

    /// The object types that a composite type can be; for an object, itself.
    pub fn possible_types<'a>(&'a self, ty: &'a Name) -> &'a [Name] {
        self.possible
            .get(ty)
            .map_or(std::slice::from_ref(ty), Vec::as_slice)
    }

    /// The object types that a subgraph can answer for a type of its own.
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

    pub(crate) fn is_composite(&self, ty: &str) -> bool {
        self.schema.types.get(ty).is_some_and(|ty| !ty.is_leaf())
    }

    pub(crate) fn defines(&self, subgraph: SubgraphId, ty: &str) -> bool {
        self.types
            .get(ty)
            .is_some_and(|info| info.joins.contains_key(&subgraph))
    }

    pub(crate) fn is_interface_object(&self, subgraph: SubgraphId, ty: &str) -> bool {
        self.types
            .get(ty)
            .and_then(|info| info.joins.get(&subgraph))
            .is_some_and(|join| join.interface_object)
    }

    /// The name by which a subgraph knows objects of a type: the type's own,
    /// or that of an interface which it holds as an interface object.
    pub(crate) fn known_as<'a>(&'a self, subgraph: SubgraphId, ty: &'a Name) -> Option<&'a Name> {
        let info = self.types.get(ty)?;
        if info.joins.contains_key(&subgraph) {
            return Some(ty);
        }
        info.interface_objects
            .iter()
            .find(|interface| self.is_interface_object(subgraph, interface))
    }

    /// What `subgraph` says of a field, if it knows the field at all.
    pub(crate) fn field(&self, subgraph: SubgraphId, ty: &str, field: &str) -> Option<&FieldJoin> {
        self.types.get(ty)?.fields.get(field)?.get(&subgraph)
    }

    /// What `subgraph` says of a field of objects of a type, by the name that
    /// it knows them by.
    pub(crate) fn field_of(
        &self,
        subgraph: SubgraphId,
        ty: &Name,
        field: &str,
    ) -> Option<&FieldJoin> {
        self.field(subgraph, self.known_as(subgraph, ty)?, field)
    }

    /// Whether `subgraph` resolves a field by itself, wanting nothing.
    pub(crate) fn is_plain(
        &self,
        subgraph: SubgraphId,
        ty: &Name,
        field: &str,
        labels: &Labels,
    ) -> bool {
        self.field_of(subgraph, ty, field)
            .is_some_and(|join| join.is_plain(labels))
    }

    /// The keys by which a subgraph knows objects of a type.
    pub(crate) fn keys(&self, subgraph: SubgraphId, ty: &Name) -> &[Key] {
        self.known_as(subgraph, ty)
            .and_then(|name| self.types.get(name))
            .and_then(|info| info.joins.get(&subgraph))
            .map_or(&[], |join| &join.keys)
    }

    /// The named type that a field of a composite type answers.
    pub(crate) fn field_type(&self, ty: &str, field: &str) -> Option<&Name> {
        Some(self.definition(ty, field)?.ty.inner_named_type())
    }

    /// The type that a field has in a subgraph.
    pub(crate) fn field_type_in(
        &self,
        subgraph: SubgraphId,
        ty: &str,
        field: &str,
    ) -> Option<&Type> {
        match self.field(subgraph, ty, field)? {
            FieldJoin { ty: Some(ty), .. } => Some(ty),
            _ => Some(&self.definition(ty, field)?.ty),
        }
    }

    pub(crate) fn definition(&self, ty: &str, field: &str) -> Option<&Node<FieldDefinition>> {
        self.schema
            .type_field(ty, field)
            .ok()
            .map(|component| &component.node)
    }

    /// Whether types that can stand at one place have a field of this name
    /// with types that GraphQL does not merge (`String` and `String!`, say):
    /// such fields are asked for under different keys.
    ///
    /// Source: GraphQL October 2021, section 5.3.2 (SameResponseShape).
    pub(crate) fn is_conflicted(&self, field: &str) -> bool {
        self.conflicted.contains(field)
    }

    /// The fields of abstract types that several subgraphs resolve, each with
    /// what it can be in each of them.
    pub(crate) fn shared_abstract_fields(&self) -> Vec<SharedField> {
        let mut found = Vec::new();
        for (ty, info) in &self.types {
            if self.is_abstract(ty) {
                continue;
            }
            for (field, joins) in &info.fields {
                let abstract_field = self
                    .field_type(ty, field)
                    .is_some_and(|answers| self.is_abstract(answers));
                if !abstract_field {
                    continue;
                }
                let by_subgraph: Vec<(String, Vec<Name>)> = joins
                    .iter()
                    .filter(|(_, join)| !join.external && join.label.is_none())
                    .filter_map(|(id, _)| {
                        let answers = self.field_type_in(*id, ty, field)?.inner_named_type();
                        let mut types = self.possible_in(*id, answers).to_vec();
                        types.sort();
                        (!self.is_interface_object(*id, answers))
                            .then(|| (self.subgraph(*id).name.clone(), types))
                    })
                    .collect();
                if by_subgraph.len() > 1 {
                    found.push((ty.clone(), field.clone(), by_subgraph));
                }
            }
        }
        found.sort();
        found
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

impl FieldJoin {
    /// Whether it is resolved there from the object alone.
    pub(crate) fn is_plain(&self, labels: &Labels) -> bool {
        self.resolves(labels) && !self.wants()
    }

    /// Whether it wants what the object itself does not bring.
    pub(crate) fn wants(&self) -> bool {
        self.requires.is_some() || !self.contexts.is_empty()
    }

    /// Whether the field is resolved there, given the labels that are on.
    pub(crate) fn resolves(&self, labels: &Labels) -> bool {
        !self.external
            && self
                .label
                .as_ref()
                .is_none_or(|(label, on)| labels.contains(label) == *on)
    }
}

fn is_machinery(name: &str) -> bool {
    ["join__", "link__", "core__", "federation__", "context__"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}
