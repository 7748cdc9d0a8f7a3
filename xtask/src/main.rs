//! `cargo xtask`: the project's own commands.
//!
//! The rules that people agreed on are here as checks, because a rule that nothing runs
//! decays: [`layers`] (which crate may know which), [`tidy`] (sources, manifests and
//! documents), [`test_run`] (everything that must hold) and [`ci`] (the same on a clean
//! checkout, with formatting, lints and docs). [`backends`] has the servers that tests need.

#![expect(
    clippy::disallowed_methods,
    reason = "its work is the files of the repository"
)]

mod backends;
mod ci;
mod documented;
mod layers;
mod markdown;
mod process;
mod test_run;
mod tidy;
mod workspace;

use std::process::ExitCode;

use workspace::Workspace;

/// What a command gives: its value, or one message for the person who ran it.
type Outcome<T = ()> = Result<T, String>;

/// A command of `cargo xtask`: its name, what it does, and the function that does it.
type Command = (&'static str, &'static str, fn(&Workspace) -> Outcome);

const COMMANDS: [Command; 7] = [
    (
        "layers",
        "check that every crate depends on lower layers only",
        layers::command,
    ),
    (
        "tidy",
        "check sources, manifests, documents and dependencies against the rules",
        tidy::command,
    ),
    (
        "test",
        "build and run everything that must hold, and count it",
        test_run::command,
    ),
    (
        "ci",
        "format, lints, layers, docs, licences, then `test`",
        ci::command,
    ),
    (
        "backends up",
        "start the servers that tests need, and say where they are",
        backends::up,
    ),
    (
        "backends down",
        "stop these servers, and remove what they hold",
        backends::down,
    ),
    (
        "backends status",
        "say whether these servers run, and where",
        backends::status,
    ),
];

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
    let Some((_, _, run)) = COMMANDS.iter().find(|(command, ..)| *command == name) else {
        return misused(&format!("there is no command {name:?}"));
    };
    match Workspace::find().and_then(|workspace| run(&workspace)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn misused(what: &str) -> ExitCode {
    eprint!("cargo xtask: {what}\n\n{}", usage());
    ExitCode::from(2)
}

fn usage() -> String {
    let mut text = "Usage: cargo xtask <command>\n\n".to_owned();
    for (name, about, _) in COMMANDS {
        text.push_str(&format!("  {name:17}{about}\n"));
    }
    text
}
