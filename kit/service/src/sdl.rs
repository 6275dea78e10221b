//! A subgraph's SDL, rewritten once: this text is served for `_service`, and
//! committed under `schema/`.
//!
//! async-graphql 7.2 links federation v2.5 with a fixed list of imports and
//! prints definitions of directives that are known; here a subgraph imports
//! only what it uses and defines only its own directives.

use async_graphql::{ObjectType, SDLExportOptions, Schema, SubscriptionType};

const FEDERATION: &str = "https://specs.apollo.dev/federation/v2.9";
/// Directives of our own, which are composed into the supergraph, and where each is
/// specified: `docs/resumable.md` and `docs/idempotent.md` in this project.
const COMPOSED: &[(&str, &str)] = &[
    ("@idempotent", "https://stoa.dev/specs/idempotent/v1.0"),
    ("@resumable", "https://stoa.dev/specs/resumable/v1.0"),
];
const IMPORTS: &[&str] = &[
    "@key",
    "@shareable",
    "@external",
    "@requires",
    "@provides",
    "@inaccessible",
    "@tag",
    "@listSize",
];
/// Definitions that are left out: those of GraphQL, and of what is imported.
const LEFT_OUT: &[&str] = &[
    "directive @include",
    "directive @skip",
    "directive @deprecated",
    "directive @specifiedBy",
    "directive @oneOf",
    "directive @listSize",
];

/// The SDL of a schema, in its committed form.
pub fn sdl<Q, M, S>(schema: &Schema<Q, M, S>) -> String
where
    Q: ObjectType + 'static,
    M: ObjectType + 'static,
    S: SubscriptionType + 'static,
{
    let printed = schema.sdl_with_options(
        SDLExportOptions::new()
            .federation()
            .include_specified_by()
            .use_space_ident()
            .prefer_single_line_descriptions(),
    );
    rewrite(&printed)
}

fn rewrite(printed: &str) -> String {
    let body = printed
        .find("extend schema @link(")
        .map_or(printed, |at| &printed[..at]);
    let mut lines: Vec<&str> = Vec::new();
    for line in body.lines() {
        if LEFT_OUT.iter().any(|start| line.starts_with(start)) {
            // Its description, if any, is right above.
            while lines.last().is_some_and(|above| above.starts_with('"')) {
                lines.pop();
            }
        } else {
            lines.push(line.trim_end());
        }
    }
    let mut imports = Vec::new();
    for import in IMPORTS {
        let used = |line: &&str| {
            line.match_indices(import).any(|(at, _)| {
                !line[at + import.len()..].starts_with(|c: char| c.is_ascii_alphanumeric())
            })
        };
        if lines.iter().any(used) {
            imports.push(format!("\"{import}\""));
        }
    }
    let composed: Vec<_> = COMPOSED
        .iter()
        .filter(|(name, _)| {
            let definition = format!("directive {name}(");
            lines.iter().any(|line| line.starts_with(&definition))
        })
        .collect();
    if !composed.is_empty() {
        imports.push("\"@composeDirective\"".to_owned());
    }
    let mut out = format!(
        "extend schema\n  @link(url: \"{FEDERATION}\", import: [{}])\n",
        imports.join(", ")
    );
    for (name, url) in composed {
        out.push_str(&format!(
            "  @link(url: \"{url}\", import: [\"{name}\"])\n  @composeDirective(name: \"{name}\")\n"
        ));
    }
    let mut blank = false;
    for line in lines {
        if line.is_empty() {
            blank = true;
            continue;
        }
        if std::mem::take(&mut blank) || out.ends_with(")\n") {
            out.push('\n');
        }
        out.push_str(line);
        out.push('\n');
    }
    out
}
