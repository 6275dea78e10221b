//! The supergraph as the planner uses it: which subgraph defines what, the keys of
//! entities, and the schema that clients see.
//!
//! [`load`] reads supergraph SDL into this model, in which [`names`] gives directives the
//! names of their specifications; [`api`] derives the public schema, [`conflicts`] which
//! fields cannot share a response key, and [`demands`] what clients must have been granted.

mod api;
mod conflicts;
mod demands;
mod load;
mod names;
mod types;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use apollo_compiler::ast::{FieldDefinition, InputValueDefinition, Selection, Type};
use apollo_compiler::collections::{HashMap, HashSet};
use apollo_compiler::schema::{ExtendedType, Implementers};
use apollo_compiler::validation::Valid;
use apollo_compiler::{Name, Node, Schema};

use crate::access::Access;
use crate::arguments::string_argument;
use crate::field_set::FieldSet;

pub(crate) use names::with_canonical_names;

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
    /// Whether the subgraph resolves `_entities` by this key.
    pub resolvable: bool,
}

/// A field in one subgraph: its `@join__field`.
#[derive(Debug, Clone, Default)]
pub struct FieldJoin {
    pub requires: Option<FieldSet>,
    pub provides: Option<FieldSet>,
    /// Only mentioned there, and resolved elsewhere. A key that selects it can be used to
    /// enter the subgraph, but not to leave it: only a representation brings its value.
    ///
    /// Source: Apollo Federation 2, `@external`; `join` v0.3, `join__field(external:)`.
    pub external: bool,
    /// The field's type there, if it differs from the supergraph's.
    pub ty: Option<Type>,
    /// For a field with a progressive `@override`: it is resolved there only while this
    /// label is on; or off, in the subgraph that it is taken from.
    pub label: Option<(Arc<str>, bool)>,
    /// Arguments that clients do not see: contexts fill them.
    pub contexts: Vec<ContextArgument>,
}

/// An argument with `@fromContext`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextArgument {
    pub name: Name,
    /// The argument's type in the subgraph.
    pub ty: String,
    /// The context's name in the supergraph.
    pub context: String,
    /// The selection on the type that sets the context.
    pub selection: FieldSet,
}

/// A type in one subgraph: its `@join__type`.
#[derive(Debug, Clone, Default)]
pub struct TypeJoin {
    pub keys: Vec<Key>,
    /// Whether the subgraph defines this interface as an `@interfaceObject`.
    pub interface_object: bool,
}

/// Where a type and its fields are defined.
#[derive(Debug, Clone, Default)]
struct TypeInfo {
    joins: BTreeMap<SubgraphId, TypeJoin>,
    fields: HashMap<Name, BTreeMap<SubgraphId, FieldJoin>>,
    /// For an abstract type: its possible object types, by subgraph.
    possible: BTreeMap<SubgraphId, Vec<Name>>,
    /// For an object type: those of its interfaces that some subgraph defines as
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
    /// All types, public or not, without the definitions of `join`.
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

/// A type, its field, and the field's possible object types by subgraph.
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

    /// All selections that arguments make of each context.
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

    /// The part of a field set that applies to one object type.
    pub(crate) fn selection_for_type(&self, ty: &Name, set: &[Selection]) -> FieldSet {
        let mut found = FieldSet::new();
        for selection in set {
            match selection {
                Selection::InlineFragment(inline) => {
                    let condition = inline.type_condition.as_ref().unwrap_or(ty);
                    if self.possible_types(condition).contains(ty) {
                        found.extend(self.selection_for_type(ty, &inline.selection_set));
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

    /// The possible object types of a composite type; for an object, itself.
    pub fn possible_types<'a>(&'a self, ty: &'a Name) -> &'a [Name] {
        self.possible
            .get(ty)
            .map_or(std::slice::from_ref(ty), Vec::as_slice)
    }

    /// The object types that a subgraph can return for one of its types.
    pub(crate) fn possible_types_in<'a>(
        &'a self,
        subgraph: SubgraphId,
        ty: &'a Name,
    ) -> &'a [Name] {
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

    /// The name of a type in a subgraph: the type's own, or that of an interface which
    /// the subgraph defines as an interface object.
    pub(crate) fn local_type_name<'a>(
        &'a self,
        subgraph: SubgraphId,
        ty: &'a Name,
    ) -> Option<&'a Name> {
        let info = self.types.get(ty)?;
        if info.joins.contains_key(&subgraph) {
            return Some(ty);
        }
        info.interface_objects
            .iter()
            .find(|interface| self.is_interface_object(subgraph, interface))
    }

    /// A field in `subgraph`, if that has the field.
    pub(crate) fn field(&self, subgraph: SubgraphId, ty: &str, field: &str) -> Option<&FieldJoin> {
        self.types.get(ty)?.fields.get(field)?.get(&subgraph)
    }

    /// A field of a type in `subgraph`, which may have it on an interface object.
    pub(crate) fn field_of(
        &self,
        subgraph: SubgraphId,
        ty: &Name,
        field: &str,
    ) -> Option<&FieldJoin> {
        self.field(subgraph, self.local_type_name(subgraph, ty)?, field)
    }

    /// Whether `subgraph` resolves a field without `@requires` or contexts.
    pub(crate) fn resolves_alone(
        &self,
        subgraph: SubgraphId,
        ty: &Name,
        field: &str,
        labels: &Labels,
    ) -> bool {
        self.field_of(subgraph, ty, field)
            .is_some_and(|join| join.resolves_alone(labels))
    }

    /// The keys of a type in a subgraph.
    pub(crate) fn keys(&self, subgraph: SubgraphId, ty: &Name) -> &[Key] {
        self.local_type_name(subgraph, ty)
            .and_then(|name| self.types.get(name))
            .and_then(|info| info.joins.get(&subgraph))
            .map_or(&[], |join| &join.keys)
    }

    /// The named type that a field of a composite type returns.
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

    /// Whether types that can occur at one place have fields of this name whose types
    /// GraphQL cannot merge (such as `String` and `String!`): these are fetched under
    /// different keys.
    ///
    /// Source: GraphQL October 2021, section 5.3.2 (SameResponseShape).
    pub(crate) fn is_conflicted(&self, field: &str) -> bool {
        self.conflicted.contains(field)
    }

    /// The fields of abstract types that several subgraphs resolve, each with its
    /// possible object types in each of them.
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
                        let mut types = self.possible_types_in(*id, answers).to_vec();
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

    /// How a subscription field resumes, if it is `@resumable`.
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

    /// The argument of a mutation's field that makes it safe to repeat, if the field is
    /// `@idempotent`. A field of several subgraphs is not: the supergraph does not say
    /// which of them declared it.
    pub(crate) fn idempotency_key(&self, field: &str) -> Option<&Node<InputValueDefinition>> {
        const MUTATION: &str = "Mutation";
        let definition = self.definition(MUTATION, field)?;
        let directive = definition.directives.get("idempotent")?;
        let joins = self.types.get(MUTATION)?.fields.get(field)?;
        (joins.len() == 1).then_some(())?;
        definition.argument_by_name(string_argument(directive, "key")?)
    }
}

impl FieldJoin {
    /// Whether it is resolved there without `@requires` or contexts.
    pub(crate) fn resolves_alone(&self, labels: &Labels) -> bool {
        self.resolves(labels) && !self.has_requirements()
    }

    /// Whether it needs values besides the key: `@requires` or contexts.
    pub(crate) fn has_requirements(&self) -> bool {
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

fn is_federation_internal(name: &str) -> bool {
    ["join__", "link__", "core__", "federation__", "context__"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}
