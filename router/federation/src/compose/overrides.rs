//! `@override`: a subgraph takes over a field from another: at once, or gradually
//! with a label.

use std::collections::HashMap;

use apollo_compiler::Name;

use super::Compose;
use crate::arguments::string_argument;
use crate::error::{CompositionError, Hint, Level};
use crate::subgraph::{Coordinate, Subgraph, fields_of};

/// A field of a subgraph: the subgraph's index and the public names.
type SubgraphField = (usize, Coordinate);

#[derive(Debug, Default)]
pub(super) struct Overrides {
    /// The fields that another subgraph overrides, with the label.
    pub overridden: HashMap<SubgraphField, Option<String>>,
    /// The fields that override another subgraph's: that subgraph's name, and the
    /// label.
    pub overriding: HashMap<SubgraphField, (String, Option<String>)>,
}

impl Compose<'_> {
    pub(super) fn read_overrides(&mut self) {
        for (index, subgraph) in self.subgraphs.iter().enumerate() {
            for (name, ty) in subgraph.own_types() {
                if ty.is_interface() {
                    continue;
                }
                for field in fields_of(ty).into_iter().flat_map(|fields| fields.values()) {
                    for directive in subgraph.applied(&field.directives, "override") {
                        let from = string_argument(directive, "from").unwrap_or_default();
                        let label = string_argument(directive, "label");
                        let at = (subgraph.public_name(name), field.name.clone());
                        let location = subgraph.location(directive.location());
                        let mut collides = None;
                        if subgraph.is_external(name, &field.name) {
                            collides = Some("is @external");
                        } else if subgraph.is_interface_object(ty) {
                            collides = Some("is of an @interfaceObject");
                        }
                        if let Some(reason) = collides {
                            self.errors.push(
                                CompositionError::new(
                                    "OVERRIDE_COLLISION_WITH_ANOTHER_DIRECTIVE",
                                    format!(
                                        "[{}] \"{}.{}\" has @override and {reason}",
                                        subgraph.name, at.0, at.1
                                    ),
                                )
                                .at(location.clone()),
                            );
                        }
                        let over = AppliedOverride {
                            index,
                            at,
                            from,
                            label,
                            location,
                        };
                        self.override_field(subgraph, &over);
                    }
                }
            }
        }
    }

    fn override_field(&mut self, subgraph: &Subgraph, over: &AppliedOverride<'_>) {
        let (ty, field) = &over.at;
        let mut report = |code, message: String| {
            self.errors.push(
                CompositionError::new(code, format!("[{}] {message}", subgraph.name))
                    .at(over.location.clone()),
            );
        };
        // No return: the rest can be checked whatever the label is.
        if let Some(label) = over.label
            && !is_label(label)
        {
            report(
                "OVERRIDE_LABEL_INVALID",
                format!(
                    "the label \"{label}\" of \"{ty}.{field}\" is neither percent(0 to 100) nor a name (a letter, then letters, digits and _-:./)"
                ),
            );
        }
        if over.from == subgraph.name {
            report(
                "OVERRIDE_FROM_SELF_ERROR",
                format!("\"{ty}.{field}\" overrides itself"),
            );
            return;
        }
        let label = over.label.map(str::to_owned);
        let at = (over.index, over.at.clone());
        let Some(source) = self.subgraphs.iter().position(|s| s.name == over.from) else {
            let message = format!(
                "[{}] \"{ty}.{field}\" overrides \"{}\", which is not a subgraph",
                subgraph.name, over.from
            );
            // Only a hint: the subgraph may have been removed after its fields had moved.
            self.hints.push(
                Hint::new(Level::Warn, "FROM_SUBGRAPH_DOES_NOT_EXIST", message)
                    .at(over.location.clone()),
            );
            return;
        };
        let other = &self.subgraphs[source];
        // By public names: the root types may have other names there.
        let theirs = other
            .own_types()
            .find(|(name, _)| other.public_name(name) == *ty)
            .and_then(|(name, ty)| Some((name, ty, fields_of(ty)?.get(field)?)));
        let Some((local, their_type, theirs)) = theirs else {
            self.hint_removable_override(subgraph, over);
            return;
        };
        // There it is only mentioned, so there is nothing to take over.
        if other.is_external(local, field) {
            self.hint_removable_override(subgraph, over);
            return;
        }
        // A chain of overrides would depend on their order; @requires and @provides would end
        // with the field that they are on.
        for (directive, code) in [
            ("override", "OVERRIDE_SOURCE_HAS_OVERRIDE"),
            ("requires", "OVERRIDE_COLLISION_WITH_ANOTHER_DIRECTIVE"),
            ("provides", "OVERRIDE_COLLISION_WITH_ANOTHER_DIRECTIVE"),
        ] {
            if !other.applied(&theirs.directives, directive).is_empty() {
                self.errors.push(
                    CompositionError::new(
                        code,
                        format!(
                            "[{}] \"{ty}.{field}\" overrides the field of \"{}\", which has @{directive}",
                            subgraph.name, other.name
                        ),
                    )
                    .at(over.location.clone())
                    .at(other.location(theirs.location())),
                );
            }
        }
        if other.is_interface_object(their_type) {
            self.errors.push(
                CompositionError::new(
                    "OVERRIDE_COLLISION_WITH_ANOTHER_DIRECTIVE",
                    format!(
                        "[{}] \"{ty}.{field}\" overrides a field of the @interfaceObject in \"{}\"",
                        subgraph.name, other.name
                    ),
                )
                .at(over.location.clone()),
            );
        }
        // Only now: where there is nothing to take over, a label would leave the field to
        // nobody while it is off.
        self.overrides
            .overriding
            .insert(at, (over.from.to_owned(), label.clone()));
        let removed_at = other.location(theirs.location());
        let hint = override_hint(&over.at, &label, &other.name, &subgraph.name).at(removed_at);
        self.hints.push(hint);
        self.overrides
            .overridden
            .insert((source, (ty.clone(), field.clone())), label);
    }

    fn hint_removable_override(&mut self, subgraph: &Subgraph, over: &AppliedOverride<'_>) {
        let message = format!(
            "[{}] \"{}.{}\" is not resolved by \"{}\": @override does nothing here",
            subgraph.name, over.at.0, over.at.1, over.from
        );
        self.hints.push(
            Hint::new(Level::Info, "OVERRIDE_DIRECTIVE_CAN_BE_REMOVED", message)
                .at(over.location.clone()),
        );
    }
}

/// One application of `@override`.
struct AppliedOverride<'a> {
    index: usize,
    at: Coordinate,
    from: &'a str,
    label: Option<&'a str>,
    location: Option<crate::error::Location>,
}

fn is_label(label: &str) -> bool {
    if let Some(percent) = label
        .strip_prefix("percent(")
        .and_then(|rest| rest.strip_suffix(')'))
    {
        return crate::operation::percent_of(percent).is_some();
    }
    let mut chars = label.chars();
    chars
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic())
        && chars.all(|c| c.is_ascii_alphanumeric() || "_-:./".contains(c))
}

/// What an applied override means for the subgraph that loses the field.
fn override_hint(at: &(Name, Name), label: &Option<String>, from: &str, to: &str) -> Hint {
    let (ty, field) = at;
    let (code, message) = match label {
        Some(label) => (
            "OVERRIDE_MIGRATION_IN_PROGRESS",
            format!(
                "\"{ty}.{field}\" moves from \"{}\" to \"{}\" by the label \"{label}\"",
                from, to
            ),
        ),
        None => (
            "OVERRIDDEN_FIELD_CAN_BE_REMOVED",
            format!(
                "\"{ty}.{field}\" of \"{}\" is resolved by \"{}\" now: remove it, or mark it @external where it is still used",
                from, to
            ),
        ),
    };
    Hint::new(Level::Info, code, message)
}
