//! `anabranch log backup` and `anabranch log restore`.

use std::path::{Path, PathBuf};

use anabranch::Address;
use anabranch::log::OpenError;
use anabranch::segment::{self, BackupReport};
use clap::Args;
use serde_json::json;

use super::text::{bytes, counted, events, log_id};
use crate::commands::Context;
use crate::failure::{Exit, Failure, Outcome};
use crate::logs;
use crate::output::{Form, Output, Progress};

/// Copy a log into a directory, also while a process writes to it
#[derive(Debug, Args)]
#[command(after_help = "\
Copies every event that is on the disk when the command begins, and checks each on the way. Run
again with the same directory, it copies what is new; the backup before stays valid until then.
By the address of the log's server it copies from elsewhere.

Examples:
  anabranch log backup /mnt/backup/orders
  anabranch log backup /mnt/backup/orders --log http://127.0.0.1:7400
  anabranch log restore /mnt/backup/orders --log ./restored")]
pub struct BackupArgs {
    /// The directory of the backup; made if there is none
    directory: PathBuf,
}

/// Make a log from a backup
#[derive(Debug, Args)]
#[command(after_help = "\
The log appears in the directory that --log names, which must be empty or not there yet. Every
byte of the backup is checked before. The log has the positions, times and ids it had.

Examples:
  anabranch log restore /mnt/backup/orders --log ./restored")]
pub struct RestoreArgs {
    /// The directory of the backup
    directory: PathBuf,
}

/// Copies the log.
pub async fn run_backup(args: &BackupArgs, context: &Context) -> Outcome {
    let (env, from) = logs::files_of(context).await?;
    let to = args.directory.as_path();
    match &context.settings.log {
        Address::Server(_) => check_place(to, "a backup")?,
        Address::Directory(_) | Address::Memory | Address::Database(_) => {
            check_target(&from, to, "a backup")?
        }
    }
    // What of several partitions fits together, also while they are written to.
    let until = match segment::layout_of(&env, &from)?.is_one() {
        true => None,
        false => {
            let opened = logs::open_read_only(context)?;
            let head = opened.log.head().await?;
            opened.close()?;
            Some(head)
        }
    };
    let progress = Progress::bytes(context.settings.form, "copying", Some(0));
    let report = segment::backup_until(env, &from, to, until.as_ref(), &mut |done| {
        progress.set_of(done.bytes_done, done.bytes_total);
    })
    .map_err(|error| failure("backup", error).safe("the log is as it was"))?;
    drop(progress);
    print(&report, &format!("in {}", to.display()), context)
}

/// Makes the log.
pub fn run_restore(args: &RestoreArgs, context: &Context) -> Outcome {
    let from = args.directory.as_path();
    let to = logs::directory_of(context)?;
    check_target(from, to, "a log")?;
    if logs::check_directory(from, "a backup")?.is_none() {
        let what = format!("there is no backup at {}", from.display());
        return Err(Failure::new(Exit::NotFound, "no-backup", what).into());
    }
    let progress = Progress::bytes(context.settings.form, "restoring", Some(0));
    let report = segment::restore(context.env.clone(), from, to, &mut |done| {
        progress.set_of(done.bytes_done, done.bytes_total);
    })
    .map_err(|error| failure("restore", error).safe("the backup is as it was"))?;
    drop(progress);
    print(&report, &format!("in {}", to.display()), context)
}

/// Refuses a place where what is made of `from` cannot be.
pub fn check_target(from: &Path, to: &Path, what: &str) -> Result<(), Failure> {
    check_apart(from, to)?;
    check_place(to, what)
}

fn check_place(to: &Path, what: &str) -> Result<(), Failure> {
    logs::check_directory(to, what)?;
    logs::check_outside(to)
}

/// Refuses two directories of which one is in the other.
fn check_apart(from: &Path, to: &Path) -> Result<(), Failure> {
    let (from_real, to_real) = (logs::real(from), logs::real(to));
    if from_real.starts_with(&to_real) || to_real.starts_with(&from_real) {
        let (from, to) = (from.display(), to.display());
        return Err(
            Failure::usage(format!("{from} and {to} lie within each other"))
                .remedy("name a directory of its own"),
        );
    }
    Ok(())
}

fn failure(code: &'static str, error: OpenError) -> Failure {
    match error {
        OpenError::Invalid(what) => Failure::new(Exit::Failed, code, what),
        other => other.into(),
    }
}

fn print(report: &BackupReport, place: &str, context: &Context) -> Outcome {
    let text = match context.settings.form {
        Form::Text => format!(
            "{} in {} ({}) {place}; {} ({}) copied now",
            events(report.events),
            counted(report.segments, "segment"),
            bytes(report.bytes),
            counted(report.segments_copied, "segment"),
            bytes(report.bytes_copied)
        ),
        Form::Json | Form::Jsonl => json!({
            "log_id": log_id(report.log_id),
            "events": report.events,
            "segments": report.segments,
            "segments_copied": report.segments_copied,
            "bytes": report.bytes,
            "bytes_copied": report.bytes_copied,
        })
        .to_string(),
    };
    let mut out = Output::stdout();
    out.line(&text)?;
    out.flush()
}
