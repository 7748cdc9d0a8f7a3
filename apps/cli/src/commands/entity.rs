//! `anabranch entity`.

use anabranch::log::{Order, VersionRange};
use anabranch::model::{Event, StreamId, to_cloud_event};
use anabranch_server::client::path;
use anabranch_wire::{Entity, History, Parked, Raw, Unparked};
use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Context;
use super::append::stream_id;
use crate::event_text::clean;
use crate::failure::{Exit, Failure, Outcome};
use crate::logs;
use crate::output::{Form, Output, note};
use crate::remote::{NOTHING_RUNS, Remote, ServerArgs};
use crate::table::{Table, print_facts, print_json};
use crate::whole::whole;

/// Look at entities of a running program: show, parked, unpark
#[derive(Debug, Subcommand)]
pub enum EntityCommand {
    Show(ShowArgs),
    Parked(ParkedArgs),
    Unpark(UnparkArgs),
}

/// Show the state of an entity, and the events that made it
#[derive(Debug, Args)]
#[command(after_help = "\
The state comes from the running program, which has the entity's code. When none is running, the
events are read from the log.

Examples:
  anabranch entity show order/536365
  anabranch entity show order/536365 --at 0
  anabranch entity show stock/85123A --limit 10 --output json | jq .entity.state")]
pub struct ShowArgs {
    /// The entity, as category/key, for example order/536365
    #[arg(value_parser = stream_id)]
    entity: StreamId,
    /// As it was after the event of this version
    #[arg(long, value_name = "VERSION", value_parser = whole::<u64>, allow_negative_numbers = true)]
    at: Option<u64>,
    /// Show at most so many events, the newest
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 50, value_parser = whole::<u64>, allow_negative_numbers = true)]
    limit: u64,
    #[command(flatten)]
    server: ServerArgs,
}

/// List the entities that take no commands, and why
#[derive(Debug, Args)]
#[command(after_help = "\
An entity is parked when its own code fails again and again. Its events are safe.

Examples:
  anabranch entity parked")]
pub struct ParkedArgs {
    #[command(flatten)]
    server: ServerArgs,
}

/// Let a parked entity take commands again
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  anabranch entity unpark order/536365")]
pub struct UnparkArgs {
    /// The entity, as category/key, for example order/536365
    #[arg(value_parser = stream_id)]
    entity: StreamId,
    #[command(flatten)]
    server: ServerArgs,
}

/// Runs the command.
pub async fn run(command: EntityCommand, context: &Context) -> Outcome {
    match command {
        EntityCommand::Show(args) => show(args, context).await,
        EntityCommand::Parked(args) => parked(&args, context).await,
        EntityCommand::Unpark(args) => unpark(&args, context).await,
    }
}

async fn show(args: ShowArgs, context: &Context) -> Outcome {
    let remote = match Remote::find(&args.server, context) {
        Ok(remote) => remote,
        Err(failure) if failure.code == NOTHING_RUNS => {
            return show_from_log(&args, failure, context).await;
        }
        Err(failure) => return Err(failure.into()),
    };
    let (category, key) = (args.entity.category(), args.entity.key());
    let at = args.at.map(|at| at.to_string());
    let parameters: Vec<_> = at.iter().map(|at| ("at", at.as_str())).collect();
    let inspected = path(&["operate", "entity", category, key], &parameters);
    let answer = match remote.get::<Entity>(&inspected).await {
        Ok(answer) => answer,
        Err(failure) if failure.code == NOTHING_RUNS => {
            return show_from_log(&args, failure, context).await;
        }
        Err(failure) => return Err(failure.into()),
    };
    let entity = answer.value;
    let events = history(&remote, &args, entity.version).await?;
    let mut out = Output::stdout();
    match context.settings.form {
        Form::Text => {
            print_entity(&args.entity, &entity, &mut out)?;
            print_history(&events, &mut out)?;
        }
        Form::Json | Form::Jsonl => print_both(&answer.text, &events, &mut out)?,
    }
    out.flush()
}

/// The newest events up to `last`.
async fn history(remote: &Remote, args: &ShowArgs, last: u64) -> Outcome<Vec<Raw>> {
    let (category, key) = (args.entity.category(), args.entity.key());
    let mut events = Vec::new();
    let end = last.saturating_add(1);
    let mut from = end.saturating_sub(args.limit);
    while from < end {
        let (first, limit) = (from.to_string(), (end - from).to_string());
        let page = path(
            &["operate", "history", category, key],
            &[("from", &first), ("limit", &limit)],
        );
        let page = remote.get::<History>(&page).await?.value;
        events.extend(page.events);
        match page.next {
            Some(next) if next < end => from = next,
            _ => break,
        }
    }
    Ok(events)
}

fn print_entity(stream: &StreamId, entity: &Entity, out: &mut Output) -> Outcome {
    print_facts(
        &[
            ("entity", stream.to_string()),
            ("version", entity.version.to_string()),
            ("status", entity.status.text()),
        ],
        out,
    )?;
    out.line("\nstate")?;
    match entity.state.as_str() {
        long if long.len() > 80 => print_json(long, 2, out),
        short => out.line(&format!("  {}", clean(short))),
    }
}

#[derive(Deserialize)]
struct Line {
    sequence: String,
    time: String,
    #[serde(rename = "type")]
    name: String,
    data: Option<Box<RawValue>>,
    data_base64: Option<String>,
}

fn print_history(events: &[Raw], out: &mut Output) -> Outcome {
    out.line("\nhistory")?;
    let mut table = Table::new(["version", "recorded", "type", "data"]);
    for event in events {
        let line: Line = serde_json::from_str(event.as_str()).map_err(|error| {
            Failure::new(Exit::Failed, "strange-answer", format!("an event: {error}"))
        })?;
        let data = match (&line.data, &line.data_base64) {
            (Some(data), _) => data.get(),
            (None, Some(base64)) => base64,
            (None, None) => "",
        };
        table.row([&line.sequence, &line.time, &line.name, data]);
    }
    table.print("no events", out)
}

fn print_both(entity: &str, events: &[Raw], out: &mut Output) -> Outcome {
    let events: Vec<_> = events.iter().map(|event| event.as_str()).collect();
    out.line(&format!(
        "{{\"entity\":{entity},\"events\":[{}]}}",
        events.join(",")
    ))
}

/// Without the program there is no code that makes a state; the events speak for themselves.
async fn show_from_log(args: &ShowArgs, failure: Failure, context: &Context) -> Outcome {
    let opened = match logs::open_read_only(context) {
        Ok(opened) => opened,
        // Neither a program nor a log.
        Err(_) => return Err(failure.into()),
    };
    let end = args.at.map_or(VersionRange::ALL, |at| {
        VersionRange::before(at.saturating_add(1))
    });
    let mut read = opened.log.read_stream(&args.entity, end, Order::Backward);
    let mut newest: Vec<Event> = Vec::new();
    while (newest.len() as u64) < args.limit
        && let Some(event) = read.next().await
    {
        newest.push(event?);
    }
    opened.close()?;
    let missing = match (newest.first(), args.at) {
        (None, None) => Some(format!("{} has no events", args.entity)),
        (last, Some(at)) if last.is_none_or(|last| last.version != at) => {
            Some(format!("{} has no event {at}", args.entity))
        }
        _ => None,
    };
    if let Some(what) = missing.filter(|_| args.limit > 0) {
        return Err(Failure::new(Exit::NotFound, "not-found", what).into());
    }
    let mut events = Vec::new();
    for event in newest.iter().rev() {
        let text = to_cloud_event(&event.as_ref())
            .map_err(|error| Failure::new(Exit::Failed, "damaged", error.to_string()))?;
        let raw = Raw::new(text)
            .map_err(|error| Failure::new(Exit::Failed, "damaged", error.to_string()))?;
        events.push(raw);
    }
    let mut out = Output::stdout();
    if context.settings.form == Form::Text {
        note(&format!(
            "note: {}; the state needs the running program, so only the events are shown",
            failure.what
        ));
        print_facts(&[("entity", args.entity.to_string())], &mut out)?;
        print_history(&events, &mut out)?;
    } else {
        print_both("null", &events, &mut out)?;
    }
    out.flush()
}

async fn parked(args: &ParkedArgs, context: &Context) -> Outcome {
    let remote = Remote::find(&args.server, context)?;
    let answer = remote.get::<Vec<Parked>>("/operate/parked").await?;
    let mut out = Output::stdout();
    match context.settings.form {
        Form::Text => {
            let mut table = Table::new(["entity", "service", "reason"]);
            for parked in &answer.value {
                table.row([&parked.stream, &parked.service, &parked.reason]);
            }
            table.print("no entity is parked", &mut out)?;
        }
        form => out.values(form, &answer.value)?,
    }
    out.flush()
}

async fn unpark(args: &UnparkArgs, context: &Context) -> Outcome {
    let remote = Remote::find(&args.server, context)?;
    let (category, key) = (args.entity.category(), args.entity.key());
    let answer = remote
        .post::<Unparked>(
            &path(&["operate", "unpark", category, key], &[]),
            String::new(),
        )
        .await?;
    let mut out = Output::stdout();
    match context.settings.form {
        Form::Text => out.line(&format!("{} takes commands again", args.entity))?,
        Form::Json | Form::Jsonl => out.line(&answer.text)?,
    }
    out.flush()
}
