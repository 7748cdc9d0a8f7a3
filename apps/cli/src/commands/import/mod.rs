//! `anabranch import`.

mod batches;
mod feed;
mod writer;

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Args;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

use self::batches::Batcher;
use self::feed::Fed;
use self::writer::Writer;
use super::Context;
use crate::failure::{Ending, Exit, Failure, Outcome};
use crate::input::Input;
use crate::logs;
use crate::output::{Form, Output, Progress, note};
use crate::stop::StopSignal;

/// Append the events of a file of JSON lines
#[derive(Debug, Args)]
#[command(after_help = "\
A line is {\"stream\",\"type\",\"data\"} and, if wanted, \"id\" (a UUID), \"headers\", \"tags\" and
\"expect\" (any, empty, exists or the version of the stream's last event). Or it is a CloudEvent,
as `anabranch read --output jsonl` and `anabranch log export` print it. Data is stored byte for
byte. A file that is compressed with gzip is read as it is.

Events are appended in the order of the file, in atomic batches. A bad line stops the import: all
batches before it are in the log, of its own batch nothing is. Correct the line and run the same
command again: it goes on where it stopped. Nothing is written twice, because an event without an
id gets one that is made of its line and all lines before it.

Data that is called JSON must be JSON; a CloudEvent may have no data. Positions are given anew. The
time of a CloudEvent stays as its header originaltime, the id of another producer as originalid.
Attributes that are numbers, true or false are kept as texts. Events of the platform itself ($…
streams) in what was printed from another log are left out.

Examples:
  anabranch import events.jsonl.gz
  zcat *.jsonl.gz | anabranch import -
  anabranch import events.jsonl --acks | tail -n 1
  anabranch import events.jsonl --log memory:        (tries the file, keeps nothing)")]
pub struct ImportArgs {
    /// The file, or - for standard input
    file: String,
    /// Print one JSON line {"position","stream","version","id"} for each event as it becomes
    /// durable
    #[arg(long)]
    acks: bool,
    /// Part of the ids of events that bring none: gives files that begin with the same lines
    /// events of their own
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    source: String,
}

/// Imports the file.
pub async fn run(args: ImportArgs, context: &Context) -> Outcome {
    let input = Input::open(&args.file)?;
    let opened = logs::open(context)?;
    let limits = opened.log.capabilities().limits;
    let form = context.settings.form;
    let progress = Progress::bytes(form, "importing", input.total);
    let acks = args.acks.then(Output::stdout);
    let mut import = Import {
        is_live: input.is_live,
        done: input.done(),
        feed: feed::start(input, limits, &args.source)?,
        batcher: Batcher::new(&limits),
        writer: Writer::new(&args.file, &*opened.log, &context.env, acks),
        stop: StopSignal::new()?,
        progress,
    };
    let started = context.env.clock.monotonic();
    let result = import.run().await;
    let Import {
        writer, progress, ..
    } = import;
    drop(progress);
    let counts = writer.counts();
    // What was acknowledged is durable whether or not closing works, so the first error is
    // the one to show.
    let closed = opened.close();
    let left_out = result.map_err(no_reader_is_a_failure)?;
    closed?;
    let seconds = (context.env.clock.monotonic() - started).as_secs_f64();
    let summary = match form {
        Form::Text => {
            let left_out = match left_out {
                0 => String::new(),
                n => format!("; {n} of the platform left out"),
            };
            format!(
                "{} events: {} new, {} in the log before{left_out}; {seconds:.1} s",
                counts.new + counts.repeated,
                counts.new,
                counts.repeated
            )
        }
        Form::Json | Form::Jsonl => json!({
            "events": counts.new + counts.repeated,
            "new": counts.new,
            "repeated": counts.repeated,
            "left_out": left_out,
            "seconds": seconds,
        })
        .to_string(),
    };
    if args.acks {
        // Stdout has nothing but acknowledgements.
        note(&summary);
        return Ok(());
    }
    let mut out = Output::stdout();
    out.line(&summary)?;
    out.flush()
}

/// Nobody may end an import by not reading its acknowledgements and think that it is done.
fn no_reader_is_a_failure(ending: Ending) -> Ending {
    match ending {
        Ending::ReaderGone => Failure::new(
            Exit::Failed,
            "acks-not-read",
            "nobody reads the acknowledgements any more; the import stopped",
        )
        .safe("what was acknowledged is in the log")
        .remedy("run the same command again: it goes on where it stopped")
        .into(),
        failed => failed,
    }
}

struct Import<'a> {
    is_live: bool,
    done: Arc<AtomicU64>,
    feed: mpsc::Receiver<Fed>,
    batcher: Batcher,
    writer: Writer<'a>,
    stop: StopSignal,
    progress: Progress,
}

impl Import<'_> {
    /// Imports to the end; gives how many events of the platform were left out.
    async fn run(&mut self) -> Outcome<u64> {
        loop {
            match self.next().await? {
                Some(Fed::Lines(lines)) => {
                    for line in lines {
                        if let Some(batch) = self.batcher.push(line) {
                            self.write(batch).await?;
                        }
                    }
                }
                Some(Fed::Bad(failure)) => return Err(self.refuse(failure).into()),
                Some(Fed::End(left_out)) => {
                    self.write_rest().await?;
                    return Ok(left_out);
                }
                // A feed that somebody is still writing has nothing more just now.
                None => self.write_rest().await?,
            }
        }
    }

    /// What comes next; `None` if that is not known yet and lines wait to be written.
    async fn next(&mut self) -> Outcome<Option<Fed>> {
        if self.is_live && !self.batcher.is_empty() {
            match self.feed.try_recv() {
                Ok(fed) => return Ok(Some(fed)),
                Err(TryRecvError::Empty) => return Ok(None),
                Err(TryRecvError::Disconnected) => return Err(reader_died().into()),
            }
        }
        match self.stop.unless_asked(self.feed.recv()).await {
            Some(fed) => Ok(Some(fed.ok_or_else(reader_died)?)),
            None => Err(self.interrupted().into()),
        }
    }

    async fn write_rest(&mut self) -> Outcome {
        let rest = self.batcher.take();
        if rest.is_empty() {
            return Ok(());
        }
        self.write(rest).await
    }

    async fn write(&mut self, batch: Vec<feed::Line>) -> Outcome {
        if self.stop.unless_asked(ready(())).await.is_none() {
            return Err(self.interrupted().into());
        }
        self.stop.finish(self.writer.write(batch)).await?;
        self.progress.set(self.done.load(Ordering::Relaxed));
        Ok(())
    }

    fn refuse(&self, failure: Failure) -> Failure {
        let kept = self.writer.kept();
        let safe = match self.batcher.first() {
            Some(first) => format!(
                "{kept}; nothing was written of the line and of its batch, which begins at line {}",
                first.number
            ),
            None => format!("{kept}; nothing was written of the line"),
        };
        failure
            .safe(safe)
            .remedy("correct the line and run the same command again: it goes on where it stopped")
    }

    fn interrupted(&self) -> Failure {
        Failure::new(Exit::Failed, "interrupted", "asked to stop before the end")
            .safe(self.writer.kept())
            .remedy("run the same command again: it goes on where it stopped")
    }
}

fn reader_died() -> Failure {
    Failure::new(
        Exit::Failed,
        "internal",
        "the thread that reads the file ended too early",
    )
}
