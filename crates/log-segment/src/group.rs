//! An append on its way: what is asked about it, what became of it, and the commit group
//! that it joins.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anabranch_log::{Append, AppendError, Condition, Placed};
use anabranch_model::{BlockEntry, NewEvent, record};

use crate::buffer::AlignedBuf;
use crate::format::{FRAME_HEADER, FrameHeader, Spot, frame_len, seal_frame};
use crate::part::Part;
use crate::store::Store;
use crate::sync::Completion;

/// What an append needs besides itself; found out once, outside the lock where it can be.
pub(crate) struct Prepared {
    pub keys: Vec<u128>,
    /// Of each event: the key of its id.
    pub id_keys: Vec<u64>,
    pub condition_keys: Vec<u128>,
    /// Two events of the append that have the same id, by index.
    pub repeated_id: Option<(usize, usize)>,
    /// What the sealed indexes said, and how many parts were sealed then.
    pub sealed: Option<SealedAnswers>,
    /// No event before this position matches a `NoMatch` condition.
    pub unmatched_before: u64,
    /// A durable event that matches one. It counts only once the ids are known to be new:
    /// a repeat's conditions are not checked again.
    pub matched: Option<u64>,
}

#[derive(Default)]
pub(crate) struct SealedAnswers {
    pub generation: u64,
    /// Index in the batch → position of the event that has its id.
    pub ids: BTreeMap<usize, u64>,
    /// Stream key → version its next event gets.
    pub heads: BTreeMap<u128, u64>,
}

impl Prepared {
    pub fn new(store: &Store, append: &Append) -> Self {
        let mut keys: Vec<u128> = Vec::with_capacity(append.events.len());
        for (i, event) in append.events.iter().enumerate() {
            let repeats = i > 0 && append.events[i - 1].stream == event.stream;
            keys.push(match keys.last() {
                Some(&key) if repeats => key,
                _ => store.key(event.stream.as_str()),
            });
        }
        let id_keys: Vec<u64> = append.events.iter().map(|e| store.id_key(e.id)).collect();
        let condition_keys = append
            .conditions
            .iter()
            .map(|condition| match condition {
                Condition::Stream(stream, _) => store.key(stream.as_str()),
                Condition::NoMatch { .. } => 0,
            })
            .collect();
        Self {
            keys,
            condition_keys,
            repeated_id: repeated_id(&append.events, &id_keys),
            id_keys,
            sealed: None,
            unmatched_before: 0,
            matched: None,
        }
    }

    /// Every stream key the append needs the head of, each once.
    pub fn all_keys(&self, append: &Append) -> Vec<u128> {
        let conditions = append
            .conditions
            .iter()
            .zip(&self.condition_keys)
            .filter(|(c, _)| matches!(c, Condition::Stream(..)))
            .map(|(_, &key)| key);
        let mut keys: Vec<u128> = self.keys.iter().copied().chain(conditions).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

/// The first event that has the id of one before it: that one, and it.
fn repeated_id(events: &[NewEvent], id_keys: &[u64]) -> Option<(usize, usize)> {
    if events.windows(2).all(|w| w[0].id < w[1].id) {
        return None;
    }
    let mut keys = id_keys.to_vec();
    keys.sort_unstable();
    if keys.windows(2).all(|w| w[0] != w[1]) {
        return None;
    }
    let mut ids: Vec<_> = events.iter().enumerate().map(|(i, e)| (e.id, i)).collect();
    ids.sort_unstable();
    let repeats = ids.windows(2).filter(|w| w[0].0 == w[1].0);
    let second = repeats.map(|w| w[1].1).min()?;
    let first = events.iter().position(|e| e.id == events[second].id)?;
    Some((first, second))
}

/// What became of an attempt to sequence an append.
pub(crate) enum Step {
    /// It stands in the open group.
    Placed {
        completion: Arc<Completion>,
        places: Vec<Placed>,
    },
    /// All its ids were written before, at these positions.
    Repeated(Vec<u64>),
    /// Some of its ids, by index in the batch, were written before, others not.
    PartlyWritten(Vec<(usize, u64)>),
    /// The sealed indexes must be asked first.
    Lookup,
    /// The answer hangs on events that are not durable yet.
    WaitFor(Arc<Completion>),
    /// Too much is waiting for the disk.
    Full,
    /// No.
    Refused(AppendError),
}

/// One flush: the frames of all appends that came while the flush before it ran.
pub(crate) struct Group {
    pub part: Arc<Part>,
    /// Set if the group begins a new segment.
    pub new_segment: Option<NewSegment>,
    /// Where its first frame begins in the segment, in bytes.
    pub start: u64,
    /// Bytes of `buf` before the first frame: a copy of what stands there already.
    pub lead: usize,
    pub buf: AlignedBuf,
    pub first: u64,
    /// Position after its last event.
    pub end: u64,
    /// Where in `buf` its frames are.
    pub entries: Vec<BlockEntry>,
    pub completion: Arc<Completion>,
    pub appends: usize,
}

impl Group {
    pub fn frame_bytes(&self) -> usize {
        self.buf.len() - self.lead
    }

    /// Where its last frame ends in the segment, in bytes.
    pub fn end_offset(&self) -> u64 {
        self.start + self.frame_bytes() as u64
    }
}

/// A segment file to be made when its first group is written.
pub(crate) struct NewSegment {
    /// A file written ahead, to be used for it.
    pub spare: Option<Spare>,
    pub created_at: u64,
}

/// A file of the right size, written ahead.
pub(crate) struct Spare {
    pub path: PathBuf,
    pub capacity: u64,
}

/// Encodes one frame at the end of a group; returns how many bytes it takes.
pub(crate) fn write_frame(
    group: &mut Group,
    header: FrameHeader,
    events: &[NewEvent],
    versions: &[u64],
    body_max: usize,
    hash_key: u64,
) -> u64 {
    let frame_start = group.buf.len();
    group.buf.append_with(frame_len(body_max), |out| {
        out.extend_from_slice(&[0; FRAME_HEADER]);
        record::encode(out, events, versions);
    });
    let body_len = group.buf.len() - frame_start - FRAME_HEADER;
    assert!(body_len <= body_max, "the bound on encoded lengths holds");
    let header = FrameHeader {
        body_len: body_len as u32,
        ..header
    };
    let spot = Spot {
        segment_id: header.segment_id,
        offset: group.start + (frame_start - group.lead) as u64,
        hash_key,
    };
    seal_frame(&mut group.buf.bytes_mut()[frame_start..], &header, spot);
    group.buf.pad_to(frame_start + header.frame_len());
    group.entries.push(header.entry(frame_start));
    header.frame_len() as u64
}
