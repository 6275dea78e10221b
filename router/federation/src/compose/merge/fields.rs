//! Fields of objects and interfaces.

use apollo_compiler::ast::{FieldDefinition, InputValueDefinition, Type, Value};
use apollo_compiler::collections::IndexSet;
use apollo_compiler::schema::Component;
use apollo_compiler::{Name, Node};

use super::Merge;
use super::join::{context_name, loosest, text};
use super::values::same;
use crate::arguments::string_argument;
use crate::compose::Source;
use crate::compose::check::CARRIED;
use crate::compose::spec::DirectiveBuilder;
use crate::error::{CompositionError, Level};
use crate::field_set;
use crate::subgraph::{Fields, context_parts, fields_of, is_federation_internal};

/// One subgraph's definition of a field.
pub(super) type Definition<'s, 'a> = (&'s Source<'a>, &'a Component<FieldDefinition>);

impl Merge<'_, '_> {
    pub(super) fn merge_fields(&mut self, ty: &Name, sources: &[Source<'_>]) -> Fields {
        let mut names: IndexSet<&Name> = IndexSet::default();
        for source in sources {
            names.extend(fields_of(source.ty).into_iter().flat_map(Fields::keys));
        }
        let mut merged = Fields::default();
        for field in names {
            if is_federation_internal(field) {
                continue;
            }
            let definitions: Vec<Definition<'_, '_>> = sources
                .iter()
                .filter(|s| !is_unused(s, field))
                .filter_map(|s| Some((s, fields_of(s.ty)?.get(field)?)))
                .collect();
            if let Some(definition) = self.merge_field(ty, field, sources, &definitions) {
                merged.insert(field.clone(), Component::new(definition));
            }
        }
        merged
    }

    fn merge_field(
        &mut self,
        ty: &Name,
        field: &Name,
        sources: &[Source<'_>],
        definitions: &[Definition<'_, '_>],
    ) -> Option<FieldDefinition> {
        let coordinate = format!("{ty}.{field}");
        let is_external = |(s, _): &&Definition<'_, '_>| s.subgraph.is_external(s.ty.name(), field);
        let (external, real): (Vec<Definition<'_, '_>>, Vec<Definition<'_, '_>>) =
            definitions.iter().partition(is_external);
        // All external: an interface object resolves it, or another check fails.
        let base = if real.is_empty() { &external } else { &real };
        let merged = self.merge_output(&coordinate, base)?;
        let arguments = self.merge_arguments(&coordinate, base);
        let mut directives = Vec::new();
        let mut joins = Vec::new();
        // Whether the field needs no `@join__field`: it is the same everywhere.
        let mut plain = definitions.len() == sources.len();
        for (source, definition) in definitions {
            let local = source.ty.name();
            let over = (source.index, (ty.clone(), field.clone()));
            let overridden = self.compose.overrides.overridden.get(&over).cloned();
            // Overridden without a label: this subgraph no longer resolves it, and it is
            // mentioned only if a field set or an interface still uses it.
            if overridden == Some(None) {
                plain = false;
                let at = (local.clone(), field.clone());
                let for_interface = source.ty.as_object().is_some_and(|object| {
                    object.implements_interfaces.iter().any(|interface| {
                        let interface = source.subgraph.schema.get_interface(interface);
                        interface.is_some_and(|i| i.fields.contains_key(field))
                    })
                });
                if source.subgraph.used.contains(&at) || for_interface {
                    let join = DirectiveBuilder::new("join__field").graph(source.graph);
                    joins.push(join.flag("usedOverridden", true).build());
                }
                continue;
            }
            let mut join = DirectiveBuilder::new("join__field").graph(source.graph);
            for (directive, target) in [
                ("requires", local),
                ("provides", definition.ty.inner_named_type()),
            ] {
                for applied in source.subgraph.applied(&definition.directives, directive) {
                    // Federation 1 ignored both on interfaces.
                    if source.subgraph.is_federation_1() && source.ty.is_interface() {
                        continue;
                    }
                    if let Some(set) = source.subgraph.field_set_of(applied, target, false) {
                        join = join.string(directive, &field_set::print(&set));
                        plain = false;
                    }
                }
            }
            let contexts = self.join_contexts(source, definition);
            if !contexts.is_empty() {
                join = join.value("contextArguments", Value::List(contexts));
                plain = false;
            }
            for applied in source.subgraph.applied(&definition.directives, "cacheTag") {
                directives.push(self.join_directive(source, "cacheTag", applied));
            }
            // Planning needs the subgraph's own type where it differs.
            if definition.ty != merged {
                join = join.string("type", &definition.ty.to_string());
                plain = false;
            }
            if source.subgraph.is_external(local, field) {
                join = join.flag("external", true);
                plain = false;
            }
            if let Some((from, label)) = self.compose.overrides.overriding.get(&over) {
                join = join.string("override", from);
                if let Some(label) = label {
                    join = join.string("overrideLabel", label);
                }
                plain = false;
            }
            // The overridden subgraph resolves it while the label is off, so it has the label, too.
            if let Some(Some(label)) = overridden {
                join = join.string("overrideLabel", &label);
                plain = false;
            }
            joins.push(join.build());
        }
        if real.is_empty() && !external.is_empty() {
            // No graph: an interface object resolves it.
            joins.push(DirectiveBuilder::new("join__field").build());
        }
        if !plain {
            directives.extend(joins);
        }
        self.check_external(&coordinate, &merged, &arguments, &real, &external);
        self.hint_partial_field(&coordinate, sources, definitions);
        // Of `base` only: beside a definition that resolves it, an @external one does not count.
        self.merge_applied_directives(
            &coordinate,
            base.iter().map(|(s, d)| (s.subgraph, d.directives.iter())),
            &mut directives,
        );
        Some(FieldDefinition {
            description: self.description(
                &coordinate,
                base.iter().map(|(_, d)| d.description.as_ref()),
            ),
            name: field.clone(),
            arguments,
            ty: merged,
            directives: apollo_compiler::ast::DirectiveList(directives),
        })
    }

    /// The arguments of a field that take their values from contexts.
    fn join_contexts(
        &mut self,
        source: &Source<'_>,
        definition: &FieldDefinition,
    ) -> Vec<Node<Value>> {
        let subgraph = source.subgraph;
        let mut found = Vec::new();
        for argument in &definition.arguments {
            let from = subgraph.context_of(argument);
            let text = from.and_then(|directive| string_argument(directive, "field"));
            let Some((context, selection)) = text.and_then(context_parts) else {
                continue;
            };
            self.uses_contexts = true;
            let entry = |name, text: &str| {
                let value = Node::new(Value::String(text.to_owned()));
                (Name::new_static_unchecked(name), value)
            };
            found.push(Node::new(Value::Object(vec![
                entry("context", &context_name(subgraph, context)),
                entry("name", &argument.name),
                entry("type", &argument.ty.to_string()),
                entry("selection", selection),
            ])));
        }
        found
    }

    /// The widest of the declared types.
    fn merge_output(
        &mut self,
        coordinate: &str,
        definitions: &[Definition<'_, '_>],
    ) -> Option<Type> {
        let (first_source, first) = definitions.first()?;
        let mut merged = first.ty.clone();
        for (source, definition) in definitions {
            let ty = &definition.ty;
            let widest = if self.is_subtype(ty, &merged) {
                Some(merged.clone())
            } else if self.is_subtype(&merged, ty) {
                Some(ty.clone())
            } else {
                loosest(&merged, ty)
            };
            match widest {
                Some(widest) => merged = widest,
                None => {
                    self.compose.errors.push(
                        CompositionError::new(
                            "FIELD_TYPE_MISMATCH",
                            format!(
                                "\"{coordinate}\" is \"{}\" in {} but \"{ty}\" in {}",
                                first.ty, first_source.subgraph.name, source.subgraph.name
                            ),
                        )
                        .at(first_source
                            .subgraph
                            .location(first.ty.inner_named_type().location()))
                        .at(source.subgraph.location(ty.inner_named_type().location())),
                    );
                    return None;
                }
            }
        }
        if definitions
            .iter()
            .any(|(_, definition)| definition.ty != merged)
        {
            let all: Vec<_> = definitions
                .iter()
                .map(|(s, d)| format!("\"{}\" in {}", d.ty, s.subgraph.name))
                .collect();
            let message = format!(
                "\"{coordinate}\" is {}: merged as \"{merged}\"",
                all.join(", ")
            );
            self.hint(
                Level::Info,
                "INCONSISTENT_BUT_COMPATIBLE_FIELD_TYPE",
                message,
            );
        }
        Some(merged)
    }

    /// External definitions must agree with the definitions that are resolved.
    fn check_external(
        &mut self,
        coordinate: &str,
        merged: &Type,
        arguments: &[Node<InputValueDefinition>],
        real: &[Definition<'_, '_>],
        external: &[Definition<'_, '_>],
    ) {
        // Nothing to compare with: an interface object resolves it, or another check fails.
        if real.is_empty() {
            return;
        }
        for (source, definition) in external {
            let subgraph = source.subgraph;
            let mut found: Vec<(&'static str, String)> = Vec::new();
            let fits = definition.ty == *merged || self.is_subtype(&definition.ty, merged);
            if !fits {
                found.push((
                    "EXTERNAL_TYPE_MISMATCH",
                    format!(
                        "\"{coordinate}\" is \"{}\" where it is @external, but \"{merged}\" where it is resolved",
                        definition.ty
                    ),
                ));
            }
            for wanted in arguments {
                let Some(own) = definition.argument_by_name(&wanted.name) else {
                    found.push((
                        "EXTERNAL_ARGUMENT_MISSING",
                        format!(
                            "\"{coordinate}\" has no argument \"{}\" where it is @external",
                            wanted.name
                        ),
                    ));
                    continue;
                };
                // An argument is an input: here it must accept all that the merged one accepts.
                if own.ty != wanted.ty && !self.is_subtype(&wanted.ty, &own.ty) {
                    found.push((
                        "EXTERNAL_ARGUMENT_TYPE_MISMATCH",
                        format!(
                            "\"{coordinate}({}:)\" is \"{}\" where the field is @external, but \"{}\" where it is resolved",
                            wanted.name, own.ty, wanted.ty
                        ),
                    ));
                } else if !same_default(own, wanted) {
                    found.push((
                        "EXTERNAL_ARGUMENT_DEFAULT_MISMATCH",
                        format!(
                            "\"{coordinate}({}:)\" has another default value where the field is @external",
                            wanted.name
                        ),
                    ));
                }
            }
            // Directives are merged from resolving subgraphs only: these would be dropped.
            for directive in definition.directives.iter() {
                let canonical = subgraph.canonical(directive);
                let carried = canonical.is_some_and(|c| CARRIED.contains(&c))
                    || subgraph.composed.iter().any(|c| c.name == directive.name)
                    || directive.name == "deprecated";
                // Federation 1 repeats a tag where the field is external: it is not lost.
                let repeated = subgraph.is_federation_1()
                    && canonical == Some("tag")
                    && real.iter().any(|(other, field)| {
                        let tags = other.subgraph.applied(&field.directives, "tag");
                        let tag = text(directive, "name");
                        tags.iter().any(|other| text(other, "name") == tag)
                    });
                if carried && !repeated {
                    found.push((
                        "MERGED_DIRECTIVE_APPLICATION_ON_EXTERNAL",
                        format!(
                            "@{} on \"{coordinate}\" where it is @external: write it where the field is resolved",
                            directive.name
                        ),
                    ));
                }
            }
            for (code, message) in found {
                self.compose.errors.push(
                    CompositionError::new(code, format!("[{}] {message}", subgraph.name))
                        .at(subgraph.location(definition.location())),
                );
            }
        }
    }

    fn hint_partial_field(
        &mut self,
        coordinate: &str,
        sources: &[Source<'_>],
        definitions: &[Definition<'_, '_>],
    ) {
        let keyed = |s: &Source<'_>| !s.subgraph.on_type(s.ty, "key").is_empty();
        if definitions.len() == sources.len() || sources.iter().any(keyed) {
            return;
        }
        let root = ["Query.", "Mutation.", "Subscription."];
        if root.iter().any(|root| coordinate.starts_with(root)) {
            return;
        }
        let code = match sources.first().is_some_and(|s| s.ty.is_interface()) {
            true => "INCONSISTENT_INTERFACE_VALUE_TYPE_FIELD",
            false => "INCONSISTENT_OBJECT_VALUE_TYPE_FIELD",
        };
        let message =
            format!("\"{coordinate}\" is defined in only some of the subgraphs that have its type");
        self.hint(Level::Debug, code, message);
    }
}

fn same_default(a: &InputValueDefinition, b: &InputValueDefinition) -> bool {
    match (&a.default_value, &b.default_value) {
        (Some(ours), Some(theirs)) => same(Some(&b.ty), ours, theirs),
        (ours, theirs) => ours.is_none() && theirs.is_none(),
    }
}

/// Whether a field is ignored: Federation 1 allowed unused `@external` fields.
fn is_unused(source: &Source<'_>, field: &Name) -> bool {
    let subgraph = source.subgraph;
    let at = (source.ty.name().clone(), field.clone());
    subgraph.is_federation_1()
        && subgraph.externals.contains(&at)
        && !subgraph.used.contains(&at)
        && !source.ty.is_interface()
}
