use std::path::Path;

use anabranch_env::{Env, OpenMode};
use anabranch_log::{Layout, OpenError};
use anabranch_model::PartitionId;

use crate::beside;
use crate::format::FORMAT_VERSION;
use crate::layout_file::folder_name;
use crate::part::PartIndex;
use crate::survey::{LOCK_FILE, Survey, io_open};
use crate::sync::read;

/// What a log is and holds, as far as a glance at it tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Drawn when the log was made; tells it from every other log.
    pub log_id: u128,
    /// The newest version of the file formats that this program knows.
    pub format_version: u32,
    /// How often the log was opened for writing.
    pub epoch: u64,
    /// How many events it has.
    pub events: u64,
    /// How many of them the mark file says to be on the disk.
    pub marked: u64,
    /// Whether it was closed in order.
    pub clean: bool,
    /// Whether a writer has it open.
    pub written: bool,
    /// Which partition each stream stands in.
    pub layout: Layout,
    /// Of a log with several partitions: what each is and holds. What stands beside this is of all
    /// of them together.
    pub parts: Vec<Self>,
    /// The segments, oldest first; of several partitions only in `parts`.
    pub segments: Vec<SegmentInfo>,
    /// Bytes of index files.
    pub index_bytes: u64,
    /// Bytes of segments written ahead.
    pub spare_bytes: u64,
    /// What is wrong, at a glance; [`verify`](crate::verify) looks closer.
    pub problems: Vec<String>,
}

/// A segment file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its name.
    pub file: String,
    /// Position of its first event.
    pub first: u64,
    /// Position after its last event.
    pub end: u64,
    /// Length of the file, in bytes.
    pub bytes: u64,
    /// When it was made: microseconds since 1970, UTC.
    pub created_at: u64,
    /// Whether all its events are in index files.
    pub sealed: bool,
}

/// As [`info`](super::info), of the files of one partition.
pub(super) fn info_one(env: &Env, dir: &Path) -> Result<Info, OpenError> {
    let store = beside::open_reader(env.clone(), dir)?;
    let survey = Survey::take(env, dir)?;
    let written = env
        .disk
        .is_locked(&dir.join(LOCK_FILE))
        .map_err(|e| io_open("looking at the lock", e))?;
    let mut segments: Vec<SegmentInfo> = Vec::new();
    let events = store.published();
    for part in store.parts().iter() {
        let name = part.segment.name();
        let created_at = survey
            .segments
            .iter()
            .find(|(segment, _)| segment.id == part.segment.id)
            .map_or(0, |(_, header)| header.created_at);
        let sealed = matches!(&*read(&part.index), PartIndex::Sealed(_));
        let end = part.end().min(events).max(part.first);
        match segments.last_mut() {
            Some(last) if last.file == name => {
                last.sealed &= sealed || end == part.first;
                last.end = end;
            }
            _ => segments.push(SegmentInfo {
                file: name,
                first: part.first,
                end,
                bytes: part.segment.capacity,
                created_at,
                sealed,
            }),
        }
    }
    let mut index_bytes = 0;
    for path in survey.indexes.values() {
        index_bytes += file_bytes(env, path).map_err(|e| io_open("looking at an index", e))?;
    }
    let mut problems = store.notes();
    let copies = survey.header_problems.iter();
    problems.extend(copies.map(|(file, at, what)| format!("{file}: byte {at}: {what}")));
    if !written {
        let slots = survey.mark_problems.iter();
        problems.extend(slots.map(|(at, what)| format!("mark: byte {at}: {what}")));
    }
    Ok(Info {
        log_id: store.identity.log_id,
        format_version: FORMAT_VERSION,
        epoch: survey.mark.map_or(0, |mark| mark.epoch),
        events,
        marked: survey.mark.map_or(0, |mark| mark.durable),
        clean: !written && survey.mark.is_some_and(|mark| mark.clean),
        written,
        layout: Layout::one(),
        parts: Vec::new(),
        segments,
        index_bytes,
        spare_bytes: survey.spares.iter().map(|(_, bytes)| bytes).sum(),
        problems,
    })
}

impl Info {
    /// What several partitions are together.
    pub(super) fn of_parts(log_id: u128, layout: Layout, parts: Vec<Self>) -> Self {
        let sum = |of: fn(&Self) -> u64| parts.iter().map(of).sum();
        let problems = |(id, part): (PartitionId, &Self)| {
            let inside = move |what: &String| format!("{}/{what}", folder_name(id));
            part.problems.iter().map(inside).collect::<Vec<_>>()
        };
        Self {
            log_id,
            format_version: FORMAT_VERSION,
            epoch: parts.iter().map(|part| part.epoch).max().unwrap_or(0),
            events: sum(|part| part.events),
            marked: sum(|part| part.marked),
            clean: parts.iter().all(|part| part.clean),
            written: parts.iter().any(|part| part.written),
            segments: Vec::new(),
            index_bytes: sum(|part| part.index_bytes),
            spare_bytes: sum(|part| part.spare_bytes),
            problems: layout.ids().zip(&parts).flat_map(problems).collect(),
            layout,
            parts,
        }
    }

    /// Bytes of the segments, of all partitions.
    pub fn segment_bytes(&self) -> u64 {
        let own = self.segments.iter().map(|segment| segment.bytes);
        own.chain(self.parts.iter().map(Self::segment_bytes)).sum()
    }

    /// How many segments there are, in all partitions.
    pub fn segment_count(&self) -> u64 {
        let own = self.segments.len() as u64;
        own + self.parts.iter().map(Self::segment_count).sum::<u64>()
    }
}

fn file_bytes(env: &Env, path: &Path) -> Result<u64, std::io::Error> {
    match env.disk.open(path, OpenMode::Read) {
        Ok(file) => file.len(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(e) => Err(e),
    }
}
