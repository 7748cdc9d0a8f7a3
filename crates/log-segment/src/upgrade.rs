//! Carries a log of format 1 over to a new directory. The only place that reads that format.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anabranch_env::{Env, File, OpenMode};
use anabranch_log::OpenError;

use crate::format::{
    DATA_START, FRAME_ALIGN, FRAME_HEADER, FormatError, FrameHeader, Mark, PAGE, SegmentHeader,
    Spot, crc32c, get, seal_frame,
};
use crate::layout_file::layout_of;
use crate::open::{make_dir, put_mark, take_lock};
use crate::part::segment_path;
use crate::reading::read_up_to;
use crate::survey::{LOCK_FILE, MARK_FILE, io_open};

/// The format that is read.
const OLD: u32 = 1;
/// The fixed part of a frame of that format.
const OLD_FRAME_HEADER: usize = 40;
const OLD_FRAME_MAGIC: u16 = 0xa7bf;
const CHUNK: usize = 1 << 20;

/// What an upgrade has carried over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpgradeReport {
    /// The log's id, which stays what it was.
    pub log_id: u128,
    /// Events.
    pub events: u64,
    /// Segment files.
    pub segments: usize,
    /// Bytes of the new segments, without the zeros at their ends.
    pub bytes: u64,
}

/// Makes in `new` a log of the present format that has the events of the log of format 1 in
/// `dir`, with their ids, positions, versions and times. The old log stays as it is; nobody
/// may write to it meanwhile.
///
/// Refuses a directory that is not empty, and an old log that is damaged: its own program
/// repairs it. What was written and never confirmed at the old log's end is carried over as
/// far as it is whole, as opening it would.
pub fn upgrade(env: &Env, dir: &Path, new: &Path) -> Result<UpgradeReport, OpenError> {
    let disk = &env.disk;
    let exists = disk.exists(&dir.join(MARK_FILE));
    if !exists.map_err(|e| io_open("looking for the log", e))? {
        return Err(OpenError::NotFound {
            path: dir.display().to_string(),
        });
    }
    if !layout_of(env, dir)?.is_one() {
        return Err(OpenError::Invalid(format!(
            "{} has several partitions, which no older format has; nothing was changed",
            dir.display()
        )));
    }
    let taken = disk
        .exists(new)
        .and_then(|is_there| Ok(is_there && disk.list(new)?.iter().any(|name| name != LOCK_FILE)));
    if taken.map_err(|e| io_open(format!("looking at {}", new.display()), e))? {
        return Err(OpenError::Invalid(format!(
            "{} is not empty; nothing was changed: name a directory that is not there yet",
            new.display()
        )));
    }
    let _old_is_ours = take_lock(env, dir)?;
    let mark = read_mark(env, dir)?;
    let segments = read_segments(env, dir, &mark)?;
    make_dir(env, new)
        .map_err(|e| io_open(format!("making the directory {}", new.display()), e))?;
    let _new_is_ours = take_lock(env, new)?;

    let mut report = UpgradeReport {
        log_id: mark.identity.log_id,
        events: 0,
        segments: segments.len(),
        bytes: 0,
    };
    let mut offset = DATA_START;
    for (at, (path, header)) in segments.iter().enumerate() {
        if header.first != report.events {
            return Err(damaged(
                path,
                &format!(
                    "it begins at event {}, and event {} is in no segment",
                    header.first, report.events
                ),
            ));
        }
        let limit = segments.get(at + 1).map(|(_, next)| next.first);
        let copied = carry(env, path, *header, limit, new)?;
        (report.events, offset) = copied;
        report.bytes += offset;
    }
    if report.events < mark.durable {
        return Err(damaged(
            &dir.join(MARK_FILE),
            &format!(
                "events {}..={} were acknowledged and are gone",
                report.events,
                mark.durable - 1
            ),
        ));
    }
    disk.sync_dir(new)
        .map_err(|e| io_open("syncing the directory", e))?;
    // Last, so that what was interrupted is no log.
    let mark = Mark {
        sequence: 1,
        epoch: mark.epoch + 1,
        durable: report.events,
        segment_id: segments.last().map_or(0, |(_, header)| header.segment_id),
        offset: if segments.is_empty() { 0 } else { offset },
        clean: true,
        ..mark
    };
    put_mark(env, new, &mark)?;
    Ok(report)
}

fn damaged(path: &Path, what: &str) -> OpenError {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    OpenError::Invalid(format!(
        "{name}: {what}; the log of format 1 is as it was: repair it with the program that wrote it, and remove what was begun in the new directory"
    ))
}

/// What a page of another version than the old one means here.
fn refused(path: &Path, error: FormatError) -> OpenError {
    match error {
        FormatError::Newer { found, .. } => OpenError::Invalid(format!(
            "{} has format version {found} already; there is nothing to carry over",
            path.display()
        )),
        other => damaged(path, &other.to_string()),
    }
}

fn read_mark(env: &Env, dir: &Path) -> Result<Mark, OpenError> {
    let path = dir.join(MARK_FILE);
    let file = open(env, &path)?;
    let mut best: Option<Mark> = None;
    let mut problem = None;
    for offset in [0, PAGE as u64] {
        let mut page = vec![0; PAGE];
        let len = read_up_to(&*file, &mut page, offset)
            .map_err(|e| io_open("reading the mark file", e))?;
        match Mark::decode_version(&page[..len], OLD) {
            Ok(mark) if best.is_none_or(|best| best.sequence < mark.sequence) => best = Some(mark),
            Ok(_) => {}
            Err(error @ FormatError::Newer { .. }) => return Err(refused(&path, error)),
            Err(error) => problem = Some(error),
        }
    }
    best.ok_or_else(|| {
        let what = problem.map_or_else(String::new, |problem| problem.to_string());
        damaged(&path, &what)
    })
}

/// The segments, oldest first.
fn read_segments(
    env: &Env,
    dir: &Path,
    mark: &Mark,
) -> Result<Vec<(PathBuf, SegmentHeader)>, OpenError> {
    let names = env.disk.list(dir);
    let names =
        names.map_err(|e| io_open(format!("reading the directory {}", dir.display()), e))?;
    let mut segments = Vec::new();
    for name in names.iter().filter(|name| name.ends_with(".seg")) {
        let path = dir.join(name);
        let file = open(env, &path)?;
        let mut pages = vec![0; DATA_START as usize];
        let len =
            read_up_to(&*file, &mut pages, 0).map_err(|e| io_open(format!("reading {name}"), e))?;
        let copies = pages[..len].chunks_exact(PAGE);
        let mut read = copies.map(|page| SegmentHeader::decode_version(page, OLD));
        let first = read
            .next()
            .unwrap_or_else(|| Err(FormatError::Damaged("it is cut short".to_owned())));
        let header = match first {
            Ok(header) => header,
            Err(error) => match read.next() {
                Some(Ok(header)) => header,
                _ => return Err(refused(&path, error)),
            },
        };
        if header.identity != mark.identity {
            return Err(damaged(&path, "it belongs to another log"));
        }
        segments.push((path, header));
    }
    segments.sort_by_key(|(_, header)| header.segment_id);
    Ok(segments)
}

fn open(env: &Env, path: &Path) -> Result<Arc<dyn File>, OpenError> {
    env.disk
        .open(path, OpenMode::Read)
        .map_err(|e| io_open(format!("opening {}", path.display()), e))
}

/// A frame of the old format.
struct OldFrame {
    header: FrameHeader,
    body: Vec<u8>,
    /// With its padding.
    len: u64,
}

/// The frames of a segment of the old format, read ahead.
struct OldFrames {
    file: Arc<dyn File>,
    segment_id: u64,
    buf: Vec<u8>,
    base: u64,
}

impl OldFrames {
    fn bytes(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        let end = self.base + self.buf.len() as u64;
        if offset < self.base || offset + len as u64 > end {
            self.buf.resize(len.max(CHUNK), 0);
            let read = read_up_to(&*self.file, &mut self.buf, offset)?;
            self.buf.truncate(read);
            self.base = offset;
        }
        let at = (offset - self.base) as usize;
        let end = (at + len).min(self.buf.len());
        Ok(&self.buf[at..end])
    }

    /// The frame at `offset`, if a good one stands there.
    fn frame(&mut self, offset: u64) -> io::Result<Option<OldFrame>> {
        let segment_id = self.segment_id;
        let bytes = self.bytes(offset, OLD_FRAME_HEADER)?;
        if bytes.len() < OLD_FRAME_HEADER
            || get!(u16, bytes, 4) != OLD_FRAME_MAGIC
            || get!(u32, bytes, 12) != segment_id as u32
        {
            return Ok(None);
        }
        let header = FrameHeader {
            segment_id,
            first: get!(u64, bytes, 16),
            count: get!(u16, bytes, 6),
            body_len: get!(u32, bytes, 8),
            durable: get!(u64, bytes, 24),
            recorded_at: get!(u64, bytes, 32),
            fields_len: 0,
        };
        let len = OLD_FRAME_HEADER + header.body_len as usize;
        let size = self.file.len()?;
        if offset + len as u64 > size {
            return Ok(None);
        }
        let bytes = self.bytes(offset, len)?;
        if bytes.len() < len
            || header.count == 0
            || header.durable > header.first
            || get!(u32, bytes, 0) != crc32c(&bytes[4..])
        {
            return Ok(None);
        }
        Ok(Some(OldFrame {
            header,
            body: bytes[OLD_FRAME_HEADER..].to_vec(),
            len: len.next_multiple_of(FRAME_ALIGN) as u64,
        }))
    }
}

/// Writes one segment anew; gives the position after its last event, and where that ends.
fn carry(
    env: &Env,
    path: &Path,
    old: SegmentHeader,
    limit: Option<u64>,
    new: &Path,
) -> Result<(u64, u64), OpenError> {
    let failed = |e| io_open(format!("reading {}", path.display()), e);
    let mut frames = OldFrames {
        file: open(env, path)?,
        segment_id: old.segment_id,
        buf: Vec::new(),
        base: 0,
    };
    let target = segment_path(new, old.segment_id);
    let unwritten = |e| io_open(format!("writing {}", target.display()), e);
    let file = env
        .disk
        .open(&target, OpenMode::Create)
        .map_err(unwritten)?;
    let (mut position, mut at) = (old.first, DATA_START);
    let (mut out, mut written) = (Vec::new(), DATA_START);
    while limit.is_none_or(|limit| position < limit) {
        let frame = frames.frame(at).map_err(failed)?;
        let Some(frame) = frame.filter(|frame| frame.header.first == position) else {
            if limit.is_some() {
                let what = format!("byte {at}: no good frame of event {position} stands there");
                return Err(damaged(path, &what));
            }
            break;
        };
        let begin = out.len();
        out.resize(begin + FRAME_HEADER, 0);
        out.extend_from_slice(&frame.body);
        let spot = Spot {
            segment_id: old.segment_id,
            offset: written + begin as u64,
            hash_key: old.identity.hash_key,
        };
        seal_frame(&mut out[begin..], &frame.header, spot);
        out.resize(begin + frame.header.frame_len(), 0);
        if out.len() >= CHUNK {
            file.write_all_at(&out, written).map_err(unwritten)?;
            written += out.len() as u64;
            out.clear();
        }
        position = frame.header.end();
        at += frame.len;
    }
    file.write_all_at(&out, written).map_err(unwritten)?;
    let end = written + out.len() as u64;
    let capacity = old.capacity.max(end).next_multiple_of(PAGE as u64);
    let header = SegmentHeader { capacity, ..old };
    file.set_len(capacity)
        .and_then(|()| file.write_all_at(&header.encode(), 0))
        .and_then(|()| file.sync_data())
        .map_err(unwritten)?;
    Ok((position, end))
}
