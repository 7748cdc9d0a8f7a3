//! Carries the events of one log into another one of another layout.
//!
//! 1. The log is read as every reader reads it, so each append comes behind all that it depends on.
//! 2. Each is appended with what it depends on, in places of the new log ([`CutMap`]): all of its
//!    old partition before it, and whatever that partition's events say of others. So what was
//!    before something is before it in the new log too, wherever both stand now.
//! 3. Where it stands then goes into the map.
//!
//! An append that is there already answers where it stands, as its ids say. So a copy that was
//! interrupted goes on from any older map, or from none.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use anabranch_model::record::encode_meta;
use anabranch_model::{
    Cut, CutMap, EventBatch, EventRef, Filter, NewEvent, PartitionId, Position, Reach, Version,
    content_hash,
};

use crate::contract::{Append, Log, ReadMode};
use crate::copy::{CopyError, Recorded, TimedLog, as_new, source_error};
use crate::error::ReadError;
use crate::stream::{EventStream, malformed};

/// A map has no more numbers than this, over all of its partitions and rows.
const NUMBERS_MAX: usize = 1 << 20;
/// No partition has more rows in a map.
const ROWS_MAX: usize = 1 << 10;
/// What says of a process where it began, with a place of the log in its data.
const BEGAN: (&str, &str) = ("$flow", "$Began");
/// The data of one that began with the log.
const FROM_START: &[u8] = br#"{"cut":{}}"#;

/// A copy at work, into a log of another layout.
pub struct Relayout<'a> {
    target: &'a dyn TimedLog,
    is_one: bool,
    events: EventStream,
    at: Cut,
    map: CutMap,
}

/// An append, or several that came into the log together.
struct Piece {
    events: Vec<NewEvent>,
    versions: Vec<Version>,
    begin: Position,
    recorded_at: u64,
    /// Of each partition, what it has there.
    parts: BTreeMap<PartitionId, Range<u64>>,
    /// What it says itself of what it depends on.
    causes: Cut,
}

impl<'a> Relayout<'a> {
    /// Copies what `source` has at the time of the call. `kept` is the map of a copy to the same log
    /// that did not come to its end, or has come to an earlier one.
    ///
    /// # Errors
    ///
    /// The logs cannot be read, or have the same layout.
    pub async fn start(
        source: &dyn Log,
        target: &dyn Log,
        timed: &'a dyn TimedLog,
        kept: Option<CutMap>,
    ) -> Result<Self, CopyError> {
        let (from, to) = (source.layout(), target.layout());
        if from == to {
            let layout = Box::new(from);
            return Err(CopyError::SameLayout { layout });
        }
        let head = target.head().await.map_err(CopyError::Target)?;
        let ends = source.head().await.map_err(CopyError::Source)?;
        // A power cut may have taken away what a map says is there.
        let kept = kept.filter(|map| head.covers(&map.target()) && ends.covers(&map.reached()));
        let count = |layout: &crate::Layout| layout.ids().count();
        let rows = NUMBERS_MAX / (count(&from) * count(&to)).max(1);
        let map = kept.unwrap_or_else(|| CutMap::new(rows.min(ROWS_MAX)));
        let at = map.reached();
        let events = source.read(&at, Filter::all(), ReadMode::ToHead);
        Ok(Self {
            target: timed,
            is_one: to.is_one(),
            events,
            at,
            map,
        })
    }

    /// How much of the log it has copied.
    pub fn at(&self) -> &Cut {
        &self.at
    }

    /// Where that went.
    pub fn map(&self) -> &CutMap {
        &self.map
    }

    /// Copies some more events; gives how many of them were not there yet, `None` at the end.
    ///
    /// # Errors
    ///
    /// A log refuses, or what it gives is not what the copy needs.
    pub async fn next(&mut self) -> Result<Option<u64>, CopyError> {
        let Some(batch) = self.events.next_batch().await else {
            return Ok(None);
        };
        let batch = batch.map_err(CopyError::Source)?;
        let mut copied = 0;
        for piece in pieces_of(&batch)? {
            copied += self.write(piece).await?;
        }
        Ok(Some(copied))
    }

    async fn write(&mut self, mut piece: Piece) -> Result<u64, CopyError> {
        let depends = self.depends(&piece)?;
        if let (Some(first), false) = (piece.events.first_mut(), self.is_one) {
            first.meta_mut().causes = depends.clone();
        }
        let recorded = Recorded {
            append: Append::events(piece.events),
            recorded_at: piece.recorded_at,
        };
        let answer = self.target.append_recorded(vec![recorded]).await.pop();
        let position = piece.begin;
        let answer = answer.ok_or(CopyError::Differs { position })?;
        let written = answer.map_err(|error| CopyError::Append { position, error })?;
        let versions = written.places.iter().map(|placed| placed.version);
        if !versions.eq(piece.versions.iter().copied()) {
            return Err(CopyError::Differs { position });
        }
        let mut closure = written.closure;
        closure.join(&depends);
        for (partition, offsets) in &piece.parts {
            let (end, causes) = (offsets.end, &piece.causes);
            self.map.note(*partition, end, causes, &closure);
            self.at.set(*partition, end);
        }
        match written.repeated {
            true => Ok(0),
            false => Ok(piece.versions.len() as u64),
        }
    }

    /// What an append depends on, in the new log.
    fn depends(&self, piece: &Piece) -> Result<Cut, CopyError> {
        let mut causes = piece.causes.clone();
        for (&partition, offsets) in &piece.parts {
            let next = self.at.get(partition);
            if offsets.start != next {
                let offset = next;
                let position = Position { partition, offset };
                return Err(CopyError::Hidden { position });
            }
            causes.join(&self.map.knows(partition));
        }
        // Of one another its parts need not be told.
        for (&partition, offsets) in &piece.parts {
            causes.set(partition, offsets.start);
        }
        let position = piece.begin;
        let depends = self.map.round_up(&causes);
        depends.map_err(|_| CopyError::Hidden { position })
    }
}

/// The appends of a batch, as far as its log tells them apart; what came together is one.
fn pieces_of(batch: &EventBatch) -> Result<Vec<Piece>, CopyError> {
    let is_together = batch.parts().len() > 1;
    let mut pieces: Vec<Piece> = Vec::new();
    let mut before = None;
    for event in batch {
        let event = event.map_err(source_error)?;
        refuse_began(&event)?;
        let begin = match is_together {
            true => Position::default(),
            false => batch.append_start(event.position),
        };
        if before != Some(begin) {
            before = Some(begin);
            pieces.push(Piece::begin(&event));
        }
        if let Some(piece) = pieces.last_mut() {
            piece.add(&event).map_err(source_error)?;
        }
    }
    if let ([piece], true) = (&mut pieces[..], is_together) {
        // A part that a filter left out would be missed here, and nothing is filtered.
        for (partition, offsets) in batch.reach().iter().flat_map(Reach::parts) {
            piece.parts.insert(partition, offsets.clone());
        }
    }
    Ok(pieces)
}

impl Piece {
    fn begin(event: &EventRef<'_>) -> Self {
        Self {
            events: Vec::new(),
            versions: Vec::new(),
            begin: event.position,
            recorded_at: event.recorded_at,
            parts: BTreeMap::new(),
            causes: Cut::start(),
        }
    }

    fn add(&mut self, event: &EventRef<'_>) -> Result<(), anabranch_model::record::RecordError> {
        let Position { partition, offset } = event.position;
        let offsets = self.parts.entry(partition).or_insert(offset..offset);
        offsets.end = offset + 1;
        // What came together is recorded at one time now: its first one, before which is all it needs.
        self.recorded_at = self.recorded_at.min(event.recorded_at);
        self.causes.join(&event.meta.causes()?);
        let mut new = as_new(event)?;
        if let Some(meta) = new.meta.take() {
            let mut meta = Arc::unwrap_or_clone(meta);
            meta.causes = Cut::start();
            new.meta = (!meta.is_empty()).then(|| Arc::new(meta));
        }
        self.events.push(new);
        self.versions.push(event.version);
        Ok(())
    }
}

/// Refuses what names a place of the old layout, where nobody could round it without loss.
fn refuse_began(event: &EventRef<'_>) -> Result<(), CopyError> {
    let is_place = event.category() == BEGAN.0 && event.event_type == BEGAN.1;
    match is_place && event.data != FROM_START {
        true => Err(CopyError::NamesPlace {
            position: event.position,
            stream: event.stream.to_owned(),
        }),
        false => Ok(()),
    }
}

/// How many events a log has before `until`, and a sum over what is the same of them in each layout:
/// all but where they stand, and what they say of places. What came together counts as recorded when
/// its first part was.
///
/// # Errors
///
/// The log cannot be read so far.
pub async fn sum(log: &dyn Log, until: &Cut) -> Result<(u64, u128), ReadError> {
    let (mut count, mut sum) = (0, 0_u128);
    let mut reached = Cut::start();
    let mut events = log.read(&Cut::start(), Filter::all(), ReadMode::ToHead);
    while !reached.covers(until)
        && let Some(batch) = events.next_batch().await
    {
        let batch = batch?;
        let together = match batch.parts().len() > 1 {
            true => batch.iter().flatten().map(|event| event.recorded_at).min(),
            false => None,
        };
        for event in &batch {
            let event = event.map_err(malformed)?;
            let recorded_at = together.unwrap_or(event.recorded_at);
            let event = EventRef {
                recorded_at,
                ..event
            };
            reached.join(&Cut::including(event.position));
            if until.includes(event.position) {
                count += 1;
                sum = sum.wrapping_add(hash(&event).map_err(malformed)?);
            }
        }
    }
    Ok((count, sum))
}

fn hash(event: &EventRef<'_>) -> Result<u128, anabranch_model::record::RecordError> {
    let mut meta = event.meta.decode()?;
    meta.causes = Cut::start();
    let mut said = Vec::new();
    if !meta.is_empty() {
        encode_meta(&meta, &mut said);
    }
    let id = event.id.as_u128().to_be_bytes();
    let numbers = [
        event.version,
        u64::from(event.schema_version),
        event.recorded_at,
    ];
    let numbers = numbers.map(u64::to_be_bytes);
    let [version, schema, time] = &numbers;
    Ok(content_hash([
        &id[..],
        version,
        schema,
        time,
        event.stream.as_bytes(),
        event.event_type.as_bytes(),
        event.data,
        &said,
    ]))
}
