//! `anabranch log info`.

use anabranch::log::{Group, Layout};
use anabranch::model::{PartitionId, Position, StreamId, rfc3339};
use anabranch::segment::{self, Info, SegmentInfo};
use anabranch::{Address, DatabaseAddress};
use clap::Args;
use serde_json::{Value, json};

use super::text::{bytes, count, counted, events, log_id};
use crate::commands::Context;
use crate::commands::read::any_stream_id;
use crate::database::{self, Use};
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
  anabranch log info --stream order/536365
  anabranch log info --output json | jq .events")]
pub struct InfoArgs {
    /// Say which partition this stream stands in, and nothing else
    #[arg(long, short, value_name = "STREAM", value_parser = any_stream_id)]
    stream: Option<StreamId>,
}

/// Prints it.
pub async fn run(args: &InfoArgs, context: &Context) -> Outcome {
    if let Address::Database(address) = &context.settings.log {
        return of_database(args, address, context).await;
    }
    let (env, dir) = logs::files_of(context).await?;
    let mut out = Output::stdout();
    if let Some(stream) = &args.stream {
        let layout = segment::layout_of(&env, &dir)?;
        print_place(stream, &layout, context.settings.form, &mut out)?;
        return out.flush();
    }
    let info = segment::info(env, &dir)?;
    match context.settings.form {
        Form::Text => print_text(&info, &dir.display().to_string(), &mut out)?,
        Form::Json | Form::Jsonl => out.line(&to_json(&info).to_string())?,
    }
    out.flush()
}

/// The same of a log in a database.
async fn of_database(args: &InfoArgs, address: &DatabaseAddress, context: &Context) -> Outcome {
    let opened = database::open(address, Use::Read, None, context)?;
    let layout = opened.log.layout();
    let mut out = Output::stdout();
    if let Some(stream) = &args.stream {
        print_place(stream, &layout, context.settings.form, &mut out)?;
        return out.flush();
    }
    let head = opened.log.head().await?;
    let total: u64 = head.iter().map(|(_, count)| count).sum();
    match context.settings.form {
        Form::Text => {
            for (name, value) in [
                ("log", address.to_string()),
                ("id", log_id(opened.id)),
                ("engine", opened.log.capabilities().engine.to_owned()),
                ("layout", layout.to_string()),
                ("durability", opened.durability.to_owned()),
                ("events", count(total)),
            ] {
                out.line(&format!("{name:<12} {value}"))?;
            }
            for id in layout.ids().filter(|_| !layout.is_one()) {
                let name = layout.name_of(id).unwrap_or_default();
                let held = events(head.get(id));
                out.line(&format!("partition {:<5} {name:<16} {held:>15}", id.0))?;
            }
        }
        Form::Json | Form::Jsonl => {
            let json = json!({
                "log_id": log_id(opened.id),
                "engine": opened.log.capabilities().engine,
                "layout": layout_json(&layout),
                "durability": opened.durability,
                "events": total,
                "head": head,
            });
            out.line(&json.to_string())?;
        }
    }
    out.flush()
}

/// Where a stream stands, whether it has events or not.
fn print_place(stream: &StreamId, layout: &Layout, form: Form, out: &mut Output) -> Outcome {
    let partition = layout.partition_of(stream);
    let name = layout.name_of(partition);
    match form {
        Form::Text => {
            let group = name.map_or_else(String::new, |name| format!(" ({name})"));
            out.line(&format!(
                "{stream} stands in partition {}{group}",
                partition.0
            ))
        }
        Form::Json | Form::Jsonl => {
            let place = json!({"stream": stream, "partition": partition, "group": name});
            out.line(&place.to_string())
        }
    }
}

fn print_text(info: &Info, dir: &str, out: &mut Output) -> Outcome {
    let state = if info.written {
        "a process writes to it"
    } else if info.clean {
        "closed in order"
    } else {
        "not closed in order: the next opening for writing recovers"
    };
    for (name, value) in [
        ("log", dir.to_owned()),
        ("id", log_id(info.log_id)),
        ("format", info.format_version.to_string()),
        ("layout", info.layout.to_string()),
        ("appends", reach_of(&info.layout)),
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
                bytes(info.segment_bytes()),
                counted(info.segment_count(), "segment"),
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
    for (id, part) in info.layout.ids().zip(&info.parts) {
        out.line(&partition_line(id, part, &info.layout))?;
    }
    for problem in &info.problems {
        out.line(&format!("problem: {problem}; run `anabranch log verify`"))?;
    }
    Ok(())
}

/// How far an append may reach.
fn reach_of(layout: &Layout) -> String {
    match layout.is_one() {
        true => "batches and conditions over any streams",
        false => "batches within a partition, conditions over any streams",
    }
    .to_owned()
}

fn partition_line(id: PartitionId, part: &Info, layout: &Layout) -> String {
    format!(
        "partition {:<5} {:<16} {:>15} {:>10} in {}",
        id.0,
        layout.name_of(id).unwrap_or_default(),
        events(part.events),
        bytes(part.segment_bytes()),
        counted(part.segment_count(), "segment"),
    )
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

/// A layout, as JSON; none where there is one partition.
pub fn layout_json(layout: &Layout) -> Value {
    if layout.is_one() {
        return Value::Null;
    }
    let group = |group: &Group| {
        json!({
            "name": group.name,
            "categories": group.categories,
            "count": group.count,
        })
    };
    json!({
        "groups": layout.groups().iter().map(group).collect::<Vec<_>>(),
        "rest": layout.rest(),
        "partitions": layout.partitions(),
    })
}

/// What it is, as JSON.
pub fn to_json(info: &Info) -> Value {
    let mut json = own_json(info);
    if !info.layout.is_one() {
        let part = |(id, part): (PartitionId, &Info)| {
            let mut json = own_json(part);
            json["partition"] = json!(id);
            json["group"] = json!(info.layout.name_of(id));
            for segment in json["segments"].as_array_mut().into_iter().flatten() {
                for end in ["first", "last"] {
                    let moved = segment[end].as_str().and_then(|at| at.strip_prefix("0:"));
                    if let Some(offset) = moved {
                        segment[end] = json!(format!("{}:{offset}", id.0));
                    }
                }
            }
            json
        };
        json["layout"] = layout_json(&info.layout);
        json["partitions"] = info.layout.ids().zip(&info.parts).map(part).collect();
    }
    json
}

fn own_json(info: &Info) -> Value {
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
