//! That faults which were found do not come back.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use super::item::{Item, Run};
use super::tools::{ORDERS, released, scratch, shipped, tests_pass};
use crate::commands::Outcome;
use crate::markdown;
use crate::process::{output_of, step};
use crate::workspace::{SourceFile, Workspace};

/// The items, in their order.
pub const ITEMS: [Item; 4] = [
    Item {
        says: "each fault that reviews found has a test, and all pass; each planted bug is caught",
        run: Run::Once(table),
    },
    Item {
        says: "the shop at a steady rate with faults keeps memory, files and disk flat (an hour, or --minutes M)",
        run: Run::Minutes(soak),
    },
    Item {
        says: "the story of a rejected order tells what failed, why, and what was undone",
        run: Run::Once(story),
    },
    Item {
        says: "the processor time of the half year is within 5 % of what it was",
        run: Run::Once(half_year),
    },
];

/// The page that names for each fault its test.
const PAGE: &str = "docs/faults.md";

/// What reviews called the faults: of the runtime, of the log, and the scripts.
fn ids() -> Vec<String> {
    const RUNTIME: [u32; 24] = [
        1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 20, 21, 22, 23, 24, 30, 31,
    ];
    const SCRIPTS: [&str; 18] = [
        "compressed-body-is-called-bad-json",
        "event-that-does-not-read-back",
        "event-without-data-stops-views",
        "file-size-limit-kills-without-a-word",
        "floats-change-in-replay",
        "foreign-sequence-is-dropped",
        "from-a-partition-that-is-not-there",
        "header-names-outside-cloudevents",
        "idempotency-key-for-another-command",
        "log-directory-deleted-while-writing",
        "media-type-in-capitals",
        "query-fields-called-q-and-policy",
        "repeated-idempotency-key-header",
        "stale-address-reaches-another-log",
        "stalled-bodies-lock-everybody-out",
        "sum-beyond-64-bits-breaks-a-query",
        "tilde-becomes-a-directory",
        "two-producers-one-uuid",
    ];
    let runtime = RUNTIME.map(|number| format!("r{number:02}"));
    let log = (1..=18).map(|number| format!("F{number}"));
    let scripts = SCRIPTS.map(str::to_owned);
    runtime.into_iter().chain(log).chain(scripts).collect()
}

fn table(workspace: &Workspace) -> Outcome<String> {
    let text = workspace.read(PAGE)?;
    let words = words(&text);
    let ids = ids();
    let missing: Vec<&str> = ids
        .iter()
        .map(String::as_str)
        .filter(|id| !words.contains(*id))
        .collect();
    let named = tests_named(&text, &ids);
    let mut passed = 0;
    for (package, names) in by_package(&workspace.files()?, &named) {
        let mut arguments = vec!["-p", package.as_str(), "--all-features", "--"];
        arguments.extend(names.iter().map(String::as_str));
        passed += tests_pass(workspace, &arguments)?;
    }
    let crash = released(workspace, "anabranch-crash", "anabranch-crash")?;
    let arguments = ["--sabotage", "--states", "20000", "--seed", "1"];
    let planted = output_of(Command::new(crash).args(arguments))?;
    let caught = planted.lines().last().unwrap_or_default();
    let figure = format!(
        "{} of {} faults have a row, {passed} tests pass; {caught}",
        ids.len() - missing.len(),
        ids.len()
    );
    if missing.is_empty() {
        Ok(figure)
    } else {
        Err(format!(
            "{figure}\n           no row has {}",
            missing.join(", ")
        ))
    }
}

/// The words of a text.
fn words(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '-')
        .collect()
}

/// The tests that stand in a row with one of these ids.
fn tests_named(text: &str, ids: &[String]) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for line in text.lines().filter(|line| line.starts_with('|')) {
        let words = words(line);
        if ids.iter().any(|id| words.contains(id.as_str())) {
            let spans = markdown::spans(line).into_iter();
            let tests = spans.filter_map(|span| span.rsplit("::").next().map(str::to_owned));
            named
                .extend(tests.filter(|name| name.contains('_') && !name.contains(['/', '.', ' '])));
        }
    }
    named
}

/// The tests by the package that has them.
pub fn by_package(files: &[SourceFile], names: &BTreeSet<String>) -> Vec<(String, Vec<String>)> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for name in names {
        let definition = format!("fn {name}(");
        let file = files
            .iter()
            .find(|file| file.path.ends_with(".rs") && file.text.contains(&definition));
        let Some(package) = file.and_then(|file| package_of(files, &file.path)) else {
            continue;
        };
        match found.iter_mut().find(|(known, _)| *known == package) {
            Some((_, names)) => names.push(name.clone()),
            None => found.push((package, vec![name.clone()])),
        }
    }
    found
}

/// The name in the nearest manifest above a file.
fn package_of(files: &[SourceFile], path: &str) -> Option<String> {
    let mut dir = path;
    while let Some((above, _)) = dir.rsplit_once('/') {
        dir = above;
        let manifest = format!("{dir}/Cargo.toml");
        if let Some(file) = files.iter().find(|file| file.path == manifest) {
            let name = file
                .text
                .lines()
                .find_map(|line| line.strip_prefix("name = \""))?;
            return Some(name.trim_end_matches('"').to_owned());
        }
    }
    None
}

fn soak(workspace: &Workspace, minutes: f64) -> Outcome<String> {
    let soak = released(workspace, "anabranch-soak", "anabranch-soak")?;
    let dir = scratch(workspace, "soak")?;
    let mut soak = Command::new(soak);
    soak.args(["--minutes", &minutes.to_string()])
        .current_dir(&dir);
    step("soak", &mut soak)?;
    Ok(format!(
        "flat but for the log, for {minutes} minutes of 50 orders a second"
    ))
}

/// Places one day's orders with a flaky provider and little stock, so that some are rejected.
fn story(workspace: &Workspace) -> Outcome<String> {
    let program = released(workspace, "anabranch-cli", "anabranch")?;
    let dir = scratch(workspace, "story")?;
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command
            .args(arguments)
            .args(["--log", "./log"])
            .current_dir(&dir);
        output_of(&mut command)
    };
    run(&["demo", "--rate", "0", "--stock", "20"])?;
    let rejected = run(&[
        "read",
        "--category",
        "order",
        "--type",
        "OrderRejected",
        "--output",
        "jsonl",
    ])?;
    let first = rejected
        .lines()
        .next()
        .ok_or("no order of the demo was rejected")?;
    let event: serde_json::Value =
        serde_json::from_str(first).map_err(|error| error.to_string())?;
    let order = event["subject"]
        .as_str()
        .ok_or("the event names no stream")?;
    let story = run(&["story", order])?;
    // What happened, and at the end which step failed, with why, and what was undone.
    for word in ["OrderRejected", "\n  failed  ", "\n  undone  "] {
        if !story.contains(word) {
            return Err(format!(
                "the story of {order} does not tell {word:?}:\n{story}"
            ));
        }
    }
    Ok(format!("{order}: {} lines", story.lines().count()))
}

/// The commit that the half year is compared with.
const BEFORE: &str = "d1d3c78";

fn half_year(workspace: &Workspace) -> Outcome<String> {
    let orders = std::env::var(ORDERS).map_err(|_| {
        format!("set {ORDERS} to the file of orders: lines of December 2010 to May 2011 of Online Retail")
    })?;
    let dir = scratch(workspace, "half-year")?;
    let old = dir.join("before");
    let unpack = "mkdir -p \"$1\" && git archive \"$2\" | tar x -C \"$1\"";
    let mut archive = Command::new("bash");
    archive.args(["-euo", "pipefail", "-c", unpack, "bash"]);
    step(
        "sources of before",
        archive.arg(&old).arg(BEFORE).current_dir(&workspace.root),
    )?;
    let target = workspace.target()?.join("show-before");
    let mut build = Command::new(env!("CARGO"));
    build
        .args(["build", "--release", "--locked", "--bin", "anabranch"])
        .env("CARGO_TARGET_DIR", &target)
        .current_dir(&old);
    step("build of before", &mut build)?;
    let new = shipped(workspace, "anabranch-cli", "anabranch")?;
    let (mut before, mut now) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        before.push(processor_seconds(
            &target.join("release/anabranch"),
            &orders,
            &dir,
        )?);
        now.push(processor_seconds(&new, &orders, &dir)?);
    }
    let (before, now) = (median(before), median(now));
    let figure = format!("{now:.1} s, before {before:.1} s: {:.2} ×", now / before);
    if now <= before * 1.05 {
        Ok(figure)
    } else {
        Err(figure)
    }
}

fn processor_seconds(program: &Path, orders: &str, dir: &Path) -> Outcome<f64> {
    let log = dir.join("log");
    if log.exists() {
        std::fs::remove_dir_all(&log).map_err(|error| format!("{}: {error}", log.display()))?;
    }
    let timed = "TIMEFORMAT='%U %S'; { time \"$@\" >&3 2>&3; } 3>/dev/null 2>&1";
    let output = Command::new("bash")
        .args(["-c", timed, "bash"])
        .arg(program)
        .args([
            "demo",
            "--orders",
            orders,
            "--provider",
            "reliable",
            "--stock",
            "100000",
        ])
        .arg("--log")
        .arg(&log)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("bash: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<f64> = text
        .split_whitespace()
        .filter_map(|n| n.parse().ok())
        .collect();
    match numbers[..] {
        [user, system] if output.status.success() => Ok(user + system),
        _ => Err(format!(
            "the demo with {orders} ended with {}",
            output.status
        )),
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_of_a_fault_are_those_in_its_row() {
        let text = "| r01 | a repeat | `a::it_is_once` |\n| 18 | other | `not_this_one` |\n";
        let named = tests_named(text, &["r01".to_owned()]);
        assert_eq!(named, BTreeSet::from(["it_is_once".to_owned()]));
    }

    #[test]
    fn a_test_belongs_to_the_package_around_its_file() {
        let file = |path: &str, text: &str| SourceFile {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        let files = [
            file("crates/a/Cargo.toml", "[package]\nname = \"a-name\"\n"),
            file("crates/a/tests/x/y.rs", "fn it_is_once() {}\n"),
        ];
        let names = BTreeSet::from(["it_is_once".to_owned()]);
        let expected = vec![("a-name".to_owned(), vec!["it_is_once".to_owned()])];
        assert_eq!(by_package(&files, &names), expected);
    }
}
