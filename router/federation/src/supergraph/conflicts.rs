//! Fields with the same name that GraphQL could not merge at one place.
//!
//! Source: GraphQL October 2021, section 5.3.2 (SameResponseShape).

use std::collections::BTreeSet;

use apollo_compiler::Name;
use apollo_compiler::ast::Type;
use apollo_compiler::collections::{HashMap, HashSet};

use super::{SubgraphId, Supergraph};

/// The most sets of types that are checked.
const MAX_TOGETHER: usize = 5_000;

impl Supergraph {
    /// Finds conflicts among types that can occur at one place: those of one abstract
    /// type, and those that fields with the same name return there.
    pub(super) fn find_conflicts(&self) -> HashSet<Name> {
        let mut conflicts = HashSet::default();
        let mut queue: Vec<BTreeSet<&Name>> = self
            .possible
            .values()
            .map(|types| types.iter().collect())
            .collect();
        let mut known: HashSet<BTreeSet<&Name>> = queue.iter().cloned().collect();
        while let Some(together) = queue.pop() {
            let mut seen: HashMap<(SubgraphId, &Name), String> = HashMap::default();
            let mut below: HashMap<&Name, BTreeSet<&Name>> = HashMap::default();
            for ty in together {
                let Some(info) = self.types.get(ty) else {
                    continue;
                };
                for (field, joins) in &info.fields {
                    for id in joins.keys() {
                        let Some(answers) = self.field_type_in(*id, ty, field) else {
                            continue;
                        };
                        let named = answers.inner_named_type();
                        if self.is_composite(named) {
                            below
                                .entry(field)
                                .or_default()
                                .extend(self.possible_types(named));
                        }
                        let shape = self.response_shape(answers);
                        let first = seen.entry((*id, field)).or_insert_with(|| shape.clone());
                        if *first != shape {
                            conflicts.insert(field.clone());
                        }
                    }
                }
            }
            for types in below.into_values() {
                if types.len() > 1 && known.len() < MAX_TOGETHER && known.insert(types.clone()) {
                    queue.push(types);
                }
            }
        }
        conflicts
    }

    /// The part of a type that must be equal for two fields with the same response key.
    fn response_shape(&self, ty: &Type) -> String {
        match ty {
            Type::NonNullNamed(name) => {
                format!("{}!", self.response_shape(&Type::Named(name.clone())))
            }
            Type::NonNullList(item) => format!("[{}]!", self.response_shape(item)),
            Type::List(item) => format!("[{}]", self.response_shape(item)),
            Type::Named(name) if self.is_composite(name) => "{}".to_owned(),
            Type::Named(name) => name.to_string(),
        }
    }
}
