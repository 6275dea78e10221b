//! What only some subgraphs can complete: value types below an interface, the payload of a
//! shareable mutation, and keys that a subgraph mentions without resolving them.

use std::collections::BTreeSet;

use super::Choices;
use super::model::{Field, Kind, Model, Payload};

impl Model {
    /// Extends the owners of a field that returns a value type, so that each of its fields
    /// is resolved by one of them; `None` if that is impossible.
    pub(super) fn value_owners(
        &self,
        value: usize,
        able: &[usize],
        mut owners: BTreeSet<usize>,
    ) -> Option<BTreeSet<usize>> {
        let fields = &self.values[value].fields;
        for (_, resolved) in fields {
            if resolved.is_disjoint(&owners) {
                owners.extend(able.iter().find(|s| resolved.contains(s)));
            }
            if resolved.is_disjoint(&owners) {
                return None;
            }
        }
        // A subgraph that resolves none of its fields cannot define the type.
        owners.retain(|s| fields.iter().any(|(_, resolved)| resolved.contains(s)));
        Some(owners)
    }

    /// Gives every entity, and so the interface, a field that returns a value type. The
    /// subgraph that returns the interface may resolve only a part of it.
    pub(super) fn add_part(&mut self, choices: &mut Choices<'_>) {
        if !choices.chance(60) {
            return;
        }
        let value = choices.below(self.values.len());
        let list = choices.chance(35);
        let mut all = Vec::new();
        for entity in &self.entities {
            let at: Vec<usize> = entity.keys.keys().copied().collect();
            let some = choices.some_of(at.len(), 40);
            let owners = some.into_iter().map(|index| at[index]).collect();
            match self.value_owners(value, &at, owners) {
                Some(owners) => all.push(owners),
                None => return,
            }
        }
        for (entity, owners) in self.entities.iter_mut().zip(all) {
            entity.fields.push(Field {
                name: "part".to_owned(),
                kind: Kind::Value(value),
                list,
                non_null: false,
                owners,
                requires: None,
                provides: None,
                overridden: None,
            });
        }
    }

    /// Makes `id` external in one subgraph of an entity, and adds a key by which another
    /// one that resolves it is reached.
    pub(super) fn add_external_keys(&mut self, choices: &mut Choices<'_>) {
        for entity in &mut self.entities {
            let at: Vec<usize> = entity.keys.keys().copied().collect();
            let plain = entity.keys.values().all(|keys| *keys == ["id"]);
            if at.len() < 2 || !plain || !choices.chance(50) {
                continue;
            }
            let first = choices.below(at.len());
            let second = (first + 1 + choices.below(at.len() - 1)) % at.len();
            for subgraph in [at[first], at[second]] {
                entity.keys.insert(subgraph, vec!["id", "sku"]);
            }
            entity.external_id = Some((at[first], choices.chance(25)));
        }
    }

    pub(super) fn add_payload(&mut self, choices: &mut Choices<'_>) {
        if !choices.chance(35) {
            return;
        }
        let start = choices.below(self.subgraphs);
        let mut entered = choices.some_of(self.subgraphs, 50);
        entered.remove(&start);
        if !entered.is_empty() {
            self.payload = Some(Payload { start, entered });
        }
    }

    /// A subgraph's definition of the payload, if it has it.
    pub(super) fn payload_sdl(&self, subgraph: usize) -> Option<String> {
        let payload = self.payload.as_ref()?;
        if payload.start == subgraph {
            let key = "@key(fields: \"id\", resolvable: false)";
            return Some(format!("type P {key} {{ id: ID! start: Int }}\n"));
        }
        payload
            .entered
            .contains(&subgraph)
            .then(|| format!("type P @key(fields: \"id\") {{ id: ID! entered{subgraph}: Int }}\n"))
    }
}
