//! Opening: recovery after a crash, and beside a writer.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anabranch_env::{DiskLock, Env, File, OpenMode};
use anabranch_log::{OpenError, ReadError};
use bytes::BytesMut;

use crate::buffer::AlignedBuf;
use crate::format::{
    DATA_START, FRAME_HEADER, FrameHeader, Live, LogIdentity, Mark, PAGE, SegmentHeader, Spot, get,
    seal_frame,
};
use crate::group::Spare;
use crate::heads::Heads;
use crate::index::{ActiveIndex, Scratch};
use crate::options::{Durability, Options, WriteMethod};
use crate::part::{Part, PartIndex, Segment, segment_path};
use crate::reading::read_up_to;
use crate::sequencer::{End, Sequencer};
use crate::store::Store;
use crate::survey::{Contents, LIVE_FILE, LOCK_FILE, MARK_FILE, Survey, io_open};
use crate::sync::{read, write};
use crate::upkeep::{next_segment_bytes, write_mark};
use crate::writer::{Committer, DurablePoint, Marker, Upkeep, Writer};

/// Opens the log in `dir` for writing. Makes one if there is none, unless it is `known`: then it is
/// refused where it is gone or another.
pub(crate) fn open_writer(
    env: Env,
    dir: &Path,
    options: Options,
    known: Option<LogIdentity>,
) -> Result<Writer, OpenError> {
    check_options(&options)?;
    let disk = env.disk.clone();
    make_dir(&env, dir)
        .map_err(|e| io_open(format!("making the directory {}", dir.display()), e))?;
    check_private(&env, dir)?;
    let held = take_lock(&env, dir)?;
    // Behind the lock: who moves a log has it too.
    crate::moved::refuse(&env, dir, options.for_copy.is_some())?;

    // Names that a killed process left may not be durable; what follows builds on them.
    disk.sync_dir(dir)
        .map_err(|e| io_open("syncing the directory", e))?;
    let survey = Survey::take(&env, dir)?;
    let is_another = |known| survey.identity().is_some_and(|found| found != known);
    if known.is_some_and(|known| survey.is_empty() || is_another(known)) {
        return Err(not_the_known(survey.is_empty()));
    }
    for leftover in &survey.leftovers {
        disk.remove(leftover)
            .map_err(|e| io_open(format!("removing {}", leftover.display()), e))?;
    }
    let mark = if survey.is_empty() {
        make_mark(&env, dir)?
    } else {
        survey.check()?;
        survey
            .mark
            .ok_or_else(|| OpenError::Invalid("the mark is gone".to_owned()))?
    };

    let mut store = Store::new(env, dir.to_owned(), mark.identity, false);
    store.planted = options.planted();
    store.tail.bytes_max = options.queue_bytes_max / 4;
    let store = Arc::new(store);
    let mut contents = Contents::take(&store, &survey, 0)?;
    if store.bug(crate::Bug::CutDamagedMiddle) {
        contents.cut_at_damage();
    }
    if let Some(gap) = contents.gaps.first() {
        return Err(OpenError::Damaged {
            file: gap.file.clone(),
            what: format!(
                "byte {}: {}; events {}..={} were acknowledged and cannot be read",
                gap.offset,
                gap.what,
                gap.first,
                gap.end - 1
            ),
        });
    }
    if contents.durable > contents.end {
        return Err(OpenError::Damaged {
            file: MARK_FILE.to_owned(),
            what: format!(
                "events {}..={} were acknowledged and are gone",
                contents.end,
                contents.durable - 1
            ),
        });
    }
    for (file, _, what) in &contents.index_problems {
        store.note(format!("{file}: {what}; it was built again"));
    }
    remove_all(&store, &contents.unused_indexes)?;
    store.change_parts(|parts| *parts = std::mem::take(&mut contents.parts));

    clear_probe(&store).map_err(|e| io_open("clearing the blocks for trying out the disk", e))?;
    let (method, align) = choose_method(&store, &options)?;
    let opening = Opening {
        options,
        method,
        align,
        survey,
        mark,
        held,
    };
    finish_open(store, opening, &contents)
}

/// Refuses a directory that anybody may write to.
pub(crate) fn check_private(env: &Env, dir: &Path) -> Result<(), OpenError> {
    let is_open = env.disk.is_world_writable(dir);
    if is_open.map_err(|e| io_open("looking at the directory", e))? {
        return Err(OpenError::Invalid(format!(
            "anybody may write to {}; take that right away (chmod 700) or choose another directory",
            dir.display()
        )));
    }
    Ok(())
}

/// Takes the lock of a directory.
pub(crate) fn take_lock(env: &Env, dir: &Path) -> Result<Box<dyn DiskLock>, OpenError> {
    let holder = format!("pid {}", std::process::id());
    let held = env.disk.lock(&dir.join(LOCK_FILE), &holder);
    held.map_err(|e| io_open("taking the lock", e))?
        .map_err(|holder| OpenError::Locked {
            path: dir.display().to_string(),
            holder,
        })
}

/// Why the files of a partition are not those of the log.
pub(crate) fn not_the_known(is_empty: bool) -> OpenError {
    let what = match is_empty {
        true => "its events are gone: the file is missing, and there are no segments",
        false => "it is that of another log or of another partition",
    };
    OpenError::Damaged {
        file: MARK_FILE.to_owned(),
        what: what.to_owned(),
    }
}

/// Makes the directory of a log, so that a power cut cannot take it away with the log in it.
pub(crate) fn make_dir(env: &Env, dir: &Path) -> io::Result<()> {
    let disk = &env.disk;
    if disk.exists(&dir.join(MARK_FILE))? {
        return Ok(());
    }
    disk.create_dir(dir)?;
    // An opening that was killed may have made some of these, so all are synced. Those
    // that may not be opened were there before us.
    for made in dir.ancestors() {
        let parent = match made.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            Some(_) => Path::new("."),
            None => break,
        };
        match disk.sync_dir(parent) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => break,
            synced => synced?,
        }
    }
    Ok(())
}

fn check_options(options: &Options) -> Result<(), OpenError> {
    let least = 64 << 10;
    if options.segment_bytes < least || options.segment_bytes > 2 << 30 {
        return Err(OpenError::Invalid(format!(
            "segment_bytes is {}; it must be between {least} and {}",
            options.segment_bytes,
            2_u64 << 30
        )));
    }
    if options.limits.batch_events_max > usize::from(u16::MAX) {
        return Err(OpenError::Invalid(format!(
            "batch_events_max is {}; at most {} fit a frame",
            options.limits.batch_events_max,
            u16::MAX
        )));
    }
    Ok(())
}

/// Makes the mark file of a new log.
fn make_mark(env: &Env, dir: &Path) -> Result<Mark, OpenError> {
    let mark = first_mark(LogIdentity {
        log_id: env.rng.next_u128(),
        hash_key: env.rng.next_u64(),
    });
    put_mark(env, dir, &mark)?;
    Ok(mark)
}

/// The mark of a log that has never been opened.
pub(crate) fn first_mark(identity: LogIdentity) -> Mark {
    Mark {
        identity,
        sequence: 1,
        epoch: 0,
        durable: 0,
        segment_id: 0,
        offset: 0,
        clean: true,
    }
}

/// Makes the mark file of a log that has none.
pub(crate) fn put_mark(env: &Env, dir: &Path, mark: &Mark) -> Result<(), OpenError> {
    let mut bytes = vec![0; MARK_FILE_BYTES];
    let at = mark.slot_offset() as usize;
    bytes[at..at + PAGE].copy_from_slice(&mark.encode());
    crate::part::write_file(env, &dir.join(MARK_FILE), &bytes)
        .map_err(|e| io_open("making the mark file", e))
}

/// What an opening has found and decided so far.
struct Opening {
    options: Options,
    method: WriteMethod,
    align: usize,
    survey: Survey,
    mark: Mark,
    held: Box<dyn DiskLock>,
}

fn finish_open(
    store: Arc<Store>,
    opening: Opening,
    contents: &Contents,
) -> Result<Writer, OpenError> {
    let Opening {
        options,
        method,
        align,
        survey,
        mark,
        held,
    } = opening;
    let end = contents.end;
    let last_id = survey.segments.last().map_or(0, |(s, _)| s.id);
    let mut next_segment_id = last_id.max(mark.segment_id) + 1;
    let torn = !contents.rest_is_empty && !store.bug(crate::Bug::ReuseTornTail);
    let mut must_roll = survey.segments.is_empty() || torn;
    if end > contents.durable && !store.bug(crate::Bug::SkipTailRewrite) {
        // What was written but perhaps never reached the disk is written again, to a file that
        // no failed write has touched.
        let rewritten = rewrite_tail(&store, &options, contents.durable, end, next_segment_id)
            .map_err(|e| io_open("writing the log's end again after a crash", e))?;
        next_segment_id += 1;
        store.change_parts(|parts| {
            parts.retain(|p| p.first < contents.durable);
            parts.push(rewritten);
        });
        must_roll = false;
    }
    index_the_middle(&store);
    must_roll |= store.parts().is_empty();
    let (part, offset) = growing_part(&store, contents);
    let (file, tail) = if must_roll {
        (None, Vec::new())
    } else {
        let (file, tail) = open_end(&store, &part.segment, method, offset, align)?;
        (Some(file), tail)
    };
    remove_all(&store, &store.open_catalogue(&survey.runs))?;
    let (unsealed, sealed_id_max) = split_off_sealed(&store);
    let complete = unsealed.len() == store.parts().len();

    store.set_published(end);
    store.set_synced(end);
    let point = DurablePoint {
        position: end,
        segment_id: part.segment.id,
        offset,
    };
    let opened = mark_of_opening(mark, point, must_roll);
    let log_bytes = survey.segments.iter().map(|(s, _)| s.capacity).sum();
    let marker = begin_marks(&store, mark, opened)?;
    let live_file = begin_live(&store, opened.epoch, end)?;
    let (spares, next_spare) = take_up_spares(survey.spares);
    let upkeep = Upkeep {
        next_spare,
        log_bytes,
        retry_at: Duration::ZERO,
        merge: None,
        scratch: Scratch::default(),
        sealed_at: None,
    };
    let committer = Committer {
        file,
        segment_id: part.segment.id,
        live_file,
        epoch: opened.epoch,
    };
    let sequencer = Sequencer::new(
        store.clone(),
        End {
            next: end,
            part,
            offset,
            tail,
            unsealed,
            next_segment_id,
            must_roll,
        },
        Heads::new(options.index_memory / 4 * 3, complete),
        sealed_id_max,
        align,
        options.queue_bytes_max,
    );
    Ok(Writer::new(
        store,
        options,
        method,
        align,
        sequencer,
        committer,
        spares,
        marker,
        upkeep,
        point,
        Some(held),
    ))
}

/// Gives index files to parts in the middle that have none.
fn index_the_middle(store: &Store) {
    let parts = store.parts();
    let middle = parts.len().saturating_sub(1);
    for part in &parts[..middle] {
        let taken = match &mut *write(&part.index) {
            PartIndex::Active(index) => Some(std::mem::replace(
                &mut **index,
                ActiveIndex::new(part.first, store.identity.hash_key, part.start_offset),
            )),
            PartIndex::Sealed(_) => None,
        };
        if let Some(index) = taken {
            if part.end() == u64::MAX {
                part.set_end(index.end());
            }
            store.replace_index(part, index);
        }
    }
}

/// The part that grows, and where in its segment: the last one, or an empty one where the log
/// is new or its end is sealed.
fn growing_part(store: &Store, contents: &Contents) -> (Arc<Part>, u64) {
    let last = store.parts().last().cloned();
    if let Some(part) = &last
        && let PartIndex::Active(index) = &*read(&part.index)
    {
        return (part.clone(), index.end_offset());
    }
    let (segment, offset) = match last {
        Some(sealed) => (sealed.segment.clone(), contents.end_offset),
        None => {
            let segment = Segment::new(0, segment_path(&store.dir, 0), 0);
            (Arc::new(segment), DATA_START)
        }
    };
    let index = ActiveIndex::new(contents.end, store.identity.hash_key, offset);
    let part = Arc::new(Part::growing(segment, offset, index));
    store.change_parts(|parts| parts.push(part.clone()));
    (part, offset)
}

/// Opens the last segment for writing from `offset` on; also gives the bytes before it that
/// share its block.
fn open_end(
    store: &Store,
    segment: &Segment,
    method: WriteMethod,
    offset: u64,
    align: usize,
) -> Result<(Arc<dyn File>, Vec<u8>), OpenError> {
    let mode = if method == WriteMethod::Direct {
        OpenMode::WriteDirect
    } else {
        OpenMode::Write
    };
    let file = store
        .env
        .disk
        .open(&segment.path, mode)
        .map_err(|e| io_open(format!("opening {}", segment.name()), e))?;
    let from = offset / align as u64 * align as u64;
    let mut tail = vec![0; (offset - from) as usize];
    let source = store.file(segment).map_err(read_failed)?;
    read_up_to(&*source, &mut tail, from).map_err(|e| io_open("reading the log's end", e))?;
    Ok((file, tail))
}

fn remove_all(store: &Store, paths: &[PathBuf]) -> Result<(), OpenError> {
    for path in paths {
        let removed = store.env.disk.remove(path);
        removed.map_err(|e| io_open(format!("removing {}", path.display()), e))?;
    }
    Ok(())
}

/// The last parts that have no index file, and the greatest id in those before them. One before
/// them whose file could not be written is asked as the sealed ones are, though its index is in
/// memory.
fn split_off_sealed(store: &Store) -> (Vec<Arc<Part>>, u128) {
    let is_active = |part: &Arc<Part>| matches!(&*read(&part.index), PartIndex::Active(_));
    let parts = store.parts();
    let sealed_count = parts
        .iter()
        .rposition(|p| !is_active(p))
        .map_or(0, |i| i + 1);
    let (sealed, unsealed) = parts.split_at(sealed_count);
    let id_max = |part: &Arc<Part>| match &*read(&part.index) {
        PartIndex::Sealed(index) => index.header.id_max,
        PartIndex::Active(_) => u128::MAX,
    };
    let sealed_id_max = sealed.iter().map(id_max).max().unwrap_or(0);
    (unsealed.to_vec(), sealed_id_max)
}

/// The mark that follows `found`. Where a new segment is to begin, it goes on naming the end of
/// the one that was found.
fn mark_of_opening(found: Mark, point: DurablePoint, must_roll: bool) -> Mark {
    let (segment_id, offset) = if must_roll {
        (found.segment_id, found.offset)
    } else {
        (point.segment_id, point.offset)
    };
    Mark {
        sequence: found.sequence + 1,
        epoch: found.epoch + 1,
        durable: point.position,
        segment_id,
        offset,
        clean: false,
        ..found
    }
}

/// Writes the mark of this opening.
fn begin_marks(store: &Store, found: Mark, opened: Mark) -> Result<Marker, OpenError> {
    let mark_file = store
        .env
        .disk
        .open(&store.dir.join(MARK_FILE), OpenMode::Write)
        .map_err(|e| io_open("opening the mark file", e))?;
    let now = store.env.clock.monotonic();
    let mut marker = Marker {
        mark: found,
        mark_file,
        marked_at: now,
        synced_at: now,
    };
    // The mark that was read may be in the page cache only: the other slot is not to be
    // touched before this one is on the disk.
    write_mark(&mut marker, found)
        .and_then(|()| write_mark(&mut marker, opened))
        .map_err(|e| io_open("writing the mark", e))?;
    Ok(marker)
}

/// Tells readers in other processes of this opening.
fn begin_live(store: &Store, epoch: u64, published: u64) -> Result<Arc<dyn File>, OpenError> {
    let disk = &store.env.disk;
    let path = store.dir.join(LIVE_FILE);
    let file = match disk.open(&path, OpenMode::Write) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => disk.open(&path, OpenMode::Create),
        opened => opened,
    };
    let file = file.map_err(|e| io_open("opening the file that tells readers", e))?;
    let live = Live { epoch, published };
    file.write_all_at(&live.encode(store.identity), 0)
        .map_err(|e| io_open("telling readers", e))?;
    Ok(file)
}

/// The files that were written ahead, and the number of the next one.
fn take_up_spares(found: Vec<(PathBuf, u64)>) -> (VecDeque<Spare>, u64) {
    let number = |path: &Path| -> Option<u64> {
        let name = path.file_stem()?.to_str()?;
        name.strip_prefix("spare-")?.parse().ok()
    };
    let numbers = found.iter().map(|(path, _)| number(path).unwrap_or(0) + 1);
    let next = numbers.max().unwrap_or(0);
    let spares = found
        .into_iter()
        .map(|(path, capacity)| Spare { path, capacity })
        .collect();
    (spares, next)
}

fn read_failed(error: ReadError) -> OpenError {
    OpenError::Io {
        what: "reading the log's end".to_owned(),
        source: io::Error::other(error.to_string()),
    }
}

/// Copies the frames from position `durable` on, which may be only in the page cache, into
/// a new segment; from then on the old segment ends at `durable`.
fn rewrite_tail(
    store: &Arc<Store>,
    options: &Options,
    durable: u64,
    end: u64,
    segment_id: u64,
) -> io::Result<Arc<Part>> {
    let failed = |e: ReadError| io::Error::other(e.to_string());
    let parts = store.parts();
    let mut frames = vec![0; DATA_START as usize];
    let index = ActiveIndex::new(durable, store.identity.hash_key, DATA_START);
    let mut position = durable;
    while position < end {
        let part = store.part_for(position).map_err(failed)?;
        let place = store.locate(&part, position).map_err(failed)?;
        let (mut at, mut next) = (u64::from(place.offset), part.first + u64::from(place.rel));
        if next != position {
            return Err(io::Error::other("the durable mark stands inside a frame"));
        }
        while next < end.min(part.end()) {
            let scanned = store
                .scan(&part, at, next, end, BytesMut::new())
                .map_err(failed)?;
            for entry in &scanned.block.entries {
                let start = entry.start as usize - FRAME_HEADER;
                let frame = &scanned.block.bytes[start..];
                let header = FrameHeader {
                    segment_id,
                    first: entry.first,
                    count: get!(u16, frame, 6),
                    body_len: entry.len,
                    durable,
                    recorded_at: entry.recorded_at,
                    fields_len: get!(u32, frame, 40),
                };
                let begin = frames.len();
                frames.extend_from_slice(&frame[..header.unpadded_len()]);
                let spot = Spot {
                    segment_id,
                    offset: begin as u64,
                    hash_key: store.identity.hash_key,
                };
                seal_frame(&mut frames[begin..], &header, spot);
                frames.resize(begin + header.frame_len(), 0);
            }
            (at, next) = (scanned.next_offset, scanned.end);
        }
        position = next;
    }
    let capacity = next_segment_bytes(options, 0).max((frames.len() as u64).next_multiple_of(4096));
    let header = SegmentHeader {
        identity: store.identity,
        segment_id,
        first: durable,
        capacity,
        created_at: store.env.clock.wall_micros(),
        previous: parts
            .iter()
            .rfind(|part| part.first < durable)
            .map_or(0, |part| part.segment.id),
    };
    frames[..DATA_START as usize].copy_from_slice(&header.encode());
    let path = segment_path(&store.dir, segment_id);
    frames.resize(capacity as usize, 0);
    crate::part::write_file(&store.env, &path, &frames)?;

    for part in parts.iter() {
        if part.end() > durable && part.first < durable {
            part.set_end(durable);
            if let PartIndex::Active(index) = &mut *write(&part.index) {
                index.truncate(durable);
                continue;
            }
            // Its index file knows of what now stands in the new segment.
            let shorter = store.build_index(part).map_err(failed)?;
            *write(&part.index) = PartIndex::Active(Box::new(shorter));
        }
    }
    let segment = Arc::new(Segment::new(segment_id, path, capacity));
    let part = Arc::new(Part::growing(segment, DATA_START, index));
    let (mut at, mut next) = (DATA_START, durable);
    while next < end {
        let scanned = store
            .scan(&part, at, next, end, BytesMut::new())
            .map_err(failed)?;
        if let PartIndex::Active(index) = &mut *write(&part.index) {
            store.add_block(index, &scanned.block, at).map_err(failed)?;
        }
        (at, next) = (scanned.next_offset, scanned.end);
    }
    Ok(part)
}

/// Behind its two slots the mark file has written blocks that nobody reads: there the disk
/// is tried out, at no cost in metadata.
const PROBE_START: u64 = 2 * PAGE as u64;
/// The length of the mark file.
pub(crate) const MARK_FILE_BYTES: usize = 16 * PAGE;

/// Makes the blocks for trying out the disk what they should be, if they are not.
fn clear_probe(store: &Store) -> io::Result<()> {
    let file = store
        .env
        .disk
        .open(&store.dir.join(MARK_FILE), OpenMode::Write)?;
    let mut blocks = vec![0; MARK_FILE_BYTES - PROBE_START as usize];
    let len = read_up_to(&*file, &mut blocks, PROBE_START)?;
    if len == blocks.len() && blocks.iter().all(|&b| b == 0) {
        return Ok(());
    }
    blocks.fill(0);
    file.write_all_at(&blocks, PROBE_START)
}

/// Blocks of a mark file, to be flushed for trying.
pub(crate) struct Probe {
    file: Arc<dyn File>,
    method: WriteMethod,
}

impl Probe {
    pub fn open(store: &Store, method: WriteMethod) -> io::Result<Self> {
        let mode = match method {
            WriteMethod::Direct => OpenMode::WriteDirect,
            _ => OpenMode::Write,
        };
        let file = store.env.disk.open(&store.dir.join(MARK_FILE), mode)?;
        Ok(Self { file, method })
    }

    /// Writes a block so that it is durable on return.
    pub fn flush(&self) -> io::Result<()> {
        let mut page = AlignedBuf::with_capacity(PAGE);
        page.pad_to(PAGE);
        self.file.write_all_at(page.bytes(), PROBE_START)?;
        match self.method {
            WriteMethod::Direct => Ok(()),
            _ => self.file.sync_data(),
        }
    }
}

/// Decides how to write, measuring if asked to; also finds the unit of direct writes.
fn choose_method(store: &Store, options: &Options) -> Result<(WriteMethod, usize), OpenError> {
    const ROUNDS: usize = 8;
    let buffered = (WriteMethod::Buffered, 1);
    if options.write_method == WriteMethod::Buffered
        || matches!(options.durability, Durability::Interval(_))
    {
        return Ok(buffered);
    }
    let path = store.dir.join(MARK_FILE);
    let probe = || -> io::Result<(WriteMethod, usize)> {
        let direct = store.env.disk.open(&path, OpenMode::WriteDirect)?;
        let mut page = AlignedBuf::with_capacity(PAGE);
        page.pad_to(PAGE);
        direct.write_all_at(page.bytes(), PROBE_START)?;
        let align = match direct.write_at(&page.bytes()[..512], PROBE_START + 512) {
            Ok(512) => 512,
            _ => PAGE,
        };
        if options.write_method == WriteMethod::Direct {
            return Ok((WriteMethod::Direct, align));
        }
        let through_cache = store.env.disk.open(&path, OpenMode::Write)?;
        let clock = &store.env.clock;
        let buffered_is_faster = || -> io::Result<bool> {
            let mut times = [Vec::new(), Vec::new()];
            for round in 0..ROUNDS {
                let offset = PROBE_START + (round * PAGE) as u64;
                let start = clock.monotonic();
                direct.write_all_at(page.bytes(), offset)?;
                let middle = clock.monotonic();
                through_cache.write_all_at(page.bytes(), offset)?;
                through_cache.sync_data()?;
                times[0].push(middle.saturating_sub(start));
                times[1].push(clock.monotonic().saturating_sub(middle));
            }
            for list in &mut times {
                list.sort_unstable();
            }
            // Where it makes little difference to a page, direct it is: a large group is not
            // copied once more, nor is what is written ahead. The slowest tell of the rest of
            // the machine.
            let [direct, through_cache] = times.map(|list| list[1]);
            Ok(direct > through_cache * 5 / 4)
        };
        // Asked twice: on a busy machine once may be chance.
        Ok(if buffered_is_faster()? && buffered_is_faster()? {
            buffered
        } else {
            (WriteMethod::Direct, align)
        })
    };
    match probe() {
        Ok(chosen) => Ok(chosen),
        // A file system without direct writes; buffered ones always work.
        Err(_) if options.write_method == WriteMethod::Auto => Ok(buffered),
        Err(error) => Err(io_open("writing past the page cache", error)),
    }
}
