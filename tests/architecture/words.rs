//! The words that docs/glossary.md retires occur nowhere else.

use std::fs;
use std::path::Path;

use libtest_mimic::Trial;

use crate::root;

const GLOSSARY: &str = "docs/glossary.md";
const ENDINGS: &[&str] = &[
    "css", "graphql", "html", "json", "md", "mjs", "rs", "sh", "toml", "ts", "tsx", "yml",
];
/// Not written here, or inputs that people sent.
const SKIPPED: &[&str] = &[
    ".git",
    "cases",
    "dist",
    "node_modules",
    "target",
    "package-lock.json",
];

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("words::no retired word occurs", || {
            let retired = retired(&fs::read_to_string(root().join(GLOSSARY))?);
            let (mut files, mut violations) = (0, Vec::new());
            visit(&root(), &mut |path, text| {
                files += 1;
                let place = path.strip_prefix(root()).unwrap().display();
                let found = occurrences(text, &retired);
                violations.extend(found.map(|(line, word)| format!("{place}:{line}: \"{word}\"")));
            });
            println!("{} retired words, {files} files", retired.len());
            if retired.len() < 10 || files < 100 {
                return Err("too few words or files were read".into());
            }
            if violations.is_empty() {
                return Ok(());
            }
            let list = violations.join("\n  ");
            Err(format!("{GLOSSARY} names a better word for each:\n  {list}").into())
        }),
        Trial::test("words::a retired word is reported in each spelling", || {
            let retired = ["call off".to_owned()];
            for text in ["call_off", "CallOff", "callOff(", "Call off.", "CALL-OFF"] {
                if occurrences(text, &retired).count() != 1 {
                    return Err(format!("{text} was not reported").into());
                }
            }
            match occurrences("recall official, call\noff", &retired).next() {
                Some(found) => Err(format!("{found:?} was reported").into()),
                None => Ok(()),
            }
        }),
    ]
}

/// The first column of the table under "Retired words".
fn retired(glossary: &str) -> Vec<String> {
    let table = glossary.split("## Retired words").nth(1).unwrap_or("");
    let rows = table.lines().filter_map(|line| line.strip_prefix("| "));
    rows.filter_map(|row| row.split(" |").next())
        .filter(|word| *word != "retired")
        .map(str::to_owned)
        .collect()
}

fn visit(folder: &Path, see: &mut impl FnMut(&Path, &str)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        if SKIPPED.contains(&&*name) || path.ends_with(GLOSSARY) {
            continue;
        }
        if path.is_dir() {
            visit(&path, see);
        } else if ENDINGS
            .iter()
            .any(|ending| name.ends_with(&format!(".{ending}")))
            && !path.ends_with("architecture/words.rs")
        {
            see(&path, &fs::read_to_string(&path).unwrap());
        }
    }
}

/// Lines (from 1) and retired words, in prose and within identifiers.
fn occurrences<'w>(text: &str, retired: &'w [String]) -> impl Iterator<Item = (usize, &'w String)> {
    let lines: Vec<_> = text.lines().map(words).collect();
    (1..).zip(lines).flat_map(move |(number, line)| {
        let found = retired
            .iter()
            .filter(move |word| line.contains(&format!(" {word} ")));
        found.map(move |word| (number, word))
    })
}

/// The words of a line in lower case, between spaces; `callOff` is two.
fn words(line: &str) -> String {
    let mut words = String::from(" ");
    let mut previous_is_lower = false;
    for character in line.chars() {
        if character.is_uppercase() && previous_is_lower {
            words.push(' ');
        }
        previous_is_lower = character.is_lowercase();
        if character.is_alphanumeric() {
            words.extend(character.to_lowercase());
        } else if !words.ends_with(' ') {
            words.push(' ');
        }
    }
    words.push(' ');
    words
}
