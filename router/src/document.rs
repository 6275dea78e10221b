//! Descriptions of operations, fragments and variables: the September 2025
//! edition of GraphQL allows them, the parser does not support them yet.

use std::borrow::Cow;

/// The document with such descriptions replaced by spaces, so that the positions
/// in errors stay right.
pub(crate) fn without_descriptions(text: &str) -> Cow<'_, str> {
    if !text.contains('"') {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut blanked: Vec<(usize, usize)> = Vec::new();
    // The last string, which is a description if the next token can have one.
    let mut open: Option<(usize, usize)> = None;
    let mut braces = 0_usize;
    let mut before = b' ';
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        match byte {
            // Ignored tokens (GraphQL October 2021, section 2.1): `before` stays as it is.
            b' ' | b'\t' | b'\n' | b'\r' | b',' => at += 1,
            b'#' => {
                while at < bytes.len() && bytes[at] != b'\n' {
                    at += 1;
                }
            }
            b'"' => {
                let end = end_of_string(bytes, at);
                // Inside braces, or after `=` or `:`, a string is a value.
                open = (braces == 0 && !matches!(before, b'=' | b':')).then_some((at, end));
                before = byte;
                at = end;
            }
            _ => {
                let name_end = bytes[at..]
                    .iter()
                    .position(|b| !b.is_ascii_alphanumeric() && *b != b'_')
                    .map_or(bytes.len(), |length| at + length);
                let word = &text[at..name_end.max(at)];
                let describes = byte == b'$'
                    || matches!(word, "query" | "mutation" | "subscription" | "fragment");
                // After any other token, the string before it was no description.
                if let Some(string) = open.take()
                    && describes
                {
                    blanked.push(string);
                }
                match byte {
                    b'{' => braces += 1,
                    b'}' => braces = braces.saturating_sub(1),
                    _ => {}
                }
                before = byte;
                at = name_end.max(at + 1);
                // One step may end inside a character of several bytes.
                while !text.is_char_boundary(at) {
                    at += 1;
                }
            }
        }
    }
    if blanked.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    // Line breaks stay, so that line numbers do.
    for (start, end) in blanked {
        out.push_str(&text[from..start]);
        out.extend(
            text[start..end]
                .chars()
                .map(|c| if c == '\n' { '\n' } else { ' ' }),
        );
        from = end;
    }
    out.push_str(&text[from..]);
    Cow::Owned(out)
}

/// The end of the string that starts at `at`; the end of the text if it is not
/// terminated.
fn end_of_string(bytes: &[u8], at: usize) -> usize {
    let block = bytes[at..].starts_with(b"\"\"\"");
    let (mut at, quotes): (usize, &[u8]) = match block {
        true => (at + 3, b"\"\"\""),
        false => (at + 1, b"\""),
    };
    while at < bytes.len() {
        let rest = &bytes[at..];
        if block && rest.starts_with(b"\\\"\"\"") {
            at += 4;
        } else if !block && rest[0] == b'\\' {
            at += 2;
        } else if rest.starts_with(quotes) {
            return at + quotes.len();
        } else if !block && rest[0] == b'\n' {
            return at;
        } else {
            at += 1;
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_are_blanked_and_values_are_not() {
        let blanked = |text: &str| without_descriptions(text).into_owned();
        assert_eq!(
            blanked(
                "\"it's\" query Q(\"\"\"a\nb\"\"\" $x: String = \"x\" \"y\" $y: Int) { a(b: \"query\") }"
            ),
            "       query Q(    \n     $x: String = \"x\"     $y: Int) { a(b: \"query\") }"
        );
        for text in [
            "{ a }",
            "{ a(x: \"y\") }",
            "query ($x: String = \"x\" $y: Int) { a }",
            "query @d(x: \"y\") { a } # \"c\" query",
            "{ a(x: \"\\\"\", y: \"\"\"\\\"\"\" query \"\"\") }",
            "\"never ends query { a }",
            "\"é\"",
        ] {
            assert_eq!(blanked(text), text);
        }
    }
}
