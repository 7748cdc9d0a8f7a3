//! The command `anabranch`.
//!
//! [`cli`] has the words of the command line; `commands/` one file for each command;
//! [`dispatch`] which function runs which; [`settings`] what the user configured; [`failure`] how a command fails.

#![deny(clippy::print_stdout, clippy::print_stderr)]

mod ack;
mod alerts;
#[cfg(feature = "bench")]
mod bench;
mod cli;
mod commands;
mod context;
mod contexts;
mod credential;
mod database;
mod demo_text;
mod dispatch;
mod event_text;
mod export;
mod failure;
mod global_args;
mod input;
mod log_lines;
mod logs;
mod neighbours;
mod observed;
mod output;
mod pause;
mod printer;
mod remote;
mod remote_disk;
mod serving;
mod settings;
mod stop;
mod story;
mod table;
mod up;
mod whole;

use std::io::Write as _;
use std::process::ExitCode;

use anabranch::env::Env;
use clap::Parser as _;
use futures_util::FutureExt as _;

use crate::cli::Cli;
use crate::contexts::Contexts;
use crate::failure::{Ending, Exit, Failure, Outcome};
use crate::log_lines::LogForm;
use crate::output::{Form, note};
use crate::settings::Settings;

/// A service makes small values on one thread and drops them on another. With the system's
/// allocator that took nearly half of the processor time of `anabranch bench saga`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if let Some(failure) = up::below::become_other() {
        return report(&failure, Form::Text);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let form = cli.global.output.unwrap_or(Form::Text);
    let settings = Contexts::load(std::env::vars_os())
        .and_then(|contexts| Settings::load(&cli.global, std::env::vars_os(), &contexts));
    let settings = match settings {
        Ok(settings) => settings,
        Err(failure) => return report(&failure, form),
    };
    let form = settings.form;
    if settings.logs == LogForm::Json {
        log_lines::speak_json(cli.command.speaks_as(), Env::os().clock);
    }
    if settings.otlp.is_some() && cli.command.is_service() {
        export::keep_spans(cli.command.speaks_as(), &Env::os());
    }
    if form == Form::Text {
        for name in &settings.unknown_variables {
            note(&format!(
                "note: {name} sets nothing; see `anabranch config show`"
            ));
        }
    }
    match run(cli, settings) {
        Ok(()) | Err(Ending::ReaderGone) => ExitCode::SUCCESS,
        Err(Ending::Failed(failure)) => report(&failure, form),
    }
}

fn run(cli: Cli, settings: Settings) -> Outcome {
    // Only the demo has work for more than one thread; not where that is done by other processes.
    let mut builder = match &cli.command {
        cli::Command::Demo(demo) if demo.is_all() => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = builder
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, "io", format!("cannot start: {error}")))?;
    // In a box, all commands are compiled once, and not again for each kind of runtime.
    let work = async {
        stop::let_large_writes_fail()?;
        dispatch::run(cli.command, settings).await
    };
    runtime.block_on(work.boxed_local())
}

fn report(failure: &Failure, form: Form) -> ExitCode {
    let text = match form {
        Form::Text => failure.to_text(),
        Form::Json | Form::Jsonl => failure.to_json(),
    };
    // If stderr is gone, the exit code still tells.
    let _ = std::io::stderr().write_all(text.as_bytes());
    ExitCode::from(failure.exit as u8)
}

/// Ends for a command line that clap did not take, or that asked for help.
fn refuse(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() || !wants_json(std::env::args_os().filter_map(|a| a.into_string().ok()))
    {
        let shown = error.print();
        return match (error.use_stderr(), shown) {
            (true, _) => ExitCode::from(Exit::Usage as u8),
            (false, Ok(())) => ExitCode::SUCCESS,
            (false, Err(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                ExitCode::SUCCESS
            }
            (false, Err(_)) => ExitCode::from(Exit::Failed as u8),
        };
    }
    let text = error.render().to_string();
    // The first part says what is wrong; the rest is the usage, for people.
    let what = text.split("\n\n").next().unwrap_or_default().trim();
    let what = what.strip_prefix("error: ").unwrap_or(what);
    report(&Failure::usage(what).remedy("see --help"), Form::Json)
}

/// Whether the command line asks for JSON, though it could not be parsed.
fn wants_json(arguments: impl Iterator<Item = String>) -> bool {
    let arguments: Vec<String> = arguments.collect();
    let is_json = |value: &str| value == "json" || value == "jsonl";
    arguments
        .iter()
        .enumerate()
        .any(|(i, argument)| match argument.split_once('=') {
            Some(("--output" | "-o", value)) => is_json(value),
            _ => {
                (argument == "--output" || argument == "-o")
                    && arguments.get(i + 1).is_some_and(|value| is_json(value))
            }
        })
}
