//! Coercion of variables: what is accepted, what reaches subgraphs, and what errors say.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use apollo_compiler::{ExecutableDocument, Schema};
use stoa_engine::Variables;
use stoa_federation::apollo_compiler;

const SCHEMA: &str = r#"
    directive @oneOf on INPUT_OBJECT
    scalar Any
    enum Color { RED GREEN }
    input In {
        f: Float i: Int id: ID s: String b: Boolean color: Color any: Any
        list: [[Int!]] nested: In
    }
    input Needs { a: Int! b: Float = 107.60917663574219 c: [Color!]! = RED d: Deep! = {} }
    input Deep { x: ID = 12345678901234567890123 y: Float! = 200 z: [String!] = ["a\"b"] }
    input One @oneOf { a: Int b: [Int] }
    input Circle { a: [Circle!]! = [{}] }
    type Query { f(x: Float): Int }
"#;

/// Coerces a variable of a type; returns its text, or the problem.
fn coerce(ty: &str, given: &str) -> Result<Option<String>, String> {
    let schema = Schema::parse_and_validate(SCHEMA, "schema").unwrap();
    let query = format!("query ($x: {ty}) {{ f }}");
    // The variable is used by no field: only its coercion is of interest.
    let document = ExecutableDocument::parse(&schema, &query, "query").unwrap();
    let operation = document.operations.get(None).unwrap();
    let variables = Variables::coerce(&schema, operation, given)?;
    Ok(variables.get("x").map(str::to_owned))
}

fn value(ty: &str, text: &str) -> Result<Option<String>, String> {
    coerce(ty, &format!("{{\"x\":{text}}}"))
}

#[test]
fn what_is_of_its_type_keeps_its_text() {
    for (ty, texts) in [
        ("Int", &["0", "-1", "2147483647", "-2147483648"][..]),
        (
            "Float",
            &[
                "-1.8134499788284302",
                "9007199254740993",
                "10000000000000000",
                "18446744073709551616",
                "1.10",
                "1E+2",
                "-0.0",
                "1e-400",
            ],
        ),
        ("ID", &["\"a\"", "1", "12345678901234567890123", "\"\""]),
        ("String", &["\"\"", "\"\\u00e9 \\n\"", "\"é\""]),
        ("Boolean", &["true", "false"]),
        ("Color", &["\"RED\"", "\"GR\\u0045EN\""]),
        (
            "Any",
            &[
                "123456789012345678901234567890",
                "0.1234567890123456789012",
                "{ \"b\": [1.10, {}], \"a\": null }",
                "[[1e2]]",
                "true",
            ],
        ),
        ("[Float!]", &["[1.10,2]", "[]", "null"]),
        ("[[Int!]]", &["[[1],null,[]]"]),
        (
            "In",
            &["{}", "{\"nested\":{\"f\":1e2,\"any\":[ 1 ]},\"id\":7}"],
        ),
        ("One", &["{\"a\":1}", "{\"b\":[null]}"]),
    ] {
        for text in texts {
            assert_eq!(value(ty, text), Ok(Some((*text).to_owned())), "{ty}");
        }
    }
}

#[test]
fn what_is_not_of_its_type_is_refused_with_its_path() {
    for (ty, text, problem) in [
        ("Int", "1.0", "\"$x\" is 1.0, which is not of type Int"),
        (
            "Int",
            "2147483648",
            "\"$x\" is 2147483648, which is not of type Int",
        ),
        ("Int!", "null", "\"$x\" must not be null: its type is Int!"),
        (
            "Float",
            "1e999",
            "\"$x\" is 1e999, which is not of type Float",
        ),
        (
            "Float",
            "\"1\"",
            "\"$x\" is \"1\", which is not of type Float",
        ),
        ("ID", "1.5", "\"$x\" is 1.5, which is not of type ID"),
        ("String", "1", "\"$x\" is 1, which is not of type String"),
        (
            "Boolean",
            "\"true\"",
            "\"$x\" is \"true\", which is not of type Boolean",
        ),
        (
            "Color",
            "\"BLUE\"",
            "\"$x\" is \"BLUE\", which is not of type Color",
        ),
        ("Color", "1", "\"$x\" is 1, which is not of type Color"),
        (
            "[[Int!]]",
            "[[1],[2,null]]",
            "\"$x[1][1]\" must not be null: its type is Int!",
        ),
        ("In", "[]", "\"$x\" is [], which is not of type In"),
        (
            "In",
            "{\"nested\":{\"i\":true}}",
            "\"$x.nested.i\" is true, which is not of type Int",
        ),
        (
            "In",
            "{\"no\":1}",
            "\"$x\" has a field \"no\", which In has not",
        ),
        ("In", "{\"i\":1,\"i\":2}", "\"$x.i\" is given twice"),
        ("Needs", "{}", "\"$x.a\" is missing: its type is Int!"),
        (
            "One",
            "{}",
            "\"$x\" needs exactly one field of One, and it must not be null",
        ),
        (
            "One",
            "{\"a\":1,\"b\":1}",
            "\"$x\" needs exactly one field of One, and it must not be null",
        ),
        (
            "One",
            "{\"a\":null}",
            "\"$x\" needs exactly one field of One, and it must not be null",
        ),
        ("Circle", "{}", "has default values that nest too deep"),
    ] {
        let refused = value(ty, text).unwrap_err();
        assert!(refused.contains(problem), "{ty} {text}: {refused}");
    }
    let long = format!("\"{}\"", "é".repeat(200));
    let refused = value("Int", &long).unwrap_err();
    assert!(
        refused.chars().count() < 150 && refused.contains("..."),
        "{refused}"
    );
    let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
    assert!(value("Any", &deep).is_err());
    let nested = format!("{}{{}}{}", "{\"nested\":".repeat(500), "}".repeat(500));
    assert!(value("In", &nested).is_err());
}

#[test]
fn what_is_absent_is_not_null() {
    assert_eq!(coerce("Int", "{}"), Ok(None));
    assert_eq!(coerce("Int", "{\"x\":null}"), Ok(Some("null".into())));
    assert_eq!(coerce("Int = 3", "{}"), Ok(Some("3".into())));
    assert_eq!(coerce("Int = 3", "{\"x\":null}"), Ok(Some("null".into())));
    assert_eq!(
        coerce("Int", " { \"y\" : [ { } ] , \"x\" : 1 } "),
        Ok(Some("1".into()))
    );
    assert!(
        coerce("Int!", "{}")
            .unwrap_err()
            .contains("\"$x\" is missing")
    );
    assert!(
        coerce("Int", "{\"x\":1,\"x\":1}")
            .unwrap_err()
            .contains("given twice")
    );
}

#[test]
fn single_values_and_defaults_take_the_form_of_their_types() {
    assert_eq!(value("[Int]", "1"), Ok(Some("[1]".into())));
    assert_eq!(value("[[Int]]", "[1,[2]]"), Ok(Some("[[1],[2]]".into())));
    assert_eq!(
        value("[In]", "{\"list\":5}"),
        Ok(Some("[{\"list\":[[5]]}]".into()))
    );
    let expected = r#"{"a":1,"b":107.60917663574219,"c":["RED"],"d":{"x":12345678901234567890123,"y":200,"z":["a\"b"]}}"#;
    assert_eq!(value("Needs", "{\"a\":1}"), Ok(Some(expected.into())));
    let partly = r#"{"d":{"y":1,"x":12345678901234567890123,"z":["a\"b"]},"a":1,"b":107.60917663574219,"c":["RED"]}"#;
    let given = value("Needs", "{\"d\":{\"y\":1},\"a\":1}");
    assert_eq!(given, Ok(Some(partly.into())));
    assert_eq!(
        coerce("[Needs!] = {a: 1, c: [GREEN], d: {y: 1.50}}", "{}").map(|text| text.unwrap()),
        Ok(r#"[{"a":1,"c":["GREEN"],"d":{"y":1.50,"x":12345678901234567890123,"z":["a\"b"]},"b":107.60917663574219}]"#.into())
    );
    assert_eq!(
        coerce("Any = {a: [RED, 1.10, null]}", "{}"),
        Ok(Some(r#"{"a":["RED",1.10,null]}"#.into()))
    );
}
