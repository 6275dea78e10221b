//! Field sets: the selection strings inside `@key`, `@requires` and `@provides`.

use apollo_compiler::Node;
use apollo_compiler::ast::{self, Selection};

/// A field set's selections, without its outer braces.
pub type FieldSet = Vec<Selection>;

/// Parses `id organization { id }` into selections.
///
/// # Errors
/// The parser's message, if the text is not a selection set.
pub fn parse(text: &str) -> Result<FieldSet, String> {
    let document = ast::Document::parse(format!("{{ {text} }}"), "field set")
        .map_err(|error| error.errors.to_string())?;
    match document.definitions.first() {
        Some(ast::Definition::OperationDefinition(operation)) => {
            Ok(operation.selection_set.clone())
        }
        _ => Err(format!("`{text}` is not a set of fields")),
    }
}

/// A selection set's text without the braces that may be around it.
pub fn unbraced(text: &str) -> &str {
    let text = text.trim();
    text.strip_prefix('{')
        .and_then(|inner| inner.strip_suffix('}'))
        .unwrap_or(text)
}

/// Prints selections as a directive has them: on one line, without braces.
pub fn print(fields: &[Selection]) -> String {
    let mut out = String::new();
    write_selections(fields, &mut out);
    out
}

/// Prints one selection per line, indented by two spaces per level.
pub fn print_pretty(fields: &[Selection], level: usize) -> String {
    let mut out = String::new();
    let indent = "  ".repeat(level);
    for selection in fields {
        let (head, inner): (String, &[Selection]) = match selection {
            Selection::Field(field) => {
                let mut head = String::new();
                if let Some(alias) = &field.alias {
                    head.push_str(&format!("{alias}: "));
                }
                let bare = Selection::Field(Node::new(ast::Field {
                    selection_set: Vec::new(),
                    ..(**field).clone()
                }));
                head.push_str(&print(&[bare]));
                for directive in field.directives.iter() {
                    head.push_str(&format!(" {}", directive.serialize().no_indent()));
                }
                (head, &field.selection_set)
            }
            Selection::InlineFragment(fragment) => {
                let on = fragment.type_condition.as_ref();
                (
                    on.map_or("...".to_owned(), |ty| format!("... on {ty}")),
                    &fragment.selection_set,
                )
            }
            Selection::FragmentSpread(_) => continue,
        };
        if inner.is_empty() {
            out.push_str(&format!("{indent}{head}\n"));
        } else {
            let below = print_pretty(inner, level + 1);
            out.push_str(&format!("{indent}{head} {{\n{below}{indent}}}\n"));
        }
    }
    out
}

fn write_selections(fields: &[Selection], out: &mut String) {
    for (index, selection) in fields.iter().enumerate() {
        if index > 0 {
            out.push(' ');
        }
        let inner = match selection {
            Selection::Field(field) => {
                out.push_str(&field.name);
                if !field.arguments.is_empty() {
                    let arguments: Vec<_> = field
                        .arguments
                        .iter()
                        .map(|a| format!("{}: {}", a.name, a.value.serialize().no_indent()))
                        .collect();
                    out.push_str(&format!("({})", arguments.join(", ")));
                }
                &field.selection_set
            }
            Selection::InlineFragment(fragment) => {
                out.push_str("...");
                if let Some(ty) = &fragment.type_condition {
                    out.push_str(" on ");
                    out.push_str(ty);
                }
                &fragment.selection_set
            }
            Selection::FragmentSpread(_) => continue,
        };
        if !inner.is_empty() {
            out.push_str(" { ");
            write_selections(inner, out);
            out.push_str(" }");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_it_parsed() {
        for text in [
            "id",
            "id organization { id }",
            "media { ... on Book { title } }",
            "price(currency: USD)",
        ] {
            assert_eq!(print(&parse(text).unwrap()), text);
        }
    }

    #[test]
    fn rejects_what_is_not_a_selection() {
        assert!(parse("id {").is_err());
    }
}
