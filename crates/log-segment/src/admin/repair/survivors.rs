//! What is left of a log's segments.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anabranch_env::{Env, File, OpenMode};
use anabranch_log::OpenError;

use super::loss::LostEvent;
use super::names::name_of;
use crate::admin::layout::Layout;
use crate::admin::verify::decode;
use crate::admin::walk::{Frames, Look};
use crate::format::{DATA_START, FrameHeader, LogIdentity, PAGE, SegmentHeader};
use crate::index::SealedIndex;
use crate::part::segment_path;
use crate::reading::read_readable;
use crate::survey::{LIVE_FILE, LOCK_FILE, MARK_FILE, io_open};

/// The segments of a log, and files that are to be set aside.
pub(super) struct Found {
    /// Ascending by id.
    pub survivors: Vec<Survivor>,
    pub aside: Vec<PathBuf>,
    /// Every name that is taken.
    pub names: BTreeSet<String>,
}

/// A segment, as far as there is one.
#[derive(Debug, Clone)]
pub(super) struct Survivor {
    /// Where it is now.
    pub path: PathBuf,
    /// Its header, read or recovered.
    pub header: SegmentHeader,
    pub is_header_damaged: bool,
    /// Its frames do not stand where they should, or bytes between them are damaged.
    pub is_shifted: bool,
    /// There is no file; the name is free for one.
    pub is_gone: bool,
    pub is_made: bool,
    pub is_rewritten: bool,
    /// What should stand in it, in order.
    pub pieces: Vec<Piece>,
    /// Position after its last event.
    pub end: u64,
}

/// A run of events of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// Good frames, at `start..stop` of the file.
    Frames { start: u64, stop: u64 },
    Lost {
        first: u64,
        end: u64,
        offset: u64,
        what: String,
        known: Vec<LostEvent>,
    },
}

impl Survivor {
    fn new(path: PathBuf, header: SegmentHeader) -> Self {
        Self {
            path,
            header,
            is_header_damaged: false,
            is_shifted: false,
            is_gone: false,
            is_made: false,
            is_rewritten: false,
            pieces: Vec::new(),
            end: header.first,
        }
    }

    /// A segment that a repair adds.
    pub fn made(dir: &Path, header: SegmentHeader) -> Self {
        Self {
            is_made: true,
            ..Self::new(segment_path(dir, header.segment_id), header)
        }
    }

    pub fn right_path(&self, dir: &Path) -> PathBuf {
        segment_path(dir, self.header.segment_id)
    }

    pub fn is_misnamed(&self, dir: &Path) -> bool {
        !self.is_gone && !self.is_made && self.path != self.right_path(dir)
    }

    /// Position up to which index files cover the segment.
    pub fn covered(env: &Env, indexes: &[PathBuf]) -> Option<u64> {
        let end = |path: &PathBuf| {
            let file = env.disk.open(path, OpenMode::Read).ok()?;
            Some(SealedIndex::open(file).ok()?.header.end)
        };
        indexes.iter().filter_map(end).max()
    }
}

/// Looks through the directory for segments of this log, whatever their names.
pub(super) fn find(env: &Env, dir: &Path, layout: &Layout) -> Result<Found, OpenError> {
    let names = env.disk.list(dir);
    let names = names.map_err(|e| io_open("reading the directory", e))?;
    let mut aside = Vec::new();
    let mut by_id: BTreeMap<u64, Vec<Survivor>> = BTreeMap::new();
    let mut headless = Vec::new();
    for name in &names {
        let path = dir.join(name);
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
        let is_other = ["idx", "cat", "pre", "tmp"].contains(&extension)
            || [MARK_FILE, LIVE_FILE, LOCK_FILE].contains(&name.as_str())
            || name.contains(".damaged-");
        if is_other {
            continue;
        }
        let file = open(env, &path)?;
        let length = length(&*file, &path)?;
        let mut pages = vec![0; DATA_START as usize];
        let mut copies = Vec::new();
        for (at, page) in pages.chunks_exact_mut(PAGE).enumerate() {
            let (len, _) = read_readable(&*file, page, (at * PAGE) as u64);
            copies.extend(SegmentHeader::decode(&page[..len]));
        }
        let own = copies.iter().find(|header| is_own(header, layout.identity));
        match own {
            Some(&header) => {
                let mut survivor = Survivor::new(path, header);
                survivor.header.capacity = header.capacity.min(length).max(DATA_START);
                survivor.is_header_damaged =
                    copies.len() < 2 || copies.iter().any(|c| *c != survivor.header);
                by_id.entry(header.segment_id).or_default().push(survivor);
            }
            None if extension != "seg" => {}
            None if copies.is_empty() => headless.push((path, file, length)),
            None => aside.push(path),
        }
    }
    let mut survivors = Vec::new();
    for (_, mut candidates) in by_id {
        candidates.sort_by_key(|s| s.is_misnamed(dir));
        let mut candidates = candidates.into_iter();
        survivors.extend(candidates.next());
        let rest = candidates.map(|s| s.path);
        aside.extend(rest.filter(|path| path.extension().is_some_and(|e| e == "seg")));
    }
    for (path, file, length) in headless {
        match recover_header(&path, file, length, layout.identity) {
            Some(survivor)
                if survivors
                    .iter()
                    .all(|s| s.header.segment_id != survivor.header.segment_id) =>
            {
                survivors.push(survivor);
            }
            _ => aside.push(path),
        }
    }
    survivors.sort_by_key(|s| s.header.segment_id);
    let mut before = 0;
    survivors.retain(|survivor| {
        let follows = survivor.header.first >= before;
        if follows {
            before = survivor.header.first;
        } else {
            aside.push(survivor.path.clone());
        }
        follows
    });
    Ok(Found {
        survivors,
        aside,
        names: names.into_iter().collect(),
    })
}

/// The header of a segment of which neither copy is left, from its name and its frames.
fn recover_header(
    path: &Path,
    file: Arc<dyn File>,
    length: u64,
    identity: LogIdentity,
) -> Option<Survivor> {
    let segment_id = path.file_stem()?.to_str()?.parse().ok()?;
    let mut frames = Frames::new(&*file, segment_id, identity.hash_key, length);
    let at_start = match frames.look(DATA_START) {
        Look::Frame(header, ..) => Some((DATA_START, header)),
        Look::Bad(_) => None,
    };
    let (offset, frame) = at_start.or_else(|| frames.search(DATA_START, |_| true))?;
    let header = SegmentHeader {
        identity,
        segment_id,
        first: frame.first,
        capacity: length,
        created_at: frame.recorded_at,
        previous: 0,
    };
    let mut survivor = Survivor::new(path.to_owned(), header);
    survivor.is_header_damaged = true;
    survivor.is_shifted = offset != DATA_START;
    Some(survivor)
}

pub(super) fn open(env: &Env, path: &Path) -> Result<Arc<dyn File>, OpenError> {
    env.disk
        .open(path, OpenMode::Read)
        .map_err(|e| io_open(format!("opening {}", name_of(path)), e))
}

pub(super) fn length(file: &dyn File, path: &Path) -> Result<u64, OpenError> {
    file.len()
        .map_err(|e| io_open(format!("reading {}", name_of(path)), e))
}

/// Finds the good frames of every segment, and what is lost between them. Gives the
/// position before which every event was on the disk.
pub(super) fn walk(
    env: &Env,
    layout: &Layout,
    dir: &Path,
    found: &mut Found,
) -> Result<u64, OpenError> {
    let mut durable = layout.durable;
    let survivors = &mut found.survivors;
    for survivor in survivors.iter() {
        durable = durable.max(survivor.header.first);
    }
    let front = survivors.first().map_or(durable, |s| s.header.first);
    if front > 0 {
        let marked = layout.survey.mark.map_or(1, |mark| mark.segment_id.max(1));
        let id = match survivors.first() {
            Some(s) => s.header.segment_id.checked_sub(1).ok_or_else(|| {
                OpenError::Invalid("there is no name left for a first segment".to_owned())
            })?,
            None => marked,
        };
        let header = SegmentHeader {
            identity: layout.identity,
            segment_id: id,
            first: 0,
            capacity: 0,
            created_at: 0,
            previous: 0,
        };
        let mut gone = Survivor::new(segment_path(dir, id), header);
        gone.is_gone = true;
        gone.pieces.push(Piece::Lost {
            first: 0,
            end: front,
            offset: 0,
            what: "the segment that held these events is missing".to_owned(),
            known: Vec::new(),
        });
        gone.end = front;
        survivors.insert(0, gone);
    }
    let limits: Vec<Option<u64>> = survivors
        .iter()
        .skip(1)
        .map(|s| Some(s.header.first))
        .chain([None])
        .collect();
    for (survivor, limit) in survivors.iter_mut().zip(limits) {
        if !survivor.is_gone {
            durable = walk_segment(env, survivor, limit, durable)?;
        }
    }
    Ok(durable)
}

fn walk_segment(
    env: &Env,
    survivor: &mut Survivor,
    limit: Option<u64>,
    mut durable: u64,
) -> Result<u64, OpenError> {
    let file = open(env, &survivor.path)?;
    let length = length(&*file, &survivor.path)?;
    let capacity = survivor.header.capacity.min(length);
    let mut frames = Frames::new(
        &*file,
        survivor.header.segment_id,
        survivor.header.identity.hash_key,
        capacity,
    );
    let (mut position, mut offset) = (survivor.header.first, DATA_START);
    let end = limit.unwrap_or(u64::MAX);
    while position < end {
        let why = match frames.look(offset) {
            Look::Frame(header, bytes, padding)
                if header.first == position && header.end() <= end =>
            {
                match decode(&header, header.body(bytes)) {
                    Ok(_) => {
                        survivor.is_shifted |= padding.iter().any(|&b| b != 0);
                        let stop = offset + header.frame_len() as u64;
                        match survivor.pieces.last_mut() {
                            Some(Piece::Frames { stop: last, .. }) if *last == offset => {
                                *last = stop;
                            }
                            _ => survivor.pieces.push(Piece::Frames {
                                start: offset,
                                stop,
                            }),
                        }
                        durable = durable.max(header.durable);
                        (position, offset) = (header.end(), stop);
                        continue;
                    }
                    Err(why) => why,
                }
            }
            Look::Frame(..) => "the frame belongs to another position".to_owned(),
            Look::Bad(why) => why,
        };
        let wanted = |h: &FrameHeader| h.first > position && h.end() <= end;
        let next = frames.resume(offset, wanted);
        let mut later = next;
        while let (None, Some((at, header))) = (limit, later) {
            durable = durable.max(header.durable);
            later = frames.search(at + header.frame_len() as u64 - 1, wanted);
        }
        let (lost_to, resume) = match (limit, next) {
            (None, _) if durable <= position => break,
            (_, Some((at, header))) => (header.first, Some(at)),
            (_, None) => (limit.unwrap_or(durable), None),
        };
        // A recovered header names the first event that is left: nothing is lost before it.
        if !(survivor.is_shifted && survivor.pieces.is_empty() && lost_to == position) {
            survivor.pieces.push(Piece::Lost {
                first: position,
                end: lost_to,
                offset,
                what: why,
                known: Vec::new(),
            });
        }
        position = lost_to;
        let Some(at) = resume else { break };
        offset = at;
    }
    survivor.end = position;
    Ok(durable)
}

/// Whether this header belongs to the log.
fn is_own(header: &SegmentHeader, identity: LogIdentity) -> bool {
    header.identity == identity
}
