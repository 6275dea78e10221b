//! The shape of a response: the client's selection, compiled so that value
//! completion does not need the schema.
//!
//! Source: GraphQL October 2021, section 6.4 (CollectFields, CompleteValue).

use std::sync::Arc;

use apollo_compiler::Name;
use apollo_compiler::ast::Type;
use apollo_compiler::collections::HashMap;
use apollo_compiler::collections::IndexMap;
use apollo_compiler::schema::ExtendedType;

use super::PlanError;
use super::slots::{Slot, SlotTable, Slots};
use crate::operation::{Field, Item, Selections};
use crate::supergraph::Supergraph;

/// The fields of an object in the response.
#[derive(Debug)]
pub enum ObjectShape {
    /// The type is known in advance.
    One(Name, Vec<FieldShape>),
    /// It depends on the object's own `__typename`.
    ByType {
        known: HashMap<Name, Vec<FieldShape>>,
        /// For an object of unknown type: no fetch selected `__typename`, as nothing in
        /// the selection depends on it.
        untyped: Option<Vec<FieldShape>>,
        /// `@inaccessible` types: their objects are null in the response.
        hidden: Vec<Name>,
    },
}

#[derive(Debug)]
pub struct FieldShape {
    pub key: Name,
    /// The slot that holds it in the data.
    pub slot: Slot,
    pub source: FieldSource,
    pub value: ValueShape,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldSource {
    /// From the subgraphs' data.
    Data,
    /// The name of the object's type.
    Typename,
    /// `__schema` or `__type`, resolved by the router.
    Introspection,
    /// Null, as the client may not see it.
    Denied,
}

#[derive(Debug)]
pub enum ValueShape {
    NonNull(Box<ValueShape>),
    List(Box<ValueShape>),
    Leaf(Leaf),
    Object(Box<ObjectShape>),
}

/// How a leaf is coerced.
#[derive(Debug, Clone)]
pub enum Leaf {
    Int,
    Float,
    String,
    Boolean,
    Id,
    /// The values, and whether each is public.
    Enum(Arc<HashMap<Name, bool>>),
    /// A custom scalar: any JSON.
    Any,
}

impl ObjectShape {
    pub(super) fn number(&mut self, slots: &mut SlotTable) {
        match self {
            Self::One(_, fields) => number(fields, slots),
            Self::ByType { known, untyped, .. } => {
                for fields in known.values_mut().chain(untyped.iter_mut()) {
                    number(fields, slots);
                }
            }
        }
    }
}

fn number(fields: &mut [FieldShape], slots: &mut SlotTable) {
    for field in fields {
        slots.number(&mut field.slot);
        let mut value = &mut field.value;
        while let ValueShape::NonNull(inner) | ValueShape::List(inner) = value {
            value = inner;
        }
        if let ValueShape::Object(shape) = value {
            shape.number(slots);
        }
    }
}

pub(super) fn compile(
    graph: &Supergraph,
    ty: &Name,
    selections: &Selections,
    slots: &mut Slots,
    budget: &mut usize,
) -> Result<ObjectShape, PlanError> {
    Compiler {
        graph,
        slots,
        budget,
        enums: HashMap::default(),
    }
    .object(ty, &[selections])
}

struct Compiler<'a> {
    graph: &'a Supergraph,
    slots: &'a mut Slots,
    budget: &'a mut usize,
    enums: HashMap<Name, Arc<HashMap<Name, bool>>>,
}

impl Compiler<'_> {
    fn object(&mut self, ty: &Name, sets: &[&Selections]) -> Result<ObjectShape, PlanError> {
        if !self.graph.is_abstract(ty) {
            return Ok(ObjectShape::One(ty.clone(), self.fields(ty, sets)?));
        }
        let mut known = HashMap::default();
        let mut hidden = Vec::new();
        for possible in self.graph.possible_types(ty) {
            if self.graph.api().types.contains_key(possible) {
                known.insert(possible.clone(), self.fields(possible, sets)?);
            } else {
                hidden.push(possible.clone());
            }
        }
        let typeless = |item: &Item| {
            matches!(item, Item::Field(field) if field.name != "__typename"
                && !self.graph.is_conflicted(&field.name))
        };
        let untyped = sets.iter().all(|set| set.0.iter().all(typeless));
        let untyped = match untyped {
            true => Some(self.fields(ty, sets)?),
            false => None,
        };
        Ok(ObjectShape::ByType {
            known,
            untyped,
            hidden,
        })
    }

    fn fields(&mut self, ty: &Name, sets: &[&Selections]) -> Result<Vec<FieldShape>, PlanError> {
        let mut collected: IndexMap<&Name, (&Field, Vec<&Selections>)> = IndexMap::default();
        for set in sets {
            self.collect(ty, set, &mut collected);
        }
        let mut shapes = Vec::with_capacity(collected.len());
        for (key, (field, children)) in collected {
            *self.budget = self.budget.checked_sub(1).ok_or(PlanError::TooLarge)?;
            let (source, value) = match field.name.as_str() {
                "__typename" => (FieldSource::Typename, ValueShape::Leaf(Leaf::String)),
                "__schema" | "__type" => (FieldSource::Introspection, ValueShape::Leaf(Leaf::Any)),
                _ => {
                    let definition = self.graph.definition(ty, &field.name).ok_or_else(|| {
                        PlanError::Unresolvable {
                            ty: ty.clone(),
                            field: field.name.clone(),
                            from: "the supergraph".to_owned(),
                        }
                    })?;
                    let source = match field.denied {
                        true => FieldSource::Denied,
                        false => FieldSource::Data,
                    };
                    (source, self.value(&definition.ty, &children)?)
                }
            };
            shapes.push(FieldShape {
                key: key.clone(),
                slot: Slot::new(self.slots.slot_of(self.graph, ty, field)),
                source,
                value,
            });
        }
        Ok(shapes)
    }

    fn collect<'s>(
        &self,
        ty: &Name,
        set: &'s Selections,
        out: &mut IndexMap<&'s Name, (&'s Field, Vec<&'s Selections>)>,
    ) {
        for item in &set.0 {
            match item {
                Item::Field(field) => {
                    let entry = out.entry(&field.key).or_insert_with(|| (field, Vec::new()));
                    // The same key may be allowed through another type condition.
                    if entry.0.denied {
                        entry.0 = field;
                    }
                    entry.1.push(&field.selections);
                }
                Item::Fragment(condition, inner) => {
                    if self.graph.possible_types(condition).contains(ty) {
                        self.collect(ty, inner, out);
                    }
                }
            }
        }
    }

    fn value(&mut self, ty: &Type, children: &[&Selections]) -> Result<ValueShape, PlanError> {
        Ok(match ty {
            Type::NonNullNamed(name) => ValueShape::NonNull(Box::new(self.named(name, children)?)),
            Type::Named(name) => self.named(name, children)?,
            Type::NonNullList(item) => ValueShape::NonNull(Box::new(ValueShape::List(Box::new(
                self.value(item, children)?,
            )))),
            Type::List(item) => ValueShape::List(Box::new(self.value(item, children)?)),
        })
    }

    fn named(&mut self, name: &Name, children: &[&Selections]) -> Result<ValueShape, PlanError> {
        Ok(match self.graph.schema.types.get(name) {
            Some(ExtendedType::Object(_) | ExtendedType::Interface(_) | ExtendedType::Union(_)) => {
                ValueShape::Object(Box::new(self.object(name, children)?))
            }
            Some(ExtendedType::Enum(_)) => ValueShape::Leaf(Leaf::Enum(self.values_of(name))),
            _ => ValueShape::Leaf(match name.as_str() {
                "Int" => Leaf::Int,
                "Float" => Leaf::Float,
                "String" => Leaf::String,
                "Boolean" => Leaf::Boolean,
                "ID" => Leaf::Id,
                _ => Leaf::Any,
            }),
        })
    }

    fn values_of(&mut self, name: &Name) -> Arc<HashMap<Name, bool>> {
        let all = self.graph.schema.get_enum(name);
        let public = self.graph.api().get_enum(name);
        self.enums
            .entry(name.clone())
            .or_insert_with(|| {
                let all = all
                    .into_iter()
                    .flat_map(|definition| definition.values.keys());
                let shown = |value| public.is_some_and(|public| public.values.contains_key(value));
                Arc::new(all.map(|value| (value.clone(), shown(value))).collect())
            })
            .clone()
    }
}
