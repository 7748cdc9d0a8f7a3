//! Rules about Rust, Python and shell.

use super::finding::Finding;
use crate::workspace::SourceFile;

/// A rule about single lines: what it looks for, where, and what to do instead.
struct LineRule {
    looks_for: &'static [&'static str],
    file_ends: &'static [&'static str],
    instead: &'static str,
}

/// The needles are split so that this file does not contain them itself.
const LINE_RULES: [LineRule; 5] = [
    LineRule {
        looks_for: &[concat!("#[ig", "nore")],
        file_ends: &[".rs"],
        instead: "an ignored test decays: make it run, let it print `skipped: what: why` where it cannot, or delete it",
    },
    LineRule {
        looks_for: &[concat!("allow(dead", "_code)"), concat!("allow(un", "used")],
        file_ends: &[".rs"],
        instead: "delete what nothing uses",
    },
    LineRule {
        looks_for: &[
            concat!("TO", "DO"),
            concat!("FIX", "ME"),
            concat!("XX", "X"),
        ],
        file_ends: &[".rs", ".py", ".sh", ".md", ".toml"],
        instead: "finish it, or write down in the docs what is not there",
    },
    LineRule {
        looks_for: &[
            concat!("/wo", "rk/"),
            concat!("/ro", "ot/"),
            concat!("/ho", "me/"),
            concat!("/t", "mp/"),
        ],
        file_ends: &[".rs", ".py", ".sh", ".md", ".toml", ".ci/run", ".yaml"],
        instead: "a path of one machine: take it as an argument, or ask for a scratch directory",
    },
    LineRule {
        looks_for: &[
            concat!("unsafe", " {"),
            concat!("unsafe", " fn"),
            concat!("unsafe", " impl"),
        ],
        file_ends: &[".rs"],
        instead: "no crate here needs it: use a safe wrapper (rustix, bytes, zerocopy)",
    },
];

/// Every place in the sources where a rule is broken.
pub fn check(files: &[SourceFile]) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in files {
        found.extend(forbidden_words(file));
        if file.path.ends_with(".rs") {
            found.extend(bare_matches(file));
        }
        let is_root = ["src/lib.rs", "src/main.rs"].map(|end| file.path.ends_with(end));
        if is_root.contains(&true) && !file.text.starts_with("//!") {
            found.push(Finding::at(
                &file.path,
                0,
                "begin with `//!` and say in a few lines what this crate is",
            ));
        }
    }
    found
}

fn forbidden_words(file: &SourceFile) -> Vec<Finding> {
    let mut found = Vec::new();
    let rules = || {
        LINE_RULES
            .iter()
            .filter(|rule| rule.file_ends.iter().any(|end| file.path.ends_with(end)))
    };
    for (index, line) in file.text.lines().enumerate() {
        for rule in rules() {
            if let Some(word) = rule.looks_for.iter().find(|word| line.contains(**word)) {
                let message = format!("`{word}`: {}", rule.instead);
                found.push(Finding::at(&file.path, index, message));
            }
        }
    }
    found
}

/// `matches!(…);` as a statement looks like a check and asserts nothing.
fn bare_matches(file: &SourceFile) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut start = 0;
    for (index, line) in file.text.split_inclusive('\n').enumerate() {
        if let Some(arguments) = line.trim_start().strip_prefix("matches!(") {
            let begin = start + line.len() - arguments.len();
            if after_closing(&file.text[begin..]).is_some_and(|rest| rest.starts_with(';')) {
                found.push(Finding::at(
                    &file.path,
                    index,
                    "this `matches!` asserts nothing: write `assert!(matches!(…))`",
                ));
            }
        }
        start += line.len();
    }
    found
}

/// What follows the parenthesis that closes one opened before `text`.
fn after_closing(text: &str) -> Option<&str> {
    let mut depth = 1;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(&text[at + 1..]);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(path: &str, text: &str) -> Vec<String> {
        let file = SourceFile {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        check(&[file]).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn each_forbidden_word_is_found_where_it_stands() {
        for rule in LINE_RULES {
            for word in rule.looks_for {
                let text = format!("fine\n  {word}\n");
                let path = format!("crates/x/a{}", rule.file_ends[0]);
                let found = messages(&path, &text);
                assert!(
                    found
                        .iter()
                        .any(|m| m.starts_with(&format!("{path}:2: `{word}`"))),
                    "{word}: {found:?}"
                );
            }
        }
    }

    #[test]
    fn a_check_that_asserts_nothing_is_found() {
        let bare = "fn t() {\n    matches!(\n        f(1),\n        Ok(_)\n    );\n}\n";
        assert_eq!(messages("a.rs", bare).len(), 1);
        let asserted = "fn t() {\n    assert!(matches!(f(1), Ok(_)));\n}\n";
        let value = "fn t() -> bool {\n    matches!(f(1), Ok(_))\n}\n";
        assert!(messages("a.rs", asserted).is_empty());
        assert!(messages("a.rs", value).is_empty());
    }

    #[test]
    fn a_crate_without_an_introduction_is_found() {
        assert_eq!(messages("crates/x/src/lib.rs", "pub fn f() {}\n").len(), 1);
        assert!(messages("crates/x/src/lib.rs", "//! What it is.\n").is_empty());
    }
}
