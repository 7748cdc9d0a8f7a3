//! Carries the events of one log into another one, to the same places.
//!
//! The other log has the same layout, and nothing but events of the first. So where it ends says
//! how far the copy has come: it can be interrupted anywhere, and goes on there. Appends arrive as
//! they were made, one after another, each behind all that it depends on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anabranch_env::Clock;
use anabranch_model::record::RecordError;
use anabranch_model::{
    Cut, EventBatch, EventRef, EventType, Filter, NewEvent, PartitionId, Position, Reach, StreamId,
    Version, content_hash, write_cloud_event,
};
use bytes::Bytes;
use thiserror::Error;

use crate::contract::{Append, Appended, Log, Placed, ReadMode};
use crate::error::{AppendError, ReadError};
use crate::layout::Layout;
use crate::stream::{BoxFuture, EventStream, malformed};

/// No event is recorded then.
const NONE: u64 = u64::MAX;

/// A clock that tells the time that it is given, so that a copied event keeps when it was recorded.
/// The log that the copy is made in has it as its clock.
pub struct GivenClock {
    wall: Arc<dyn Clock>,
    /// [`NONE`]: it was given none.
    given: AtomicU64,
}

impl GivenClock {
    /// Tells the time of this one until it is given another.
    pub fn new(wall: Arc<dyn Clock>) -> Self {
        let given = AtomicU64::new(NONE);
        Self { wall, given }
    }
}

impl Clock for GivenClock {
    fn wall_micros(&self) -> u64 {
        match self.given.load(Ordering::Acquire) {
            NONE => self.wall.wall_micros(),
            given => given,
        }
    }

    fn monotonic(&self) -> Duration {
        self.wall.monotonic()
    }
}

/// An append as it stands in the log that is copied.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Its events, all of one partition.
    pub append: Append,
    /// When it was recorded there, in microseconds of the Unix epoch.
    pub recorded_at: u64,
}

/// A log whose events can keep the times at which they were recorded where they are copied from.
pub trait TimedLog: Send + Sync {
    /// Takes these appends in their order. What they depend on may come behind them. It answers each,
    /// up to the first that is refused.
    fn append_recorded(
        &self,
        appends: Vec<Recorded>,
    ) -> BoxFuture<'_, Vec<Result<Appended, AppendError>>>;
}

/// A log that has [`GivenClock`] as its clock.
#[derive(Clone, Copy)]
pub struct Clocked<'a> {
    /// The log.
    pub log: &'a dyn Log,
    /// Its clock.
    pub clock: &'a GivenClock,
}

impl TimedLog for Clocked<'_> {
    fn append_recorded(
        &self,
        appends: Vec<Recorded>,
    ) -> BoxFuture<'_, Vec<Result<Appended, AppendError>>> {
        Box::pin(async move {
            let mut answers = Vec::with_capacity(appends.len());
            for recorded in appends {
                let given = &self.clock.given;
                given.store(recorded.recorded_at, Ordering::Release);
                let answer = self.log.append(recorded.append).await;
                let is_refused = answer.is_err();
                answers.push(answer);
                if is_refused {
                    break;
                }
            }
            answers
        })
    }
}

/// Why events could not be copied. What was copied before stays; the copy can go on there.
#[derive(Clone, PartialEq, Eq, Error)]
pub enum CopyError {
    /// The logs are laid out differently.
    #[error(
        "the log has the layout {source_layout}, and what it is to be copied to has {target_layout}; a copy has the layout of its log: copy to where no log is yet"
    )]
    Layout {
        /// Of the log.
        source_layout: Box<Layout>,
        /// Of what it was to be copied to.
        target_layout: Box<Layout>,
    },
    /// The logs are laid out alike, and one was to be laid out anew.
    #[error(
        "the log has the layout {layout} already; a copy of the same layout needs none to be named"
    )]
    SameLayout {
        /// Of both.
        layout: Box<Layout>,
    },
    /// An event says a place of the old layout.
    #[error(
        "the event at {position}, of {stream}, says that a process began behind some events of this layout; in another layout there is no such place, so the log cannot be laid out anew"
    )]
    NamesPlace {
        /// The event.
        position: Position,
        /// Its stream.
        stream: String,
    },
    /// The other log is no copy of this one.
    #[error(
        "at {position} stands another event than in the log that is copied: it is no copy of that log, or was written to meanwhile; copy to where no log is yet"
    )]
    Differs {
        /// The first place that was seen to differ.
        position: Position,
    },
    /// Whoever copies may not see all events.
    #[error(
        "the event at {position} is not shown, as a service keeps it to itself; copy with a key that may see all, or from the log's directory"
    )]
    Hidden {
        /// The first event that is missing.
        position: Position,
    },
    /// The log cannot be read.
    #[error("reading the log: {0}")]
    Source(ReadError),
    /// The copy cannot be read.
    #[error("reading the copy: {0}")]
    Target(ReadError),
    /// The copy does not take an event.
    #[error("writing what stands at {position}: {error}")]
    Append {
        /// The first event of the append.
        position: Position,
        /// Why.
        error: AppendError,
    },
}

anabranch_model::debug_is_words!(CopyError);

/// A copy at work.
pub struct Copy<'a> {
    target: &'a dyn Log,
    timed: Option<&'a dyn TimedLog>,
    events: EventStream,
    at: Cut,
}

impl<'a> Copy<'a> {
    /// Goes on where `target` ends: to the head of `source`, or on for ever
    /// ([`ReadMode::Follow`]). With `timed`, another way into the same log, events keep the times at
    /// which they were recorded.
    ///
    /// # Errors
    ///
    /// The logs cannot be read, or `target` is no copy of `source`: it has another layout, goes
    /// further, or ends in another event.
    pub async fn start(
        source: &dyn Log,
        target: &'a dyn Log,
        timed: Option<&'a dyn TimedLog>,
        mode: ReadMode,
    ) -> Result<Self, CopyError> {
        let (source_layout, target_layout) = (source.layout(), target.layout());
        if source_layout != target_layout {
            let (source_layout, target_layout) = (Box::new(source_layout), Box::new(target_layout));
            return Err(CopyError::Layout {
                source_layout,
                target_layout,
            });
        }
        let at = target.head().await.map_err(CopyError::Target)?;
        let head = source.head().await.map_err(CopyError::Source)?;
        for (partition, end) in at.iter() {
            let offset = end - 1;
            let position = Position { partition, offset };
            if head.get(partition) < end {
                let offset = head.get(partition);
                return Err(CopyError::Differs {
                    position: Position { partition, offset },
                });
            }
            let is_timed = timed.is_some();
            let theirs = line_at(source, &head, position, is_timed)
                .await
                .map_err(CopyError::Source)?;
            let ours = line_at(target, &at, position, is_timed)
                .await
                .map_err(CopyError::Target)?;
            if theirs != ours {
                return Err(CopyError::Differs { position });
            }
        }
        let events = source.read(&at, Filter::all(), mode);
        Ok(Self {
            target,
            timed,
            events,
            at,
        })
    }

    /// How far it has come.
    pub fn at(&self) -> &Cut {
        &self.at
    }

    /// Copies some more events; gives how many, `None` at the end.
    ///
    /// # Errors
    ///
    /// A log refuses, or what it gives is not what the copy needs.
    pub async fn next(&mut self) -> Result<Option<u64>, CopyError> {
        let Some(batch) = self.events.next_batch().await else {
            return Ok(None);
        };
        let batch = batch.map_err(CopyError::Source)?;
        if batch.parts().len() > 1 && self.timed.is_none() {
            return self.write_together(&batch).await.map(Some);
        }
        let appends = appends_of(&batch).map_err(source_error)?;
        let copied = appends.iter().map(|(_, _, append)| append.len() as u64);
        let copied = copied.sum();
        let Some(timed) = self.timed else {
            for append in appends {
                let (expected, recorded) = self.expect(append)?;
                let answer = self.target.append(recorded.append).await;
                self.check(&expected, answer)?;
            }
            return Ok(Some(copied));
        };
        let (mut expected, mut recorded) = (Vec::new(), Vec::new());
        for append in appends {
            let (places, append) = self.expect(append)?;
            expected.push(places);
            recorded.push(append);
        }
        let answers = timed.append_recorded(recorded).await;
        for (expected, answer) in expected.iter().zip(answers) {
            self.check(expected, answer)?;
        }
        Ok(Some(copied))
    }

    /// Writes what came into the log together to a log that takes it as one append only.
    async fn write_together(&mut self, batch: &EventBatch) -> Result<u64, CopyError> {
        let reach = batch.reach();
        let (mut events, mut places) = (Vec::new(), Vec::new());
        for event in batch {
            let event = event.map_err(source_error)?;
            let next = self.at.get(event.position.partition);
            if event.position.offset != next {
                let position = Position {
                    offset: next,
                    ..event.position
                };
                return Err(CopyError::Hidden { position });
            }
            self.at.join(&Cut::including(event.position));
            let mut new = as_new(&event).map_err(source_error)?;
            // Of one another its parts need not be told.
            for (partition, offsets) in reach.iter().flat_map(Reach::parts) {
                let said = new
                    .meta
                    .as_ref()
                    .map_or(0, |meta| meta.causes.get(partition));
                if said > offsets.start {
                    new.meta_mut().causes.set(partition, offsets.start);
                }
            }
            events.push(new);
            places.push((event.position, event.version));
        }
        let begin = places.first().map(|(position, _)| *position);
        let written = self.target.append(Append::events(events)).await;
        let written = written.map_err(|error| CopyError::Append {
            position: begin.unwrap_or_default(),
            error,
        })?;
        for (placed, (position, version)) in written.places.iter().zip(places) {
            if placed.position != position || placed.version != version {
                return Err(CopyError::Differs { position });
            }
        }
        Ok(written.places.len() as u64)
    }

    /// What is to be written, and where its events have to stand then.
    fn expect(
        &mut self,
        (begin, recorded_at, append): Written,
    ) -> Result<(Vec<Placed>, Recorded), CopyError> {
        let next = self.at.get(begin.partition);
        if begin.offset != next {
            let position = Position {
                offset: next,
                ..begin
            };
            return Err(CopyError::Hidden { position });
        }
        let (events, versions): (Vec<NewEvent>, Vec<Version>) = append.into_iter().unzip();
        let places = (begin.offset..).zip(versions).map(|(offset, version)| {
            let position = Position { offset, ..begin };
            Placed { position, version }
        });
        let places: Vec<_> = places.collect();
        self.at.set(begin.partition, next + places.len() as u64);
        let append = Append::events(events);
        let recorded = Recorded {
            append,
            recorded_at,
        };
        Ok((places, recorded))
    }

    /// Whether an append stands where it has to.
    fn check(
        &self,
        expected: &[Placed],
        answer: Result<Appended, AppendError>,
    ) -> Result<(), CopyError> {
        let begin = expected.first().map(|placed| placed.position);
        let written = answer.map_err(|error| CopyError::Append {
            position: begin.unwrap_or_default(),
            error,
        })?;
        let differs = |(placed, expected): &(&Placed, &Placed)| placed != expected;
        match written.places.iter().zip(expected).find(differs) {
            None => Ok(()),
            Some((_, Placed { position, .. })) => Err(CopyError::Differs {
                position: *position,
            }),
        }
    }
}

/// Where an append begins, when it was recorded, and its events with their versions.
type Written = (Position, u64, Vec<(NewEvent, Version)>);

/// The appends of a batch, as far as its log tells them apart.
fn appends_of(batch: &EventBatch) -> Result<Vec<Written>, RecordError> {
    let mut appends: Vec<Written> = Vec::new();
    let mut before = None;
    for event in batch {
        let event = event?;
        let begin = batch.append_start(event.position);
        if before != Some(begin) {
            before = Some(begin);
            appends.push((event.position, event.recorded_at, Vec::new()));
        }
        if let Some((_, _, events)) = appends.last_mut() {
            events.push((as_new(&event)?, event.version));
        }
    }
    Ok(appends)
}

/// What a log has taken as a name is one.
const NO_NAME: RecordError = RecordError("a stored name is none");

pub(crate) fn as_new(event: &EventRef<'_>) -> Result<NewEvent, RecordError> {
    let meta = match event.meta.is_empty() {
        true => None,
        false => Some(Arc::new(event.meta.decode()?)),
    };
    Ok(NewEvent {
        id: event.id,
        stream: StreamId::system(event.stream).map_err(|_| NO_NAME)?,
        event_type: EventType::new(event.event_type).map_err(|_| NO_NAME)?,
        schema_version: event.schema_version,
        data: Bytes::copy_from_slice(event.data),
        meta,
    })
}

pub(crate) fn source_error(error: RecordError) -> CopyError {
    CopyError::Source(malformed(error))
}

/// What the exports of a log say of each partition, up to `until`: how many events it has, and a
/// hash over the lines of all of them in their order. Logs of which these are the same have the same
/// exports, but for the order between partitions. Without `times` as if all were recorded at one
/// moment.
///
/// # Errors
///
/// The log cannot be read so far.
pub async fn digests(
    log: &dyn Log,
    until: &Cut,
    times: bool,
) -> Result<Vec<(PartitionId, u64, u128)>, ReadError> {
    let mut hashes: Vec<(PartitionId, u64, u128)> = until
        .iter()
        .map(|(partition, _)| (partition, 0, 0))
        .collect();
    let mut events = log.read(&Cut::start(), Filter::all(), ReadMode::ToHead);
    let mut line = Vec::new();
    let is_done = |hashes: &[(PartitionId, u64, u128)]| {
        hashes
            .iter()
            .all(|(partition, count, _)| *count == until.get(*partition))
    };
    while !is_done(&hashes)
        && let Some(batch) = events.next_batch().await
    {
        for event in &batch? {
            let event = event.map_err(malformed)?;
            let of_partition = hashes
                .iter_mut()
                .find(|(id, ..)| *id == event.position.partition);
            if let Some((partition, count, hash)) = of_partition
                && *count < until.get(*partition)
            {
                write_line(&event, times, &mut line).map_err(malformed)?;
                *hash = content_hash([&hash.to_be_bytes()[..], &line]);
                *count += 1;
            }
        }
    }
    Ok(hashes)
}

/// The export's line of the event at `position`, below `head`.
async fn line_at(
    log: &dyn Log,
    head: &Cut,
    position: Position,
    times: bool,
) -> Result<Vec<u8>, ReadError> {
    let mut from = head.clone();
    from.set(position.partition, position.offset);
    let mut line = Vec::new();
    let mut events = log.read(&from, Filter::all(), ReadMode::ToHead);
    while let Some(event) = events.next().await {
        let event = event?;
        if event.position == position {
            write_line(&event.as_ref(), times, &mut line).map_err(malformed)?;
            break;
        }
    }
    Ok(line)
}

fn write_line(event: &EventRef<'_>, times: bool, line: &mut Vec<u8>) -> Result<(), RecordError> {
    line.clear();
    let recorded_at = if times { event.recorded_at } else { 0 };
    write_cloud_event(
        &EventRef {
            recorded_at,
            ..*event
        },
        line,
    )
}
