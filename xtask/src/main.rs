//! `cargo xtask`: the project's own commands.
//!
//! The rules that people agreed on are here as checks, because a rule that nothing runs
//! decays: [`layers`] (which crate may know which), [`tidy`] (sources, manifests and
//! documents), [`test_run`] (everything that must hold) and [`ci`] (the same on a clean
//! checkout, with formatting, lints and docs).

#![expect(
    clippy::disallowed_methods,
    reason = "its work is the files of the repository"
)]

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

const COMMANDS: [Command; 4] = [
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
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [flag] if flag == "--help" || flag == "-h" || flag == "help" => {
            print!("{}", usage());
            ExitCode::SUCCESS
        }
        [name] => match COMMANDS.iter().find(|(command, ..)| command == name) {
            Some((_, _, run)) => match Workspace::find().and_then(|workspace| run(&workspace)) {
                Ok(()) => ExitCode::SUCCESS,
                Err(message) => {
                    eprintln!("{message}");
                    ExitCode::FAILURE
                }
            },
            None => misused(&format!("there is no command {name:?}")),
        },
        [] => misused("name a command"),
        _ => misused("one command at a time, without arguments"),
    }
}

fn misused(what: &str) -> ExitCode {
    eprint!("cargo xtask: {what}\n\n{}", usage());
    ExitCode::from(2)
}

fn usage() -> String {
    let mut text = "Usage: cargo xtask <command>\n\n".to_owned();
    for (name, about, _) in COMMANDS {
        text.push_str(&format!("  {name:8}{about}\n"));
    }
    text
}
