//! Random queries against the API schema.

use std::fmt::Write;

use apollo_compiler::schema::ExtendedType;
use apollo_compiler::{Name, Schema};

use super::Choices;

/// A random query against the API schema.
pub fn query(schema: &Schema, choices: &mut Choices<'_>) -> String {
    let mut writer = Writer {
        schema,
        choices,
        aliases: 0,
        left: 40,
    };
    let changes = schema.types.contains_key("Mutation") && writer.choices.chance(20);
    let (kind, root) = match changes {
        true => ("mutation", "Mutation"),
        false => ("query", "Query"),
    };
    let mut out = format!("{kind} ($yes: Boolean! = true, $no: Boolean! = false) ");
    let mut body = String::new();
    writer.selections(root, 0, &mut body);
    out.push_str(&body);
    for variable in ["$yes", "$no"] {
        if !body.contains(variable) {
            out = out.replace(
                &format!("{variable}: Boolean! = {}", variable == "$yes"),
                "",
            );
        }
    }
    out.replace("(, )", "")
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
        for (name, return_type) in &fields {
            if self.left == 0 || !self.choices.chance(55) {
                continue;
            }
            let composite = self
                .schema
                .types
                .get(return_type)
                .is_some_and(|ty| !ty.is_leaf());
            // Bounds the size of queries, since entities refer to each other.
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
                self.selections(return_type, depth + 1, out);
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
        // An empty selection set would be invalid.
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
