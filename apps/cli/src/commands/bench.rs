//! `anabranch bench`: hands over to [`crate::bench`], which measures.

use std::path::PathBuf;

use anabranch::Address;
use clap::Subcommand;

use super::Context;
use crate::bench::database::{self, BenchDatabase};
use crate::bench::hosted::{self, BenchEntity, BenchSaga, BenchView};
use crate::bench::{self, BenchLog, ResultForm};
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Form, Output, note};

/// Measure speed and size: log, remote, database, entity, saga, view
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    Log(Box<BenchLog>),
    /// Measure the log behind a server beside the embedded log
    #[command(after_help = "\
The server is `anabranch serve` in a process of its own, over loopback; its clients share one
connection. All else is as in `anabranch bench log`.

Examples:
  anabranch bench remote
  anabranch bench remote --clients 16 --batch 100 --peer redis")]
    Remote(Box<BenchLog>),
    Database(BenchDatabase),
    Entity(BenchEntity),
    Saga(BenchSaga),
    View(BenchView),
}

/// Runs the command.
pub fn run(command: &BenchCommand, context: &Context) -> Outcome {
    let form = context.settings.form;
    let result_form = match form {
        Form::Text => ResultForm::Text,
        Form::Json | Form::Jsonl => ResultForm::Json,
    };
    let progress = |what: &str| {
        if form == Form::Text {
            note(what);
        }
    };
    let settings = &context.settings;
    let beside = beside(&settings.log);
    let durability = settings.options.durability;
    let result = match command {
        BenchCommand::Log(args) => {
            bench::run(args, false, beside, durability, result_form, &progress)
        }
        BenchCommand::Remote(args) => {
            bench::run(args, true, beside, durability, result_form, &progress)
        }
        BenchCommand::Database(args) => {
            database::run(args, beside, durability, result_form, &progress)
        }
        BenchCommand::Entity(args) => {
            hosted::run_entity(args, beside, durability, result_form, &progress)
        }
        BenchCommand::View(args) => hosted::run_view(args, beside, result_form, &progress),
        BenchCommand::Saga(args) => {
            hosted::run_saga(args, beside, durability, result_form, &progress)
        }
    };
    let result = result.map_err(|error| Failure::new(Exit::Failed, "bench", error.to_string()))?;
    let mut out = Output::stdout();
    out.write(result.as_bytes())?;
    out.flush()
}

/// A directory on the same disk as the log.
fn beside(log: &Address) -> PathBuf {
    match log {
        Address::Directory(dir) => dir.with_file_name("bench"),
        Address::Memory | Address::Server(_) | Address::Database(_) => ".anabranch/bench".into(),
    }
}
