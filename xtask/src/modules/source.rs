//! What one module says about others: its children, its imports, the paths in its code.
//!
//! Code that only tests see (`#[cfg(test)]`, `#[test]`) is left out.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Attribute, Item, UseTree, Visibility};

use crate::commands::Outcome;

/// A path as code writes it, such as `["super", "page", "Page"]`.
pub type Path = Vec<String>;

/// A module: a file, or a part of one between braces.
#[derive(Debug, Default)]
pub struct Module {
    /// The index of the file that it is in.
    pub file: usize,
    /// The index of the module around it.
    pub parent: Option<usize>,
    /// The modules in it, by name.
    pub children: BTreeMap<String, usize>,
    /// The names of what it defines.
    pub defines: BTreeSet<String>,
    /// What `use` brings in, by the name here.
    pub imports: BTreeMap<String, Import>,
    /// What `use a::*` brings in.
    pub globs: Vec<Import>,
    /// The paths in its code.
    pub mentions: Vec<Path>,
}

/// What one `use` brings in.
#[derive(Debug, Clone)]
pub struct Import {
    /// From where.
    pub path: Path,
    /// Whether it is handed on to others (`pub use`).
    pub is_handed_on: bool,
}

/// A module that stands in a file of its own: its name, and its `#[path]` if it has one.
#[derive(Debug)]
pub struct ChildFile {
    /// Its name.
    pub name: String,
    /// The file that `#[path = "…"]` names.
    pub path: Option<String>,
    /// The index of the module that declares it.
    pub parent: usize,
    /// The names of the modules between braces around the declaration, outermost first.
    pub inside: Vec<String>,
}

/// Reads one file into `modules`, whose last entry is the file's own module. Gives the
/// modules that stand in files of their own, and the macros that it exports.
pub fn read(
    text: &str,
    own: usize,
    modules: &mut Vec<Module>,
) -> Outcome<(Vec<ChildFile>, Vec<String>)> {
    let file = syn::parse_file(text).map_err(|error| error.to_string())?;
    let mut reader = Reader {
        modules,
        children: Vec::new(),
        macros: Vec::new(),
    };
    reader.items(file.items, own, &[]);
    Ok((reader.children, reader.macros))
}

struct Reader<'a> {
    modules: &'a mut Vec<Module>,
    children: Vec<ChildFile>,
    macros: Vec<String>,
}

impl Reader<'_> {
    fn items(&mut self, items: Vec<Item>, own: usize, inside: &[String]) {
        for item in items {
            if attributes(&item).iter().any(is_for_tests) {
                continue;
            }
            match item {
                Item::Mod(item) => self.module(item, own, inside),
                Item::Use(item) => {
                    let is_handed_on = !matches!(item.vis, Visibility::Inherited);
                    self.import(&item.tree, &mut Vec::new(), own, is_handed_on);
                }
                Item::Macro(item) => {
                    if let Some(name) = &item.ident {
                        self.macros.push(name.to_string());
                        self.modules[own].defines.insert(name.to_string());
                    }
                    let paths = &mut self.modules[own].mentions;
                    scan(item.to_token_stream(), false, paths);
                }
                item => {
                    if let Some(name) = name_of(&item) {
                        self.modules[own].defines.insert(name);
                    }
                    let paths = &mut self.modules[own].mentions;
                    scan(item.to_token_stream(), false, paths);
                }
            }
        }
    }

    fn module(&mut self, item: syn::ItemMod, own: usize, inside: &[String]) {
        let name = item.ident.to_string();
        let Some((_, items)) = item.content else {
            self.children.push(ChildFile {
                name,
                path: item.attrs.iter().find_map(path_of),
                parent: own,
                inside: inside.to_vec(),
            });
            return;
        };
        let child = self.modules.len();
        self.modules.push(Module {
            file: self.modules[own].file,
            parent: Some(own),
            ..Module::default()
        });
        self.modules[own].children.insert(name.clone(), child);
        let inside: Vec<String> = inside.iter().cloned().chain([name]).collect();
        self.items(items, child, &inside);
    }

    fn import(&mut self, tree: &UseTree, before: &mut Path, own: usize, is_handed_on: bool) {
        let import = |path: Path| Import { path, is_handed_on };
        match tree {
            UseTree::Path(tree) => {
                before.push(tree.ident.to_string());
                self.import(&tree.tree, before, own, is_handed_on);
                before.pop();
            }
            UseTree::Group(tree) => {
                for tree in &tree.items {
                    self.import(tree, before, own, is_handed_on);
                }
            }
            UseTree::Glob(_) => self.modules[own].globs.push(import(before.clone())),
            UseTree::Name(tree) if tree.ident == "self" => {
                if let Some(name) = before.last().cloned() {
                    let imports = &mut self.modules[own].imports;
                    imports.insert(name, import(before.clone()));
                }
            }
            UseTree::Name(tree) => {
                let path = extended(before, tree.ident.to_string());
                let imports = &mut self.modules[own].imports;
                imports.insert(tree.ident.to_string(), import(path));
            }
            UseTree::Rename(tree) => {
                let path = extended(before, tree.ident.to_string());
                let mut name = tree.rename.to_string();
                if name == "_" {
                    // A trait whose name is not needed; several may stand in one module.
                    name = format!("_{}", path.join("::"));
                }
                self.modules[own].imports.insert(name, import(path));
            }
        }
    }
}

fn extended(path: &Path, name: String) -> Path {
    path.iter().cloned().chain([name]).collect()
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn name_of(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}

/// `#[test]`, `#[cfg(test)]`, and `#[cfg(all(test, …))]`; not `#[cfg(not(test))]`.
fn is_for_tests(attribute: &Attribute) -> bool {
    if attribute.path().is_ident("test") {
        return true;
    }
    if !attribute.path().is_ident("cfg") {
        return false;
    }
    let text = attribute.meta.to_token_stream().to_string();
    let words = |word: &str| {
        text.split(|c: char| !c.is_alphanumeric() && c != '_')
            .any(|w| w == word)
    };
    words("test") && !words("not") && !words("any")
}

fn path_of(attribute: &Attribute) -> Option<String> {
    let syn::Meta::NameValue(pair) = &attribute.meta else {
        return None;
    };
    let syn::Expr::Lit(value) = &pair.value else {
        return None;
    };
    match &value.lit {
        syn::Lit::Str(text) if pair.path.is_ident("path") => Some(text.value()),
        _ => None,
    }
}

/// Adds every path in `tokens` that may lead to another module. Macros' arguments are read
/// like other code. In attributes the strings are read too: `#[serde(with = "super::hex")]`.
fn scan(tokens: TokenStream, in_attribute: bool, paths: &mut Vec<Path>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Punct(sign) if sign.as_char() == '#' => {
                if let Some(TokenTree::Group(group)) = tokens.get(at + 1) {
                    if group.delimiter() == Delimiter::Bracket && !is_doc(group) {
                        scan(group.stream(), true, paths);
                    }
                    at += 1;
                }
                at += 1;
            }
            TokenTree::Ident(_) => {
                let is_free = at == 0 || !is_taken(&tokens[at - 1]);
                let (path, next) = path_at(&tokens, at, paths);
                let is_called = match tokens.get(next) {
                    Some(TokenTree::Group(group)) => group.delimiter() == Delimiter::Parenthesis,
                    Some(TokenTree::Punct(sign)) => sign.as_char() == '!',
                    _ => false,
                };
                let is_type = path[0].starts_with(|c: char| c.is_uppercase());
                if is_free && (path.len() > 1 || is_called || is_type) {
                    paths.push(path);
                }
                at = next;
            }
            TokenTree::Group(group) => {
                scan(group.stream(), in_attribute, paths);
                at += 1;
            }
            TokenTree::Literal(literal) => {
                let text = literal.to_string();
                let text = text.trim_matches('"');
                if in_attribute
                    && ["crate::", "super::", "self::"]
                        .iter()
                        .any(|s| text.starts_with(s))
                {
                    paths.push(text.split("::").map(str::to_owned).collect());
                }
                at += 1;
            }
            TokenTree::Punct(_) => at += 1,
        }
    }
}

/// The path that begins at `at`, and where it ends. What `{…}` behind a path names, in a `use`
/// within a function, is added to `paths`.
fn path_at(tokens: &[TokenTree], mut at: usize, paths: &mut Vec<Path>) -> (Path, usize) {
    let mut path = Path::new();
    while let Some(TokenTree::Ident(ident)) = tokens.get(at) {
        path.push(ident.to_string());
        let is_colon = |token: Option<&TokenTree>| matches!(token, Some(TokenTree::Punct(p)) if p.as_char() == ':');
        if !(is_colon(tokens.get(at + 1)) && is_colon(tokens.get(at + 2))) {
            return (path, at + 1);
        }
        at += 3;
        if let Some(TokenTree::Group(group)) = tokens.get(at) {
            let mut inner = Vec::new();
            named(group, &mut inner);
            let full = inner
                .into_iter()
                .map(|end: Path| [path.clone(), end].concat());
            paths.extend(full);
            return (path, at + 1);
        }
    }
    (path, at)
}

/// What the braces of a `use` name.
fn named(group: &Group, paths: &mut Vec<Path>) {
    let tokens: Vec<TokenTree> = group.stream().into_iter().collect();
    let mut at = 0;
    while at < tokens.len() {
        if let TokenTree::Ident(_) = &tokens[at] {
            let (path, next) = path_at(&tokens, at, paths);
            paths.push(path);
            at = next;
        } else {
            at += 1;
        }
    }
}

/// Whether a name behind this token is no path: a field, a method, or a new name.
fn is_taken(before: &TokenTree) -> bool {
    match before {
        TokenTree::Punct(sign) => ['.', '\''].contains(&sign.as_char()),
        TokenTree::Ident(word) => ["fn", "mod", "let", "struct", "enum", "trait"]
            .iter()
            .any(|taken| word == taken),
        _ => false,
    }
}

fn is_doc(group: &Group) -> bool {
    matches!(group.stream().into_iter().next(), Some(TokenTree::Ident(word)) if word == "doc")
}
