//! `@tag` and `@cacheTag`.

use apollo_compiler::ast::{Directive, Selection};
use apollo_compiler::parser::SourceSpan;
use apollo_compiler::schema::ExtendedType;
use apollo_compiler::{Name, Node};

use super::{Check, Field};
use crate::arguments::{bool_argument, string_argument};
use crate::field_set::FieldSet;
use crate::subgraph::fields_of;

/// The longest name of a `@tag`, in bytes.
const MAX_TAG: usize = 128;

/// A placeholder in a cache tag's format: `{$args.id}`, `{$key.id}`.
struct Placeholder<'a> {
    of: &'a str,
    path: Vec<&'a str>,
}

impl Check<'_> {
    pub(super) fn tags(&mut self, name: &Name, ty: &ExtendedType) {
        self.tag_names(name, ty.directives().iter().map(|d| &d.node));
        for directive in self.subgraph.on_type(ty, "cacheTag") {
            self.entity_cache_tag(name, ty, directive);
        }
        for field in fields_of(ty).into_iter().flat_map(|fields| fields.values()) {
            let at = format!("{name}.{}", field.name);
            self.tag_names(&at, &field.directives);
            for argument in &field.arguments {
                self.tag_names(&format!("{at}({}:)", argument.name), &argument.directives);
            }
            for directive in self.subgraph.applied(&field.directives, "cacheTag") {
                self.field_cache_tag(&at, name, field, directive);
            }
        }
        match ty {
            ExtendedType::Enum(ty) => {
                for value in ty.values.values() {
                    self.tag_names(&format!("{name}.{}", value.value), &value.directives);
                }
            }
            ExtendedType::InputObject(ty) => {
                for field in ty.fields.values() {
                    self.tag_names(&format!("{name}.{}", field.name), &field.directives);
                }
            }
            _ => {}
        }
    }

    fn tag_names<'d>(
        &mut self,
        at: &str,
        directives: impl IntoIterator<Item = &'d Node<Directive>>,
    ) {
        let Some(local) = self.subgraph.local.get("tag") else {
            return;
        };
        for directive in directives {
            if directive.name != *local {
                continue;
            }
            let tag = string_argument(directive, "name").unwrap_or_default();
            let first = |c: char| c.is_ascii_alphabetic() || c == '_';
            let rest = |c: char| c.is_ascii_alphanumeric() || "_-/".contains(c);
            if !tag.starts_with(first) || !tag.chars().all(rest) || tag.len() > MAX_TAG {
                let message = format!(
                    "the @tag \"{tag}\" on \"{at}\" must be at most {MAX_TAG} letters, digits, \"_\", \"-\" and \"/\", and begin with a letter or \"_\""
                );
                self.report("INVALID_TAG_NAME", directive.location(), message);
            }
        }
    }

    fn field_cache_tag(&mut self, at: &str, ty: &Name, field: &Field, directive: &Node<Directive>) {
        let span = directive.location();
        if self.subgraph.public_name(ty) != "Query" {
            let message = format!("@cacheTag on \"{at}\": only fields of Query may have it");
            self.report("CACHE_TAG_NOT_ON_ROOT_FIELD", span, message);
            return;
        }
        let Some(placeholders) = self.placeholders(at, directive) else {
            return;
        };
        for Placeholder { of, path } in placeholders {
            let format = format!("{{${of}.{}}}", path.join("."));
            if of != "args" {
                let message =
                    format!("@cacheTag on \"{at}\" has {format}: a root field has $args only");
                let code = "CACHE_TAG_INVALID_FORMAT_ARGUMENT_ON_ROOT_FIELD";
                self.report(code, span, message);
                continue;
            }
            let argument = path.first().and_then(|name| field.argument_by_name(name));
            let Some(argument) = argument else {
                let message =
                    format!("@cacheTag on \"{at}\" has {format}: there is no such argument");
                self.report("CACHE_TAG_FORMAT_ARGUMENT_UNKNOWN", span, message);
                continue;
            };
            if let Err(reason) = self.input_leaf(&argument.ty, &path[1..]) {
                let message = format!("@cacheTag on \"{at}\" has {format}: {reason}");
                self.report("CACHE_TAG_INVALID_FORMAT", span, message);
            }
        }
    }

    fn input_leaf(&self, ty: &apollo_compiler::ast::Type, path: &[&str]) -> Result<(), String> {
        if ty.is_list() {
            return Err("a list cannot be used in a cache tag".to_owned());
        }
        let name = ty.inner_named_type();
        match (self.subgraph.schema.types.get(name), path.split_first()) {
            (Some(ExtendedType::InputObject(input)), Some((field, rest))) => {
                match input.fields.get(*field) {
                    Some(field) => self.input_leaf(&field.ty, rest),
                    None => Err(format!("\"{name}\" has no \"{field}\"")),
                }
            }
            (Some(ExtendedType::InputObject(_)), None) => Err(format!("\"{name}\" is an object")),
            (_, Some(_)) => Err(format!("\"{name}\" has no fields")),
            (_, None) => Ok(()),
        }
    }

    fn entity_cache_tag(&mut self, name: &Name, ty: &ExtendedType, directive: &Node<Directive>) {
        let subgraph = self.subgraph;
        let span = directive.location();
        let keys: Vec<FieldSet> = subgraph
            .on_type(ty, "key")
            .into_iter()
            .filter(|key| bool_argument(key, "resolvable") != Some(false))
            .filter_map(|key| subgraph.field_set_of(key, name, true))
            .collect();
        if keys.is_empty() {
            let message = format!("@cacheTag on \"{name}\", which has no resolvable @key");
            self.report("CACHE_TAG_ENTITY_NOT_RESOLVABLE", span, message);
            return;
        }
        let Some(placeholders) = self.placeholders(name, directive) else {
            return;
        };
        for Placeholder { of, path } in placeholders {
            let format = format!("{{${of}.{}}}", path.join("."));
            if of != "key" {
                let message =
                    format!("@cacheTag on \"{name}\" has {format}: an entity has $key only");
                self.report("CACHE_TAG_INVALID_FORMAT_ARGUMENT_ON_ENTITY", span, message);
            } else if !keys.iter().all(|key| selects(key, &path)) {
                let message = format!(
                    "@cacheTag on \"{name}\" has {format}: it must be a leaf of each of its keys"
                );
                self.report(
                    "CACHE_TAG_INVALID_FORMAT_FIELD_SET_ON_ENTITY",
                    span,
                    message,
                );
            }
        }
    }

    /// The placeholders of a format; reports a malformed format.
    fn placeholders<'d>(
        &mut self,
        at: &str,
        directive: &'d Node<Directive>,
    ) -> Option<Vec<Placeholder<'d>>> {
        let format = string_argument(directive, "format").unwrap_or_default();
        let found = parse(format);
        if found.is_none() {
            self.malformed(at, format, directive.location());
        }
        found
    }

    fn malformed(&mut self, at: &str, format: &str, span: Option<SourceSpan>) {
        let message = format!(
            "the format \"{format}\" of @cacheTag on \"{at}\" must be text with placeholders like {{$args.id}} or {{$key.id}}"
        );
        self.report("CACHE_TAG_INVALID_FORMAT", span, message);
    }
}

fn parse(format: &str) -> Option<Vec<Placeholder<'_>>> {
    let mut found = Vec::new();
    let mut rest = format;
    while let Some(open) = rest.find(['{', '}']) {
        let inner = rest[open..].strip_prefix('{')?;
        let close = inner.find('}')?;
        let mut parts = inner[..close].trim().strip_prefix('$')?.split('.');
        let of = parts.next()?;
        let path: Vec<&str> = parts.collect();
        if path.is_empty() || path.iter().any(|name| Name::new(name).is_err()) {
            return None;
        }
        found.push(Placeholder { of, path });
        rest = &inner[close + 1..];
    }
    Some(found)
}

/// Whether a key selects the leaf at the end of a path.
fn selects(key: &[Selection], path: &[&str]) -> bool {
    let Some((first, rest)) = path.split_first() else {
        return false;
    };
    key.iter().filter_map(Selection::as_field).any(|field| {
        field.name == *first
            && match rest.is_empty() {
                true => field.selection_set.is_empty(),
                false => selects(&field.selection_set, rest),
            }
    })
}
