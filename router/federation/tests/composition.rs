//! Composition errors, with their codes and positions.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use stoa_federation::{Subgraph, Supergraph, compose};

const LINK: &str = r#"extend schema @link(url: "https://specs.apollo.dev/federation/v2.5", import: ["@key", "@shareable", "@external", "@requires", "@provides", "@override", { name: "@inaccessible", as: "@hidden" }])"#;

/// The errors of composing: each as `CODE subgraph:line:column ...`.
fn errors(subgraphs: &[(&str, &str)]) -> Vec<String> {
    let mut parsed = Vec::new();
    let mut all = Vec::new();
    for (name, sdl) in subgraphs {
        match Subgraph::parse(name, "http://x", &format!("{LINK}\n{sdl}")) {
            Ok(subgraph) => parsed.push(subgraph),
            Err(errors) => all.extend(errors.0),
        }
    }
    if all.is_empty()
        && let Err(errors) = compose(&parsed)
    {
        all.extend(errors.0);
    }
    all.iter()
        .map(|error| {
            let at: Vec<_> = error
                .locations
                .iter()
                .map(|at| format!(" {}:{}:{}", at.subgraph, at.line, at.column))
                .collect();
            format!("{}{}", error.code, at.concat())
        })
        .collect()
}

/// Subgraphs by name, and the errors of composing them.
type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);

#[allow(clippy::too_many_lines, reason = "a table of cases")]
#[test]
fn each_rule_has_its_code_and_position() {
    let query = "type Query { a: Int }";
    let cases: &[Case] = &[
        (
            &[("a", "type Query { a: Missing }")],
            &["INVALID_GRAPHQL a:2:17"],
        ),
        (&[("a", "type Query { a: Int")], &["INVALID_GRAPHQL a:2:20"]),
        (
            &[("a", "type T @key(fields: \"id\") { id: ID }")],
            &["NO_QUERIES"],
        ),
        (
            &[("a", query), ("a", "type T { b: Int }")],
            &["INVALID_SUBGRAPH_NAME"],
        ),
        (
            &[("a", query), ("b", query)],
            &["INVALID_FIELD_SHARING a:2:14 b:2:14"],
        ),
        (
            &[
                ("a", "type Query { a: T } type T @shareable { b: Int }"),
                ("b", "type T @shareable { b: String }"),
            ],
            &["FIELD_TYPE_MISMATCH a:2:44 b:2:24"],
        ),
        (
            &[
                ("a", "type Query { a: T } type T @shareable { b: Int }"),
                ("b", "scalar T"),
            ],
            &["TYPE_KIND_MISMATCH a:2:26 b:2:8"],
        ),
        (
            &[(
                "a",
                "type Query { a: T } type T @key(fields: \"nope\") { id: ID }",
            )],
            &["KEY_INVALID_FIELDS a:2:28"],
        ),
        (
            &[(
                "a",
                "type Query { a: T } type T @key(fields: \"id\") { id: ID b: Int @requires(fields: \"c\") }",
            )],
            &["REQUIRES_INVALID_FIELDS a:2:63"],
        ),
        (
            &[(
                "a",
                "type Query { a: T @provides(fields: \"c\") } type T @key(fields: \"id\") { id: ID }",
            )],
            &["PROVIDES_INVALID_FIELDS a:2:19"],
        ),
        (
            &[(
                "a",
                "type Query { a: T } type T @key(fields: \"id\") { id: ID b: Int @external }",
            )],
            &["EXTERNAL_MISSING_ON_BASE a:2:56", "EXTERNAL_UNUSED a:2:56"],
        ),
        (
            &[
                ("a", "type Query { a(x: Int!): Int @shareable }"),
                ("b", "type Query { a: Int @shareable }"),
            ],
            &["REQUIRED_ARGUMENT_MISSING_IN_SOME_SUBGRAPH a:2:16"],
        ),
        (
            &[
                ("a", "type Query { a(x: Int): Int @shareable }"),
                ("b", "type Query { a(x: ID): Int @shareable }"),
            ],
            &["FIELD_ARGUMENT_TYPE_MISMATCH a:2:19 b:2:19"],
        ),
        (
            &[
                ("a", "type Query { a(x: Int = 1): Int @shareable }"),
                ("b", "type Query { a(x: Int = 2): Int @shareable }"),
            ],
            &["FIELD_ARGUMENT_DEFAULT_MISMATCH a:2:16 b:2:16"],
        ),
        (
            &[
                (
                    "a",
                    "type Query { a(x: I): E } input I { e: E } enum E { X Y }",
                ),
                ("b", "enum E { X } type T { e(e: E): E }"),
            ],
            &["ENUM_VALUE_MISMATCH a:2:55"],
        ),
        (
            &[
                (
                    "a",
                    "type Query { a(x: I): Int } input I { a: Int! b: Int }",
                ),
                ("b", "input I { b: Int }"),
            ],
            &["REQUIRED_INPUT_FIELD_MISSING_IN_SOME_SUBGRAPH a:2:39"],
        ),
        (
            &[
                ("a", "type Query { a(x: I): Int } input I { a: Int }"),
                ("b", "input I { b: Int }"),
            ],
            &["EMPTY_MERGED_INPUT_TYPE"],
        ),
        (
            &[(
                "a",
                "extend schema @link(url: \"https://specs.apollo.dev/connect/v0.1\", import: [\"@source\"]) type Query { a: Int }",
            )],
            &["UNSUPPORTED_FEATURE a:2:15"],
        ),
    ];
    for (subgraphs, expected) in cases {
        assert_eq!(errors(subgraphs), *expected, "{subgraphs:?}");
    }
}

#[test]
fn what_is_legal_composes() {
    let composed = |subgraphs: &[(&str, &str)]| {
        let parsed: Vec<_> = subgraphs
            .iter()
            .map(|(name, sdl)| {
                Subgraph::parse(name, "http://x", &format!("{LINK}\n{sdl}")).unwrap()
            })
            .collect();
        compose(&parsed)
            .unwrap_or_else(|e| panic!("{e}"))
            .supergraph_sdl
    };
    // An output type is as nullable as its loosest definition, an input as
    // strict as its strictest, and input enums keep what all accept.
    let sdl = composed(&[
        (
            "a",
            "type Query { a(x: Int!, e: E): T! @shareable } type T @shareable { b: [Int!]! } enum E { X Y }",
        ),
        (
            "b",
            "schema { query: Root } type Root { a(x: Int, e: E): T @shareable } type T @shareable { b: [Int] } enum E { X }",
        ),
        (
            "hidden",
            "type Secret { a: Int } extend type Query { s: Secret @hidden }",
        ),
    ]);
    assert!(sdl.contains("a(x: Int!, e: E): T"), "{sdl}");
    assert!(sdl.contains("b: [Int]"), "{sdl}");
    assert!(!sdl.contains("  Y"), "{sdl}");
    assert!(sdl.contains("@inaccessible"), "{sdl}");
}

#[test]
fn the_schema_keeps_its_description() {
    let parse = |name: &str, sdl: &str| Subgraph::parse(name, "http://x", sdl).unwrap();
    let composed = compose(&[
        parse(
            "a",
            "\"\"\"What it is for.\"\"\" schema { query: Query } type Query { a: Int }",
        ),
        parse("b", "type Query { b: Int }"),
    ]);
    let graph = Supergraph::parse(&composed.unwrap().supergraph_sdl).unwrap();
    let description = graph.api().schema_definition.description.as_deref();
    assert_eq!(description, Some("What it is for."));
}
