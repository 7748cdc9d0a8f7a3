//! How long a file and a function may be.

use std::collections::BTreeSet;

use proc_macro2::Span;
use syn::visit::{self, Visit};

use super::finding::Finding;
use crate::commands::Outcome;
use crate::known::Known;
use crate::workspace::{SourceFile, Workspace};

/// The most lines of a file of Rust.
const FILE_LINES_MAX: usize = 800;

/// The most lines of a function, from its name to its closing brace.
const FUNCTION_LINES_MAX: usize = 100;

/// The files and functions that are still longer, each with the lines it may have.
const KNOWN: &str = "xtask/known/long.txt";

/// Every file and function that is too long, or on the list and not too long any more.
pub fn check(workspace: &Workspace, files: &[SourceFile]) -> Outcome<Vec<Finding>> {
    Ok(findings(files, &Known::read(workspace, KNOWN)?))
}

/// How many files and functions are on the list.
pub fn known(workspace: &Workspace) -> Outcome<usize> {
    Ok(Known::read(workspace, KNOWN)?.names().count())
}

/// Something that has a length.
struct Long {
    name: String,
    path: String,
    line: usize,
    lines: usize,
    lines_max: usize,
}

fn findings(files: &[SourceFile], known: &Known) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut standing = BTreeSet::new();
    for long in files.iter().flat_map(long) {
        let allowed = known.size(&long.name).unwrap_or(long.lines_max);
        if long.lines > allowed {
            found.push(Finding {
                path: long.path,
                line: long.line,
                message: format!(
                    "{} has {} lines, {allowed} are allowed: split it by idea",
                    long.name, long.lines
                ),
            });
        }
        standing.insert(long.name);
    }
    for name in known.names().filter(|name| !standing.contains(*name)) {
        let what = format!("{name} is not too long any more: take it off this list");
        found.push(Finding::whole(KNOWN, what));
    }
    found
}

/// The file and its functions, as far as they are too long.
fn long(file: &SourceFile) -> Vec<Long> {
    if !file.path.ends_with(".rs") {
        return Vec::new();
    }
    let mut found = Vec::new();
    let lines = file.text.lines().count();
    if lines > FILE_LINES_MAX {
        found.push(Long {
            name: file.path.clone(),
            path: file.path.clone(),
            line: 0,
            lines,
            lines_max: FILE_LINES_MAX,
        });
    }
    // What is no Rust on purpose, to test what the compiler says of it, has no functions.
    if let Ok(parsed) = syn::parse_file(&file.text) {
        let mut functions = Functions(Vec::new());
        functions.visit_file(&parsed);
        for (name, line, lines) in functions.0 {
            found.push(Long {
                name: format!("{}::{name}", file.path),
                path: file.path.clone(),
                line,
                lines,
                lines_max: FUNCTION_LINES_MAX,
            });
        }
    }
    found
}

/// The functions that are too long: the name, the first line, how many lines.
struct Functions(Vec<(String, usize, usize)>);

impl Functions {
    fn note(&mut self, signature: &syn::Signature, end: Span) {
        let first = signature.fn_token.span.start().line;
        let lines = end.end().line + 1 - first;
        if lines > FUNCTION_LINES_MAX {
            self.0.push((signature.ident.to_string(), first, lines));
        }
    }
}

impl<'a> Visit<'a> for Functions {
    fn visit_item_fn(&mut self, function: &'a syn::ItemFn) {
        self.note(&function.sig, function.block.brace_token.span.close());
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'a syn::ImplItemFn) {
        self.note(&function.sig, function.block.brace_token.span.close());
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'a syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.note(&function.sig, block.brace_token.span.close());
        }
        visit::visit_trait_item_fn(self, function);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(text: &str, known: &str) -> Vec<String> {
        let file = SourceFile {
            path: "a.rs".to_owned(),
            text: text.to_owned(),
        };
        let found = findings(&[file], &Known::parse(known));
        found.iter().map(Finding::to_string).collect()
    }

    fn function(lines: usize) -> String {
        format!("\nfn f() {{\n{}}}\n", "    g();\n".repeat(lines - 2))
    }

    #[test]
    fn a_long_file_is_found() {
        assert!(messages(&"\n".repeat(FILE_LINES_MAX), "").is_empty());
        let found = messages(&"\n".repeat(FILE_LINES_MAX + 1), "");
        assert!(found[0].contains("a.rs has 801 lines"), "{found:?}");
    }

    #[test]
    fn a_long_function_is_found_where_it_begins() {
        assert!(messages(&function(FUNCTION_LINES_MAX), "").is_empty());
        let found = messages(&function(FUNCTION_LINES_MAX + 1), "");
        assert!(
            found[0].starts_with("a.rs:2: a.rs::f has 101 lines"),
            "{found:?}"
        );
        let method = format!("impl A {{{}}}", function(FUNCTION_LINES_MAX + 1));
        assert_eq!(messages(&method, "").len(), 1);
    }

    #[test]
    fn what_is_known_to_be_long_may_get_shorter_and_not_longer() {
        let text = function(150);
        assert!(messages(&text, "a.rs::f 150\n").is_empty());
        assert!(messages(&text, "a.rs::f 160\n").is_empty());
        assert_eq!(messages(&text, "a.rs::f 149\n").len(), 1);
    }

    #[test]
    fn what_is_not_long_any_more_has_to_leave_the_list() {
        let found = messages(&function(100), "# known\na.rs::f 150\n");
        assert!(found[0].contains("take it off this list"), "{found:?}");
    }
}
