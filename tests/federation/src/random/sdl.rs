//! The SDL of generated subgraphs.

use std::fmt::Write;

use super::model::{Field, Kind, Model, entity_name};

const LINK: &str = "extend schema @link(url: \"https://specs.apollo.dev/federation/v2.5\", import: [\"@key\", \"@shareable\", \"@external\", \"@requires\", \"@provides\", \"@override\", \"@interfaceObject\"])\n";

impl Model {
    #[allow(clippy::too_many_lines, reason = "one line of SDL after the other")]
    pub(super) fn sdl(&self, subgraph: usize) -> String {
        let mut out = LINK.to_owned();
        let roots: String = self
            .roots
            .iter()
            .filter(|f| f.owners.contains(&subgraph))
            .map(|f| self.field_sdl(f, subgraph, None))
            .collect();
        if !roots.is_empty() {
            let _ = writeln!(out, "type Query {{\n{roots}}}");
        }
        let mut mutations: String = self
            .mutations
            .iter()
            .filter(|f| f.owners.contains(&subgraph))
            .map(|f| self.field_sdl(f, subgraph, None))
            .collect();
        if let Some(payload) = self.payload_sdl(subgraph) {
            mutations.push_str("  pay: P @shareable\n");
            out.push_str(&payload);
        }
        if !mutations.is_empty() {
            let _ = writeln!(out, "type Mutation {{\n{mutations}}}");
        }
        let mut implementers = Vec::new();
        let mut members = Vec::new();
        for (index, entity) in self.entities.iter().enumerate() {
            let Some(keys) = entity.keys.get(&subgraph) else {
                continue;
            };
            let mut fields = String::new();
            let external = entity.external_id.filter(|(at, _)| *at == subgraph);
            if keys.iter().any(|key| key.contains("id")) {
                fields.push_str(match external {
                    Some(_) => "  id: ID! @external\n",
                    None => "  id: ID!\n",
                });
            }
            if keys.contains(&"sku") {
                fields.push_str("  sku: String!\n");
            }
            if keys.iter().any(|key| key.contains("inner")) {
                fields.push_str("  inner: Inner! @shareable\n");
            }
            for field in &entity.fields {
                if field.owners.contains(&subgraph) {
                    fields.push_str(&self.field_sdl(field, subgraph, None));
                } else if field.overridden == Some(subgraph) {
                    // The subgraph that lost the field defines it without `@override`.
                    let plain = Field {
                        overridden: None,
                        ..field.clone()
                    };
                    fields.push_str(&self.field_sdl(&plain, subgraph, None));
                } else if entity.externals.contains(&(subgraph, field.name.clone())) {
                    fields.push_str(&self.field_sdl(field, subgraph, Some("@external")));
                }
            }
            let keys: String = keys
                .iter()
                .map(|key| format!(" @key(fields: \"{key}\")"))
                .collect();
            let implements = entity.implements.contains(&subgraph);
            let _ = writeln!(
                out,
                "{}type {}{}{keys} {{\n{fields}}}",
                if external.is_some_and(|(_, extends)| extends) {
                    "extend "
                } else {
                    ""
                },
                entity_name(index),
                if implements { " implements I " } else { "" },
            );
            if implements {
                implementers.push(entity);
            }
            if entity.member.contains(&subgraph) {
                members.push(entity_name(index));
            }
        }
        if out.contains("Inner!") {
            out.push_str("type Inner @shareable { code: String! }\n");
        }
        if !implementers.is_empty() {
            // Fields that all of its types have here.
            let mut marker = String::new();
            for name in ["common", "part"] {
                let mut all = implementers.iter().map(|entity| {
                    let mut fields = entity.fields.iter();
                    fields.find(|f| f.name == name && f.owners.contains(&subgraph))
                });
                if let Some(Some(field)) = all.next()
                    && all.all(|field| field.is_some())
                {
                    let plain = Field {
                        owners: [subgraph].into(),
                        ..field.clone()
                    };
                    let line = self.field_sdl(&plain, subgraph, None);
                    marker.push_str(&line.replace(" @shareable", ""));
                }
            }
            let key = match self.holder == Some(subgraph) {
                true => (" @key(fields: \"id\")", "  id: ID!\n"),
                false => ("", ""),
            };
            let _ = writeln!(
                out,
                "interface I{} {{\n{}  tag: Int\n{marker}}}",
                key.0, key.1
            );
            // Each implementing type needs the interface's field `tag`.
            for index in 0..self.entities.len() {
                if self.entities[index].implements.contains(&subgraph) {
                    let head = format!("type {} implements I ", entity_name(index));
                    if let Some(at) = out.find(&head)
                        && let Some(open) = out[at..].find("{\n")
                    {
                        out.insert_str(at + open + 2, "  tag: Int @shareable\n");
                    }
                }
            }
        }
        if !members.is_empty() {
            let _ = writeln!(out, "union U = {}", members.join(" | "));
        }
        for (index, value) in self.values.iter().enumerate() {
            let fields: String = value
                .fields
                .iter()
                .filter(|(_, owners)| owners.contains(&subgraph))
                .map(|(name, _)| format!("  {name}: Int @shareable\n"))
                .collect();
            if !fields.is_empty() && out.contains(&format!("V{index}")) {
                let _ = writeln!(out, "type V{index} {{\n{fields}}}");
            }
        }
        if self.old == Some(subgraph) {
            // In Federation 1 every field is shareable, and there is no `@link`.
            out = out.replace(LINK, "").replace(" @shareable", "");
        }
        out
    }

    /// The SDL of the subgraph that defines the interface as an interface object.
    pub(super) fn holder_sdl(&self) -> String {
        format!(
            "{LINK}type Query {{ held: I  holds: [I] }}
type I @key(fields: \"id\") @interfaceObject {{
  id: ID!
  tag: Int @external
  extra: Int
  fromTag: String @requires(fields: \"tag\")
}}
"
        )
    }

    pub(super) fn field_sdl(
        &self,
        field: &Field,
        _subgraph: usize,
        directive: Option<&str>,
    ) -> String {
        let named = match &field.kind {
            Kind::Int => "Int".to_owned(),
            Kind::Text => "String".to_owned(),
            Kind::Entity(entity) => entity_name(*entity),
            Kind::Value(value) => format!("V{value}"),
            Kind::Interface => "I".to_owned(),
            Kind::Union => "U".to_owned(),
        };
        let mut ty = named;
        if field.list {
            ty = format!("[{ty}]");
        }
        if field.non_null {
            ty.push('!');
        }
        let mut directives = String::new();
        match directive {
            Some(directive) => {
                let _ = write!(directives, " {directive}");
            }
            None => {
                if field.owners.len() > 1 || self.is_provided(&field.name) {
                    directives.push_str(" @shareable");
                }
                if let Some(requires) = &field.requires {
                    let _ = write!(directives, " @requires(fields: \"{requires}\")");
                }
                if let Some(provides) = &field.provides {
                    let _ = write!(directives, " @provides(fields: \"{provides}\")");
                }
                if let Some(from) = field.overridden {
                    let _ = write!(directives, " @override(from: \"s{from}\")");
                }
            }
        }
        format!("  {}: {ty}{directives}\n", field.name)
    }

    /// Whether a reference provides this field. Names are unique, except `common`.
    pub(super) fn is_provided(&self, name: &str) -> bool {
        self.roots
            .iter()
            .chain(self.entities.iter().flat_map(|e| &e.fields))
            .any(|field| field.provides.as_deref() == Some(name))
    }
}
