//! Arguments, input fields and enum values.

use apollo_compiler::ast::{EnumValueDefinition, InputValueDefinition, Type};
use apollo_compiler::collections::{IndexMap, IndexSet};
use apollo_compiler::schema::{Component, EnumType, InputObjectType};
use apollo_compiler::{Name, Node};

use super::Merge;
use super::fields::Definition;
use super::join::strictest;
use super::values::same;
use crate::compose::Source;
use crate::compose::spec::DirectiveBuilder;
use crate::error::{CompositionError, Level};
use crate::subgraph::Subgraph;

/// The error and hint codes of one of the two kinds of input.
pub(super) struct Codes {
    missing: &'static str,
    ty: &'static str,
    default: &'static str,
    dropped: &'static str,
    inconsistent: &'static str,
}

pub(super) const ARGUMENT: Codes = Codes {
    missing: "REQUIRED_ARGUMENT_MISSING_IN_SOME_SUBGRAPH",
    ty: "FIELD_ARGUMENT_TYPE_MISMATCH",
    default: "FIELD_ARGUMENT_DEFAULT_MISMATCH",
    dropped: "INCONSISTENT_ARGUMENT_PRESENCE",
    inconsistent: "INCONSISTENT_BUT_COMPATIBLE_ARGUMENT_TYPE",
};
const INPUT_FIELD: Codes = Codes {
    missing: "REQUIRED_INPUT_FIELD_MISSING_IN_SOME_SUBGRAPH",
    ty: "FIELD_TYPE_MISMATCH",
    default: "INPUT_FIELD_DEFAULT_MISMATCH",
    dropped: "INCONSISTENT_INPUT_OBJECT_FIELD",
    inconsistent: "INCONSISTENT_BUT_COMPATIBLE_FIELD_TYPE",
};

/// A subgraph's definition of an argument or input field.
pub(super) type Found<'a> = (&'a Subgraph, &'a Node<InputValueDefinition>);

impl Merge<'_, '_> {
    pub(super) fn merge_arguments(
        &mut self,
        coordinate: &str,
        definitions: &[Definition<'_, '_>],
    ) -> Vec<Node<InputValueDefinition>> {
        let mut names: IndexSet<&Name> = IndexSet::default();
        for (_, definition) in definitions {
            names.extend(definition.arguments.iter().map(|a| &a.name));
        }
        let mut merged = Vec::new();
        for name in names {
            let found: Vec<Found<'_>> = definitions
                .iter()
                .filter_map(|(s, d)| Some((s.subgraph, d.node_argument(name)?)))
                .collect();
            let at = format!("{coordinate}({name}:)");
            let (contextual, given): (Vec<_>, Vec<_>) =
                found.iter().partition(|(s, d)| s.context_of(d).is_some());
            if !contextual.is_empty() {
                self.check_contextual(&at, &given);
                continue;
            }
            if let Some(argument) =
                self.merge_input_value(&ARGUMENT, &at, definitions.len(), &found)
            {
                merged.push(Node::new(argument));
            }
        }
        merged
    }

    /// An argument that a context fills in one subgraph is hidden from clients, so the
    /// other subgraphs get no value for it.
    fn check_contextual(&mut self, coordinate: &str, given: &[Found<'_>]) {
        let code = "CONTEXTUAL_ARGUMENT_NOT_CONTEXTUAL_IN_ALL_SUBGRAPHS";
        for (subgraph, argument) in given {
            let message = format!(
                "\"{coordinate}\" is filled by a context elsewhere, but not in {}",
                subgraph.name
            );
            if argument.is_required() {
                self.compose.errors.push(
                    CompositionError::new(
                        code,
                        format!("{message}: make it nullable there, or give it a default value"),
                    )
                    .at(subgraph.location(argument.location())),
                );
            } else {
                self.hint(
                    Level::Info,
                    code,
                    format!("{message}: it gets no value there"),
                );
            }
        }
    }

    pub(super) fn merge_input(
        &mut self,
        ty: &Name,
        sources: &[Source<'_>],
    ) -> IndexMap<Name, Component<InputValueDefinition>> {
        let mut names: IndexSet<&Name> = IndexSet::default();
        let inputs: Vec<(&Source<'_>, &InputObjectType)> = sources
            .iter()
            .filter_map(|s| Some((s, s.ty.as_input_object()?)))
            .collect();
        for (_, input) in &inputs {
            names.extend(input.fields.keys());
        }
        let mut merged = IndexMap::default();
        let before = self.compose.errors.len();
        for name in names {
            let found: Vec<Found<'_>> = inputs
                .iter()
                .filter_map(|(s, input)| Some((s.subgraph, &input.fields.get(name)?.node)))
                .collect();
            let at = format!("{ty}.{name}");
            if let Some(field) = self.merge_input_value(&INPUT_FIELD, &at, sources.len(), &found) {
                merged.insert(name.clone(), Component::new(field));
            }
        }
        if merged.is_empty() && self.compose.errors.len() == before {
            self.compose.errors.push(CompositionError::new(
                "EMPTY_MERGED_INPUT_TYPE",
                format!("the subgraphs share no field of input \"{ty}\""),
            ));
        }
        merged
    }

    /// An argument or input field: kept where every subgraph has it.
    pub(super) fn merge_input_value(
        &mut self,
        codes: &Codes,
        coordinate: &str,
        sources: usize,
        found: &[Found<'_>],
    ) -> Option<InputValueDefinition> {
        let (_, first) = found.first()?;
        let hidden = found
            .iter()
            .any(|(s, d)| !s.applied(&d.directives, "inaccessible").is_empty());
        // Inputs are intersections: what some subgraph lacks is left out.
        // A hidden one is kept: no client can send it to the subgraphs that lack it.
        if found.len() < sources && !hidden {
            match found.iter().find(|(_, d)| d.is_required()) {
                Some((subgraph, required)) => self.compose.errors.push(
                    CompositionError::new(
                        codes.missing,
                        format!(
                            "\"{coordinate}\" is required in {} but some subgraph does not define it",
                            subgraph.name
                        ),
                    )
                    .at(subgraph.location(required.location())),
                ),
                None => {
                    let message = format!("\"{coordinate}\" is left out: some subgraph does not define it");
                    self.hint(Level::Warn, codes.dropped, message);
                }
            }
            return None;
        }
        let ty = self.merge_input_types(codes, coordinate, found)?;
        let mut default_value = first.default_value.clone();
        let different = found
            .iter()
            .filter_map(|(_, d)| d.default_value.as_ref())
            .collect::<Vec<_>>();
        if different
            .windows(2)
            .any(|pair| !same(Some(&ty), pair[0], pair[1]))
        {
            let mut error = CompositionError::new(
                codes.default,
                format!("\"{coordinate}\" has different default values"),
            );
            for (subgraph, definition) in found {
                error = error.at(subgraph.location(definition.location()));
            }
            self.compose.errors.push(error);
        } else if !different.is_empty() && different.len() < found.len() {
            // Clients must not rely on a default value that some subgraph does not apply.
            default_value = None;
            let message = format!(
                "the default value of \"{coordinate}\" is left out: some subgraph has none"
            );
            self.hint(Level::Warn, "INCONSISTENT_DEFAULT_VALUE_PRESENCE", message);
        }
        let mut directives = Vec::new();
        self.merge_applied_directives(
            coordinate,
            found.iter().map(|(s, d)| (*s, d.directives.iter())),
            &mut directives,
        );
        Some(InputValueDefinition {
            description: self.description(
                coordinate,
                found.iter().map(|(_, d)| d.description.as_ref()),
            ),
            name: first.name.clone(),
            ty: Node::new(ty),
            default_value,
            directives: apollo_compiler::ast::DirectiveList(directives),
        })
    }

    fn merge_input_types(
        &mut self,
        codes: &Codes,
        coordinate: &str,
        found: &[Found<'_>],
    ) -> Option<Type> {
        let (first_subgraph, first) = found.first()?;
        let mut merged = (*first.ty).clone();
        for (subgraph, definition) in found {
            match strictest(&merged, &definition.ty) {
                Some(ty) => merged = ty,
                None => {
                    self.compose.errors.push(
                        CompositionError::new(
                            codes.ty,
                            format!(
                                "\"{coordinate}\" is \"{}\" in {} but \"{}\" in {}",
                                first.ty, first_subgraph.name, definition.ty, subgraph.name
                            ),
                        )
                        .at(first_subgraph.location(first.ty.inner_named_type().location()))
                        .at(subgraph.location(definition.ty.inner_named_type().location())),
                    );
                    return None;
                }
            }
        }
        if found.iter().any(|(_, definition)| *definition.ty != merged) {
            let message =
                format!("\"{coordinate}\" differs between subgraphs: merged as \"{merged}\"");
            self.hint(Level::Info, codes.inconsistent, message);
        }
        Some(merged)
    }

    pub(super) fn merge_enum(
        &mut self,
        ty: &Name,
        sources: &[Source<'_>],
    ) -> IndexMap<Name, Component<EnumValueDefinition>> {
        let enums: Vec<(&Source<'_>, &EnumType)> = sources
            .iter()
            .filter_map(|s| Some((s, s.ty.as_enum()?)))
            .collect();
        let input = self.used_as_input.contains(ty);
        let output = self.used_as_output.contains(ty);
        if !input && !output {
            let message = format!("enum \"{ty}\" is used nowhere");
            self.hint(Level::Debug, "UNUSED_ENUM_TYPE", message);
        }
        let mut names: IndexSet<&Name> = IndexSet::default();
        for (_, definition) in &enums {
            names.extend(definition.values.keys());
        }
        let mut merged = IndexMap::default();
        for name in names {
            let found: Vec<_> = enums
                .iter()
                .filter_map(|(s, e)| Some((*s, e.values.get(name)?)))
                .collect();
            let coordinate = format!("{ty}.{name}");
            // Clients neither send nor see a hidden value, so subgraphs may differ.
            let hidden = found
                .iter()
                .any(|(s, d)| !s.subgraph.applied(&d.directives, "inaccessible").is_empty());
            if found.len() < enums.len() && !hidden {
                // Neither union nor intersection is correct for both uses.
                if input && output {
                    let mut error = CompositionError::new(
                        "ENUM_VALUE_MISMATCH",
                        format!(
                            "enum \"{ty}\" is both input and output, so every subgraph must define \"{name}\""
                        ),
                    );
                    for (source, value) in &found {
                        error = error.at(source.subgraph.location(value.location()));
                    }
                    self.compose.errors.push(error);
                    continue;
                }
                // A subgraph that does not define the value would reject it.
                if input {
                    let message =
                        format!("\"{coordinate}\" is left out: some subgraph does not define it");
                    self.hint(
                        Level::Warn,
                        "INCONSISTENT_ENUM_VALUE_FOR_INPUT_ENUM",
                        message,
                    );
                    continue;
                }
                let message = format!("\"{coordinate}\" is defined in only some subgraphs");
                self.hint(
                    Level::Debug,
                    "INCONSISTENT_ENUM_VALUE_FOR_OUTPUT_ENUM",
                    message,
                );
            }
            let mut directives: Vec<_> = found
                .iter()
                .map(|(s, _)| {
                    DirectiveBuilder::new("join__enumValue")
                        .graph(s.graph)
                        .build()
                })
                .collect();
            self.merge_applied_directives(
                &coordinate,
                found.iter().map(|(s, d)| (s.subgraph, d.directives.iter())),
                &mut directives,
            );
            merged.insert(
                name.clone(),
                Component::new(EnumValueDefinition {
                    description: self.description(
                        &coordinate,
                        found.iter().map(|(_, d)| d.description.as_ref()),
                    ),
                    value: name.clone(),
                    directives: apollo_compiler::ast::DirectiveList(directives),
                }),
            );
        }
        if merged.is_empty() {
            self.compose.errors.push(CompositionError::new(
                "EMPTY_MERGED_ENUM_TYPE",
                format!("the subgraphs share no value of enum \"{ty}\""),
            ));
        }
        merged
    }
}

/// Finds an argument's node, which has its source position.
trait NodeArgument {
    fn node_argument(&self, name: &str) -> Option<&Node<InputValueDefinition>>;
}

impl NodeArgument for apollo_compiler::ast::FieldDefinition {
    fn node_argument(&self, name: &str) -> Option<&Node<InputValueDefinition>> {
        self.arguments.iter().find(|argument| argument.name == name)
    }
}
