//! Arguments of directives, in the types that their specifications give them; `None` if
//! an argument is absent, has no default, or is of another type.

use apollo_compiler::ast::Directive;

pub(crate) fn string_argument<'a>(directive: &'a Directive, name: &str) -> Option<&'a str> {
    directive.specified_argument_by_name(name)?.as_str()
}

pub(crate) fn bool_argument(directive: &Directive, name: &str) -> Option<bool> {
    directive.specified_argument_by_name(name)?.to_bool()
}

pub(crate) fn int_argument(directive: &Directive, name: &str) -> Option<i32> {
    directive.specified_argument_by_name(name)?.to_i32()
}

/// The strings of a list; empty without one.
pub(crate) fn strings_argument(directive: &Directive, name: &str) -> Vec<String> {
    let value = directive.specified_argument_by_name(name);
    let items = value.and_then(|value| value.as_list()).unwrap_or_default();
    let strings = items.iter().filter_map(|item| item.as_str());
    strings.map(str::to_owned).collect()
}
