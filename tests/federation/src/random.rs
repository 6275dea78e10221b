//! Federations, data and queries made from a stream of choices.
//!
//! A monolith is invented first: entities, value types, an interface and a
//! union, with data. Then each field is given to one subgraph or shared by
//! several, keys are chosen so that every field stays reachable, and some
//! fields get `@requires`, `@provides` or `@override`. Whatever a subgraph must
//! not be asked for answers with poison.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;
use std::sync::Arc;

use apollo_compiler::schema::ExtendedType;
use apollo_compiler::{Name, Schema};
use serde_json::{Map, Value, json};
use stoa_federation::{Subgraph, Supergraph, compose};

use crate::federation::Federation;
use crate::told::{Compute, Told};

/// Choices, from a test's generator; all nought when they run out, which is
/// always the simplest choice.
pub struct Choices<'a> {
    values: &'a [u16],
    next: usize,
}

impl<'a> Choices<'a> {
    pub fn new(values: &'a [u16]) -> Self {
        Self { values, next: 0 }
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        let value = self.values.get(self.next).copied().unwrap_or(0);
        self.next += 1;
        usize::from(value) % bound.max(1)
    }

    /// True in `percent` of a hundred.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) >= 100 - percent
    }

    /// A non-empty part of `0..count`.
    fn some_of(&mut self, count: usize, percent: usize) -> BTreeSet<usize> {
        let first = self.below(count);
        (0..count)
            .filter(|index| *index == first || self.chance(percent))
            .collect()
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Int,
    Text,
    Entity(usize),
    Value(usize),
    Interface,
    Union,
}

#[derive(Debug, Clone)]
struct Field {
    name: String,
    kind: Kind,
    list: bool,
    non_null: bool,
    /// The subgraphs that resolve it.
    owners: BTreeSet<usize>,
    /// In its only owner: a field that it is computed from.
    requires: Option<String>,
    /// In its only owner: a field of the entity that it answers.
    provides: Option<String>,
    /// A subgraph that still has the field but lost it to the owner.
    overridden: Option<usize>,
}

#[derive(Debug, Clone)]
struct Entity {
    fields: Vec<Field>,
    /// The subgraphs that have it, each with the keys that it declares.
    keys: BTreeMap<usize, Vec<&'static str>>,
    /// Fields mentioned but not resolved, by subgraph.
    externals: BTreeSet<(usize, String)>,
    /// The subgraphs where it implements the interface or is in the union.
    implements: BTreeSet<usize>,
    member: BTreeSet<usize>,
}

#[derive(Debug, Clone)]
struct ValueType {
    /// Name and the subgraphs that resolve it.
    fields: Vec<(String, BTreeSet<usize>)>,
}

/// A federation with its monolith.
pub struct World {
    pub federation: Federation,
    pub monolith: Told,
    pub sdls: Vec<String>,
}

struct Model {
    subgraphs: usize,
    entities: Vec<Entity>,
    values: Vec<ValueType>,
    roots: Vec<Field>,
    rows: usize,
}

/// Makes a federation.
///
/// # Errors
/// If what was made does not compose: a fault, of the maker or of composition.
pub fn world(choices: &mut Choices<'_>) -> Result<World, String> {
    let model = Model::invent(choices);
    let data = model.data(choices);
    let sdls: Vec<String> = (0..model.subgraphs).map(|s| model.sdl(s)).collect();
    let shown = || sdls.join("\n---\n");
    let parsed: Vec<Subgraph> = sdls
        .iter()
        .enumerate()
        .map(|(index, sdl)| Subgraph::parse(&format!("s{index}"), "http://x", sdl))
        .collect::<Result<_, _>>()
        .map_err(|errors| format!("{errors}\n{}", shown()))?;
    let composed = compose(&parsed).map_err(|errors| format!("{errors}\n{}", shown()))?;
    let graph = Supergraph::parse(&composed.supergraph_sdl).map_err(|errors| errors.to_string())?;
    let subgraphs = parsed
        .iter()
        .enumerate()
        .map(|(index, subgraph)| {
            let told = Told::new(subgraph.schema(), Arc::new(model.part(index, &data)))
                .computing(model.compute(Some(index)));
            (subgraph.name.clone(), Arc::new(told))
        })
        .collect();
    let monolith = Told::new(graph.api(), Arc::new(data)).computing(model.compute(None));
    Ok(World {
        federation: Federation {
            graph: Arc::new(graph),
            subgraphs: Arc::new(subgraphs),
            hints: Vec::new(),
        },
        monolith,
        sdls,
    })
}

fn entity_name(index: usize) -> String {
    format!("E{index}")
}

impl Model {
    fn invent(choices: &mut Choices<'_>) -> Self {
        let subgraphs = 2 + choices.below(3);
        let count = 1 + choices.below(3);
        let values: Vec<ValueType> = (0..1 + choices.below(2))
            .map(|value| ValueType {
                fields: (0..1 + choices.below(3))
                    .map(|f| (format!("v{value}f{f}"), choices.some_of(subgraphs, 50)))
                    .collect(),
            })
            .collect();
        let mut model = Self {
            subgraphs,
            entities: Vec::new(),
            values,
            roots: Vec::new(),
            rows: 3,
        };
        for _ in 0..count {
            model.entities.push(Entity {
                fields: Vec::new(),
                keys: Self::keys(choices, subgraphs),
                externals: BTreeSet::new(),
                implements: BTreeSet::new(),
                member: BTreeSet::new(),
            });
        }
        for entity in &mut model.entities {
            let at: Vec<usize> = entity.keys.keys().copied().collect();
            entity.implements = at.iter().copied().filter(|_| choices.chance(60)).collect();
            entity.member = at.iter().copied().filter(|_| choices.chance(60)).collect();
        }
        for index in 0..count {
            let at: BTreeSet<usize> = model.entities[index].keys.keys().copied().collect();
            let fields = (0..1 + choices.below(4))
                .filter_map(|f| model.field(choices, format!("e{index}f{f}"), &at))
                .collect();
            model.entities[index].fields = fields;
            let common = Field {
                name: "common".to_owned(),
                kind: Kind::Int,
                list: false,
                non_null: false,
                owners: at.iter().copied().filter(|_| choices.chance(50)).collect(),
                requires: None,
                provides: None,
                overridden: None,
            };
            let mut common = common;
            if common.owners.is_empty() {
                common.owners.extend(at.iter().take(1));
            }
            model.entities[index].fields.push(common);
        }
        for index in 0..count {
            model.add_requires(choices, index);
            model.add_override(choices, index);
        }
        let everywhere: BTreeSet<usize> = (0..subgraphs).collect();
        model.roots = (0..1 + choices.below(4))
            .filter_map(|f| model.field(choices, format!("q{f}"), &everywhere))
            .collect();
        if model.roots.is_empty() {
            let at = *model.entities[0].keys.keys().next().unwrap_or(&0);
            model.roots.push(Field {
                name: "q0".to_owned(),
                kind: Kind::Entity(0),
                list: false,
                non_null: false,
                owners: BTreeSet::from([at]),
                requires: None,
                provides: None,
                overridden: None,
            });
        }
        model.add_provides(choices);
        model
    }

    /// The subgraphs of an entity with their keys. Either all have `id`, or
    /// one has both keys and so joins those by `id` with those by `sku`.
    fn keys(choices: &mut Choices<'_>, subgraphs: usize) -> BTreeMap<usize, Vec<&'static str>> {
        let at = choices.some_of(subgraphs, 70);
        let bridged = choices.chance(40);
        let bridge = at.iter().copied().nth(choices.below(at.len()));
        at.into_iter()
            .map(|subgraph| {
                let keys = match (bridged, Some(subgraph) == bridge, choices.below(3)) {
                    (false, _, _) | (true, false, 0) => vec!["id"],
                    (true, false, 1) => vec!["sku"],
                    (true, false, _) => vec!["id inner { code }"],
                    (true, true, _) => vec!["id", "sku", "id inner { code }"],
                };
                (subgraph, keys)
            })
            .collect()
    }

    fn field(
        &self,
        choices: &mut Choices<'_>,
        name: String,
        at: &BTreeSet<usize>,
    ) -> Option<Field> {
        let kind = match choices.below(9) {
            0 | 1 => Kind::Int,
            2 => Kind::Text,
            3 | 4 => Kind::Entity(choices.below(self.entities.len())),
            5 | 6 => Kind::Value(choices.below(self.values.len())),
            7 => Kind::Interface,
            _ => Kind::Union,
        };
        let at: Vec<usize> = at.iter().copied().collect();
        let able: Vec<usize> = match &kind {
            Kind::Int | Kind::Text => at,
            Kind::Entity(e) => only(&at, |s| self.entities[*e].keys.contains_key(s)),
            Kind::Value(_) => only(&at, |_| true),
            Kind::Interface => only(&at, |s| {
                self.entities.iter().any(|e| e.implements.contains(s))
            }),
            Kind::Union => only(&at, |s| self.entities.iter().any(|e| e.member.contains(s))),
        };
        if able.is_empty() {
            return None;
        }
        let mut owners: BTreeSet<usize> = choices
            .some_of(able.len(), 25)
            .into_iter()
            .map(|index| able[index])
            .collect();
        if let Kind::Value(value) = kind {
            // Each field of a value type must be had somewhere on the way.
            for (_, resolved) in &self.values[value].fields {
                if resolved.is_disjoint(&owners) {
                    owners.extend(able.iter().find(|s| resolved.contains(s)));
                }
                if resolved.is_disjoint(&owners) {
                    return None;
                }
            }
            // A subgraph that has none of its fields cannot define it.
            owners.retain(|s| self.values[value].fields.iter().any(|(_, r)| r.contains(s)));
        }
        if matches!(kind, Kind::Interface | Kind::Union)
            && owners.len() > 1
            && !self.agree(&kind, &owners)
        {
            owners = owners.into_iter().take(1).collect();
        }
        Some(Field {
            name,
            kind,
            list: choices.chance(35),
            non_null: choices.chance(30),
            owners,
            requires: None,
            provides: None,
            overridden: None,
        })
    }

    /// Whether all owners answer the same types: one that is shared must mean
    /// the same everywhere.
    fn agree(&self, kind: &Kind, owners: &BTreeSet<usize>) -> bool {
        let mut each = owners.iter().map(|s| self.possible(kind, *s));
        let first = each.next();
        each.all(|possible| Some(possible) == first)
    }

    fn possible(&self, kind: &Kind, subgraph: usize) -> Vec<usize> {
        (0..self.entities.len())
            .filter(|index| match kind {
                Kind::Interface => self.entities[*index].implements.contains(&subgraph),
                Kind::Union => self.entities[*index].member.contains(&subgraph),
                Kind::Entity(entity) => entity == index,
                _ => false,
            })
            .collect()
    }

    fn add_requires(&mut self, choices: &mut Choices<'_>, index: usize) {
        if !choices.chance(45) {
            return;
        }
        let entity = &self.entities[index];
        let wanted: Vec<(String, BTreeSet<usize>)> = entity
            .fields
            .iter()
            .filter(|f| matches!(f.kind, Kind::Int | Kind::Text) && f.requires.is_none())
            .map(|f| (f.name.clone(), f.owners.clone()))
            .collect();
        if wanted.is_empty() {
            return;
        }
        let (wanted, owners) = wanted[choices.below(wanted.len())].clone();
        let others: Vec<usize> = entity
            .keys
            .keys()
            .copied()
            .filter(|s| !owners.contains(s))
            .collect();
        if others.is_empty() {
            return;
        }
        let owner = others[choices.below(others.len())];
        let entity = &mut self.entities[index];
        entity.externals.insert((owner, wanted.clone()));
        entity.fields.push(Field {
            name: format!("e{index}req"),
            kind: Kind::Text,
            list: false,
            non_null: false,
            owners: BTreeSet::from([owner]),
            requires: Some(wanted),
            provides: None,
            overridden: None,
        });
        // One that is computed from a computed one.
        let chained: Vec<usize> = entity
            .keys
            .keys()
            .copied()
            .filter(|s| *s != owner)
            .collect();
        if choices.chance(50) && !chained.is_empty() {
            let last = chained[choices.below(chained.len())];
            entity.externals.insert((last, format!("e{index}req")));
            entity.fields.push(Field {
                name: format!("e{index}again"),
                kind: Kind::Text,
                list: false,
                non_null: false,
                owners: BTreeSet::from([last]),
                requires: Some(format!("e{index}req")),
                provides: None,
                overridden: None,
            });
        }
    }

    fn add_override(&mut self, choices: &mut Choices<'_>, index: usize) {
        if !choices.chance(30) {
            return;
        }
        let externals = self.entities[index].externals.clone();
        let at: Vec<usize> = self.entities[index].keys.keys().copied().collect();
        let from = at[choices.below(at.len())];
        let field = self.entities[index].fields.iter_mut().find(|f| {
            f.owners.len() == 1
                && !f.owners.contains(&from)
                && f.requires.is_none()
                && matches!(f.kind, Kind::Int | Kind::Text)
                && f.name != "common"
                && !externals.iter().any(|(_, name)| *name == f.name)
        });
        if let Some(field) = field {
            field.overridden = Some(from);
        }
    }

    fn add_provides(&mut self, choices: &mut Choices<'_>) {
        let mut provided: Vec<(usize, usize, String)> = Vec::new();
        let entities = self.entities.clone();
        let places = self
            .roots
            .iter_mut()
            .chain(self.entities.iter_mut().flat_map(|e| e.fields.iter_mut()));
        for field in places {
            let (Kind::Entity(target), 1) = (&field.kind, field.owners.len()) else {
                continue;
            };
            let target = *target;
            let Some(owner) = field.owners.first().copied() else {
                continue;
            };
            if !choices.chance(40) {
                continue;
            }
            let able = entities[target].fields.iter().find(|f| {
                matches!(f.kind, Kind::Int | Kind::Text)
                    && f.requires.is_none()
                    && !f.owners.contains(&owner)
                    && f.overridden != Some(owner)
            });
            if let Some(able) = able {
                field.provides = Some(able.name.clone());
                provided.push((target, owner, able.name.clone()));
            }
        }
        for (target, owner, name) in provided {
            self.entities[target].externals.insert((owner, name));
        }
    }

    fn sdl(&self, subgraph: usize) -> String {
        let mut out = String::from(
            "extend schema @link(url: \"https://specs.apollo.dev/federation/v2.5\", import: [\"@key\", \"@shareable\", \"@external\", \"@requires\", \"@provides\", \"@override\"])\n",
        );
        let roots: String = self
            .roots
            .iter()
            .filter(|f| f.owners.contains(&subgraph))
            .map(|f| self.field_sdl(f, subgraph, None))
            .collect();
        if !roots.is_empty() {
            let _ = writeln!(out, "type Query {{\n{roots}}}");
        }
        let mut implementers = Vec::new();
        let mut members = Vec::new();
        for (index, entity) in self.entities.iter().enumerate() {
            let Some(keys) = entity.keys.get(&subgraph) else {
                continue;
            };
            let mut fields = String::new();
            if keys.iter().any(|key| key.contains("id")) {
                fields.push_str("  id: ID!\n");
            }
            if keys.contains(&"sku") {
                fields.push_str("  sku: String!\n");
            }
            if keys.iter().any(|key| key.contains("inner")) {
                fields.push_str("  inner: Inner! @shareable\n");
            }
            for field in &entity.fields {
                if field.owners.contains(&subgraph) {
                    fields.push_str(&self.field_sdl(field, subgraph, None));
                } else if field.overridden == Some(subgraph) {
                    let plain = Field {
                        overridden: None,
                        ..field.clone()
                    };
                    fields.push_str(&self.field_sdl(&plain, subgraph, None));
                } else if entity.externals.contains(&(subgraph, field.name.clone())) {
                    fields.push_str(&self.field_sdl(field, subgraph, Some("@external")));
                }
            }
            let keys: String = keys
                .iter()
                .map(|key| format!(" @key(fields: \"{key}\")"))
                .collect();
            let implements = entity.implements.contains(&subgraph);
            let _ = writeln!(
                out,
                "type {}{}{keys} {{\n{fields}}}",
                entity_name(index),
                if implements { " implements I " } else { "" },
            );
            if implements {
                implementers.push(entity);
            }
            if entity.member.contains(&subgraph) {
                members.push(entity_name(index));
            }
        }
        if out.contains("Inner!") {
            out.push_str("type Inner @shareable { code: String! }\n");
        }
        if !implementers.is_empty() {
            let common = implementers.iter().all(|entity| {
                entity
                    .fields
                    .iter()
                    .any(|f| f.name == "common" && f.owners.contains(&subgraph))
            });
            let marker = if common { "  common: Int\n" } else { "" };
            let _ = writeln!(out, "interface I {{\n  tag: Int\n{marker}}}");
            // Each implementer has the interface's own field.
            for index in 0..self.entities.len() {
                if self.entities[index].implements.contains(&subgraph) {
                    let head = format!("type {} implements I ", entity_name(index));
                    if let Some(at) = out.find(&head)
                        && let Some(open) = out[at..].find("{\n")
                    {
                        out.insert_str(at + open + 2, "  tag: Int @shareable\n");
                    }
                }
            }
        }
        if !members.is_empty() {
            let _ = writeln!(out, "union U = {}", members.join(" | "));
        }
        for (index, value) in self.values.iter().enumerate() {
            let fields: String = value
                .fields
                .iter()
                .filter(|(_, owners)| owners.contains(&subgraph))
                .map(|(name, _)| format!("  {name}: Int @shareable\n"))
                .collect();
            if !fields.is_empty() && out.contains(&format!("V{index}")) {
                let _ = writeln!(out, "type V{index} {{\n{fields}}}");
            }
        }
        out
    }

    fn field_sdl(&self, field: &Field, _subgraph: usize, directive: Option<&str>) -> String {
        let named = match &field.kind {
            Kind::Int => "Int".to_owned(),
            Kind::Text => "String".to_owned(),
            Kind::Entity(entity) => entity_name(*entity),
            Kind::Value(value) => format!("V{value}"),
            Kind::Interface => "I".to_owned(),
            Kind::Union => "U".to_owned(),
        };
        let mut ty = named;
        if field.list {
            ty = format!("[{ty}]");
        }
        if field.non_null {
            ty.push('!');
        }
        let mut directives = String::new();
        match directive {
            Some(directive) => {
                let _ = write!(directives, " {directive}");
            }
            None => {
                if field.owners.len() > 1 || self.is_provided(&field.name) {
                    directives.push_str(" @shareable");
                }
                if let Some(requires) = &field.requires {
                    let _ = write!(directives, " @requires(fields: \"{requires}\")");
                }
                if let Some(provides) = &field.provides {
                    let _ = write!(directives, " @provides(fields: \"{provides}\")");
                }
                if let Some(from) = field.overridden {
                    let _ = write!(directives, " @override(from: \"s{from}\")");
                }
            }
        }
        format!("  {}: {ty}{directives}\n", field.name)
    }

    /// Names of fields are unique, but for `common`.
    fn is_provided(&self, name: &str) -> bool {
        self.roots
            .iter()
            .chain(self.entities.iter().flat_map(|e| &e.fields))
            .any(|field| field.provides.as_deref() == Some(name))
    }

    /// The whole data.
    fn data(&self, choices: &mut Choices<'_>) -> Value {
        let mut data = Map::new();
        for (index, entity) in self.entities.iter().enumerate() {
            let rows: Vec<Value> = (0..self.rows)
                .map(|row| {
                    let mut fields = Map::from_iter([
                        ("_row".to_owned(), json!(row)),
                        ("id".to_owned(), json!(format!("{index}-{row}"))),
                        ("sku".to_owned(), json!(format!("sku{row}"))),
                        ("inner".to_owned(), json!({ "code": format!("c{row}") })),
                        ("tag".to_owned(), json!(row)),
                    ]);
                    for field in entity.fields.iter().filter(|f| f.requires.is_none()) {
                        fields.insert(field.name.clone(), self.value(choices, field));
                    }
                    Value::Object(fields)
                })
                .collect();
            data.insert(entity_name(index), Value::Array(rows));
        }
        let roots = self
            .roots
            .iter()
            .map(|field| (field.name.clone(), self.value(choices, field)))
            .collect();
        data.insert("Query".to_owned(), Value::Object(roots));
        Value::Object(data)
    }

    fn value(&self, choices: &mut Choices<'_>, field: &Field) -> Value {
        if !field.non_null && choices.chance(12) {
            return Value::Null;
        }
        if field.list {
            let items = (0..choices.below(4))
                .map(|_| {
                    if choices.chance(10) {
                        Value::Null
                    } else {
                        self.item(choices, field)
                    }
                })
                .collect();
            return Value::Array(items);
        }
        self.item(choices, field)
    }

    fn item(&self, choices: &mut Choices<'_>, field: &Field) -> Value {
        let any = field.owners.first().copied().unwrap_or(0);
        match &field.kind {
            Kind::Int => json!(choices.below(1000)),
            Kind::Text => json!(format!("t{}", choices.below(1000))),
            Kind::Value(value) => Value::Object(
                self.values[*value]
                    .fields
                    .iter()
                    .map(|(name, _)| (name.clone(), json!(choices.below(1000))))
                    .collect(),
            ),
            kind => {
                let possible = self.possible(kind, any);
                let ty = possible[choices.below(possible.len())];
                json!({ "__typename": entity_name(ty), "_row": choices.below(self.rows) })
            }
        }
    }

    /// What one subgraph knows of the data.
    fn part(&self, subgraph: usize, data: &Value) -> Value {
        let mut part = Map::new();
        for (index, entity) in self.entities.iter().enumerate() {
            if !entity.keys.contains_key(&subgraph) {
                continue;
            }
            let rows = data[entity_name(index)]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let rows = rows
                .into_iter()
                .map(|row| {
                    let mut known = Map::new();
                    for name in ["_row", "id", "sku", "inner", "tag"] {
                        known.insert(name.to_owned(), row[name].clone());
                    }
                    for field in &entity.fields {
                        if field.owners.contains(&subgraph) && field.requires.is_none() {
                            let value = row[&field.name].clone();
                            known.insert(field.name.clone(), self.told(field, value, data));
                        }
                    }
                    Value::Object(known)
                })
                .collect();
            part.insert(entity_name(index), Value::Array(rows));
        }
        let roots = self
            .roots
            .iter()
            .filter(|f| f.owners.contains(&subgraph))
            .map(|f| {
                let value = data["Query"][&f.name].clone();
                (f.name.clone(), self.told(f, value, data))
            })
            .collect();
        part.insert("Query".to_owned(), Value::Object(roots));
        Value::Object(part)
    }

    /// A reference with what it provides.
    fn told(&self, field: &Field, value: Value, data: &Value) -> Value {
        let Some(provides) = &field.provides else {
            return value;
        };
        match value {
            Value::Array(items) => items
                .into_iter()
                .map(|item| self.told(field, item, data))
                .collect(),
            Value::Object(mut reference) => {
                let ty = reference["__typename"].as_str().unwrap_or_default();
                let row = reference["_row"].as_u64().unwrap_or(0);
                let row = usize::try_from(row).unwrap_or(0);
                let given = data[ty][row][provides].clone();
                reference.insert(provides.clone(), given);
                Value::Object(reference)
            }
            other => other,
        }
    }

    /// Computed fields; in a subgraph, poison for what it must not be asked.
    fn compute(&self, subgraph: Option<usize>) -> Arc<Compute> {
        let mut computed: HashMap<(String, String), String> = HashMap::new();
        let mut poisoned: BTreeSet<(String, String)> = BTreeSet::new();
        for (index, entity) in self.entities.iter().enumerate() {
            for field in &entity.fields {
                let at = (entity_name(index), field.name.clone());
                if let Some(requires) = &field.requires {
                    computed.insert(at.clone(), requires.clone());
                }
                if let Some(subgraph) = subgraph
                    && !field.owners.contains(&subgraph)
                {
                    poisoned.insert(at);
                }
            }
        }
        Arc::new(move |ty, name, fields| {
            let mut at = (ty.to_owned(), name.to_owned());
            if poisoned.contains(&at) && !fields.contains_key(name) {
                return Some(json!(-1));
            }
            // The monolith computes what subgraphs are sent.
            let mut text = String::new();
            let mut depth = 0;
            while let Some(requires) = computed.get(&at) {
                if let Some(known) = fields.get(name).filter(|_| depth == 0) {
                    return Some(known.clone());
                }
                text.push_str("f(");
                depth += 1;
                if let Some(known) = fields.get(requires) {
                    match known {
                        Value::String(known) => text.push_str(known),
                        other => {
                            let _ = write!(text, "{other}");
                        }
                    }
                    break;
                }
                if !computed.contains_key(&(ty.to_owned(), requires.clone())) || subgraph.is_some()
                {
                    text.push_str("poison");
                    break;
                }
                at.1 = requires.clone();
            }
            (depth > 0).then(|| Value::String(text + &")".repeat(depth)))
        })
    }
}

fn only(from: &[usize], keep: impl Fn(&usize) -> bool) -> Vec<usize> {
    from.iter().copied().filter(|s| keep(s)).collect()
}

/// A query over the schema that clients see.
pub fn query(schema: &Schema, choices: &mut Choices<'_>) -> String {
    let mut writer = Writer {
        schema,
        choices,
        aliases: 0,
        left: 40,
    };
    let mut out = String::from("query ($yes: Boolean! = true, $no: Boolean! = false) ");
    let mut body = String::new();
    writer.selections("Query", 0, &mut body);
    out.push_str(&body);
    for variable in ["$yes", "$no"] {
        if !body.contains(variable) {
            out = out.replace(
                &format!("{variable}: Boolean! = {}", variable == "$yes"),
                "",
            );
        }
    }
    out.replace("query (, )", "query")
        .replace("(, ", "(")
        .replace(", )", ")")
}

struct Writer<'a, 'c, 'v> {
    schema: &'a Schema,
    choices: &'c mut Choices<'v>,
    aliases: usize,
    left: usize,
}

impl Writer<'_, '_, '_> {
    fn selections(&mut self, ty: &str, depth: usize, out: &mut String) {
        out.push('{');
        let before = out.len();
        let fields: Vec<(Name, Name)> = match self.schema.types.get(ty) {
            Some(ExtendedType::Object(object)) => names(&object.fields),
            Some(ExtendedType::Interface(interface)) => names(&interface.fields),
            _ => Vec::new(),
        };
        for (name, answers) in &fields {
            if self.left == 0 || !self.choices.chance(55) {
                continue;
            }
            let composite = self
                .schema
                .types
                .get(answers)
                .is_some_and(|ty| !ty.is_leaf());
            if composite && depth >= 4 {
                continue;
            }
            self.left -= 1;
            out.push(' ');
            if self.choices.chance(15) {
                self.aliases += 1;
                let _ = write!(out, "a{}: ", self.aliases);
            }
            out.push_str(name);
            match self.choices.below(20) {
                18 => out.push_str(" @include(if: $yes)"),
                19 => out.push_str(" @skip(if: $no)"),
                17 => out.push_str(" @include(if: $no)"),
                _ => {}
            }
            if composite {
                self.selections(answers, depth + 1, out);
            }
        }
        let members: Vec<Name> = match self.schema.types.get(ty) {
            Some(ExtendedType::Union(union)) => union
                .members
                .iter()
                .map(|member| member.name.clone())
                .collect(),
            Some(ExtendedType::Interface(_)) => self
                .schema
                .types
                .iter()
                .filter(|(_, other)| {
                    other.as_object().is_some_and(|object| {
                        object.implements_interfaces.iter().any(|i| i.name == ty)
                    })
                })
                .map(|(name, _)| name.clone())
                .collect(),
            _ => Vec::new(),
        };
        for member in members {
            if self.left > 0 && self.choices.chance(60) {
                let _ = write!(out, " ... on {member}");
                self.selections(&member, depth, out);
            }
        }
        if ty.starts_with('U')
            && self.left > 0
            && self.choices.chance(30)
            && self.schema.types.contains_key("I")
        {
            out.push_str(" ... on I");
            self.selections("I", depth, out);
        }
        if out.len() == before || self.choices.chance(15) {
            out.push_str(" __typename");
        }
        out.push_str(" }");
    }
}

fn names(
    fields: &apollo_compiler::collections::IndexMap<
        Name,
        apollo_compiler::schema::Component<apollo_compiler::ast::FieldDefinition>,
    >,
) -> Vec<(Name, Name)> {
    fields
        .values()
        .map(|field| (field.name.clone(), field.ty.inner_named_type().clone()))
        .collect()
}
