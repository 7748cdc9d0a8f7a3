//! `cargo xtask`: the project's own commands.
//!
//! The rules that people agreed on are here as checks, because a rule that nothing runs
//! decays: [`layers`] (which crate may know which), [`modules`] (which file), [`tidy`] (sources, manifests and
//! documents), [`test_run`] (everything that must hold) and [`ci`] (the same on a clean
//! checkout, with formatting, lints and docs). [`backends`] has the servers that tests need.

#![expect(
    clippy::disallowed_methods,
    reason = "its work is the files of the repository"
)]

mod asyncapi;
mod backends;
mod build_times;
mod checked;
mod ci;
mod commands;
mod documented;
mod known;
mod layers;
mod markdown;
mod modules;
mod openapi;
mod process;
mod show;
mod test_run;
mod tidy;
mod workspace;

use std::process::ExitCode;

use commands::{COMMANDS, Outcome};
use workspace::Workspace;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let name = arguments.join(" ");
    if ["--help", "-h", "help"].contains(&name.as_str()) {
        print!("{}", usage());
        return ExitCode::SUCCESS;
    }
    if name.is_empty() {
        return misused("name a command");
    }
    let Some((words, argument)) = commands::find(&name) else {
        return misused(&format!("there is no command {name:?}"));
    };
    match Workspace::find().and_then(|workspace| run(&workspace, words, argument)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the command of these words.
fn run(workspace: &Workspace, words: &str, argument: Option<&str>) -> Outcome {
    match words {
        "layers" => layers::command(workspace),
        "layers --files" => modules::command(workspace),
        "tidy" => tidy::command(workspace),
        "test" => test_run::command(workspace),
        "described" => test_run::described_command(workspace),
        "ci" => ci::command(workspace),
        "backends up" => backends::up(workspace),
        "backends down" => backends::down(workspace),
        "backends status" => backends::status(workspace),
        "build-times" => build_times::command(workspace),
        "show house" => show::house(workspace, argument),
        "show faults" => show::faults(workspace, argument),
        "show backbone" => show::backbone(workspace, argument),
        "show partitions" => show::partitions(workspace, argument),
        words => Err(format!("{words}: is listed and does nothing")),
    }
}

fn misused(what: &str) -> ExitCode {
    eprint!("cargo xtask: {what}\n\n{}", usage());
    ExitCode::from(2)
}

fn usage() -> String {
    let mut text = "Usage: cargo xtask <command>\n\n".to_owned();
    for (words, about) in COMMANDS {
        text.push_str(&format!("  {words:17}{about}\n"));
    }
    text
}
