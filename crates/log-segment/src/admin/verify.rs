use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use anabranch_env::{Env, File, OpenMode};
use anabranch_log::OpenError;
use anabranch_model::record::Records;
use anabranch_model::{EventRef, Position, StreamId};

use super::layout::{Layout, Place};
use super::report::{Damage, Progress, Remark, VerifyReport};
use super::walk::{Frames, Look};
use crate::format::{
    DATA_START, FORMAT_VERSION, FRAME_HEADER, FrameHeader, Live, PAGE, SegmentHeader,
};
use crate::heads::Heads;
use crate::index::{ActiveIndex, IndexError, Run, SealedIndex, stream_key, write_index};
use crate::lost::{LOST_CATEGORY, LOST_TYPE};
use crate::open::MARK_FILE_BYTES;
use crate::reading::read_readable;
use crate::survey::{LIVE_FILE, LOCK_FILE, MARK_FILE, io_open};

/// Memory for the versions of streams, in bytes. Streams beyond it are checked within a
/// segment only.
const HEADS_MEMORY: usize = 128 << 20;
/// How many bytes lie between two reports of progress.
const PROGRESS_STEP: u64 = 4 << 20;

/// As [`verify`](super::verify), of a directory with the files of one partition that was looked at
/// before.
pub(super) fn verify_layout(
    env: Env,
    dir: &Path,
    layout: &Layout,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<VerifyReport, OpenError> {
    let mut check = Check {
        indexes: layout.survey.indexes.clone(),
        durable: layout.durable,
        report: VerifyReport {
            beside_writer: layout.written,
            durable: layout.durable,
            damages: layout.damages.clone(),
            ..VerifyReport::default()
        },
        heads: Heads::new(HEADS_MEMORY, true),
        lost: 0,
        next: 0,
        runs: Vec::new(),
        bytes_total: total_bytes(&env, dir)?,
        reported: 0,
        on_progress,
        dir: dir.to_owned(),
        layout,
        env,
    };
    check.open_runs()?;
    for place in &layout.places {
        check.segment(place)?;
    }
    check.end();
    check.other_files()?;
    let mut report = check.report;
    report
        .damages
        .sort_by(|a, b| (&a.file, a.offset).cmp(&(&b.file, b.offset)));
    Ok(report)
}

fn total_bytes(env: &Env, dir: &Path) -> Result<u64, OpenError> {
    let names = env.disk.list(dir);
    let names = names.map_err(|e| io_open("reading the directory", e))?;
    let length = |name: &String| {
        let file = env.disk.open(&dir.join(name), OpenMode::Read);
        // Gone meanwhile, or unreadable: the check itself will tell.
        file.and_then(|file| file.len()).unwrap_or(0)
    };
    Ok(names.iter().map(length).sum())
}

struct Check<'a> {
    env: Env,
    dir: PathBuf,
    layout: &'a Layout,
    report: VerifyReport,
    /// Index files that no part has claimed yet.
    indexes: BTreeMap<(u64, u64), PathBuf>,
    heads: Heads,
    /// The runs of the catalogue whose end is still to come.
    runs: Vec<(String, Run)>,
    /// How many events are known to be lost so far: versions may jump by that many.
    lost: u64,
    /// Position of the next event.
    next: u64,
    /// Every event before this position was on the disk.
    durable: u64,
    bytes_total: u64,
    reported: u64,
    on_progress: &'a mut dyn FnMut(Progress),
}

/// A run of frames that one index file covers, or would.
struct Part {
    index: ActiveIndex,
    start_offset: u64,
    file: Option<IndexFile>,
    /// Whether every frame so far could be indexed.
    whole: bool,
    /// Whether it begins where the part before it ended: no damage lies between.
    follows: bool,
}

struct IndexFile {
    path: PathBuf,
    /// Position after its last event, if its header can be read.
    end: Option<u64>,
}

impl Check<'_> {
    fn damage(&mut self, damage: Damage) {
        if let Some((first, last)) = damage.events {
            self.lost += last.offset - first.offset + 1;
        }
        self.report.damages.push(damage);
    }

    fn harmless(&mut self, file: &str, offset: u64, what: impl Into<String>, heals: bool) {
        self.damage(Damage {
            file: file.to_owned(),
            offset,
            events: None,
            what: what.into(),
            heals,
        });
    }

    fn gone(&mut self, file: &str, offset: u64, what: impl Into<String>, first: u64, end: u64) {
        self.damage(Damage {
            file: file.to_owned(),
            offset,
            events: Some((Position::at(first), Position::at(end - 1))),
            what: what.into(),
            heals: false,
        });
    }

    fn remark(&mut self, file: &str, offset: u64, what: impl Into<String>) {
        self.report.remarks.push(Remark {
            file: file.to_owned(),
            offset,
            what: what.into(),
        });
    }

    fn read(&mut self, file: &str, bytes: u64) {
        self.report.bytes += bytes;
        if self.report.bytes >= self.reported + PROGRESS_STEP || bytes == 0 {
            self.reported = self.report.bytes;
            (self.on_progress)(Progress {
                file: file.to_owned(),
                bytes_done: self.report.bytes,
                bytes_total: self.bytes_total.max(self.report.bytes),
            });
        }
    }

    fn begin_file(&mut self, name: &str) {
        self.report.files += 1;
        self.read(name, 0);
    }

    fn segment(&mut self, place: &Place) -> Result<(), OpenError> {
        let name = place.segment.name();
        self.begin_file(&name);
        let file = self
            .env
            .disk
            .open(&place.segment.path, OpenMode::Read)
            .map_err(|e| io_open(format!("opening {name}"), e))?;
        let length = file
            .len()
            .map_err(|e| io_open(format!("reading {name}"), e))?;
        self.header(place, &name, &*file, length);
        if place.header.first > self.next {
            let what = "the segment that held the events before this one is missing";
            self.gone(&name, 0, what, self.next, place.header.first);
        }
        self.next = place.header.first;
        let mut frames = Frames::new(
            &*file,
            place.segment.id,
            self.layout.identity.hash_key,
            place.segment.capacity,
        );
        let mut part = self.begin_part(place, DATA_START, true)?;
        let mut offset = DATA_START;
        let mut rest_told = false;
        while place.limit.is_none_or(|limit| self.next < limit) {
            let limit = place.limit.unwrap_or(u64::MAX);
            let why = match frames.look(offset) {
                Look::Frame(header, ..) if header.first != self.next => {
                    "the frame belongs to another position".to_owned()
                }
                Look::Frame(header, ..) if header.end() > limit => {
                    "the frame reaches into the next segment".to_owned()
                }
                Look::Frame(header, bytes, padding) => {
                    let padded = padding.iter().any(|&b| b != 0);
                    self.frame(&name, offset, &header, bytes, &mut part);
                    if padded {
                        let at = offset + (FRAME_HEADER + header.body_len as usize) as u64;
                        let what = "the padding behind a frame is not zero";
                        self.harmless(&name, at, what, true);
                    }
                    offset += header.frame_len() as u64;
                    self.read(&name, header.frame_len() as u64);
                    self.next = header.end();
                    self.runs_that_end_here();
                    if self.ends_part(place, &part) {
                        self.finish_part(place, part)?;
                        part = self.begin_part(place, offset, true)?;
                    }
                    continue;
                }
                Look::Bad(why) => why,
            };
            let (what, end, resume) = match self.behind(place, &mut frames, offset) {
                Behind::End => break,
                Behind::Frame(at, header) => (why, header.first, Some(at)),
                Behind::Nothing(end) if why == "no frame begins here" => {
                    let what = "no frame is left where these events were: the segment's end is \
                                damaged, or the file of a segment is missing";
                    (what.to_owned(), end, None)
                }
                Behind::Nothing(end) => (why, end, None),
            };
            self.gone(&name, offset, what, self.next, end);
            self.next = end;
            part.whole = false;
            let Some(at) = resume else {
                rest_told = true;
                break;
            };
            self.read(&name, at - offset);
            offset = at;
            self.finish_part(place, part)?;
            part = self.begin_part(place, offset, false)?;
        }
        if !rest_told {
            self.rest(place, &name, &mut frames, offset);
        }
        self.read(&name, place.segment.capacity.saturating_sub(offset));
        self.finish_part(place, part)
    }

    fn header(&mut self, place: &Place, name: &str, file: &dyn File, length: u64) {
        let mut pages = vec![0; DATA_START as usize];
        self.read(name, DATA_START.min(length));
        // What cannot be read of them the survey has told.
        let (len, _) = read_readable(file, &mut pages, 0);
        let copies: Vec<_> = pages[..len]
            .chunks(PAGE)
            .filter_map(|page| SegmentHeader::decode(page).ok())
            .collect();
        if copies.iter().any(|copy| *copy != place.header) {
            let what = "the two copies of the header differ";
            self.harmless(name, PAGE as u64, what, true);
        }
        let capacity = place.header.capacity;
        if length < capacity {
            let what = format!("the file is cut short: {length} bytes are left of {capacity}");
            self.harmless(name, length, what, true);
        } else if length > capacity {
            let what = format!("{} bytes follow the segment's end", length - capacity);
            self.remark(name, capacity, what);
        }
    }

    /// What stands behind a place where no frame begins.
    fn behind(&mut self, place: &Place, frames: &mut Frames<'_>, offset: u64) -> Behind {
        let position = self.next;
        if let Some(limit) = place.limit {
            let found = frames.resume(offset, |h| h.first > position && h.end() <= limit);
            return found.map_or(Behind::Nothing(limit), |(at, header)| {
                Behind::Frame(at, header)
            });
        }
        if self.layout.written && position >= self.durable {
            return Behind::End;
        }
        let found = frames.resume(offset, |h| h.first > position);
        let mut later = found;
        while let Some((at, header)) = later {
            self.durable = self.durable.max(header.durable);
            let end = at + header.frame_len() as u64;
            later = frames.search(end - 1, |h| h.first > position);
        }
        match found {
            // What was never confirmed: the remains of a tear, or the end.
            _ if self.durable <= position => Behind::End,
            Some((at, header)) => Behind::Frame(at, header),
            None => Behind::Nothing(self.durable),
        }
    }

    /// The bytes behind the last frame that counts.
    fn rest(&mut self, place: &Place, name: &str, frames: &mut Frames<'_>, offset: u64) {
        if place.limit.is_none() && self.layout.written {
            return;
        }
        if let Some(at) = frames.first_nonzero(offset, place.segment.capacity) {
            let what = "bytes that do not count follow the last event: the remains of a write \
                        that was never confirmed, or a flipped bit in unused space";
            self.remark(name, at, what);
        }
    }

    fn frame(
        &mut self,
        name: &str,
        offset: u64,
        header: &FrameHeader,
        bytes: &[u8],
        part: &mut Part,
    ) {
        self.durable = self.durable.max(header.durable);
        self.report.frames += 1;
        let events = match decode(header, header.body(bytes)) {
            Ok(events) => events,
            Err(what) => {
                self.gone(name, offset, what, header.first, header.end());
                part.whole = false;
                return;
            }
        };
        self.report.events += events.len() as u64;
        let hash_key = self.layout.identity.hash_key;
        for event in &events {
            self.version(name, offset, event);
        }
        part.index.push_frame(
            offset,
            offset + header.frame_len() as u64,
            |stream| stream_key(hash_key, stream),
            events.into_iter(),
        );
    }

    /// Checks that an event continues its stream, as far as that is known.
    fn version(&mut self, name: &str, offset: u64, event: &EventRef<'_>) {
        if event.event_type == LOST_TYPE && event.category() == LOST_CATEGORY {
            self.lost += 1;
        }
        let key = stream_key(self.layout.identity.hash_key, event.stream);
        if let Some(known) = self.heads.get(key) {
            let expected = known.unwrap_or(0);
            let explained = (expected..=expected + self.lost).contains(&event.version);
            if !explained {
                let what = format!(
                    "event {} has version {} in stream {}, where {expected} was to follow",
                    event.position, event.version, event.stream
                );
                self.harmless(name, offset, what, false);
            }
        }
        self.heads.insert(key, event.version + 1);
    }

    fn begin_part(&mut self, place: &Place, offset: u64, follows: bool) -> Result<Part, OpenError> {
        let path = self.indexes.remove(&(place.segment.id, self.next));
        let file = match path {
            None => None,
            Some(path) => {
                let end = open_index(&self.env, &path)?.map(|index| index.header.end);
                Some(IndexFile { path, end })
            }
        };
        let hash_key = self.layout.identity.hash_key;
        Ok(Part {
            index: ActiveIndex::new(self.next, hash_key, offset),
            start_offset: offset,
            file,
            whole: true,
            follows,
        })
    }

    /// Whether the index file that covers `part` ends here.
    fn ends_part(&self, place: &Place, part: &Part) -> bool {
        match part.file.as_ref().and_then(|file| file.end) {
            Some(end) => end == self.next,
            None => self.indexes.contains_key(&(place.segment.id, self.next)),
        }
    }

    fn finish_part(&mut self, place: &Place, part: Part) -> Result<(), OpenError> {
        let Some(file) = &part.file else {
            let sealed = place.limit.is_some() && part.follows && part.whole;
            let clean = self.layout.survey.mark.is_some_and(|mark| mark.clean);
            if sealed && clean && !self.layout.written && part.index.count() > 0 {
                let name = format!("{:010}-{:020}.idx", place.segment.id, part.index.first());
                self.harmless(&name, 0, "the index file is missing", true);
            }
            return Ok(());
        };
        let name = file_name(&file.path);
        self.begin_file(&name);
        let bytes = match read_whole(&self.env, &file.path) {
            Ok(bytes) => bytes,
            Err((at, error)) => {
                self.harmless(&name, at, format!("the disk says: {error}"), true);
                return Ok(());
            }
        };
        self.read(&name, bytes.len() as u64);
        let index = open_index(&self.env, &file.path)?;
        let broken = match &index {
            Some(index) if !self.fits(place, &part, index) => Some(IndexError::Damaged {
                offset: 0,
                what: "it is the index of other events",
            }),
            Some(index) => index.check_pages(bytes.len() as u64).err(),
            None => Some(IndexError::Damaged {
                offset: 0,
                what: "its header is damaged",
            }),
        };
        if let Some(IndexError::Damaged { offset, what }) = broken {
            self.harmless(&name, offset, what, true);
        } else if let Some(error) = broken {
            self.harmless(&name, 0, error.to_string(), true);
        } else if part.whole {
            let identity = self.layout.identity;
            let id = place.segment.id;
            let expected = write_index(&part.index, identity, id, part.start_offset);
            if bytes != expected {
                let same = bytes.iter().zip(&expected).take_while(|(a, b)| a == b);
                let (at, len) = (same.count(), bytes.len());
                // What is cut off is missed when it is read, what follows is never read.
                let (what, heals) = if at < len.min(expected.len()) {
                    ("the index is not that of its segment", false)
                } else if len < expected.len() {
                    ("the index is cut short", true)
                } else {
                    ("bytes follow the index", true)
                };
                self.harmless(&name, at as u64, what, heals);
            }
        }
        Ok(())
    }

    /// Whether the log would use this index for `part`.
    fn fits(&self, place: &Place, part: &Part, index: &SealedIndex) -> bool {
        let header = &index.header;
        header.identity == self.layout.identity
            && header.segment_id == place.segment.id
            && header.first == part.index.first()
            && header.start_offset == part.start_offset
            && header.end > header.first
            && place.limit.is_none_or(|limit| header.end <= limit)
            && header.end_offset <= place.segment.capacity
    }

    /// Reads the catalogue of streams, but for what its versions are compared with.
    fn open_runs(&mut self) -> Result<(), OpenError> {
        for path in &self.layout.survey.runs {
            let name = file_name(path);
            let opened = match self.env.disk.open(path, OpenMode::Read) {
                // A writer at work has merged it into another one since.
                Err(e) if e.kind() == io::ErrorKind::NotFound && self.layout.written => continue,
                opened => opened
                    .map_err(IndexError::from)
                    .and_then(|file| Run::open(file, self.layout.identity))
                    .and_then(|run| run.verify().map(|()| run)),
            };
            match opened {
                Ok(run) => self.runs.push((name, run)),
                Err(IndexError::Newer { found }) => {
                    return Err(OpenError::NewerFormat {
                        file: name,
                        found,
                        known: FORMAT_VERSION,
                    });
                }
                Err(IndexError::Damaged { offset, what }) => {
                    self.harmless(&name, offset, what, true);
                }
                Err(error) => self.harmless(&name, 0, error.to_string(), true),
            }
        }
        Ok(())
    }

    /// Compares the runs of the catalogue that end at this position with the versions seen.
    fn runs_that_end_here(&mut self) {
        let next = self.next;
        let ending: Vec<_> = self
            .runs
            .extract_if(.., |(_, run)| run.end == next)
            .collect();
        for (name, run) in ending {
            let (heads, lost) = (&mut self.heads, self.lost);
            let mut wrong = 0;
            let seen = run.for_each(|key, version| {
                let explained = heads.get(key).is_none_or(|known| {
                    let known = known.unwrap_or(0);
                    (known..=known + lost).contains(&version)
                });
                wrong += u64::from(!explained);
            });
            if seen.is_err() || wrong > 0 {
                let what = format!("{wrong} streams have other versions than their events say");
                self.harmless(&name, 0, what, false);
            }
        }
    }

    fn end(&mut self) {
        for (name, _) in std::mem::take(&mut self.runs) {
            let what = "it ends where no event ends";
            self.harmless(&name, 0, what, true);
        }
        if self.next < self.durable {
            let what = "no segment is left that holds these events";
            self.gone(MARK_FILE, 0, what, self.next, self.durable);
            self.next = self.durable;
        }
        self.report.end = self.next;
        self.report.durable = self.durable;
    }

    fn other_files(&mut self) -> Result<(), OpenError> {
        let last = self
            .layout
            .places
            .last()
            .map_or(0, |place| place.segment.id);
        for ((segment, _), path) in std::mem::take(&mut self.indexes) {
            let newer = self.layout.written && segment >= last;
            open_index(&self.env, &path)?;
            let what = "no run of events of its segment begins where its name says";
            self.skim(&path, |check, name, _| {
                if !newer {
                    check.harmless(name, 0, what, true);
                }
            });
        }
        let survey = &self.layout.survey;
        self.skim(&self.dir.join(MARK_FILE), |check, name, file| {
            let slots = 2 * PAGE;
            if file.len < MARK_FILE_BYTES as u64 && check.layout.survey.mark.is_some() {
                check.harmless(name, file.len, "the file is cut short", true);
            } else if file.len > MARK_FILE_BYTES as u64 {
                let what = "bytes follow where the disk is tried out";
                check.remark(name, MARK_FILE_BYTES as u64, what);
            }
            if let Some(at) = file.head.iter().skip(slots).position(|&b| b != 0) {
                let what = "the blocks for trying out the disk hold something";
                check.harmless(name, (slots + at) as u64, what, true);
            }
        });
        let live = self.dir.join(LIVE_FILE);
        let exists = self.env.disk.exists(&live);
        if exists.map_err(|e| io_open("looking for files", e))? {
            self.skim(&live, |check, name, file| {
                // A writer at work may be writing it just now; it counts for readers only.
                let told = Live::decode(&file.head, check.layout.identity);
                if !check.layout.written && told.is_none() {
                    check.harmless(name, 0, "what it tells readers fails its checksum", true);
                }
            });
        } else {
            // A restored log has none until it is opened.
            let what = "the file that tells readers how far to read is missing";
            self.remark(LIVE_FILE, 0, what);
        }
        self.skim(&self.dir.join(LOCK_FILE), |_, _, _| {});
        for path in &survey.runs {
            self.skim(path, |_, _, _| {});
        }
        for (path, _) in &survey.spares {
            self.skim(path, |check, name, file| {
                if let Some(at) = file.nonzero {
                    check.remark(name, at, "a segment written ahead is not empty");
                }
            });
        }
        for path in &survey.leftovers {
            let what = "left over from a crash; the next opening removes it";
            self.remark(&file_name(path), 0, what);
        }
        for name in &survey.strangers {
            let what = if name.contains(".damaged-") {
                "kept aside by a repair; not part of the log"
            } else {
                "not a file of this log"
            };
            self.remark(name, 0, what);
        }
        Ok(())
    }

    /// Reads a file that holds no events, a little at a time; a file that is gone is passed
    /// over.
    fn skim(&mut self, path: &Path, judge: impl FnOnce(&mut Self, &str, &Skimmed)) {
        let name = file_name(path);
        let file = match self.env.disk.open(path, OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                return self.harmless(&name, 0, format!("the disk says: {error}"), true);
            }
        };
        self.begin_file(&name);
        let mut skimmed = Skimmed::default();
        let mut buf = vec![0; 1 << 20];
        loop {
            let (len, refused) = read_readable(&*file, &mut buf, skimmed.len);
            let at = skimmed.len;
            let nonzero = buf[..len].iter().position(|&b| b != 0);
            skimmed.nonzero = skimmed.nonzero.or(nonzero.map(|n| at + n as u64));
            if at == 0 {
                skimmed.head = buf[..len.min(MARK_FILE_BYTES)].to_vec();
            }
            skimmed.len += len as u64;
            self.read(&name, len as u64);
            if let Some(error) = refused {
                let what = format!("the disk says: {error}");
                return self.harmless(&name, skimmed.len, what, true);
            }
            if len < buf.len() {
                break;
            }
        }
        judge(self, &name, &skimmed);
    }
}

/// What a quick look at a file gives.
#[derive(Default)]
struct Skimmed {
    /// Its first bytes, as many as a mark file has.
    head: Vec<u8>,
    /// Its length, in bytes.
    len: u64,
    /// The first byte that is not zero.
    nonzero: Option<u64>,
}

/// What stands behind a place where no frame begins.
enum Behind {
    /// The next frame that counts.
    Frame(u64, FrameHeader),
    /// No frame, although events up to this position should be there.
    Nothing(u64),
    /// The log's end.
    End,
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map_or_else(String::new, |n| n.to_string_lossy().into_owned())
}

/// An index file whose header is whole; an error only if it is newer than this program.
fn open_index(env: &Env, path: &Path) -> Result<Option<SealedIndex>, OpenError> {
    let Ok(file) = env.disk.open(path, OpenMode::Read) else {
        return Ok(None);
    };
    match SealedIndex::open(file) {
        Ok(index) => Ok(Some(index)),
        Err(IndexError::Newer { found }) => Err(OpenError::NewerFormat {
            file: file_name(path),
            found,
            known: FORMAT_VERSION,
        }),
        Err(_) => Ok(None),
    }
}

/// The bytes of a file, or where they cannot be read and why.
fn read_whole(env: &Env, path: &Path) -> Result<Vec<u8>, (u64, io::Error)> {
    let file = env.disk.open(path, OpenMode::Read).map_err(|e| (0, e))?;
    let length = file.len().map_err(|e| (0, e))?;
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    let (len, error) = read_readable(&*file, &mut bytes, 0);
    if let Some(error) = error {
        return Err((len as u64, error));
    }
    bytes.truncate(len);
    Ok(bytes)
}

/// The events of a frame, every field of them looked at.
pub(super) fn decode<'b>(
    header: &FrameHeader,
    body: &'b [u8],
) -> Result<Vec<EventRef<'b>>, String> {
    let records = Records::new(body, Position::at(header.first), header.recorded_at);
    let events: Vec<_> = records
        .take(usize::from(header.count) + 1)
        .collect::<Result<_, _>>()
        .map_err(|e| e.to_string())?;
    if events.len() != usize::from(header.count) {
        return Err(format!(
            "the frame says it has {} events, and has not",
            header.count
        ));
    }
    for event in &events {
        event.meta.decode().map_err(|e| e.to_string())?;
        StreamId::system(event.stream).map_err(|e| e.to_string())?;
    }
    Ok(events)
}
