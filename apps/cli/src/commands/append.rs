//! `anabranch append`.

use std::io::Read as _;
use std::time::Duration;

use anabranch::env::Rng;
use anabranch::log::{Append, AppendError, Appended, Expect, Log};
use anabranch::model::{EventId, EventType, NewEvent, StreamId, is_json_media_type};
use anabranch_event_json::parse_expect;
use clap::Args;

use super::Context;
use crate::ack::Ack;
use crate::failure::{Exit, Failure, Outcome};
use crate::logs;
use crate::output::{Form, Output};
use crate::pause::pause;

/// How often an append is tried whose outcome is unknown.
const TRIES: u32 = 3;

/// Append one event to a stream
#[derive(Debug, Args)]
#[command(after_help = "\
Answers when the event is durable, with its place. An append with --id can be repeated: if the
event is in the log already, the answer is its place.

Examples:
  anabranch append order/536365 --type OrderPlaced --data '{\"total\":1550}'
  anabranch append order/536365 --type OrderPaid --expect 0 --tag customer:17850
  date | anabranch append clock/1 --type Read --content-type text/plain --data -")]
pub struct AppendArgs {
    /// The stream, as category/key, for example order/536365
    #[arg(value_parser = stream_id)]
    stream: StreamId,
    /// What happened, in the past tense, for example OrderPlaced
    #[arg(long = "type", short = 't', value_name = "TYPE", value_parser = event_type)]
    event_type: EventType,
    /// The data: JSON, kept byte for byte, or - to read it from standard input
    #[arg(
        long,
        short,
        value_name = "JSON",
        default_value = "{}",
        allow_hyphen_values = true
    )]
    data: String,
    /// Media type of data that is not JSON; it is then kept as it is
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// State the stream must be in: any, empty, exists, or the version of its last event
    #[arg(long, value_name = "STATE", default_value = "any", value_parser = parse_expect, allow_negative_numbers = true)]
    expect: Expect,
    /// Id of the event, a UUID; made up if not given
    #[arg(long, value_name = "UUID")]
    id: Option<EventId>,
    /// A label to find the event by, as key:value; may be given several times
    #[arg(long, value_name = "KEY:VALUE")]
    tag: Vec<String>,
    /// A name and value of your own; may be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = header)]
    header: Vec<(String, String)>,
}

/// Appends the event.
pub async fn run(args: AppendArgs, context: &Context) -> Outcome {
    let event = event(&args, context)?;
    let opened = logs::open(context)?;
    let append = Append::event(event.clone()).expect(args.stream.clone(), args.expect);
    let result = append_surely(&*opened.log, &*context.env.rng, append).await;
    let closed = opened.close();
    let done = result.map_err(|error| failure(error, &event))?;
    let place = done.places.first().ok_or_else(|| {
        Failure::new(
            Exit::Failed,
            "internal",
            "the log gave no place for the event",
        )
    })?;
    let ack = Ack {
        position: place.position,
        stream: event.stream.as_str(),
        version: place.version,
        id: event.id,
    };
    let mut out = Output::stdout();
    match context.settings.form {
        Form::Text => out.line(&format!(
            "position {}, {} version {}, id {}{}",
            ack.position,
            ack.stream,
            ack.version,
            ack.id,
            if done.repeated {
                " (it was there before)"
            } else {
                ""
            }
        ))?,
        Form::Json | Form::Jsonl => out.values(Form::Jsonl, &[ack])?,
    }
    out.flush()?;
    Ok(closed?)
}

fn event(args: &AppendArgs, context: &Context) -> Result<NewEvent, Failure> {
    let limits = &context.settings.options.limits;
    let data = match args.data.as_str() {
        "-" => read_stdin(limits.data_bytes_max)?,
        data => data.as_bytes().to_vec(),
    };
    let is_json = args.content_type.as_deref().is_none_or(is_json_media_type);
    let remedy = "correct --data, or name the media type of what is not JSON with --content-type";
    let data = if is_json {
        json_or(data, remedy)?
    } else {
        data
    };
    let id = args.id.unwrap_or_else(|| {
        let now_ms = context.env.clock.wall_micros() / 1_000;
        EventId::v7(now_ms, context.env.rng.next_u128())
    });
    let mut event = NewEvent::new(id, args.stream.clone(), args.event_type.clone(), data);
    if let Some(content_type) = &args.content_type {
        event.meta_mut().content_type = Some(content_type.clone());
    }
    for tag in &args.tag {
        event = event.with_tag(tag);
    }
    for (name, value) in &args.header {
        event = event.with_header(name, value);
    }
    Ok(event)
}

pub fn read_stdin(bytes_max: usize) -> Result<Vec<u8>, Failure> {
    let mut data = Vec::new();
    std::io::stdin()
        .lock()
        .take(bytes_max as u64 + 1)
        .read_to_end(&mut data)
        .map_err(|error| Failure::file("read", "standard input", &error))?;
    if data.len() > bytes_max {
        let what = format!("the data has more than the {bytes_max} bytes that are allowed");
        return Err(Failure::new(Exit::Failed, "limit", what)
            .safe("nothing was written")
            .remedy("store large content elsewhere and append a reference, or set limits.data_bytes_max"));
    }
    Ok(data)
}

/// The JSON value in `data`, as it stands there. A mark of UTF-8 before it is no part of it.
pub fn json(data: Vec<u8>) -> Result<Vec<u8>, Failure> {
    json_or(data, "correct --data")
}

/// As [`json`]; `remedy` says what else can be done about what is none.
fn json_or(data: Vec<u8>, remedy: &str) -> Result<Vec<u8>, Failure> {
    let wrong = |what: String| {
        Failure::new(Exit::Failed, "bad-data", what)
            .safe("nothing was written")
            .remedy(remedy)
    };
    if let Some(encoding) = other_unicode(&data) {
        let what = format!("the data is {encoding}, and JSON is UTF-8");
        return Err(Failure::new(Exit::Failed, "bad-data", what)
            .safe("nothing was written")
            .remedy("convert it first: iconv -t UTF-8"));
    }
    let text = String::from_utf8(data).map_err(|_| wrong("the data is not UTF-8".to_owned()))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let value = anabranch_event_json::check_json(text)
        .map_err(|error| wrong(format!("--data, column {}: {}", error.column, error.reason)))?;
    Ok(value.as_bytes().to_vec())
}

/// The name of the form of Unicode that its mark says `data` is in, if that is not UTF-8.
fn other_unicode(data: &[u8]) -> Option<&'static str> {
    match data {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Some("UTF-32"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("UTF-16"),
        _ => None,
    }
}

/// Appends; repeats with the same id while the outcome is unknown.
async fn append_surely(
    log: &dyn Log,
    rng: &dyn Rng,
    append: Append,
) -> Result<Appended, AppendError> {
    for _ in 1..TRIES {
        match log.append(append.clone()).await {
            Err(AppendError::Unknown { .. }) => {}
            other => return other,
        }
        pause(Duration::from_millis(100), rng).await;
    }
    log.append(append).await
}

fn failure(error: AppendError, event: &NewEvent) -> Failure {
    let may_have_happened = !error.did_not_happen();
    let failure = Failure::from(error);
    if may_have_happened {
        return failure.remedy(format!(
            "run the command again with --id {}: that writes the event only if it is not there",
            event.id
        ));
    }
    failure
}

pub fn stream_id(text: &str) -> Result<StreamId, String> {
    StreamId::new(text).map_err(|error| error.to_string())
}

pub fn event_type(text: &str) -> Result<EventType, String> {
    EventType::new(text).map_err(|error| error.to_string())
}

/// `name=value`.
pub fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not of the form name=value")),
    }
}
