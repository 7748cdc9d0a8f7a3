//! `anabranch story`.

use anabranch::domain::Event as _;
use anabranch::domain::process::{ProcessEvent, Received};
use anabranch::domain::saga::{SagaEvent, start_id};
use anabranch::log::{Log, Order, ReadMode, VersionRange};
use anabranch::model::{Cut, Event, Filter, StreamId};
use clap::Args;

use super::Context;
use super::append::stream_id;
use crate::event_text::clean;
use crate::failure::{Exit, Failure, Outcome};
use crate::logs;
use crate::output::{Form, Output, note};
use crate::story::{Ended, Gathering, Told};

/// Tell one story across all services: what followed from what, and why
#[derive(Debug, Args)]
#[command(after_help = "\
Reads the log alone; no program has to be running. The story begins where what is named began, for
example at the order of a payment, and goes to the end of the log. As text, repeated attempts and
times at which nothing happened are folded; with --output jsonl there is one event on each line,
then one line for each saga.

Examples:
  anabranch story order/536365
  anabranch story charging/536365-5f0c2a9b
  anabranch story order/536365 --output jsonl | jq -r .says")]
pub struct StoryArgs {
    /// What the story is about: an entity, a saga or a process, as category/key
    #[arg(value_parser = stream_id)]
    stream: StreamId,
}

/// A time without an event that is worth a word, in microseconds.
const GAP: u64 = 1_000_000;

/// The most characters of an event's data in a line for people.
const DATA_CHARS_MAX: usize = 120;

/// Tells the story.
pub async fn run(args: StoryArgs, context: &Context) -> Outcome {
    let form = context.settings.form;
    let opened = logs::open_read_only(context)?;
    let root = beginning(&*opened.log, &args.stream).await?;
    let mut gathering = Gathering::of(root.clone());
    let mut events = opened
        .log
        .read(&Cut::start(), Filter::all(), ReadMode::ToHead);
    while let Some(batch) = events.next_batch().await {
        for event in &batch? {
            let event = event.map_err(|error| unreadable(&error.to_string()))?;
            let taken = gathering.take(&event);
            taken.map_err(|error| unreadable(&error.to_string()))?;
        }
    }
    if gathering.unreadable() > 0 {
        note(&format!(
            "note: {} of it cannot be read by this program: what followed from that may be missing",
            gathering.unreadable()
        ));
    }
    let (told, ended) = gathering.end();
    let mut out = Output::stdout();
    match form {
        Form::Text => {
            if root != args.stream {
                note(&format!("the story of {} begins at {root}", args.stream));
            }
            print_text(&told, &ended, &mut out)?;
        }
        Form::Json => {
            let story = serde_json::json!({ "story": root, "events": told, "sagas": ended });
            out.line(&to_json(&story)?)?;
        }
        Form::Jsonl => {
            for event in &told {
                out.line(&to_json(event)?)?;
            }
            for saga in &ended {
                out.line(&to_json(saga)?)?;
            }
        }
    }
    out.flush()?;
    Ok(opened.close()?)
}

fn to_json(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| unreadable(&error.to_string()))
}

fn unreadable(reason: &str) -> Failure {
    Failure::new(
        Exit::Failed,
        "event",
        format!("an event cannot be read: {reason}"),
    )
    .remedy("`anabranch log verify` says what is damaged")
}

/// The stream at which the story of `stream` began.
async fn beginning(log: &dyn Log, stream: &StreamId) -> Outcome<StreamId> {
    let mut seen = vec![stream.clone()];
    let mut at = stream.clone();
    while let Some(above) = above(log, &at).await? {
        if seen.contains(&above) {
            break;
        }
        seen.push(above.clone());
        at = above;
    }
    Ok(at)
}

/// What the first event of a stream follows from, if the log says so.
async fn above(log: &dyn Log, stream: &StreamId) -> Outcome<Option<StreamId>> {
    let Some(first) = first(log, stream).await? else {
        let what = format!("stream {stream} has no events");
        return Err(Failure::new(Exit::NotFound, "no-stream", what)
            .remedy("check the name; a stream exists from its first event on")
            .into());
    };
    let first = first.as_ref();
    let meta = first
        .meta
        .decode()
        .map_err(|error| unreadable(&error.to_string()))?;
    match SagaEvent::decode(first.event_type, first.schema_version, first.data) {
        Ok(SagaEvent::SagaStarted {
            parent: Some(parent),
            ..
        }) => return Ok(Some(parent.stream)),
        Ok(SagaEvent::SagaStarted { id, origin, .. }) if origin.is_unknown() => {
            let mut before = log.read(&Cut::start(), Filter::all(), ReadMode::ToHead);
            while let Some(batch) = before.next_batch().await {
                for event in &batch? {
                    let event = event.map_err(|error| unreadable(&error.to_string()))?;
                    if start_id(event.id, stream) == id {
                        return Ok(StreamId::system(event.stream).ok());
                    }
                }
            }
            return Ok(None);
        }
        _ => {}
    }
    // Everything of a story has its id, and the first event that has is the beginning.
    if let Some(story) = &meta.correlation_id
        && let Some(begins) = begins(log, story).await?
        && begins != *stream
    {
        return Ok(Some(begins));
    }
    if let Ok(ProcessEvent::Received {
        input: Received::Event(consumed),
        ..
    }) = ProcessEvent::decode(first.event_type, first.schema_version, first.data)
    {
        return Ok(Some(consumed.source.stream));
    }
    // In logs of before, what a saga or a process has asked for carries that one's stream.
    let by = meta.correlation_id.and_then(|id| StreamId::system(id).ok());
    let Some(by) = by else { return Ok(None) };
    let known = self::first(log, &by).await?;
    Ok(known.map(|_| by))
}

/// The stream of the first event that belongs to this story, or that the story is named after.
async fn begins(log: &dyn Log, story: &str) -> Outcome<Option<StreamId>> {
    let mut events = log.read(&Cut::start(), Filter::all(), ReadMode::ToHead);
    while let Some(batch) = events.next_batch().await {
        for event in &batch? {
            let event = event.map_err(|error| unreadable(&error.to_string()))?;
            let meta = event
                .meta
                .decode()
                .map_err(|error| unreadable(&error.to_string()))?;
            if meta.correlation_id.as_deref() == Some(story) || event.id.to_string() == story {
                return Ok(StreamId::system(event.stream).ok());
            }
        }
    }
    Ok(None)
}

async fn first(log: &dyn Log, stream: &StreamId) -> Outcome<Option<Event>> {
    let mut events = log.read_stream(stream, VersionRange::ALL, Order::Forward);
    match events.next_batch().await {
        None => Ok(None),
        Some(batch) => match (&batch?).into_iter().next() {
            Some(event) => {
                let event = event.map_err(|error| unreadable(&error.to_string()))?;
                Ok(Some(event.to_event()))
            }
            None => Ok(None),
        },
    }
}

fn print_text(told: &[Told], ended: &[Ended], out: &mut Output) -> Outcome {
    let shown: Vec<&Told> = told.iter().filter(|event| !is_folded(event)).collect();
    let width = shown.iter().map(|event| event.stream.chars().count());
    let width = width.max().unwrap_or(0);
    let start = shown.first().map_or(0, |event| event.at);
    if let Some(first) = shown.first() {
        out.line(&format!("{}, at {}", clean(&first.stream), first.time))?;
    }
    let mut before = start;
    for event in &shown {
        let gap = event.at.saturating_sub(before);
        if gap >= GAP {
            out.line(&format!("{:>9}  … nothing for {}", "", seconds(gap)))?;
        }
        before = event.at.max(before);
        let after = format!("+{}", seconds(event.at.saturating_sub(start)));
        let text = event.says.clone().unwrap_or_else(|| {
            let data = event.data.as_ref().map_or("", |data| data.get());
            match data {
                "" | "{}" | "null" => event.event_type.clone(),
                data => format!("{}  {}", event.event_type, cut(data)),
            }
        });
        let stream = clean(&event.stream);
        out.line(&format!("{after:>9}  {stream:<width$}  {}", clean(&text)))?;
    }
    for saga in ended {
        out.line("")?;
        out.line(&format!("{} is {}", clean(&saga.saga), saga.phase))?;
        for failed in &saga.failed {
            let text = format!("  failed  {}: {}", failed.step, failed.why);
            out.line(&clean(&text))?;
        }
        if !saga.undone.is_empty() {
            out.line(&clean(&format!("  undone  {}", saga.undone.join(", "))))?;
        }
    }
    Ok(())
}

/// Whether an event says nothing to people that its neighbours do not.
fn is_folded(event: &Told) -> bool {
    event.says.is_some()
        && matches!(
            event.event_type.as_str(),
            "StepRetried" | "CompRetried" | "LateReply"
        )
}

fn seconds(micros: u64) -> String {
    format!("{}.{:03} s", micros / 1_000_000, micros / 1000 % 1000)
}

fn cut(data: &str) -> String {
    if data.chars().count() <= DATA_CHARS_MAX {
        return data.to_owned();
    }
    let begin: String = data.chars().take(DATA_CHARS_MAX).collect();
    format!("{begin} …")
}
