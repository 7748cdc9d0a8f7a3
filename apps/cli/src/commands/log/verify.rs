//! `anabranch log verify`.

use anabranch::model::Position;
use anabranch::segment::{self, Damage, Remark, VerifyReport};
use clap::Args;
use serde_json::{Value, json};

use super::text::{bytes, count, counted, events};
use crate::commands::Context;
use crate::failure::{Exit, Failure, Outcome};
use crate::logs;
use crate::output::{Form, Output, Progress};

/// Read every byte of a log and name all damage
#[derive(Debug, Args)]
#[command(after_help = "\
Reads every byte of every segment, index and mark, and changes nothing. Each damage is named with
its file, where in the file it is and which positions cannot be read; if there is any, the exit
code is 1. Works while another process writes: what is not yet known to be on the disk is not
judged then. By the address of the log's server every byte comes over the network.

Examples:
  anabranch log verify
  anabranch log verify --log http://127.0.0.1:7400
  anabranch log verify --log ./backup --output json")]
pub struct VerifyArgs {}

/// Reads the log and prints what is wrong with it.
pub async fn run(_args: &VerifyArgs, context: &Context) -> Outcome {
    let (env, dir) = logs::files_of(context).await?;
    let form = context.settings.form;
    let progress = Progress::bytes(form, "verifying", Some(0));
    let is_one = segment::layout_of(&env, &dir)?.is_one();
    let mut report = segment::verify(env, &dir, &mut |done| {
        progress.set_of(done.bytes_done, done.bytes_total);
    })?;
    drop(progress);
    // What a server keeps beside the log is no part of it, and no surprise.
    report.remarks.retain(|remark| {
        let file = remark.file.as_str();
        !anabranch_server::FILES.contains(&file) && !anabranch_server::is_cuts_file(file)
    });
    let mut out = Output::stdout();
    match form {
        Form::Text => print_text(&report, &mut out)?,
        Form::Json | Form::Jsonl => out.line(&to_json(&report, is_one).to_string())?,
    }
    out.flush()?;
    if report.is_clean() {
        return Ok(());
    }
    Err(failure(&report).into())
}

fn print_text(report: &VerifyReport, out: &mut Output) -> Outcome {
    for damage in &report.damages {
        out.line(&format!("damage: {damage}"))?;
    }
    for remark in &report.remarks {
        out.line(&format!("note: {remark}"))?;
    }
    if report.beside_writer {
        out.line("note: a process writes to the log; what it writes just now was not judged")?;
    }
    out.line(&format!(
        "{}: {} in {}; {} in {} read",
        if report.is_clean() {
            "clean"
        } else {
            "damaged"
        },
        events(report.events),
        match report.frames {
            1 => "1 batch".to_owned(),
            frames => format!("{} batches", count(frames)),
        },
        bytes(report.bytes),
        counted(report.files, "file")
    ))
}

fn failure(report: &VerifyReport) -> Failure {
    let damages = match report.damages.len() {
        1 => "1 place is damaged".to_owned(),
        n => format!("{n} places are damaged"),
    };
    let heals = report.damages.iter().all(|damage| damage.heals);
    let (kept, remedy) = match report.lost() {
        0 if heals => (
            "every event can be read".to_owned(),
            "nothing: the log mends it by itself at the next opening for writing",
        ),
        0 => (
            "every event can be read".to_owned(),
            "mend it with `anabranch log repair`, which loses nothing",
        ),
        lost => (
            format!("{} cannot be read, all others can", events(lost)),
            "restore the log from a backup, or see with `anabranch log repair` what a repair loses",
        ),
    };
    Failure::new(Exit::Failed, "damaged", damages)
        .safe(format!("{kept}; nothing was changed"))
        .remedy(remedy)
}

/// Where the log ends is one position in a log with one partition only.
fn to_json(report: &VerifyReport, is_one: bool) -> Value {
    json!({
        "clean": report.is_clean(),
        "events": report.events,
        "batches": report.frames,
        "bytes": report.bytes,
        "files": report.files,
        "end": is_one.then(|| Position::at(report.end)),
        "durable": report.durable,
        "beside_writer": report.beside_writer,
        "lost": report.lost(),
        "damages": report.damages.iter().map(damage_json).collect::<Vec<_>>(),
        "notes": report.remarks.iter().map(remark_json).collect::<Vec<_>>(),
    })
}

fn damage_json(damage: &Damage) -> Value {
    json!({
        "file": damage.file,
        "offset": damage.offset,
        "first": damage.events.map(|(first, _)| first),
        "last": damage.events.map(|(_, last)| last),
        "what": damage.what,
        "heals": damage.heals,
    })
}

fn remark_json(remark: &Remark) -> Value {
    json!({ "file": remark.file, "offset": remark.offset, "what": remark.what })
}
