//! `cargo xtask test`: the one command that runs everything that must hold.
//!
//! 1. Every test and doc test of the workspace; among them the conformance suite on each
//!    engine, and the layers and tidy checks.
//!    Servers that some of them need are started before and stopped after.
//!    Then those of the crates below `testing/strangers`, and the fuzz targets of
//!    `testing/fuzz` over their corpus and mutations of it, for less than a minute.
//! 2. The OpenAPI document, by the validator that others use.
//! 3. What the documents tell a reader to type, with the released program.
//! 4. The scripts below `testing/` that use the released program as a person would, in a
//!    small dose.
//! 5. The clients in other languages, against the released program.
//! 6. The AsyncAPI document of a running shop, and its events beside it, by the official schema.
//! 7. A bounded dose of simulated crashes, and the planted bugs that it must catch.
//! 8. Two minutes of the shop at a steady rate, in which nothing may grow but the log.
//!
//! What cannot run here is said loudly and counted. With `CI` in the environment that is
//! a failure, so that nothing is left out for months without anyone noticing.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use crate::asyncapi;
use crate::backends::Backends;
use crate::checked::Checked;
use crate::commands::Outcome;
use crate::documented;
use crate::openapi;
use crate::process::{announce, is_installed, step};
use crate::show::tools::{released, scratch};
use crate::workspace::Workspace;

/// What begins the line by which a test says on standard error that it cannot run here.
const SKIPPED: &str = "skipped: ";

/// The rows of real data that the small doses use.
const FIRST_DAY: &str = "examples/retail/data/first-day.csv";

/// Runs everything and prints the totals.
pub fn command(workspace: &Workspace) -> Outcome {
    let mut report = Report::default();
    cargo_test(workspace, &mut report)?;
    strangers(workspace, &mut report)?;
    described(workspace, &mut report);
    match Released::build(workspace) {
        Ok(released) => {
            documents(workspace, &released, &mut report);
            scripts(workspace, &released, &mut report);
            clients(workspace, &released, &mut report);
            events_described(
                workspace,
                &released.anabranch,
                &released.scratch,
                &mut report,
            );
            crashes(workspace, &released, &mut report);
            soak(workspace, &released, &mut report);
        }
        Err(message) => report.failures.push(message),
    }
    report.finish(in_ci())
}

/// Checks the documents that describe what servers do, and nothing else.
pub fn described_command(workspace: &Workspace) -> Outcome {
    let mut report = Report::default();
    described(workspace, &mut report);
    let program = released(workspace, "anabranch-cli", "anabranch")?;
    let scratch = scratch(workspace, "described")?;
    events_described(workspace, &program, &scratch, &mut report);
    report.finish(in_ci())
}

fn described(workspace: &Workspace, report: &mut Report) {
    announce("OpenAPI document");
    report.add("OpenAPI document", openapi::check(workspace));
}

fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false")
}

/// What ran, what failed, what could not run.
#[derive(Debug, Default)]
struct Report {
    done: Vec<String>,
    failures: Vec<String>,
    skips: Vec<String>,
}

impl Report {
    fn note(&mut self, what: &str, outcome: Outcome<String>) {
        match outcome {
            Ok(done) => self.done.push(format!("{what}: {done}")),
            Err(message) => self.failures.push(format!("{what}: {message}")),
        }
    }

    fn add(&mut self, what: &str, checked: Checked) {
        match checked {
            Checked::Valid(how) => self.done.push(format!("{what}: {how}")),
            Checked::Skipped(why) => self.skips.push(why),
            Checked::Invalid(why) => self.failures.push(why),
        }
    }

    fn finish(self, in_ci: bool) -> Outcome {
        announce("totals");
        for line in &self.done {
            println!("{line}");
        }
        for line in &self.skips {
            println!("SKIPPED {line}");
        }
        if self.skips.is_empty() {
            println!("skipped: nothing");
        }
        for line in &self.failures {
            println!("FAILED {line}");
        }
        if !self.failures.is_empty() {
            return Err(format!("cargo xtask test: {} failed", self.failures.len()));
        }
        if in_ci && !self.skips.is_empty() {
            return Err(format!(
                "cargo xtask test: {} skipped; in continuous integration that is a failure",
                self.skips.len()
            ));
        }
        println!("everything that ran holds");
        Ok(())
    }
}

/// The sums of what test programs print of themselves.
#[derive(Debug, Default, PartialEq, Eq)]
struct Totals {
    programs: u64,
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Totals {
    /// Adds a line such as `test result: ok. 3 passed; 0 failed; 0 ignored; …`.
    fn add(&mut self, line: &str) {
        let Some(counts) = line.strip_prefix("test result: ") else {
            return;
        };
        self.programs += 1;
        for part in counts.split([';', '.']) {
            let mut words = part.split_whitespace();
            if let (Some(Ok(count)), Some(what)) =
                (words.next().map(str::parse::<u64>), words.next())
            {
                match what {
                    "passed" => self.passed += count,
                    "failed" => self.failed += count,
                    "ignored" => self.ignored += count,
                    _ => {}
                }
            }
        }
    }
}

fn cargo_test(workspace: &Workspace, report: &mut Report) -> Outcome {
    announce("backends");
    let mut backends = Backends::for_tests(workspace);
    report.skips.append(&mut backends.missing);
    announce("tests");
    let mut child = Command::new(env!("CARGO"))
        .args([
            "test",
            "--workspace",
            "--all-features",
            "--locked",
            "--no-fail-fast",
        ])
        .envs(backends.environment.iter().cloned())
        .current_dir(&workspace.root)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cargo test: {error}"))?;
    let errors = child.stderr.take();
    let errors = thread::spawn(move || lines_shown(errors, &mut std::io::stderr()));
    let lines = lines_shown(child.stdout.take(), &mut std::io::stdout());
    let errors = errors
        .join()
        .map_err(|_| "reading the output of cargo test failed")?;
    let status = child
        .wait()
        .map_err(|error| format!("cargo test: {error}"))?;
    if let Err(why) = backends.stop() {
        report
            .failures
            .push(format!("PostgreSQL was not stopped: {why}"));
    }

    let mut totals = Totals::default();
    for line in &lines {
        totals.add(line);
        if line.starts_with("test ") && line.ends_with("... FAILED") {
            report.failures.push(line.clone());
        }
    }
    // A test that says it is skipped may do so between the words of the test program.
    for line in lines.iter().chain(&errors) {
        if let Some((_, skip)) = line.split_once(SKIPPED) {
            report.skips.push(skip.to_owned());
        }
    }
    if totals.ignored > 0 {
        report
            .skips
            .push(format!("{} ignored tests", totals.ignored));
    }
    if !status.success() {
        report
            .failures
            .push(format!("cargo test ended with {status}"));
    } else if totals.passed == 0 {
        report
            .failures
            .push("cargo test ran no test at all".to_owned());
    }
    report.done.push(format!(
        "tests: {} passed, {} failed, {} ignored, in {} test programs",
        totals.passed, totals.failed, totals.ignored, totals.programs
    ));
    Ok(())
}

/// The crates outside the workspace, each on its own: those below `testing/strangers` use the
/// public interface as somebody else would; `testing/fuzz` has the fuzz targets.
fn strangers(workspace: &Workspace, report: &mut Report) -> Outcome {
    let target = workspace.metadata(&["--no-deps"])?["target_directory"].clone();
    let target = target
        .as_str()
        .ok_or("cargo metadata names no target directory")?;
    for name in ["strangers/view-store", "strangers/consumer", "fuzz"] {
        let dir = format!("testing/{name}");
        announce(&dir);
        let output = Command::new(env!("CARGO"))
            .args(["test", "--locked", "--target-dir", target])
            .current_dir(workspace.root.join(&dir))
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| format!("{dir}: {error}"))?;
        let mut totals = Totals::default();
        for line in lines_shown(Some(&*output.stdout), &mut std::io::stdout()) {
            totals.add(&line);
        }
        if output.status.success() && totals.passed > 0 {
            let passed = totals.passed;
            report.done.push(format!("{dir}: {passed} tests passed"));
        } else {
            let failed = totals.failed;
            report
                .failures
                .push(format!("{dir}: {failed} tests failed"));
        }
    }
    Ok(())
}

/// Hands every line on as it comes and keeps it.
fn lines_shown(from: Option<impl Read>, to: &mut impl Write) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(from) = from {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            // Nothing is left to tell if the terminal is gone; the lines still count.
            let _ = writeln!(to, "{line}");
            lines.push(line);
        }
    }
    lines
}

/// The programs as a user has them.
struct Released {
    anabranch: PathBuf,
    retail: PathBuf,
    crash: PathBuf,
    soak: PathBuf,
    scratch: PathBuf,
}

impl Released {
    fn build(workspace: &Workspace) -> Outcome<Self> {
        // Each as the documents build it: built together they would have other features, and
        // be built again.
        for package in [
            "anabranch-cli",
            "retail",
            "anabranch-crash",
            "anabranch-soak",
        ] {
            step(
                "release build",
                Command::new(env!("CARGO"))
                    .args(["build", "--release", "--locked", "-p", package])
                    .current_dir(&workspace.root),
            )?;
        }
        let target = workspace.target()?;
        let scratch = target.join("xtask-scratch");
        if scratch.exists() {
            std::fs::remove_dir_all(&scratch)
                .map_err(|error| format!("{}: {error}", scratch.display()))?;
        }
        std::fs::create_dir_all(&scratch)
            .map_err(|error| format!("{}: {error}", scratch.display()))?;
        Ok(Self {
            anabranch: target.join("release/anabranch"),
            retail: target.join("release/retail"),
            crash: target.join("release/anabranch-crash"),
            soak: target.join("release/anabranch-soak"),
            scratch,
        })
    }
}

fn documents(workspace: &Workspace, released: &Released, report: &mut Report) {
    announce("documents");
    // The tests built it, with everything that it may have.
    let commands = workspace.target().and_then(|target| {
        documented::commands_exist(workspace, &target.join("debug").join("anabranch"))
    });
    report.note(
        "documents",
        commands.map(|count| format!("{count} anabranch commands, all exist")),
    );
    let blocks = documented::blocks_run(workspace, &released.scratch);
    report.note(
        "documents",
        blocks.map(|count| format!("{count} examples, all run")),
    );
}

fn scripts(workspace: &Workspace, released: &Released, report: &mut Report) {
    const DOSES: [(&str, &[&str]); 3] = [
        ("testing/check-retail.py", &[]),
        ("testing/kill-import.py", &["--kills", "10"]),
        ("testing/check-shop.py", &["--crash-every", "200ms"]),
    ];
    if !is_installed("python3", &[]) {
        let names = DOSES.map(|(script, _)| script).join(" and ");
        report
            .skips
            .push(format!("{names}: python3 is not installed"));
        return;
    }
    for (script, arguments) in DOSES {
        let outcome = step(
            script,
            Command::new("python3")
                .arg(script)
                .arg(FIRST_DAY)
                .args(arguments)
                .arg("--anabranch")
                .arg(&released.anabranch)
                .arg("--retail")
                .arg(&released.retail)
                .arg("--scratch")
                .arg(&released.scratch)
                .current_dir(&workspace.root),
        );
        match outcome {
            Ok(()) => report.done.push(format!("{script}: holds")),
            Err(message) => report.failures.push(message),
        }
    }
}

/// The clients in other languages, by a script of their own, which installs what it needs.
fn clients(workspace: &Workspace, released: &Released, report: &mut Report) {
    const SCRIPT: &str = "clients/check.sh";
    for tool in ["python3", "node", "npm"] {
        if !is_installed(tool, &[]) {
            report
                .skips
                .push(format!("{SCRIPT}: {tool} is not installed"));
            return;
        }
    }
    let outcome = step(
        SCRIPT,
        Command::new("bash")
            .arg(SCRIPT)
            .env("ANABRANCH_BIN", &released.anabranch)
            .env("CLIENTS_SCRATCH", released.scratch.join("clients"))
            .current_dir(&workspace.root),
    );
    match outcome {
        Ok(()) => report.done.push(format!("{SCRIPT}: holds")),
        Err(message) => report.failures.push(message),
    }
}

fn events_described(workspace: &Workspace, program: &Path, scratch: &Path, report: &mut Report) {
    announce("AsyncAPI document");
    let orders = workspace.root.join(FIRST_DAY);
    let checked = asyncapi::check(workspace, program, &orders, &scratch.join("asyncapi"));
    report.add("AsyncAPI document", checked);
}

/// A bounded dose of simulated crashes, and the planted bugs, each of which must be
/// caught. From fixed seeds, so that a run that fails fails again.
fn crashes(workspace: &Workspace, released: &Released, report: &mut Report) {
    const DOSES: [(&str, &[&str]); 2] = [
        ("simulated crashes", &["--states", "20000", "--seed", "1"]),
        (
            "planted bugs",
            &["--sabotage", "--states", "20000", "--seed", "1"],
        ),
    ];
    for (what, arguments) in DOSES {
        let outcome = step(
            what,
            Command::new(&released.crash)
                .args(arguments)
                .current_dir(&workspace.root),
        );
        match outcome {
            Ok(()) => report.done.push(format!("{what}: holds")),
            Err(message) => report.failures.push(message),
        }
    }
}

/// The shop at a steady rate with faults on: nothing may grow but the log.
fn soak(workspace: &Workspace, released: &Released, report: &mut Report) {
    let outcome = step(
        "soak",
        Command::new(&released.soak)
            .args(["--minutes", "2"])
            .current_dir(&workspace.root),
    );
    match outcome {
        Ok(()) => report.done.push("soak: flat but for the log".to_owned()),
        Err(message) => report.failures.push(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_the_sums_of_what_test_programs_print() {
        let mut totals = Totals::default();
        totals.add("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s");
        totals
            .add("test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out");
        totals.add("running 3 tests");
        let sums = Totals {
            programs: 2,
            passed: 13,
            failed: 2,
            ignored: 1,
        };
        assert_eq!(totals, sums);
    }

    #[test]
    fn a_skip_fails_in_continuous_integration_only() {
        let report = || Report {
            skips: vec!["x: not here".to_owned()],
            ..Report::default()
        };
        assert!(report().finish(false).is_ok());
        assert!(report().finish(true).is_err());
    }

    #[test]
    fn a_failure_fails_everywhere() {
        let mut report = Report::default();
        report.note("x", Err("broken".to_owned()));
        assert!(report.finish(false).is_err());
    }
}
