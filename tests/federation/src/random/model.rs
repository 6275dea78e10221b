//! The generated model: types, the subgraphs of each field, and keys.

use std::collections::{BTreeMap, BTreeSet};

use super::Choices;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Int,
    Text,
    Entity(usize),
    Value(usize),
    Interface,
    Union,
}

#[derive(Debug, Clone)]
pub(super) struct Field {
    pub name: String,
    pub kind: Kind,
    pub list: bool,
    pub non_null: bool,
    /// The subgraphs that resolve it.
    pub owners: BTreeSet<usize>,
    /// A field that it is computed from; it then has a single owner.
    pub requires: Option<String>,
    /// A field of the returned entity that it provides; it then has a single owner.
    pub provides: Option<String>,
    /// A subgraph that still defines the field, but whose field the owner overrides.
    pub overridden: Option<usize>,
}

#[derive(Debug, Clone)]
pub(super) struct Entity {
    pub fields: Vec<Field>,
    /// The subgraphs that define it, each with its keys.
    pub keys: BTreeMap<usize, Vec<&'static str>>,
    /// External fields, by subgraph: declared but not resolved there.
    pub externals: BTreeSet<(usize, String)>,
    /// The subgraphs where it implements the interface, and where it is in the union.
    pub implements: BTreeSet<usize>,
    pub member: BTreeSet<usize>,
    /// A subgraph where the key field `id` is external, and whether it extends the entity,
    /// so that it resolves the field all the same.
    pub external_id: Option<(usize, bool)>,
}

#[derive(Debug, Clone)]
pub(super) struct ValueType {
    /// Name and the subgraphs that resolve it.
    pub fields: Vec<(String, BTreeSet<usize>)>,
}

/// An entity that only the mutation `pay` returns, in all its subgraphs. One of them cannot
/// be entered, so that its field is resolved only if the mutation is called there.
pub(super) struct Payload {
    pub start: usize,
    /// The others, which the key leads to.
    pub entered: BTreeSet<usize>,
}

pub(super) struct Model {
    pub subgraphs: usize,
    pub entities: Vec<Entity>,
    pub values: Vec<ValueType>,
    pub roots: Vec<Field>,
    pub mutations: Vec<Field>,
    /// What a shareable mutation returns.
    pub payload: Option<Payload>,
    /// Set if an additional, last subgraph defines the interface as an interface object: the
    /// subgraph where the interface has its key.
    pub holder: Option<usize>,
    /// A subgraph written in Federation 1, if any.
    pub old: Option<usize>,
    pub rows: usize,
}

pub(super) fn entity_name(index: usize) -> String {
    format!("E{index}")
}

impl Model {
    pub(super) fn generate(choices: &mut Choices<'_>) -> Self {
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
            mutations: Vec::new(),
            payload: None,
            holder: None,
            old: None,
            rows: 3,
        };
        for _ in 0..count {
            model.entities.push(Entity {
                fields: Vec::new(),
                keys: Self::keys(choices, subgraphs),
                externals: BTreeSet::new(),
                implements: BTreeSet::new(),
                member: BTreeSet::new(),
                external_id: None,
            });
        }
        model.add_external_keys(choices);
        for entity in &mut model.entities {
            let at: Vec<usize> = entity.keys.keys().copied().collect();
            entity.implements = at.iter().copied().filter(|_| choices.chance(60)).collect();
            entity.member = at.iter().copied().filter(|_| choices.chance(60)).collect();
        }
        model.add_holder(choices);
        // Fields come after all entities, because they may refer to any of them.
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
        model.add_part(choices);
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
        model.add_mutations(choices);
        model.add_payload(choices);
        model.add_provides(choices);
        let old = choices.below(subgraphs);
        let overrides = |field: &Field| field.overridden.is_some() && field.owners.contains(&old);
        let mut fields = model.entities.iter().flat_map(|entity| &entity.fields);
        // A Federation 1 subgraph must define a type, and Federation 1 has no interface
        // objects, nor keys that do not resolve.
        let fits = model.entities.iter().any(|e| e.keys.contains_key(&old))
            && model
                .payload
                .as_ref()
                .is_none_or(|payload| payload.start != old)
            && (model.holder.is_none()
                || model.entities.iter().all(|e| !e.implements.contains(&old)));
        if choices.chance(30) && fits && !fields.any(overrides) {
            model.old = Some(old);
        }
        model
    }

    /// Gives the interface a key in one subgraph, which must define that key on all of its
    /// types, and adds a subgraph that defines it as an interface object.
    fn add_holder(&mut self, choices: &mut Choices<'_>) {
        let home = choices.below(self.subgraphs);
        if !choices.chance(40) {
            return;
        }
        for entity in &mut self.entities {
            let keyed = entity
                .keys
                .get(&home)
                .is_some_and(|keys| keys.contains(&"id"))
                && entity.external_id.is_none_or(|(at, _)| at != home);
            if !keyed || !entity.implements.contains(&home) {
                entity.implements.clear();
            }
        }
        if self.entities.iter().any(|e| e.implements.contains(&home)) {
            self.holder = Some(home);
        }
    }

    /// Fields of `Mutation`, each of one subgraph, that return an entity.
    fn add_mutations(&mut self, choices: &mut Choices<'_>) {
        for index in 0..choices.below(4) {
            let entity = choices.below(self.entities.len());
            let at: Vec<usize> = self.entities[entity].keys.keys().copied().collect();
            let owner = at[choices.below(at.len())];
            self.mutations.push(Field {
                name: format!("m{index}"),
                kind: Kind::Entity(entity),
                list: choices.chance(30),
                non_null: false,
                owners: BTreeSet::from([owner]),
                requires: None,
                provides: None,
                overridden: None,
            });
        }
    }

    /// The subgraphs of an entity with their keys. Either all have `id`, or one has all keys
    /// and so connects subgraphs with different keys.
    pub(super) fn keys(
        choices: &mut Choices<'_>,
        subgraphs: usize,
    ) -> BTreeMap<usize, Vec<&'static str>> {
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

    pub(super) fn field(
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
            owners = self.value_owners(value, &able, owners)?;
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

    /// Whether all owners can return the same types: a shared field must mean the same in
    /// every subgraph.
    pub(super) fn agree(&self, kind: &Kind, owners: &BTreeSet<usize>) -> bool {
        let mut each = owners.iter().map(|s| self.possible(kind, *s));
        let first = each.next();
        each.all(|possible| Some(possible) == first)
    }

    pub(super) fn possible(&self, kind: &Kind, subgraph: usize) -> Vec<usize> {
        (0..self.entities.len())
            .filter(|index| match kind {
                Kind::Interface => self.entities[*index].implements.contains(&subgraph),
                Kind::Union => self.entities[*index].member.contains(&subgraph),
                Kind::Entity(entity) => entity == index,
                _ => false,
            })
            .collect()
    }

    pub(super) fn add_requires(&mut self, choices: &mut Choices<'_>, index: usize) {
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
        // A field that is computed from a computed field.
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

    pub(super) fn add_override(&mut self, choices: &mut Choices<'_>, index: usize) {
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

    pub(super) fn add_provides(&mut self, choices: &mut Choices<'_>) {
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
}

fn only(from: &[usize], keep: impl Fn(&usize) -> bool) -> Vec<usize> {
    from.iter().copied().filter(|s| keep(s)).collect()
}
