//! Prints events in one of the forms.

use anabranch::log::EventStream;
use anabranch::model::record::RecordError;
use anabranch::model::{Cut, EventBatch, write_cloud_event};
use futures_util::FutureExt as _;

use crate::event_text;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Form, Output, Progress};
use crate::stop::StopSignal;

/// Prints events in one of the forms.
pub struct Printer {
    out: Output,
    form: Form,
    limit: u64,
    printed: u64,
    line: Vec<u8>,
    progress: Progress,
    /// Only events of this story.
    story: Option<String>,
    /// Only events of this cut; and how far the log was read.
    until: Option<(Cut, Cut)>,
}

impl Printer {
    /// A printer of at most `limit` events to `out`.
    pub fn new(out: Output, form: Form, limit: Option<u64>) -> Self {
        Self {
            out,
            form,
            limit: limit.unwrap_or(u64::MAX),
            printed: 0,
            line: Vec::new(),
            progress: Progress::none(),
            story: None,
            until: None,
        }
    }

    /// Prints only events with this correlation id, if it is some.
    #[must_use]
    pub fn only_story(mut self, correlation_id: Option<String>) -> Self {
        self.story = correlation_id;
        self
    }

    /// Prints only events of the cut `until`, if it is some, of those from `from` on; ends where all
    /// of them were read.
    #[must_use]
    pub fn until(mut self, from: &Cut, until: Option<Cut>) -> Self {
        self.until = until.map(|until| (until, from.clone()));
        self
    }

    /// Shows how much is printed.
    #[must_use]
    pub fn with_progress(mut self, progress: Progress) -> Self {
        self.progress = progress;
        self
    }

    /// How many events were printed.
    pub fn printed(&self) -> u64 {
        self.printed
    }

    fn is_full(&self) -> bool {
        let is_read = |(until, read): &(Cut, Cut)| read.covers(until);
        self.printed >= self.limit || self.until.as_ref().is_some_and(is_read)
    }

    /// Prints to the end. If an error ends the events, those before it are printed.
    pub async fn print_all(&mut self, mut events: EventStream) -> Outcome {
        if self.form == Form::Json {
            self.out.write(b"[")?;
        }
        let mut result = Ok(());
        while !self.is_full()
            && result.is_ok()
            && let Some(batch) = events.next_batch().await
        {
            self.progress.set(self.printed);
            result = match batch {
                Ok(batch) => self.print(&batch),
                Err(error) => Err(error.into()),
            };
        }
        if self.form == Form::Json {
            let end: &[u8] = if self.printed == 0 { b"]\n" } else { b"\n]\n" };
            self.out.write(end)?;
        }
        self.out.flush()?;
        result
    }

    /// Prints until asked to stop, each event as soon as it comes.
    pub async fn follow(&mut self, mut events: EventStream) -> Outcome {
        let mut stop = StopSignal::new()?;
        while !self.is_full() {
            let batch = match events.next_batch().now_or_never() {
                Some(batch) => batch,
                None => {
                    self.out.flush()?;
                    match stop.unless_asked(events.next_batch()).await {
                        Some(batch) => batch,
                        None => break,
                    }
                }
            };
            let Some(batch) = batch else { break };
            self.print(&batch?)?;
        }
        self.out.flush()
    }

    fn print(&mut self, batch: &EventBatch) -> Outcome {
        for event in batch {
            if self.printed >= self.limit {
                return Ok(());
            }
            let malformed = |error: RecordError| {
                Failure::new(Exit::Failed, "damaged", error.to_string())
                    .remedy("run `anabranch log verify`")
            };
            let event = event.map_err(malformed)?;
            if let Some((until, read)) = &mut self.until {
                read.join(&Cut::including(event.position));
                if !until.includes(event.position) {
                    continue;
                }
            }
            if let Some(story) = &self.story {
                let meta = event.meta.decode().map_err(malformed)?;
                if meta.correlation_id.as_ref() != Some(story) {
                    continue;
                }
            }
            self.line.clear();
            match self.form {
                Form::Text => event_text::write_event(&event, &mut self.line),
                Form::Jsonl => {
                    write_cloud_event(&event, &mut self.line).map_err(malformed)?;
                    self.line.push(b'\n');
                }
                Form::Json => {
                    let before: &[u8] = if self.printed == 0 { b"\n" } else { b",\n" };
                    self.line.extend_from_slice(before);
                    write_cloud_event(&event, &mut self.line).map_err(malformed)?;
                }
            }
            self.out.write(&self.line)?;
            self.printed += 1;
        }
        if let (Some((_, read)), Some(reach)) = (&mut self.until, batch.reach()) {
            reach.pass(read);
        }
        Ok(())
    }
}
