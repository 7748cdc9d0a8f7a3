//! What items are run with: tests by their names, and the released program.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::backends::POSTGRES;
use crate::commands::Outcome;
use crate::process::step;
use crate::workspace::Workspace;

/// Names the file with half a year of orders, which is too large for the repository.
pub const ORDERS: &str = "ANABRANCH_SHOW_ORDERS";

/// Cargo, from the root of the workspace.
pub fn cargo(workspace: &Workspace, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.args(arguments).current_dir(&workspace.root);
    command
}

/// Runs `cargo test` with these arguments and gives how many tests passed. None at all is a
/// failure: a name that fits nothing shows nothing.
pub fn tests_pass(workspace: &Workspace, arguments: &[&str]) -> Outcome<u64> {
    tests_pass_beside(workspace, arguments, None)
}

/// The same, beside a server of PostgreSQL at this address.
pub fn tests_pass_beside(
    workspace: &Workspace,
    arguments: &[&str],
    postgres: Option<&str>,
) -> Outcome<u64> {
    let output = cargo(workspace, &["test", "--locked"])
        .args(arguments)
        .envs(postgres.map(|address| (POSTGRES, address)))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cargo test: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let passed = passed(&text);
    if !output.status.success() {
        let failed = text.lines().filter(|line| line.ends_with("... FAILED"));
        let failed: Vec<&str> = failed.collect();
        return Err(format!(
            "cargo test {}: {} ({})",
            arguments.join(" "),
            failed.join("; "),
            output.status
        ));
    }
    if passed == 0 {
        return Err(format!(
            "cargo test {}: no test has that name",
            arguments.join(" ")
        ));
    }
    Ok(passed)
}

/// The sum of `N passed` over all test programs.
fn passed(text: &str) -> u64 {
    text.lines()
        .filter_map(|line| line.strip_prefix("test result: ")?.split_once(" passed"))
        .filter_map(|(before, _)| before.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

/// Builds a package for release and gives the path of its program.
pub fn released(workspace: &Workspace, package: &str, program: &str) -> Outcome<PathBuf> {
    built(workspace, package, program, &["--release"], "release")
}

/// How large the program may be that has no client of another system's: bytes.
const PROGRAM_MAX: u64 = 20_000_000;

/// How large the program is, without the clients of other systems and with them.
pub fn size_of_program(workspace: &Workspace) -> Outcome<String> {
    let length = |flags: &[&str]| {
        let program = built(workspace, "anabranch-cli", "anabranch", flags, "release")?;
        let about = std::fs::metadata(&program);
        let about = about.map_err(|error| format!("{}: {error}", program.display()))?;
        Ok::<_, String>(about.len())
    };
    let alone = length(&["--release", "--no-default-features"])?;
    let whole = length(&["--release"])?;
    let [shown, more] = [alone, whole].map(|bytes| format!("{:.1} MB", bytes as f64 / 1e6));
    let figure = format!("{shown}; with the client of PostgreSQL {more}");
    match alone < PROGRAM_MAX {
        true => Ok(figure),
        false => Err(figure),
    }
}

/// Builds a package optimised as a whole, with all that it may measure itself beside.
pub fn shipped(workspace: &Workspace, package: &str, program: &str) -> Outcome<PathBuf> {
    let flags = ["--profile", "dist", "--all-features"];
    built(workspace, package, program, &flags, "dist")
}

fn built(
    workspace: &Workspace,
    package: &str,
    program: &str,
    flags: &[&str],
    profile: &str,
) -> Outcome<PathBuf> {
    let mut build = cargo(workspace, &["build", "--locked", "-p", package]);
    step(&format!("{profile} build"), build.args(flags))?;
    Ok(workspace.target()?.join(profile).join(program))
}

/// An empty directory for what an item writes.
pub fn scratch(workspace: &Workspace, name: &str) -> Outcome<PathBuf> {
    let dir = workspace.target()?.join("xtask-show").join(name);
    let failed = |error| format!("{}: {error}", dir.display());
    if dir.exists() {
        std::fs::remove_dir_all(&dir).map_err(failed)?;
    }
    std::fs::create_dir_all(&dir).map_err(failed)?;
    Ok(dir)
}

/// Runs a program and gives the JSON that it prints.
pub fn json(program: &Path, arguments: &[&str], dir: &Path) -> Outcome<Value> {
    let output = Command::new(program)
        .args(arguments)
        .args(["--output", "json"])
        .current_dir(dir)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    if !output.status.success() {
        return Err(format!(
            "{} ended with {}",
            arguments.join(" "),
            output.status
        ));
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("{}: {error}", arguments.join(" ")))
}

/// The number at this place of a value, such as `/ratio/throughput`.
pub fn number(value: &Value, place: &str) -> Outcome<f64> {
    let found = value.pointer(place).and_then(Value::as_f64);
    found.ok_or_else(|| format!("there is no number {place} in what was printed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passed_is_summed_over_all_test_programs() {
        let text = "running 3 tests\ntest result: ok. 3 passed; 0 failed; 1 ignored\n\
                    test result: ok. 0 passed; 0 failed\ntest result: FAILED. 4 passed; 1 failed\n";
        assert_eq!(passed(text), 7);
    }
}
