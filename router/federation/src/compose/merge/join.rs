//! The join directives of types, and how kinds and types of several subgraphs
//! combine.

use apollo_compiler::Node;
use apollo_compiler::ast::{Directive, Type};
use apollo_compiler::collections::IndexSet;
use apollo_compiler::schema::{ComponentName, ExtendedType};

use crate::arguments::{bool_argument, string_argument};
use crate::compose::Source;
use crate::compose::spec::DirectiveBuilder;
use crate::field_set;
use crate::subgraph::Subgraph;

/// A context's name in the supergraph. It has the subgraph's name, as contexts
/// hold within one subgraph.
pub(super) fn context_name(subgraph: &Subgraph, context: &str) -> String {
    format!("{}__{context}", subgraph.name)
}

pub(super) fn join_type(source: &Source<'_>, out: &mut Vec<Node<Directive>>) {
    let subgraph = source.subgraph;
    // Federation 1 ignored keys of interfaces.
    let keys = match source.ty.is_interface() && subgraph.is_federation_1() {
        true => Vec::new(),
        false => subgraph.on_type(source.ty, "key"),
    };
    let held = subgraph.is_interface_object(source.ty);
    let extension = subgraph.extensions.contains(source.ty.name()) && !keys.is_empty();
    let join = || DirectiveBuilder::new("join__type").graph(source.graph);
    let finish = |mut join: DirectiveBuilder| {
        if held {
            join = join.flag("isInterfaceObject", true);
        }
        join.build()
    };
    if keys.is_empty() {
        out.push(finish(join()));
    }
    for key in keys {
        let mut join = join();
        if let Some(set) = subgraph.field_set_of(key, source.ty.name(), true) {
            join = join.string("key", &field_set::print(&set));
        }
        if extension {
            join = join.flag("extension", true);
        }
        if bool_argument(key, "resolvable") == Some(false) {
            join = join.flag("resolvable", false);
        }
        out.push(finish(join));
    }
}

pub(super) fn join_implements(
    sources: &[Source<'_>],
    out: &mut Vec<Node<Directive>>,
) -> IndexSet<ComponentName> {
    let mut all = IndexSet::default();
    for source in sources {
        let interfaces = match source.ty {
            ExtendedType::Object(object) => &object.implements_interfaces,
            ExtendedType::Interface(interface) => &interface.implements_interfaces,
            _ => continue,
        };
        for interface in interfaces {
            out.push(
                DirectiveBuilder::new("join__implements")
                    .graph(source.graph)
                    .string("interface", interface)
                    .build(),
            );
            all.insert(interface.name.clone().into());
        }
    }
    all
}

pub(super) fn kind(source: &Source<'_>) -> &'static str {
    match source.ty {
        ExtendedType::Scalar(_) => "a scalar",
        ExtendedType::Object(_) if source.subgraph.is_interface_object(source.ty) => "an interface",
        ExtendedType::Object(_) => "an object",
        ExtendedType::Interface(_) => "an interface",
        ExtendedType::Union(_) => "a union",
        ExtendedType::Enum(_) => "an enum",
        ExtendedType::InputObject(_) => "an input object",
    }
}

/// The output type that covers both: nullable where either is.
pub(super) fn loosest(a: &Type, b: &Type) -> Option<Type> {
    combine(a, b, |a, b| a && b)
}

/// The input type that both accept: non-null where either is.
pub(super) fn strictest(a: &Type, b: &Type) -> Option<Type> {
    combine(a, b, |a, b| a || b)
}

pub(super) fn combine(a: &Type, b: &Type, non_null: fn(bool, bool) -> bool) -> Option<Type> {
    let inner = match (a, b) {
        (Type::Named(x) | Type::NonNullNamed(x), Type::Named(y) | Type::NonNullNamed(y)) => {
            (x == y).then(|| Type::Named(x.clone()))?
        }
        (Type::List(x) | Type::NonNullList(x), Type::List(y) | Type::NonNullList(y)) => {
            combine(x, y, non_null)?.list()
        }
        _ => return None,
    };
    Some(if non_null(a.is_non_null(), b.is_non_null()) {
        inner.non_null()
    } else {
        inner
    })
}

/// A string argument, or an empty string.
pub(super) fn text<'a>(directive: &'a Directive, argument: &str) -> &'a str {
    string_argument(directive, argument).unwrap_or_default()
}
