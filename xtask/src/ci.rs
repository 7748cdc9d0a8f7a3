//! `cargo xtask ci`: what continuous integration runs, and what to run before a push.

use std::process::Command;

use crate::commands::Outcome;
use crate::process::{announce, is_installed, step};
use crate::workspace::Workspace;
use crate::{layers, modules, test_run, tidy};

/// Formatting, lints, layers, docs and licences first, because they are quick; then the
/// test run, which prints the totals last.
pub fn command(workspace: &Workspace) -> Outcome {
    let cargo = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO"));
        command.args(arguments).current_dir(&workspace.root);
        command
    };
    step("format", &mut cargo(&["fmt", "--all", "--check"]))?;
    announce("layers");
    layers::command(workspace)?;
    modules::command(workspace)?;
    announce("tidy");
    tidy::command(workspace)?;
    step(
        "lints",
        &mut cargo(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--all-features",
            "--locked",
            "--",
            "-D",
            "warnings",
        ]),
    )?;
    step(
        "docs",
        cargo(&[
            "doc",
            "--workspace",
            "--lib",
            "--no-deps",
            "--all-features",
            "--locked",
        ])
        .env("RUSTDOCFLAGS", "-D warnings"),
    )?;
    licences(&cargo)?;
    test_run::command(workspace)
}

/// `cargo deny`, where it is installed. Advisories need the network and a fresh database,
/// so they are not asked for here.
fn licences(cargo: &dyn Fn(&[&str]) -> Command) -> Outcome {
    if is_installed(env!("CARGO"), &["deny"]) {
        let checks = ["deny", "--offline", "check", "bans", "licenses", "sources"];
        return step("licences", &mut cargo(&checks));
    }
    announce("licences");
    eprintln!(
        "cargo deny is not installed, so bans were not checked; `tidy` above checked licences and sources"
    );
    Ok(())
}
