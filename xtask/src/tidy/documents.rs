//! Rules about Markdown: what it names must exist.

use super::finding::Finding;
use crate::commands::{self, Outcome};
use crate::markdown::{self, Document};
use crate::workspace::{Package, SourceFile, Workspace};

/// The columns of tables that name what keeps a promise.
const TEST_COLUMNS: [&str; 2] = ["test", "kept by"];

/// The page with the table of all crates.
const MAP: &str = "ARCHITECTURE.md";

/// Every place in the documents that names what does not exist.
pub fn check(workspace: &Workspace, files: &[SourceFile]) -> Outcome<Vec<Finding>> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with(".md")) {
        let document = markdown::parse(&file.text);
        for (line, target) in &document.links {
            if let Some(what) = broken_link(workspace, file, &document, target)? {
                found.push(Finding::at(&file.path, *line, what));
            }
        }
        found.extend(missing_paths(workspace, file, &document));
        found.extend(unknown_commands(file, &document));
        found.extend(unknown_tests(workspace, file, &document, files));
        if file.path == MAP {
            found.extend(missing_crates(&document, &workspace.packages()?));
        }
    }
    Ok(found)
}

fn broken_link(
    workspace: &Workspace,
    file: &SourceFile,
    document: &Document,
    target: &str,
) -> Outcome<Option<String>> {
    if target.contains("://") || target.starts_with("mailto:") {
        return Ok(None);
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let there = if path.is_empty() {
        None
    } else {
        let path = resolved(&file.path, path);
        if !workspace.has(&path) {
            return Ok(Some(format!(
                "the link leads to {path}, which is not there"
            )));
        }
        path.ends_with(".md").then_some(path)
    };
    let known = match there {
        None => document.anchors.iter().any(|known| known == anchor),
        Some(path) => {
            let text = workspace.read(&path)?;
            let anchors = markdown::parse(&text).anchors;
            anchors.iter().any(|known| known == anchor)
        }
    };
    let broken = !anchor.is_empty() && !known;
    Ok(broken.then(|| format!("the link leads to {target}, which has no heading #{anchor}")))
}

/// `target`, seen from the directory of `from`, as a path from the root.
fn resolved(from: &str, target: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Code spans and words of shell blocks that look like a path of this repository.
fn missing_paths(workspace: &Workspace, file: &SourceFile, document: &Document) -> Vec<Finding> {
    const TOPS: [&str; 8] = [
        "apps/",
        "crates/",
        "docs/",
        "examples/",
        "testing/",
        "xtask/",
        ".ci/",
        ".cargo/",
    ];
    let spans = document.spans.iter().cloned();
    spans
        .chain(shell_lines(document))
        .flat_map(|(line, text)| {
            let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
            words.into_iter().map(move |word| (line, word))
        })
        .filter(|(_, word)| TOPS.iter().any(|top| word.starts_with(top)))
        .filter(|(_, word)| !word.contains(['*', '<', '{', '…']) && !workspace.has(word))
        .map(|(line, word)| Finding::at(&file.path, line, format!("there is no {word}")))
        .collect()
}

fn unknown_commands(file: &SourceFile, document: &Document) -> Vec<Finding> {
    let spans = document.spans.iter().cloned();
    spans
        .chain(shell_lines(document))
        .filter_map(|(line, text)| {
            let rest = text.trim_start_matches("$ ").strip_prefix("cargo xtask ")?;
            let name = rest.split('#').next()?.trim();
            (commands::find(name).is_none()).then(|| {
                Finding::at(
                    &file.path,
                    line,
                    format!("there is no `cargo xtask {name}`"),
                )
            })
        })
        .collect()
}

/// The lines of the blocks that a shell would run.
fn shell_lines(document: &Document) -> impl Iterator<Item = (usize, String)> {
    document
        .blocks
        .iter()
        .filter(|block| ["sh", "console"].contains(&block.info.split(' ').next().unwrap_or("")))
        .flat_map(|block| {
            let lines = block.text.lines().enumerate();
            lines.map(|(index, line)| (block.line + index, line.trim().to_owned()))
        })
}

/// Tests, files and commands that a table says keep a promise.
fn unknown_tests(
    workspace: &Workspace,
    file: &SourceFile,
    document: &Document,
    files: &[SourceFile],
) -> Vec<Finding> {
    let is_test = |name: &str| {
        let name = name.rsplit("::").next().unwrap_or(name);
        let definition = format!("fn {name}(");
        let has_tests = |file: &&SourceFile| {
            file.path.ends_with(".rs")
                && (file.text.contains("#[test]")
                    || file.text.contains("#[tokio::test")
                    || file.path.contains("/conformance/"))
        };
        files
            .iter()
            .filter(has_tests)
            .any(|file| file.text.contains(&definition))
    };
    let mut found = Vec::new();
    for cell in &document.cells {
        if !TEST_COLUMNS.contains(&cell.column.to_lowercase().as_str()) {
            continue;
        }
        let spans = markdown::spans(&cell.text);
        if spans.is_empty() {
            found.push(Finding::at(
                &file.path,
                cell.line,
                "names no test: name the one that fails without this, or leave the row out",
            ));
        }
        for span in spans {
            if !is_test(&span) && !workspace.has(&span) && !span.starts_with("cargo ") {
                let what = format!("there is no test or file {span}");
                found.push(Finding::at(&file.path, cell.line, what));
            }
        }
    }
    found
}

/// Crates that the map's table, with the columns *folder* and *layer*, does not show.
fn missing_crates(document: &Document, packages: &[Package]) -> Vec<Finding> {
    let lines_with = |column: &str, text: &str| -> Vec<usize> {
        let cells = document.cells.iter();
        cells
            .filter(|cell| cell.column == column && cell.text == text)
            .map(|cell| cell.line)
            .collect()
    };
    let mut found = Vec::new();
    for package in packages {
        let layer = package.layer.map_or(String::new(), |n| n.to_string());
        let in_layer = lines_with("layer", &layer);
        let in_folder = lines_with("folder", &format!("`{}`", package.dir));
        if !in_folder.iter().any(|line| in_layer.contains(line)) {
            let what = format!(
                "the map lacks a row with the folder `{}` and the layer {layer}",
                package.dir
            );
            found.push(Finding::whole(MAP, what));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(text: &str) -> Vec<String> {
        let workspace = Workspace::find().unwrap();
        let file = SourceFile {
            path: "docs/planted.md".to_owned(),
            text: text.to_owned(),
        };
        let found = check(&workspace, &[file]).unwrap();
        found.iter().map(Finding::to_string).collect()
    }

    #[test]
    fn a_link_to_nowhere_is_found() {
        assert!(messages("[a](../Cargo.toml) [b](https://example.com)").is_empty());
        assert_eq!(messages("[a](nowhere.md)").len(), 1);
        assert_eq!(messages("[a](#nowhere)").len(), 1);
        assert!(messages("# Some Where\n[a](#some-where)").is_empty());
    }

    #[test]
    fn a_path_that_is_not_there_is_found() {
        assert!(messages("`xtask/Cargo.toml` and `crates/*`").is_empty());
        assert_eq!(messages("`crates/nowhere`").len(), 1);
        assert_eq!(messages("```sh\ncat docs/nowhere.md\n```").len(), 1);
    }

    #[test]
    fn a_command_that_does_not_exist_is_found() {
        assert!(messages("`cargo xtask tidy`").is_empty());
        assert_eq!(messages("`cargo xtask nothing`").len(), 1);
    }

    #[test]
    fn a_promise_kept_by_no_test_is_found() {
        let row = |test: &str| format!("| fault | test |\n| --- | --- |\n| x | {test} |\n");
        assert_eq!(messages(&row("")).len(), 1);
        assert_eq!(messages(&row("`no_such_test`")).len(), 1);
        assert!(messages(&row("`cargo xtask layers`")).is_empty());
        assert!(messages(&row("`clippy.toml`")).is_empty());
    }

    #[test]
    fn a_test_on_an_async_runtime_keeps_a_promise_too() {
        let file = |path: &str, text: &str| SourceFile {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        let files = [
            file("docs/planted.md", "| test |\n| --- |\n| `it_holds` |\n"),
            file("tests/x.rs", "#[tokio::test]\nasync fn it_holds() {}\n"),
        ];
        let found = check(&Workspace::find().unwrap(), &files).unwrap();
        assert!(found.is_empty(), "{}", found[0]);
    }

    #[test]
    fn a_crate_that_the_map_lacks_is_found() {
        let map = "| folder | what | layer |\n| --- | --- | --- |\n| `crates/log` | x | 3 |\n";
        let package = |dir: &str, layer| Package {
            name: "x".to_owned(),
            dir: dir.to_owned(),
            layer: Some(layer),
            dependencies: Vec::new(),
        };
        let missing = |package| missing_crates(&markdown::parse(map), &[package]).len();
        assert_eq!(missing(package("crates/log", 3)), 0);
        assert_eq!(missing(package("crates/log", 4)), 1);
        assert_eq!(missing(package("crates/env", 3)), 1);
    }
}
