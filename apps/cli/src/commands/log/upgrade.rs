//! `anabranch log upgrade`.

use std::path::PathBuf;

use anabranch::log::OpenError;
use anabranch::segment;
use clap::Args;
use serde_json::json;

use super::backup::check_target;
use super::text::{bytes, counted, events, log_id};
use crate::commands::Context;
use crate::failure::{Exit, Failure, Outcome};
use crate::logs;
use crate::output::{Form, Output};

/// Carry a log of an older format over to a new directory
#[derive(Debug, Args)]
#[command(after_help = "\
The new log has the events of the old one with the ids, positions, versions and times they have;
positions and tokens that programs keep stay right. The old log stays as it is: no program may
write to it meanwhile. A damaged log is refused; repair it first with the program that wrote it.

Examples:
  anabranch log upgrade ./orders ./orders-2
  anabranch log verify --log ./orders-2")]
pub struct UpgradeArgs {
    /// The directory of the old log
    directory: PathBuf,
    /// The directory of the new log; must be empty or not there yet
    new: PathBuf,
}

/// Makes the new log.
pub fn run(args: &UpgradeArgs, context: &Context) -> Outcome {
    let (from, to) = (args.directory.as_path(), args.new.as_path());
    logs::check_directory(from, "a log")?;
    check_target(from, to, "a log")?;
    let report = segment::upgrade(&context.env, from, to).map_err(|error| match error {
        OpenError::Invalid(what) => Failure::new(Exit::Failed, "upgrade", what),
        other => other.into(),
    })?;
    let text = match context.settings.form {
        Form::Text => format!(
            "{} in {} ({}) in {}; {} is as it was",
            events(report.events),
            counted(report.segments as u64, "segment"),
            bytes(report.bytes),
            to.display(),
            from.display()
        ),
        Form::Json | Form::Jsonl => json!({
            "log_id": log_id(report.log_id),
            "events": report.events,
            "segments": report.segments,
            "bytes": report.bytes,
        })
        .to_string(),
    };
    let mut out = Output::stdout();
    out.line(&text)?;
    out.flush()
}
