//! That each requirement of security has a test, and that it passes.

use std::collections::BTreeSet;

use super::faults::by_package;
use super::tools::tests_pass;
use crate::commands::Outcome;
use crate::markdown;
use crate::workspace::{SourceFile, Workspace};

/// The page that names the tests of each requirement.
const PAGE: &str = "docs/security-requirements.md";

/// What is required, and the attacks that are tried.
const IDS: [&str; 28] = [
    "S1", "S2", "S3", "S4", "S6", "S8", "S10", "S11", "S12", "S13", "S14", "S15", "S16", "S17",
    "S18", "S19", "S23", "S24", "S25", "S27", "S33", "A76", "A77", "A78", "A79", "A80", "A81",
    "A82",
];

/// Where it stands how to report, and what is not defended; and what has to stand there.
const POLICY: &str = "SECURITY.md";
const POLICY_SAYS: [&str; 4] = [
    "## Reporting",
    "90 days",
    "An advisory says",
    "## What is not defended",
];

/// Runs the tests of the page.
pub fn list(workspace: &Workspace) -> Outcome<String> {
    let rows = rows(&workspace.read(PAGE)?);
    let files = workspace.files()?;
    let mut wrong = wrong(&rows, &files);
    let policy = workspace.read(POLICY)?;
    for part in POLICY_SAYS.iter().filter(|part| !policy.contains(**part)) {
        wrong.push(format!("S34: {POLICY} does not say {part:?}"));
    }
    let names: BTreeSet<String> = rows.into_iter().flat_map(|row| row.tests).collect();
    let mut passed = 0;
    for (package, names) in by_package(&files, &names) {
        let mut arguments = vec!["-p", package.as_str(), "--all-features", "--"];
        arguments.extend(names.iter().map(String::as_str));
        passed += tests_pass(workspace, &arguments)?;
    }
    let figure = format!(
        "{} requirements and attacks, {passed} tests pass",
        IDS.len() + 1
    );
    if wrong.is_empty() {
        return Ok(figure);
    }
    Err(format!(
        "{figure}\n           {}",
        wrong.join("\n           ")
    ))
}

/// A line of the page.
struct Row {
    id: String,
    tests: Vec<String>,
    absent: Option<String>,
}

fn rows(text: &str) -> Vec<Row> {
    let lines = text.lines().filter(|line| line.starts_with("| "));
    lines
        .filter_map(|line| {
            let mut cells = line.trim_matches('|').split(" | ");
            let id = cells.next()?.trim().to_owned();
            let required = cells.next()?;
            let absent = required.split_once("Absent: ");
            let tests = markdown::spans(cells.next()?).into_iter();
            Some(Row {
                id,
                tests: tests.map(|name| name.to_owned()).collect(),
                absent: absent.map(|(_, what)| what.trim().to_owned()),
            })
        })
        .collect()
}

/// What has no row, no test, or a test that is not there.
fn wrong(rows: &[Row], files: &[SourceFile]) -> Vec<String> {
    let mut wrong = Vec::new();
    for id in IDS {
        let Some(row) = rows.iter().find(|row| row.id == id) else {
            wrong.push(format!("{id}: no row"));
            continue;
        };
        if row.tests.is_empty() {
            wrong.push(format!("{id}: no test"));
        }
        if let Some(absent) = &row.absent {
            wrong.push(format!("{id}: absent: {absent}"));
        }
        for name in &row.tests {
            let definition = format!("fn {name}(");
            let mut rust = files.iter().filter(|file| file.path.ends_with(".rs"));
            if !rust.any(|file| file.text.contains(&definition)) {
                wrong.push(format!("{id}: there is no test {name}"));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_requirement_without_a_row_a_test_or_the_test_that_is_named_is_told() {
        let text =
            "| S1 | a | `a_test` |\n| S2 | b. Absent: the rest | `no_test` |\n| S3 | c | |\n";
        let file = SourceFile {
            path: "a.rs".to_owned(),
            text: "fn a_test() {}".to_owned(),
        };
        let told = wrong(&rows(text), &[file]);
        assert!(!told.iter().any(|line| line.starts_with("S1:")), "{told:?}");
        for part in [
            "S2: absent: the rest",
            "S2: there is no test no_test",
            "S3: no test",
            "S4: no row",
        ] {
            assert!(told.contains(&part.to_owned()), "{part}: {told:?}");
        }
    }
}
