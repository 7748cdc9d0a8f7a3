//! `anabranch log info`.

use anabranch::model::{Position, rfc3339};
use anabranch::segment::{self, Info, SegmentInfo};
use clap::Args;
use serde_json::{Value, json};

use super::text::{bytes, count, counted, log_id};
use crate::commands::Context;
use crate::failure::Outcome;
use crate::logs;
use crate::output::{Form, Output};

/// Say what a log is and holds
#[derive(Debug, Args)]
#[command(after_help = "\
Reads no events, changes nothing, and works while another process writes; also by the address of
the log's server.

Examples:
  anabranch log info
  anabranch log info --log http://127.0.0.1:7400
  anabranch log info --output json | jq .events")]
pub struct InfoArgs {}

/// Prints it.
pub async fn run(_args: &InfoArgs, context: &Context) -> Outcome {
    let (env, dir) = logs::files_of(context).await?;
    let info = segment::info(env, &dir)?;
    let mut out = Output::stdout();
    match context.settings.form {
        Form::Text => print_text(&info, &dir.display().to_string(), &mut out)?,
        Form::Json | Form::Jsonl => out.line(&to_json(&info).to_string())?,
    }
    out.flush()
}

fn print_text(info: &Info, dir: &str, out: &mut Output) -> Outcome {
    let state = if info.written {
        "a process writes to it"
    } else if info.clean {
        "closed in order"
    } else {
        "not closed in order: the next opening for writing recovers"
    };
    let segment_bytes = info.segments.iter().map(|segment| segment.bytes).sum();
    for (name, value) in [
        ("log", dir.to_owned()),
        ("id", log_id(info.log_id)),
        ("format", info.format_version.to_string()),
        (
            "opened",
            format!("{} for writing", counted(info.epoch, "time")),
        ),
        ("state", state.to_owned()),
        ("events", count(info.events)),
        ("on the disk", format!("{} for certain", count(info.marked))),
        (
            "bytes",
            format!(
                "{} in {}, {} of indexes, {} written ahead",
                bytes(segment_bytes),
                counted(info.segments.len() as u64, "segment"),
                bytes(info.index_bytes),
                bytes(info.spare_bytes)
            ),
        ),
    ] {
        out.line(&format!("{name:<12} {value}"))?;
    }
    out.line("")?;
    for segment in &info.segments {
        out.line(&segment_line(segment))?;
    }
    for problem in &info.problems {
        out.line(&format!("problem: {problem}; run `anabranch log verify`"))?;
    }
    Ok(())
}

fn segment_line(segment: &SegmentInfo) -> String {
    let positions = match last_of(segment) {
        Some(last) => format!("{} to {last}", Position::at(segment.first)),
        None => format!("none yet, from {}", Position::at(segment.first)),
    };
    format!(
        "{:<16} {positions:<32} {:>10}  {:<7} {}",
        segment.file,
        bytes(segment.bytes),
        if segment.sealed { "sealed" } else { "open" },
        rfc3339(segment.created_at)
    )
}

fn last_of(segment: &SegmentInfo) -> Option<Position> {
    (segment.end > segment.first).then(|| Position::at(segment.end - 1))
}

/// What it is, as JSON.
pub fn to_json(info: &Info) -> Value {
    let segment = |segment: &SegmentInfo| {
        json!({
            "file": segment.file,
            "first": Position::at(segment.first),
            "last": last_of(segment),
            "events": segment.end - segment.first,
            "bytes": segment.bytes,
            "created_at": rfc3339(segment.created_at),
            "sealed": segment.sealed,
        })
    };
    json!({
        "log_id": log_id(info.log_id),
        "format_version": info.format_version,
        "epoch": info.epoch,
        "events": info.events,
        "marked": info.marked,
        "clean": info.clean,
        "written": info.written,
        "segments": info.segments.iter().map(segment).collect::<Vec<_>>(),
        "index_bytes": info.index_bytes,
        "spare_bytes": info.spare_bytes,
        "problems": info.problems,
    })
}
