//! Access control: `@authenticated`, `@requiresScopes` and `@policy`.
//!
//! A demand is what such directives require of a client. A field is denied when
//! its own demands, or those of the type it returns, are not met; a field of an
//! interface has the demands of every implementation, an implementation those of
//! its interfaces, and a field with `@requires` or a context those of the fields
//! that it reads. A denied field is left out of the plan, is null in the response,
//! and is reported in an error.

use std::collections::BTreeSet;

use apollo_compiler::ast::{Directive, Value};
use apollo_compiler::collections::HashMap;
use apollo_compiler::schema::ExtendedType;
use apollo_compiler::{Name, Schema};

use crate::subgraph::fields_of;

/// The index of a demand in the graph's table.
pub type DemandId = u32;

/// What is required of a client: everything that is set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Demand {
    pub authenticated: bool,
    /// Every scope of at least one of these lists.
    pub scopes: Vec<Vec<String>>,
    /// Every policy of at least one of these lists.
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

/// Whether every client that meets all of some demands also meets another.
pub(crate) fn imply(all: &[&Demand], other: &Demand) -> bool {
    let implied = |of: fn(&Demand) -> &[Vec<String>]| {
        let wanted = of(other);
        wanted.is_empty()
            || all.iter().any(|demand| {
                let options = of(demand);
                !options.is_empty()
                    && options.iter().all(|option| {
                        wanted
                            .iter()
                            .any(|wanted| wanted.iter().all(|one| option.contains(one)))
                    })
            })
    };
    (!other.authenticated || all.iter().any(|demand| demand.authenticated))
        && implied(|demand| &demand.scopes)
        && implied(|demand| &demand.policies)
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

    /// Adds demands to a field; false if it had them all.
    pub fn add(&mut self, at: (Name, Name), demands: impl IntoIterator<Item = DemandId>) -> bool {
        let known = self.fields.entry(at).or_default();
        let before = known.len();
        known.extend(demands);
        known.len() > before
    }

    /// Applies an interface's own demands to its objects as well, so that a query for
    /// an object type cannot bypass them. Composers also copy the demands of some
    /// objects to their interface; those then hold for these objects only.
    pub fn inherit_from_interfaces(&mut self, schema: &Schema) {
        let mut objects: HashMap<&Name, Vec<&Name>> = HashMap::default();
        for (name, ty) in &schema.types {
            if let ExtendedType::Object(object) = ty {
                for interface in &object.implements_interfaces {
                    objects.entry(&interface.name).or_default().push(name);
                }
            }
        }
        let mut types = Vec::new();
        let mut fields = Vec::new();
        for (interface, objects) in objects {
            let own = |object: &&&Name| self.types.contains_key(**object);
            if let Some(demands) = self.types.get(interface)
                && !objects.iter().any(|object| own(&object))
            {
                types.extend(
                    objects
                        .iter()
                        .map(|object| ((*object).clone(), demands.clone())),
                );
            }
            for ((_, field), demands) in self.fields.iter().filter(|((ty, _), _)| ty == interface) {
                let at = |object: &Name| (object.clone(), field.clone());
                if !objects
                    .iter()
                    .any(|object| self.fields.contains_key(&at(object)))
                {
                    fields.extend(objects.iter().map(|object| (at(object), demands.clone())));
                }
            }
        }
        for (ty, demands) in types {
            self.types.entry(ty).or_default().extend(demands);
        }
        for (at, demands) in fields {
            self.add(at, demands);
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

    /// The demands of a type; for an interface, those of its objects as well.
    pub fn demands_on_type<'a>(
        &'a self,
        schema: &'a Schema,
        ty: &'a Name,
        possible: &'a [Name],
    ) -> impl Iterator<Item = DemandId> + 'a {
        // Objects of a union are selected in fragments, which are checked.
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

    /// The demands of a field itself.
    pub fn demands_on_field<'a>(
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

/// An argument that is a list of lists of names: alternatives, each a list of
/// names that must all be granted.
pub(crate) fn options(directive: &Directive, argument: &str) -> Vec<Vec<String>> {
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
