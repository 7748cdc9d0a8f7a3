//! `anabranch debug`.

mod archive;
mod bundle;
mod scrub;

use clap::Subcommand;

use super::Context;
use crate::failure::Outcome;

/// Collect what somebody needs to find out what is wrong: bundle
#[derive(Debug, Subcommand)]
pub enum DebugCommand {
    Bundle(bundle::BundleArgs),
}

/// Runs the command.
pub async fn run(command: DebugCommand, context: &Context) -> Outcome {
    match command {
        DebugCommand::Bundle(args) => bundle::run(&args, context).await,
    }
}
