//! Looks at a log's directory without changing it: what is there, and what is wrong.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anabranch_env::{Env, OpenMode};
use anabranch_log::OpenError;
use bytes::BytesMut;

use crate::format::{
    DATA_START, FORMAT_VERSION, FormatError, FrameAt, FrameHeader, LogIdentity, Mark, PAGE,
    SegmentHeader, Spot, find_frame_magic, frame_at,
};
use crate::index::{ActiveIndex, SealedIndex};
use crate::part::{Part, Segment};
use crate::reading::{read_readable, read_up_to};
use crate::store::{Gap, Store};

/// The name of the mark file.
pub(crate) const MARK_FILE: &str = "mark";
/// The name of the file that tells readers how far they may read.
pub(crate) const LIVE_FILE: &str = "live";
/// The name of the lock file.
pub const LOCK_FILE: &str = "lock";

/// The name of the file that keeps what the events of a partition depend on.
pub(crate) const CAUSES_FILE: &str = "causes";
/// The name of the file that says how a log with several partitions is laid out.
pub(crate) const LAYOUT_FILE: &str = "layout";
/// The name of the file that says where the log was moved to, or that it is still on its way here.
pub(crate) const MOVED_FILE: &str = "moved";
/// What the folder of a partition is called, before its number.
pub(crate) const FOLDER: &str = "partition-";

/// Whether a folder of a partition may be called so.
pub(crate) fn is_folder_name(name: &str) -> bool {
    let number = name.strip_prefix(FOLDER);
    number.is_some_and(|number| number.parse::<u32>().is_ok())
}

/// Whether a file of this name is one that a log writes, or has written; those of a partition with
/// their folder.
pub fn is_file_of_log(name: &str) -> bool {
    if let Some((folder, name)) = name.split_once('/') {
        return is_folder_name(folder) && !name.contains('/') && is_file_of_log(name);
    }
    let ending = Path::new(name).extension().and_then(|e| e.to_str());
    ending.is_some_and(|ending| ["seg", "idx", "cat", "pre", "tmp"].contains(&ending))
        || [
            MARK_FILE,
            LOCK_FILE,
            LIVE_FILE,
            LAYOUT_FILE,
            CAUSES_FILE,
            MOVED_FILE,
        ]
        .contains(&name)
}

/// What stands in a log's directory.
pub(crate) struct Survey {
    pub mark: Option<Mark>,
    /// Slots of the mark file that cannot be read: where, and why.
    pub mark_problems: Vec<(u64, String)>,
    /// Ascending by id.
    pub segments: Vec<(Arc<Segment>, SegmentHeader)>,
    /// Segment files that do not fit in: name, and why.
    pub segment_problems: Vec<(String, String)>,
    /// Copies of segment headers that cannot be read although the other one can.
    pub header_problems: Vec<(String, u64, String)>,
    /// Index files by segment and first position.
    pub indexes: BTreeMap<(u64, u64), PathBuf>,
    /// Runs of the catalogue.
    pub runs: Vec<PathBuf>,
    /// Spare files written ahead, with their lengths.
    pub spares: Vec<(PathBuf, u64)>,
    /// Files left over from a crash.
    pub leftovers: Vec<PathBuf>,
    /// Files that are none of ours.
    pub strangers: Vec<String>,
}

pub(crate) fn io_open(what: impl Into<String>, source: io::Error) -> OpenError {
    OpenError::Io {
        what: what.into(),
        source,
    }
}

impl FormatError {
    /// Whether the bytes are whole, but of a format that is not read here.
    pub fn is_other_format(&self) -> bool {
        !matches!(self, Self::Damaged(_))
    }

    /// Why a file cannot be opened.
    pub fn refused(self, file: &str) -> OpenError {
        let file = file.to_owned();
        match self {
            Self::Newer { found, known } => OpenError::NewerFormat { file, found, known },
            Self::Older { found, known } => OpenError::OlderFormat { file, found, known },
            Self::Field(_) => OpenError::Invalid(format!("{file}: {self}")),
            Self::Damaged(what) => OpenError::Damaged { file, what },
        }
    }
}

impl Survey {
    /// Whether there is no log yet.
    pub fn is_empty(&self) -> bool {
        self.mark.is_none()
            && self.mark_problems.is_empty()
            && self.segments.is_empty()
            && self.segment_problems.is_empty()
    }

    pub fn take(env: &Env, dir: &Path) -> Result<Self, OpenError> {
        let disk = &env.disk;
        let mut survey = Self {
            mark: None,
            mark_problems: Vec::new(),
            segments: Vec::new(),
            segment_problems: Vec::new(),
            header_problems: Vec::new(),
            indexes: BTreeMap::new(),
            runs: Vec::new(),
            spares: Vec::new(),
            leftovers: Vec::new(),
            strangers: Vec::new(),
        };
        // The mark first: a writer may be at work, and what it made durable later may stand
        // in files that are not on this list.
        survey.read_mark(env, &dir.join(MARK_FILE))?;
        let names = disk
            .list(dir)
            .map_err(|e| io_open(format!("reading the directory {}", dir.display()), e))?;
        for name in names {
            let path = dir.join(&name);
            match Path::new(&name).extension().and_then(|e| e.to_str()) {
                Some("seg") => survey.add_segment(env, &name, path)?,
                Some("idx") => match parse_index_name(&name) {
                    Some(key) => {
                        survey.indexes.insert(key, path);
                    }
                    None => survey.strangers.push(name),
                },
                Some("cat") => survey.runs.push(path),
                Some("pre") => match disk.open(&path, OpenMode::Read).and_then(|f| f.len()) {
                    Ok(length) => survey.spares.push((path, length)),
                    // A writer at work has made a segment of it since.
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    Err(e) => return Err(io_open(format!("opening {name}"), e)),
                },
                Some("tmp") => survey.leftovers.push(path),
                _ if is_file_of_log(&name) => {}
                _ => survey.strangers.push(name),
            }
        }
        survey.segments.sort_by_key(|(segment, _)| segment.id);
        Ok(survey)
    }

    fn add_segment(&mut self, env: &Env, name: &str, path: PathBuf) -> Result<(), OpenError> {
        let file = env
            .disk
            .open(&path, OpenMode::Read)
            .map_err(|e| io_open(format!("opening {name}"), e))?;
        let mut pages = vec![0; DATA_START as usize];
        let length = file
            .len()
            .map_err(|e| io_open(format!("reading {name}"), e))?;
        let mut problem = String::new();
        let mut header = None;
        for (copy, page) in pages.chunks_exact_mut(PAGE).enumerate() {
            let offset = (copy * PAGE) as u64;
            let decoded = match read_up_to(&*file, page, offset) {
                Ok(len) => SegmentHeader::decode(&page[..len]),
                Err(e) => Err(FormatError::Damaged(format!("the disk says: {e}"))),
            };
            match decoded {
                Ok(decoded) => header = header.or(Some(decoded)),
                Err(error) if error.is_other_format() => return Err(error.refused(name)),
                Err(error) => {
                    self.header_problems
                        .push((name.to_owned(), offset, error.to_string()));
                    problem = error.to_string();
                }
            }
        }
        let id: Option<u64> = name.trim_end_matches(".seg").parse().ok();
        match header {
            Some(header) if Some(header.segment_id) == id => {
                // A file that was cut short still has the frames before the cut.
                let segment = Segment::new(header.segment_id, path, header.capacity.min(length));
                self.segments.push((Arc::new(segment), header));
            }
            Some(header) => self.segment_problems.push((
                name.to_owned(),
                format!(
                    "the file holds segment {}; it was copied or renamed",
                    header.segment_id
                ),
            )),
            None => {
                self.header_problems.retain(|(file, ..)| file != name);
                self.segment_problems.push((
                    name.to_owned(),
                    format!("neither copy of its header can be read: {problem}"),
                ));
            }
        }
        Ok(())
    }

    fn read_mark(&mut self, env: &Env, path: &Path) -> Result<(), OpenError> {
        let file = match env.disk.open(path, OpenMode::Read) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(io_open("opening the mark file", e)),
        };
        let mut empty = Vec::new();
        for offset in [0, PAGE as u64] {
            let mut page = vec![0; PAGE];
            let decoded = match read_up_to(&*file, &mut page, offset) {
                Ok(PAGE) if page.iter().all(|&b| b == 0) => {
                    empty.push(offset);
                    continue;
                }
                Ok(len) => Mark::decode(&page[..len]),
                Err(e) => Err(FormatError::Damaged(format!("the disk says: {e}"))),
            };
            match decoded {
                Ok(mark) => {
                    if self.mark.is_none_or(|best| best.sequence < mark.sequence) {
                        self.mark = Some(mark);
                    }
                }
                Err(error) if error.is_other_format() => return Err(error.refused(MARK_FILE)),
                Err(error) => self.mark_problems.push((offset, error.to_string())),
            }
        }
        // A new log has written one slot only.
        if self.mark.is_none_or(|mark| mark.sequence > 1) {
            let emptied = empty
                .into_iter()
                .map(|at| (at, "the slot is empty".to_owned()));
            self.mark_problems.extend(emptied);
        }
        Ok(())
    }

    /// Which log this is: what most of the files say, and the mark where they tie.
    pub fn identity(&self) -> Option<LogIdentity> {
        let of_mark = self.mark.map(|mark| mark.identity);
        let of_segments = self.segments.iter().map(|(_, header)| header.identity);
        let all: Vec<_> = of_mark.into_iter().chain(of_segments).collect();
        let votes = |identity: &LogIdentity| all.iter().filter(|&i| i == identity).count();
        all.iter().rev().max_by_key(|&i| votes(i)).copied()
    }

    /// Sets aside what belongs to another log, or does not follow what is before it.
    pub fn keep_own(&mut self, identity: LogIdentity) {
        if self.mark.is_some_and(|mark| mark.identity != identity) {
            self.mark = None;
            self.mark_problems
                .push((0, "the file belongs to another log".to_owned()));
        }
        let mut before = 0;
        let problems = &mut self.segment_problems;
        self.segments.retain(|(segment, header)| {
            let what = if header.identity != identity {
                "the file belongs to another log".to_owned()
            } else if header.first < before {
                format!(
                    "it begins at position {}, before the segment that precedes it ({before})",
                    header.first
                )
            } else {
                before = header.first;
                return true;
            };
            problems.push((segment.name(), what));
            false
        });
    }

    /// What keeps the files from being one log: the first problem found.
    pub fn check(&self) -> Result<(), OpenError> {
        if let Some((file, what)) = self.segment_problems.first() {
            return Err(OpenError::Damaged {
                file: file.clone(),
                what: what.clone(),
            });
        }
        let Some(mark) = self.mark else {
            let what = self.mark_problems.first().map_or_else(
                || "the file is missing although there are segments".to_owned(),
                |(_, problem)| format!("no slot can be read ({problem})"),
            );
            return Err(OpenError::Damaged {
                file: MARK_FILE.to_owned(),
                what,
            });
        };
        let mut before: Option<&SegmentHeader> = None;
        for (segment, header) in &self.segments {
            if header.identity != mark.identity {
                return Err(OpenError::Damaged {
                    file: segment.name(),
                    what: "the file belongs to another log".to_owned(),
                });
            }
            match before {
                None if header.first != 0 => {
                    return Err(OpenError::Damaged {
                        file: segment.name(),
                        what: format!(
                            "events 0..={} are missing: no segment before this one, which begins at {}",
                            header.first - 1,
                            header.first
                        ),
                    });
                }
                Some(before) if header.first < before.first => {
                    return Err(OpenError::Damaged {
                        file: segment.name(),
                        what: format!(
                            "it begins at position {}, before the segment that precedes it ({})",
                            header.first, before.first
                        ),
                    });
                }
                _ => before = Some(header),
            }
        }
        Ok(())
    }
}

fn parse_index_name(name: &str) -> Option<(u64, u64)> {
    let (segment, first) = name.strip_suffix(".idx")?.split_once('-')?;
    Some((segment.parse().ok()?, first.parse().ok()?))
}

/// Where the next segment begins.
#[derive(Clone, Copy)]
struct Limit {
    position: u64,
    /// Whether no segment is missing before it.
    is_near: bool,
}

/// What the segments hold, as found by their indexes and by reading what has none.
pub(crate) struct Contents {
    pub parts: Vec<Arc<Part>>,
    pub gaps: Vec<Gap>,
    /// Position after the last event found, or known to be lost.
    pub end: u64,
    /// Every event before this position is known to have been on the disk.
    pub durable: u64,
    /// Where the last frame ends in the last segment, in bytes.
    pub end_offset: u64,
    /// Whether nothing but zeros follows there.
    pub rest_is_empty: bool,
    /// The durable mark.
    mark: Option<Mark>,
    /// Index files that could not be used, and why.
    pub index_problems: Vec<(String, u64, String)>,
    /// Index files that belong to no part.
    pub unused_indexes: Vec<PathBuf>,
}

impl Contents {
    /// Reads the index headers, and the frames that no index covers. Every event before
    /// `known` was durable before the survey was taken.
    pub fn take(store: &Store, survey: &Survey, known: u64) -> Result<Self, OpenError> {
        let mark = survey.mark;
        let mut contents = Self {
            parts: Vec::new(),
            gaps: Vec::new(),
            end: 0,
            durable: mark.map_or(0, |m| m.durable).max(known),
            end_offset: DATA_START,
            rest_is_empty: true,
            mark,
            index_problems: Vec::new(),
            unused_indexes: Vec::new(),
        };
        let mut indexes = survey.indexes.clone();
        for (at, (segment, header)) in survey.segments.iter().enumerate() {
            let limit = survey.segments.get(at + 1).map(|(_, next)| Limit {
                position: next.first,
                is_near: [0, segment.id].contains(&next.previous),
            });
            if header.first > contents.end {
                contents.gaps.push(Gap {
                    file: segment.name(),
                    offset: 0,
                    what: "the segment that held these events is missing".to_owned(),
                    first: contents.end,
                    end: header.first,
                });
            }
            contents.add_segment(store, segment, header, limit, &mut indexes)?;
        }
        if survey.segments.is_empty() && contents.durable > 0 {
            contents.gaps.push(Gap {
                file: MARK_FILE.to_owned(),
                offset: 0,
                what: "no segment is left that holds these events".to_owned(),
                first: 0,
                end: contents.durable,
            });
            contents.end = contents.durable;
        }
        contents.unused_indexes = indexes.into_values().collect();
        Ok(contents)
    }

    fn add_segment(
        &mut self,
        store: &Store,
        segment: &Arc<Segment>,
        header: &SegmentHeader,
        limit: Option<Limit>,
        indexes: &mut BTreeMap<(u64, u64), PathBuf>,
    ) -> Result<(), OpenError> {
        let (mut position, mut offset) = (header.first, DATA_START);
        let end = limit.map_or(u64::MAX, |limit| limit.position);
        // A segment is made after all that is before it was synced.
        if !store.bug(crate::Bug::SegmentProvesNothing) {
            self.durable = self.durable.max(header.first);
        }
        while position < end {
            let Some(path) = indexes.remove(&(segment.id, position)) else {
                break;
            };
            match open_index(store, &path) {
                Ok(index)
                    if index
                        .header
                        .fits(store.identity, segment.id, position, offset)
                        && index.header.end <= end
                        && index.header.end_offset <= segment.capacity =>
                {
                    (position, offset) = (index.header.end, index.header.end_offset);
                    self.parts
                        .push(Arc::new(Part::sealed(segment.clone(), index)));
                }
                Ok(_) => {
                    self.index_problem(&path, 0, "it does not fit its segment".to_owned());
                    break;
                }
                Err(crate::index::IndexError::Newer { found }) => {
                    return Err(OpenError::NewerFormat {
                        file: file_name(&path),
                        found,
                        known: FORMAT_VERSION,
                    });
                }
                Err(error) => {
                    self.index_problem(&path, 0, error.to_string());
                    break;
                }
            }
        }
        self.end = position.max(self.end);
        self.end_offset = offset;
        if position < end {
            self.scan_rest(store, segment, position, offset, limit)?;
        }
        Ok(())
    }

    fn index_problem(&mut self, path: &Path, offset: u64, what: String) {
        self.index_problems.push((file_name(path), offset, what));
    }

    /// Reads the frames of a segment from `offset` on, up to position `limit` or, in the
    /// last segment, to where they end.
    fn scan_rest(
        &mut self,
        store: &Store,
        segment: &Arc<Segment>,
        position: u64,
        offset: u64,
        limit: Option<Limit>,
    ) -> Result<(), OpenError> {
        let (mut position, mut offset) = (position, offset);
        let limit_position = limit.map(|limit| limit.position);
        // Where a segment is missing, it may have taken the place of this one's end: what
        // was not confirmed here, by itself or by the mark, may be an append that failed.
        let is_alone = limit.map_or(
            self.mark.is_some_and(|mark| mark.segment_id > segment.id),
            |limit| !limit.is_near,
        );
        let mut confirmed = match self.mark {
            Some(mark) if mark.segment_id == segment.id => mark.durable.max(position),
            _ => position,
        };
        loop {
            let (part, durable) = scan_run(store, segment, position, offset, limit_position)?;
            self.durable = self.durable.max(durable);
            confirmed = confirmed.max(durable);
            let (first, end, end_offset) = {
                let index = crate::sync::read(&part.index);
                let crate::part::PartIndex::Active(index) = &*index else {
                    unreachable!("a part that was scanned is indexed in memory");
                };
                (index.first(), index.end(), index.end_offset())
            };
            self.end = end.max(self.end);
            self.end_offset = end_offset;
            let complete = limit_position == Some(end) && !(is_alone && end > confirmed);
            if complete {
                part.set_end(end);
            }
            // The last segment has a growing part, even an empty one.
            if end > first
                || (limit.is_none()
                    && self
                        .parts
                        .last()
                        .is_none_or(|p| !Arc::ptr_eq(&p.segment, segment) || p.end() == end))
            {
                self.parts.push(part.clone());
            }
            if complete {
                return Ok(());
            }
            // No frame here. What comes after?
            let behind = limit_position.unwrap_or(u64::MAX);
            let rest = find_frame(store, segment, end_offset, end, behind)?;
            if store.read_only && rest.frame.is_some() && has_grown(store, &part, end_offset, end) {
                // A writer was at work between the two looks: look again.
                self.parts.retain(|p| !Arc::ptr_eq(p, &part));
                continue;
            }
            self.rest_is_empty = rest.is_empty;
            confirmed = confirmed.max(rest.durable);
            match rest.frame {
                Some((at, header, why)) if !is_alone || confirmed > end => {
                    self.durable = self.durable.max(rest.durable);
                    if limit.is_none() && self.durable <= end {
                        // Frames of a flush that was never confirmed: remains of a tear.
                        return Ok(());
                    }
                    part.set_end(end);
                    self.gaps.push(Gap {
                        file: segment.name(),
                        offset: end_offset,
                        what: why.to_owned(),
                        first: end,
                        end: header.first,
                    });
                    (position, offset) = (header.first, at);
                }
                _ => {
                    let missing = limit_position.unwrap_or(self.durable);
                    let kept = if is_alone {
                        end.min(confirmed.max(first))
                    } else {
                        end
                    };
                    if missing > kept {
                        self.cut_part(&part, first, kept);
                        self.gaps.push(Gap {
                            file: segment.name(),
                            offset: end_offset,
                            what: "no frame is left where these events were".to_owned(),
                            first: kept,
                            end: missing,
                        });
                        self.end = self.end.max(missing);
                    }
                    return Ok(());
                }
            }
        }
    }

    /// What [`crate::Bug::CutDamagedMiddle`] makes of damage: the end of the log.
    pub fn cut_at_damage(&mut self) {
        let Some((first, offset)) = self.gaps.first().map(|gap| (gap.first, gap.offset)) else {
            return;
        };
        self.gaps.clear();
        self.parts.retain(|part| part.first < first);
        self.end = first;
        self.end_offset = offset;
        self.durable = self.durable.min(first);
        self.rest_is_empty = false;
    }

    /// Ends a part that was scanned at `end`.
    fn cut_part(&mut self, part: &Arc<Part>, first: u64, end: u64) {
        if let crate::part::PartIndex::Active(index) = &mut *crate::sync::write(&part.index) {
            index.truncate(end);
        }
        if end == first {
            self.parts.retain(|p| !Arc::ptr_eq(p, part));
        }
        part.set_end(end);
    }
}

/// Whether there is a frame now where a run of frames had ended.
fn has_grown(store: &Store, part: &Part, offset: u64, end: u64) -> bool {
    store
        .scan(part, offset, end, u64::MAX, BytesMut::new())
        .is_ok_and(|scanned| scanned.end > end)
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map_or_else(String::new, |n| n.to_string_lossy().into_owned())
}

fn open_index(store: &Store, path: &Path) -> Result<SealedIndex, crate::index::IndexError> {
    SealedIndex::open_at(store.files.clone(), path.to_owned())
}

/// Indexes the run of good frames that begins at `offset`; also gives the greatest durable
/// mark in them.
fn scan_run(
    store: &Store,
    segment: &Arc<Segment>,
    position: u64,
    offset: u64,
    limit: Option<u64>,
) -> Result<(Arc<Part>, u64), OpenError> {
    let index = ActiveIndex::new(position, store.identity.hash_key, offset);
    let part = Part::growing(segment.clone(), offset, index);
    if let Some(limit) = limit {
        part.set_end(limit);
    }
    let mut durable = 0;
    let (mut at, mut next) = (offset, position);
    let mut buf = BytesMut::new();
    while next < part.end() {
        // Where it ends, and whether what is there is damage, is looked at by the caller.
        let scanned = match store.scan(&part, at, next, u64::MAX, buf) {
            Ok(scanned) => scanned,
            Err(_) if store.read_only => break,
            Err(_) => {
                check_readable(store, segment, at)?;
                match store.scan(&part, at, next, u64::MAX, BytesMut::new()) {
                    Ok(scanned) => scanned,
                    Err(_) => break,
                }
            }
        };
        for entry in &scanned.block.entries {
            let start = entry.start as usize - crate::format::FRAME_HEADER;
            let header = &scanned.block.bytes[start..start + crate::format::FRAME_HEADER];
            durable = durable.max(crate::format::get!(u64, header, 24));
        }
        if let crate::part::PartIndex::Active(index) = &mut *crate::sync::write(&part.index) {
            store
                .add_block(index, &scanned.block, at)
                .map_err(|e| OpenError::Damaged {
                    file: segment.name(),
                    what: e.to_string(),
                })?;
        }
        (at, next) = (scanned.next_offset, scanned.end);
        buf = scanned.block.bytes.try_into_mut().unwrap_or_default();
    }
    part.set_end(u64::MAX);
    Ok((Arc::new(part), durable))
}

/// Frames that cannot be read just now are not frames that are not there: a writer must
/// not take them for the end of the log.
fn check_readable(store: &Store, segment: &Segment, offset: u64) -> Result<(), OpenError> {
    let failed = |e| io_open(format!("reading {}", segment.name()), e);
    let file = store.env.disk.open(&segment.path, OpenMode::Read);
    let mut buf = vec![0; crate::store::CHUNK];
    read_up_to(&*file.map_err(failed)?, &mut buf, offset).map_err(failed)?;
    Ok(())
}

/// What was found behind the end of a run of frames.
struct Rest {
    /// The next good frame that continues the log: where, its header, and why the run
    /// before it ended.
    frame: Option<(u64, FrameHeader, &'static str)>,
    /// The greatest durable mark in good frames from there on.
    durable: u64,
    /// Nothing but zeros follows.
    is_empty: bool,
}

/// Looks for good frames of this segment behind `offset`, with positions from `position`
/// on and below `limit`.
fn find_frame(
    store: &Store,
    segment: &Arc<Segment>,
    offset: u64,
    position: u64,
    limit: u64,
) -> Result<Rest, OpenError> {
    const STEP: usize = 1 << 20;
    /// A run of zeros longer than any group ends the search.
    const EMPTY_MAX: u64 = 64 << 20;
    let file = store.file(segment).map_err(|e| OpenError::Damaged {
        file: segment.name(),
        what: e.to_string(),
    })?;
    let mut rest = Rest {
        frame: None,
        durable: 0,
        is_empty: true,
    };
    let spot = |offset| Spot {
        segment_id: segment.id,
        offset,
        hash_key: store.identity.hash_key,
    };
    let mut why = "no frame begins here";
    let mut buf = vec![0; STEP];
    let mut at = offset;
    let mut empty = 0;
    while at < segment.capacity && empty < EMPTY_MAX {
        let (len, refused) = read_readable(&*file, &mut buf, at);
        if len == 0 {
            if refused.is_none() {
                break;
            }
            // An unreadable page: look behind it.
            rest.is_empty = false;
            at = (at + 1).next_multiple_of(PAGE as u64);
            continue;
        }
        if buf[..len].iter().all(|&b| b == 0) {
            empty += len as u64;
            at += len as u64;
            continue;
        }
        rest.is_empty = false;
        empty = 0;
        if at == offset
            && let FrameAt::Bad(reason) =
                frame_at(&buf[..len], segment.capacity - at, spot(at), true)
        {
            why = reason;
        }
        let mut from = 0;
        while let Some(found) = find_frame_magic(&buf[from..len]) {
            let start = at + (from + found) as u64;
            from += found + crate::format::FRAME_ALIGN;
            let good = crate::reading::read_frame(&*file, segment.capacity, spot(start))
                .filter(|h| h.first > position && h.end() <= limit);
            if let Some(header) = good {
                rest.durable = rest.durable.max(header.durable);
                // A frame that the disk wrote to a wrong place must not hide those before it.
                if rest
                    .frame
                    .is_none_or(|(_, next, _)| header.first < next.first)
                {
                    rest.frame = Some((start, header, why));
                }
                // On to the frame behind it.
                let next = start + header.frame_len() as u64 - at;
                from = from
                    .max(usize::try_from(next).unwrap_or(usize::MAX))
                    .min(len);
            }
        }
        at += (len & !(crate::format::FRAME_ALIGN - 1)).max(crate::format::FRAME_ALIGN) as u64;
    }
    Ok(rest)
}
