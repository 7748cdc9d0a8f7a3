//! `anabranch read` and `anabranch tail`.

use std::str::FromStr;

use anabranch::log::{EventStream, Log, Order, ReadError, ReadMode, VersionRange};
use anabranch::model::{Cut, EventType, Filter, Position, StreamId};
use clap::Args;

use super::Context;
use super::append::header;
use crate::failure::{Exit, Failure, Outcome};
use crate::logs;
use crate::output::{Form, Output};
use crate::printer::Printer;
use crate::whole::whole;

/// Print events
#[derive(Debug, Args)]
#[command(after_help = "\
As text, an event is one line: position, stream, version, type and data, parted by tabs. With
--output jsonl it is a CloudEvent on one line, with the data byte for byte; with --output json all
events are one array. Reading works while another process writes.

Examples:
  anabranch read --stream order/536365
  anabranch read --category order --type OrderPlaced --output jsonl | jq .data
  anabranch read --tag customer:17850 --reverse --limit 10
  anabranch read --correlation 01939c5e-6f1a-7c3e-9f54-1f0e6a0d7b11
  anabranch read --from 0:1000 --follow
  anabranch read --from 1:5,3:17 --until 1:9,3:20")]
pub struct ReadArgs {
    #[command(flatten)]
    which: Which,
    /// Leave out the events of this cut: begin in each partition at the offset that it names, as
    /// partition:offset, parted by commas, or just the offset; with --reverse, the newest to print
    #[arg(long, value_name = "CUT", allow_negative_numbers = true)]
    from: Option<Places>,
    /// Print only events of this cut: end in each partition before the offset that it names, and
    /// nothing of others
    #[arg(long, value_name = "CUT", allow_negative_numbers = true)]
    until: Option<Places>,
    /// Print at most so many events
    #[arg(long, short = 'n', value_name = "COUNT", value_parser = whole::<u64>, allow_negative_numbers = true)]
    limit: Option<u64>,
    /// Newest first
    #[arg(long, conflicts_with = "follow")]
    reverse: bool,
    /// Then wait for new events and print them, until Ctrl-C
    #[arg(long, short)]
    follow: bool,
}

/// Print events as they are appended, from now on, until Ctrl-C
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  anabranch tail
  anabranch tail --category payment --output jsonl")]
pub struct TailArgs {
    #[command(flatten)]
    which: Which,
    /// End after so many events
    #[arg(long, short = 'n', value_name = "COUNT", value_parser = whole::<u64>, allow_negative_numbers = true)]
    limit: Option<u64>,
}

/// A cut as it is written: a place in each of some partitions, also where it is the first one.
#[derive(Debug, Clone, Default)]
pub struct Places(Vec<Position>);

impl FromStr for Places {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut places: Vec<Position> = Vec::new();
        for part in text.split(',') {
            let place: Position = part.parse().map_err(|_| {
                format!(
                    "{text:?} is not a position or a cut; write partition:offset, for example 0:42, \
                     or just 42, and several parted by commas"
                )
            })?;
            if places
                .iter()
                .any(|known| known.partition == place.partition)
            {
                return Err(format!(
                    "{text:?} names partition {} twice",
                    place.partition.0
                ));
            }
            places.push(place);
        }
        Ok(Self(places))
    }
}

impl Places {
    /// What stands before them.
    pub fn cut(&self) -> Cut {
        let mut cut = Cut::start();
        for place in &self.0 {
            cut.set(place.partition, place.offset);
        }
        cut
    }

    /// Refuses places in partitions that the log does not have. The cut before the first event of
    /// such a partition would be that of the log's start.
    pub fn check(&self, name: &str, partitions: u32) -> Result<(), Failure> {
        let Some(place) = self.0.iter().find(|place| place.partition.0 >= partitions) else {
            return Ok(());
        };
        let what = format!(
            "{name} {place}: the log has no partition {}; it has {partitions}, counted from 0",
            place.partition.0
        );
        let remedy = "use a position that was read from this log";
        Err(Failure::usage(what).remedy(remedy))
    }
}

/// Refuses a cut with events that are yet to come.
pub fn check_reached(cut: &Cut, head: &Cut) -> Result<(), Failure> {
    match head.covers(cut) {
        true => Ok(()),
        false => Err(ReadError::CutBeyondHead {
            from: cut.clone(),
            head: head.clone(),
        }
        .into()),
    }
}

/// Which events to print.
#[derive(Debug, Default, Args)]
struct Which {
    /// Only events of this stream; may be given several times
    #[arg(long, short, value_name = "STREAM", value_parser = any_stream_id, conflicts_with = "category")]
    stream: Vec<StreamId>,
    /// Only events of streams of this category; may be given several times
    #[arg(long, short, value_name = "CATEGORY")]
    category: Vec<String>,
    /// Only events of this type; may be given several times
    #[arg(long = "type", short = 't', value_name = "TYPE", value_parser = event_type)]
    event_type: Vec<EventType>,
    /// Only events with this tag; given several times, with all of them
    #[arg(long, value_name = "KEY:VALUE")]
    tag: Vec<String>,
    /// Only events with this header; given several times, with all of them
    #[arg(long, value_name = "NAME=VALUE", value_parser = header)]
    header: Vec<(String, String)>,
    /// Only events with this correlation id: a story
    #[arg(long, value_name = "ID")]
    correlation: Option<String>,
}

/// Streams of the platform itself can be read.
pub fn any_stream_id(text: &str) -> Result<StreamId, String> {
    StreamId::system(text).map_err(|error| error.to_string())
}

fn event_type(text: &str) -> Result<EventType, String> {
    EventType::new(text).map_err(|error| error.to_string())
}

impl Which {
    fn filter(&self) -> Filter {
        Filter {
            categories: self.category.clone(),
            types: self.event_type.clone(),
            streams: self.stream.clone(),
            headers: self.header.clone(),
            tags: self.tag.clone(),
        }
    }

    /// The stream, if it is just one and nothing else is asked.
    fn just_one_stream(&self) -> Option<&StreamId> {
        match &self.stream[..] {
            [stream] if self.filter() == Filter::stream(stream.clone()) => Some(stream),
            _ => None,
        }
    }
}

/// Prints events.
pub async fn run(args: ReadArgs, context: &Context) -> Outcome {
    let form = context.settings.form;
    if args.follow && form == Form::Json {
        return Err(
            Failure::usage("--output json is one array, which --follow never ends")
                .remedy("use --output jsonl")
                .into(),
        );
    }
    let opened = logs::open_read_only(context)?;
    let events = match args.which.just_one_stream() {
        Some(stream) if args.from.is_none() && args.until.is_none() && !args.follow => {
            let order = if args.reverse {
                Order::Backward
            } else {
                Order::Forward
            };
            opened.log.read_stream(stream, VersionRange::ALL, order)
        }
        _ => positioned(&*opened.log, &args).await?,
    };
    let story = args.which.correlation.clone();
    let from = args.from.as_ref().map(Places::cut).unwrap_or_default();
    let until = args.until.as_ref().filter(|_| !args.reverse);
    let until = until.map(Places::cut);
    let mut printer = Printer::new(Output::stdout(), form, args.limit)
        .only_story(story)
        .until(&from, until);
    if args.follow {
        return printer.follow(events).await;
    }
    printer.print_all(events).await?;
    if printer.printed() == 0
        && let [stream] = &args.which.stream[..]
    {
        find_stream(&*opened.log, stream).await?;
    }
    Ok(opened.close()?)
}

async fn positioned(log: &dyn Log, args: &ReadArgs) -> Outcome<EventStream> {
    let filter = args.which.filter();
    let partitions = log.capabilities().partitions;
    for (name, places) in [("--from", &args.from), ("--until", &args.until)] {
        if let Some(places) = places {
            places.check(name, partitions)?;
        }
    }
    let head = log.head().await?;
    if let Some(until) = &args.until
        && !args.follow
    {
        check_reached(&until.cut(), &head)?;
    }
    if !args.reverse {
        let mode = if args.follow {
            ReadMode::Follow
        } else {
            ReadMode::ToHead
        };
        let from = args.from.as_ref().map(Places::cut).unwrap_or_default();
        check_reached(&from, &head)?;
        return Ok(log.read(&from, filter, mode));
    }
    let mut newest = args.until.as_ref().map_or(head, Places::cut);
    for place in args.from.iter().flat_map(|from| &from.0) {
        let count = place.offset.saturating_add(1);
        newest.set(place.partition, count.min(newest.get(place.partition)));
    }
    Ok(log.read(&newest, filter, ReadMode::Backward))
}

/// Fails if the stream has no events at all.
async fn find_stream(log: &dyn Log, stream: &StreamId) -> Outcome {
    let mut events = log.read_stream(stream, VersionRange::ALL, Order::Forward);
    match events.next().await {
        Some(Ok(_)) => Ok(()),
        Some(Err(error)) => Err(error.into()),
        None => {
            let what = format!("stream {stream} has no events");
            Err(Failure::new(Exit::NotFound, "no-stream", what)
                .remedy("check the name; a stream exists from its first event on")
                .into())
        }
    }
}

/// Prints events from now on.
pub async fn tail(args: TailArgs, context: &Context) -> Outcome {
    let form = context.settings.form;
    if form == Form::Json {
        return Err(
            Failure::usage("--output json is one array, which tail never ends")
                .remedy("use --output jsonl")
                .into(),
        );
    }
    let opened = logs::open_read_only(context)?;
    let head = opened.log.head().await?;
    let events = opened
        .log
        .read(&head, args.which.filter(), ReadMode::Follow);
    Printer::new(Output::stdout(), form, args.limit)
        .only_story(args.which.correlation.clone())
        .follow(events)
        .await
}
