//! A rule about public errors: their `Debug` form is their words, since a `main` that returns
//! an error prints that form.

use super::finding::Finding;
use crate::workspace::SourceFile;

const INSTEAD: &str = "a `main` that returns this error prints its fields: derive no `Debug`, and write `anabranch_model::debug_is_words!";

/// Every public error of a crate whose `Debug` form is not its words.
pub fn check(files: &[SourceFile]) -> Vec<Finding> {
    let of_crates = |file: &&SourceFile| {
        let mut parts = file.path.split('/');
        parts.next() == Some("crates") && parts.nth(1) == Some("src") && file.path.ends_with(".rs")
    };
    files.iter().filter(of_crates).flat_map(of_file).collect()
}

fn of_file(file: &SourceFile) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut derived = String::new();
    for (index, line) in file.text.lines().enumerate() {
        if line.starts_with("#[derive(") {
            derived = line.to_owned();
        } else if let Some(name) = public_type(line) {
            let implemented = format!("rror::Error for {name} {{");
            let is_error = derives(&derived, "Error") || file.text.contains(&implemented);
            let has_words = file.text.contains(&format!("debug_is_words!({name})"));
            if is_error && !has_words {
                found.push(Finding::at(
                    &file.path,
                    index,
                    format!("{INSTEAD}({name});`"),
                ));
            }
            derived.clear();
        } else if line.ends_with('}') {
            derived.clear();
        }
    }
    found
}

/// The name of the public type that begins on this line.
fn public_type(line: &str) -> Option<&str> {
    let rest = line
        .strip_prefix("pub enum ")
        .or_else(|| line.strip_prefix("pub struct "))?;
    rest.split(|c: char| !c.is_alphanumeric() && c != '_')
        .next()
}

fn derives(attribute: &str, what: &str) -> bool {
    attribute
        .split(['(', ')', ','])
        .any(|part| part.trim().rsplit(':').next() == Some(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        let file = SourceFile {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        check(&[file]).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn a_public_error_that_a_main_would_print_by_its_fields_is_found() {
        let derived = "/// Why.\n#[derive(Debug, Clone, thiserror::Error)]\n#[error(\"no\")]\npub struct NoRoom;\n";
        let by_hand = "#[derive(Debug)]\npub enum Trouble {\n    A,\n}\n\nimpl std::error::Error for Trouble {}\n";
        assert_eq!(lines("crates/x/src/error.rs", derived), [4]);
        assert_eq!(lines("crates/x/src/deep/error.rs", by_hand), [2]);
    }

    #[test]
    fn an_error_in_words_or_of_the_crate_alone_and_what_is_no_error_are_none() {
        let words =
            "#[derive(Error)]\npub struct NoRoom;\n\nanabranch_model::debug_is_words!(NoRoom);\n";
        let private = "#[derive(Debug, Error)]\npub(crate) enum Trouble {\n    A,\n}\n";
        let value = "#[derive(Debug, Clone)]\npub struct ErrorCount(u64);\n";
        for text in [words, private, value] {
            assert!(lines("crates/x/src/error.rs", text).is_empty(), "{text}");
        }
        let of_a_program = "#[derive(Debug, Error)]\npub enum Failure {\n    A,\n}\n";
        assert!(lines("apps/x/src/main.rs", of_a_program).is_empty());
    }
}
