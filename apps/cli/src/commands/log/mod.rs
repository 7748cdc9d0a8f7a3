//! `anabranch log`.

#![expect(
    clippy::disallowed_methods,
    reason = "this is about files that the user names"
)]

mod export;

use clap::Subcommand;

use super::Context;
use crate::failure::Outcome;

/// Look after a log: export
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    Export(export::ExportArgs),
}

/// Runs the command.
pub async fn run(command: LogCommand, context: &Context) -> Outcome {
    match command {
        LogCommand::Export(args) => export::run(args, context).await,
    }
}
