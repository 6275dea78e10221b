//! Who may see what: `@authenticated`, `@requiresScopes` and `@policy`.
//!
//! A field is denied when its own demands, or those of the type it answers,
//! are not met; a field of an interface carries the demands of every
//! implementation, an implementation those of its interfaces, and a field with
//! `@requires` those of what it requires. What is denied is left out of the plan, answered as null,
//! and told in an error.

use std::collections::{BTreeSet, HashMap};

use apollo_compiler::ast::{Directive, Value};
use apollo_compiler::schema::ExtendedType;
use apollo_compiler::{Name, Schema};

use crate::subgraph::fields_of;

/// The number of a demand in the graph's table.
pub type DemandId = u32;

/// What must hold for a client: all that is set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Demand {
    pub authenticated: bool,
    /// One of these, with every scope in it.
    pub scopes: Vec<Vec<String>>,
    /// One of these, with every policy in it.
    pub policies: Vec<Vec<String>>,
}

/// What a client has been granted; by default nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    pub authenticated: bool,
    pub scopes: BTreeSet<String>,
    pub policies: BTreeSet<String>,
}

impl Demand {
    pub fn is_met(&self, grants: &Grants) -> bool {
        let any = |options: &[Vec<String>], granted: &BTreeSet<String>| {
            options.is_empty()
                || options
                    .iter()
                    .any(|all| all.iter().all(|one| granted.contains(one)))
        };
        (!self.authenticated || grants.authenticated)
            && any(&self.scopes, &grants.scopes)
            && any(&self.policies, &grants.policies)
    }
}

/// The demands of a graph.
#[derive(Debug, Default)]
pub(crate) struct Access {
    pub table: Vec<Demand>,
    types: HashMap<Name, BTreeSet<DemandId>>,
    fields: HashMap<(Name, Name), BTreeSet<DemandId>>,
}

impl Access {
    pub fn read(schema: &Schema) -> Self {
        let mut access = Self::default();
        for (name, ty) in &schema.types {
            if let Some(id) = access.demand(ty.directives().iter().map(|d| &*d.node)) {
                access.types.entry(name.clone()).or_default().insert(id);
            }
            for field in fields_of(ty).into_iter().flat_map(|fields| fields.values()) {
                if let Some(id) = access.demand(field.directives.iter().map(|d| &**d)) {
                    access.add((name.clone(), field.name.clone()), [id]);
                }
            }
        }
        access
    }

    /// Adds demands to a field.
    pub fn add(&mut self, at: (Name, Name), demands: impl IntoIterator<Item = DemandId>) {
        self.fields.entry(at).or_default().extend(demands);
    }

    /// Lets what interfaces ask for hold for their objects as well: nobody
    /// shall see by an object's own name what the interface closes.
    pub fn inherit(&mut self, schema: &Schema) {
        for (name, ty) in &schema.types {
            let ExtendedType::Object(object) = ty else {
                continue;
            };
            for interface in &object.implements_interfaces {
                if let Some(demands) = self.types.get(&interface.name).cloned() {
                    self.types.entry(name.clone()).or_default().extend(demands);
                }
                for field in object.fields.keys() {
                    let theirs = (interface.name.clone(), field.clone());
                    if let Some(demands) = self.fields.get(&theirs).cloned() {
                        self.add((name.clone(), field.clone()), demands);
                    }
                }
            }
        }
    }

    fn demand<'d>(&mut self, directives: impl Iterator<Item = &'d Directive>) -> Option<DemandId> {
        let mut demand = Demand::default();
        for directive in directives {
            match directive.name.as_str() {
                "authenticated" => demand.authenticated = true,
                "requiresScopes" => demand.scopes = options(directive, "scopes"),
                "policy" => demand.policies = options(directive, "policies"),
                _ => {}
            }
        }
        if demand == Demand::default() {
            return None;
        }
        let known = self.table.iter().position(|known| *known == demand);
        let index = known.unwrap_or_else(|| {
            self.table.push(demand);
            self.table.len() - 1
        });
        u32::try_from(index).ok()
    }

    /// What a type asks for; of an abstract one, what each of its objects does.
    pub fn of_type<'a>(
        &'a self,
        schema: &'a Schema,
        ty: &'a Name,
        possible: &'a [Name],
    ) -> impl Iterator<Item = DemandId> + 'a {
        // Objects of a union are told apart by fragments, which are checked.
        let inherited = match schema.types.get(ty) {
            Some(ExtendedType::Interface(_)) => possible,
            _ => &[],
        };
        std::iter::once(ty)
            .chain(inherited)
            .filter_map(|ty| self.types.get(ty))
            .flatten()
            .copied()
    }

    /// What a field itself asks for.
    pub fn of_field<'a>(
        &'a self,
        ty: &'a Name,
        possible: &'a [Name],
        field: &'a Name,
    ) -> impl Iterator<Item = DemandId> + 'a {
        std::iter::once(ty)
            .chain(possible.iter().filter(move |object| *object != ty))
            .filter_map(|ty| self.fields.get(&(ty.clone(), field.clone())))
            .flatten()
            .copied()
    }
}

fn options(directive: &Directive, argument: &str) -> Vec<Vec<String>> {
    let Some(Value::List(items)) = directive
        .specified_argument_by_name(argument)
        .map(|value| &**value)
    else {
        return Vec::new();
    };
    items
        .iter()
        .map(|item| match &**item {
            Value::List(inner) => inner
                .iter()
                .filter_map(|text| Some(text.as_str()?.to_owned()))
                .collect(),
            other => other.as_str().map(str::to_owned).into_iter().collect(),
        })
        .collect()
}
