//! Reads a crate's modules: every path that each one mentions, resolved to the
//! module that it leads to. `use`, inline paths, attributes and the tokens of
//! macros all count; items under `#[cfg(test)]` do not.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Attribute, Item, UseTree, Visibility};

/// The path of a module within its crate, such as `["app", "cart"]`; empty for
/// the root.
pub type ModulePath = Vec<String>;

pub struct Crate {
    pub name: String,
    pub modules: BTreeMap<ModulePath, Module>,
}

/// One file.
pub struct Module {
    pub file: PathBuf,
    pub lines: usize,
    /// Every path that the file mentions, with imported names expanded:
    /// `["crate", ...]` within the crate, else the name of another crate first.
    pub mentions: Vec<Vec<String>>,
    /// Whether it has an `async` function, block or closure.
    pub is_async: bool,
    /// How often it calls a method `begin`.
    pub begins: usize,
    /// Public functions that name a `Model`, which is a row of the database.
    pub public_models: Vec<String>,
    /// Modules that it declares `pub`.
    pub public_modules: Vec<String>,
    /// Names that it re-exports, with what they stand for.
    exports: HashMap<String, Vec<String>>,
}

impl Crate {
    /// Reads all files below a crate's `src` folder.
    pub fn read(name: &str, src: &Path) -> Self {
        let mut modules = BTreeMap::new();
        let mut folders = vec![src.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|ending| ending == "rs") {
                    let module = module_path(path.strip_prefix(src).unwrap());
                    modules.insert(module.clone(), Module::read(&path, &module));
                }
            }
        }
        Self {
            name: name.to_owned(),
            modules,
        }
    }

    /// The modules of this crate that a module's paths lead to, re-exports
    /// followed.
    pub fn targets(&self, module: &Module) -> Vec<ModulePath> {
        let within = module.mentions.iter().filter(|path| path[0] == "crate");
        let mut found: Vec<_> = within.map(|path| self.resolve(&path[1..], 0)).collect();
        found.sort();
        found.dedup();
        found
    }

    fn resolve(&self, path: &[String], depth: usize) -> ModulePath {
        let at = (0..=path.len())
            .rev()
            .find(|&length| self.modules.contains_key(&path[..length]))
            .unwrap_or(0);
        let (module, rest) = path.split_at(at);
        let known = self.modules.get(module).zip(rest.first());
        let exported = known.and_then(|(module, name)| module.exports.get(name));
        match exported {
            Some(target) if depth < 8 && target[0] == "crate" => {
                let mut target = target[1..].to_vec();
                target.extend_from_slice(&rest[1..]);
                self.resolve(&target, depth + 1)
            }
            _ => module.to_vec(),
        }
    }
}

impl Module {
    fn read(file: &Path, module: &[String]) -> Self {
        let text = fs::read_to_string(file).unwrap();
        let parsed = syn::parse_file(&text)
            .unwrap_or_else(|error| panic!("{} cannot be parsed: {error}", file.display()));
        let items: Vec<_> = parsed
            .items
            .into_iter()
            .filter(|item| !is_test(item))
            .collect();
        let mut imports: HashMap<String, Vec<String>> = HashMap::new();
        let mut exports = HashMap::new();
        let mut mentions = Vec::new();
        let mut public_models = Vec::new();
        let mut public_modules = Vec::new();
        // A child module is a name that needs no import.
        for item in &items {
            if let Item::Mod(child) = item {
                let name = child.ident.to_string();
                let path = [&["crate".to_owned()], module, std::slice::from_ref(&name)].concat();
                imports.insert(name.clone(), path);
                if matches!(child.vis, Visibility::Public(_)) {
                    public_modules.push(name);
                }
            }
        }
        let mut uses = Vec::new();
        for item in &items {
            collect_uses(item, &mut uses);
        }
        for (path, name, is_public) in uses {
            let first = path[0].clone();
            let path = match imports.get(&first) {
                Some(child) => [child, &path[1..]].concat(),
                None => absolute(&path, module),
            };
            mentions.push(path.clone());
            if is_public {
                exports.insert(name.clone(), path.clone());
            }
            imports.insert(name, path);
        }
        let (mut is_async, mut begins) = (false, 0);
        for item in items.iter().filter(|item| !matches!(item, Item::Use(_))) {
            scan(item.to_token_stream(), &mut |found| match found {
                Found::Path(path) => {
                    match imports.get(&path[0]) {
                        Some(import) => mentions.push([import, &path[1..]].concat()),
                        // A single name that is not imported is a local one.
                        None if path.len() > 1 => mentions.push(absolute(&path, module)),
                        None => {}
                    }
                }
                Found::Async => is_async = true,
                Found::Begin => begins += 1,
            });
            if let Item::Fn(function) = item
                && matches!(function.vis, Visibility::Public(_))
                && function.sig.to_token_stream().into_iter().any(|token| {
                    token.to_string() == "Model" || token.to_string().contains(":: Model")
                })
            {
                public_models.push(function.sig.ident.to_string());
            }
        }
        Self {
            file: file.to_owned(),
            lines: text.lines().count(),
            mentions,
            is_async,
            begins,
            public_models,
            public_modules,
            exports,
        }
    }
}

/// `app/cart.rs` is `["app", "cart"]`, `app/mod.rs` is `["app"]`.
fn module_path(file: &Path) -> ModulePath {
    let mut path: ModulePath = file
        .with_extension("")
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    if matches!(
        path.last().map(String::as_str),
        Some("mod" | "lib" | "main")
    ) {
        path.pop();
    }
    path
}

/// A path with `self` and `super` replaced.
fn absolute(path: &[String], module: &[String]) -> Vec<String> {
    let mut at = module.to_vec();
    let mut rest = path;
    let mut relative = false;
    while let Some(first) = rest.first() {
        match first.as_str() {
            "super" => {
                at.pop();
            }
            "self" => {}
            _ => break,
        }
        relative = true;
        rest = &rest[1..];
    }
    if !relative {
        return path.to_vec();
    }
    [vec!["crate".to_owned()], at, rest.to_vec()].concat()
}

fn is_test(item: &Item) -> bool {
    attributes(item).iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .to_token_stream()
                .to_string()
                .replace(' ', "")
                .contains("(test)")
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Mod(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Const(item) => &item.attrs,
        _ => &[],
    }
}

/// Imports at the top of a file and of its inline modules; those within a
/// function are found by the scan of its tokens.
fn collect_uses(item: &Item, found: &mut Vec<(Vec<String>, String, bool)>) {
    match item {
        Item::Use(item) => {
            let is_public = !matches!(item.vis, Visibility::Inherited);
            flatten(&item.tree, &[], is_public, found);
        }
        Item::Mod(item) => {
            if let Some((_, items)) = &item.content {
                items.iter().for_each(|item| collect_uses(item, found));
            }
        }
        _ => {}
    }
}

fn flatten(
    tree: &UseTree,
    before: &[String],
    is_public: bool,
    found: &mut Vec<(Vec<String>, String, bool)>,
) {
    let with = |name: String| [before, &[name]].concat();
    match tree {
        UseTree::Path(path) => flatten(&path.tree, &with(path.ident.to_string()), is_public, found),
        UseTree::Name(name) if name.ident == "self" => {
            let last = before.last().cloned().unwrap_or_default();
            found.push((before.to_vec(), last, is_public));
        }
        UseTree::Name(name) => {
            let name = name.ident.to_string();
            found.push((with(name.clone()), name, is_public));
        }
        UseTree::Rename(rename) => {
            let path = match rename.ident.to_string() {
                name if name == "self" => before.to_vec(),
                name => with(name),
            };
            found.push((path, rename.rename.to_string(), is_public));
        }
        UseTree::Glob(_) => found.push((before.to_vec(), "*".to_owned(), is_public)),
        UseTree::Group(group) => {
            for tree in &group.items {
                flatten(tree, before, is_public, found);
            }
        }
    }
}

enum Found {
    Path(Vec<String>),
    Async,
    Begin,
}

/// Finds paths (`a::b`), `async` and `.begin(` in tokens, also those of macros.
fn scan(tokens: TokenStream, found: &mut impl FnMut(Found)) {
    let tokens: Vec<_> = tokens.into_iter().collect();
    let is = |at: usize, text: &str| {
        tokens
            .get(at)
            .is_some_and(|token| token.to_string() == text)
    };
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Group(group) => scan(group.stream(), found),
            TokenTree::Ident(first) => {
                let mut path = vec![first.to_string()];
                let mut next = at;
                while is(next + 1, ":") && is(next + 2, ":") {
                    match tokens.get(next + 3) {
                        Some(TokenTree::Ident(part)) => path.push(part.to_string()),
                        // `use a::{b, c}` within a function.
                        Some(TokenTree::Group(group)) => {
                            for token in group.stream() {
                                if let TokenTree::Ident(part) = token {
                                    found(Found::Path([&path[..], &[part.to_string()]].concat()));
                                }
                            }
                            break;
                        }
                        _ => break,
                    }
                    next += 3;
                }
                match path[0].as_str() {
                    "async" => found(Found::Async),
                    "begin" if at > 0 && is(at - 1, ".") => found(Found::Begin),
                    _ => found(Found::Path(path)),
                }
                at = next;
            }
            _ => {}
        }
        at += 1;
    }
}
