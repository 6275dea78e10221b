//! Whether values mean the same however they are written.
//!
//! Source: GraphQL October 2021, sections 3.5 and 3.10 to 3.12 (Input Coercion).

use apollo_compiler::Name;
use apollo_compiler::Node;
use apollo_compiler::ast::{Argument, Directive, DirectiveDefinition, Type, Value};

/// Whether two values of a type are the same after coercion: `200` and `200.0`, an ID `1`
/// and `"1"`, `1` and `[1]` for a list. Without a type, numbers are compared by value.
pub(super) fn same(ty: Option<&Type>, a: &Value, b: &Value) -> bool {
    let item = ty.filter(|ty| ty.is_list()).map(Type::item_type);
    match (a, b) {
        (Value::List(a), Value::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(item, a, b))
        }
        (Value::Null, other) | (other, Value::Null) => other.is_null(),
        (Value::List(items), one) | (one, Value::List(items)) => {
            matches!((&items[..], item), ([only], Some(_)) if same(item, only, one))
        }
        (Value::Object(a), Value::Object(b)) => {
            let of = |fields: &[(Name, Node<Value>)], name: &Name| {
                let mut found = fields.iter().filter(|(known, _)| known == name);
                found.next().map(|(_, value)| value.clone())
            };
            a.len() == b.len()
                && a.iter()
                    .all(|(name, a)| of(b, name).is_some_and(|b| same(None, a, &b)))
        }
        (Value::Int(int), Value::Float(float)) | (Value::Float(float), Value::Int(int)) => {
            matches!((int.try_to_f64(), float.try_to_f64()), (Ok(a), Ok(b)) if a == b)
        }
        (Value::Float(a), Value::Float(b)) => {
            matches!((a.try_to_f64(), b.try_to_f64()), (Ok(a), Ok(b)) if a == b)
        }
        (Value::Int(int), Value::String(text)) | (Value::String(text), Value::Int(int)) => {
            ty.is_some_and(|ty| ty.inner_named_type() == "ID") && int.as_str() == text
        }
        (a, b) => a == b,
    }
}

/// Whether two applications of a directive give the same arguments, in any order; what is
/// not given has its default value.
pub(super) fn same_application(
    definition: Option<&DirectiveDefinition>,
    a: &Directive,
    b: &Directive,
) -> bool {
    let arguments = definition.map(|definition| &definition.arguments[..]);
    let known = |name: &Name| arguments?.iter().find(|argument| argument.name == *name);
    let value = |directive: &Directive, name: &Name| {
        let given = directive.specified_argument_by_name(name).cloned();
        given.or_else(|| known(name)?.default_value.clone())
    };
    let covers = |a: &Directive, b: &Directive| {
        a.arguments.iter().all(|argument: &Node<Argument>| {
            let ty = known(&argument.name).map(|known| &*known.ty);
            value(b, &argument.name).is_some_and(|b| same(ty, &argument.value, &b))
        })
    };
    covers(a, b) && covers(b, a)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_by_meaning() {
        let value = |text: &str| {
            let sdl = format!("type Query {{ f(x: Any = {text}): Int }} scalar Any");
            let schema = apollo_compiler::Schema::parse(sdl, "test").unwrap();
            let field = schema.type_field("Query", "f").unwrap();
            field.arguments[0].default_value.clone().unwrap()
        };
        for (ty, a, b, equal) in [
            ("Float", "200", "200.0", true),
            ("Float", "1.50", "15e-1", true),
            ("Float", "1", "2.0", false),
            ("ID", "1", "\"1\"", true),
            ("String", "1", "\"1\"", false),
            ("[Int]", "1", "[1]", true),
            ("Int", "1", "[1]", false),
            ("[Int]", "null", "[null]", false),
            ("In", "{a: 1, b: [2]}", "{b: [2.0], a: 1}", true),
            ("In", "{a: 1}", "{a: 1, b: 2}", false),
        ] {
            let ty = Type::parse(ty, "test").unwrap();
            assert_eq!(
                same(Some(&ty), &value(a), &value(b)),
                equal,
                "{ty}: {a}, {b}"
            );
        }
    }
}
