//! Reading beside a writer in another process, or without one: opening, and keeping up.
//!
//! A writer says in `mark` and in `live` how far the log is durable. Both are read before the
//! segments are looked at: so all that they speak of stands in files that are found, and what
//! cannot be read of it is damage, not a race with the writer. What nobody has called durable
//! is not shown: a power cut or a writer's opening may take it back.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anabranch_env::{Env, OpenMode};
use anabranch_log::{OpenError, ReadError};
use bytes::BytesMut;

use crate::crew::{Crew, Member, Round};
use crate::format::{DATA_START, FRAME_HEADER, Live, Mark, PAGE, get};
use crate::index::{ActiveIndex, SealedIndex};
use crate::part::{Part, PartIndex};
use crate::reading::read_up_to;
use crate::store::Store;
use crate::survey::{Contents, LIVE_FILE, MARK_FILE, Survey, io_open};
use crate::sync::{lock, read, write};

/// How often a read-only log looks for new events while somebody follows it.
const REFRESH_EVERY: Duration = Duration::from_millis(20);

/// How many parts are asked at a time whether the writer has made their index files.
const LOOKS_MAX: usize = 8;

/// Keeps a read-only log up to date.
pub(crate) struct Reader {
    pub store: Arc<Store>,
    gate: Mutex<()>,
    /// How much memory the filters of index files may take, in bytes.
    filter_bytes: usize,
}

/// Opens the log in `dir` for reading.
pub(crate) fn open_reader(env: Env, dir: &Path) -> Result<Arc<Store>, OpenError> {
    let not_found = || OpenError::NotFound {
        path: dir.display().to_string(),
    };
    if !env
        .disk
        .exists(dir)
        .map_err(|e| io_open("looking for the log", e))?
    {
        return Err(not_found());
    }
    let live = read_live(&env, dir).map_err(|e| io_open(format!("reading {LIVE_FILE}"), e))?;
    let mut survey = Survey::take(&env, dir)?;
    if survey.is_empty() {
        return Err(not_found());
    }
    let identity = survey.identity().ok_or_else(|| OpenError::Damaged {
        file: MARK_FILE.to_owned(),
        what: "neither the mark nor any segment can be read".to_owned(),
    })?;
    survey.keep_own(identity);
    let store = Store::new(env, dir.to_owned(), identity, true);
    for (file, what) in &survey.segment_problems {
        store.note(format!("{file}: {what}"));
    }
    if survey.mark.is_none() {
        let last = survey.segments.last().map_or(0, |(segment, _)| segment.id);
        let id_of = |file: &str| {
            file.strip_suffix(".seg")
                .and_then(|id| id.parse::<u64>().ok())
        };
        let newer = |(file, _): &&(String, String)| id_of(file).is_none_or(|id| id > last);
        if let Some((file, what)) = survey.segment_problems.iter().find(newer) {
            return Err(OpenError::Damaged {
                file: file.clone(),
                what: format!(
                    "{what}; the mark cannot be read either, so nothing tells where the log ends"
                ),
            });
        }
    }
    let told = told(&store, &live, survey.mark.map(|mark| mark.epoch));
    take_contents(&store, &survey, told)?;
    if survey.mark.is_none() && told == 0 && store.end() > store.published() {
        store.note(format!(
            "{MARK_FILE}, {LIVE_FILE}: neither can be read, so nothing tells whether the events from {} on are durable; they are shown",
            store.published()
        ));
        store.set_published(store.end());
    }
    Ok(Arc::new(store))
}

/// Takes in what the segments hold, and shows what is durable of it. Every event before
/// `known` is.
fn take_contents(store: &Store, survey: &Survey, known: u64) -> Result<(), OpenError> {
    let mut contents = Contents::take(store, survey, known)?;
    for gap in &contents.gaps {
        store.note(gap.error().to_string());
    }
    store.set_gaps(std::mem::take(&mut contents.gaps));
    let parts = std::mem::take(&mut contents.parts);
    store.change_parts(|current| *current = parts);
    let end = contents.durable.min(contents.end);
    store.set_published(end.max(store.published()));
    Ok(())
}

/// What a writer has written for readers. Where that cannot be read, the marks tell.
fn read_live(env: &Env, dir: &Path) -> io::Result<[u8; Live::BYTES]> {
    let mut bytes = [0; Live::BYTES];
    match env.disk.open(&dir.join(LIVE_FILE), OpenMode::Read) {
        Ok(file) => match read_up_to(&*file, &mut bytes, 0) {
            Ok(Live::BYTES) => Ok(bytes),
            _ => Ok([0; Live::BYTES]),
        },
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(bytes),
        Err(e) => Err(e),
    }
}

/// How far the writer of this epoch has said that the log may be read; 0 if it has not.
/// `None`: the mark is gone, so any writer is believed.
fn told(store: &Store, live: &[u8], epoch: Option<u64>) -> u64 {
    Live::decode(live, store.identity)
        .filter(|live| epoch.is_none_or(|epoch| epoch == live.epoch))
        .map_or(0, |live| live.published)
}

/// Whether the files in the directory are, on the whole, those of this log.
fn is_still_there(store: &Store) -> bool {
    // What cannot be looked at now is told by what is read next.
    Survey::take(&store.env, &store.dir).map_or(true, |survey| {
        survey
            .identity()
            .is_none_or(|identity| identity == store.identity)
    })
}

/// What the mark says: how far the log is durable, and the epoch of who wrote it.
fn marked(store: &Store) -> Result<(u64, Option<u64>), ReadError> {
    let mut best: (u64, Option<u64>) = (0, None);
    let mut another = false;
    // Without a mark that can be read, the frames themselves tell, a little later.
    let Ok(file) = store
        .env
        .disk
        .open(&store.dir.join(MARK_FILE), OpenMode::Read)
    else {
        return Ok(best);
    };
    for slot in [0, PAGE as u64] {
        let mut page = vec![0; PAGE];
        if let Ok(PAGE) = read_up_to(&*file, &mut page, slot)
            && let Ok(mark) = Mark::decode(&page)
        {
            another |= mark.identity != store.identity;
            if mark.identity == store.identity {
                best = (best.0.max(mark.durable), best.1.max(Some(mark.epoch)));
            }
        }
    }
    // The mark alone may be another's; then the segments are still these.
    if another && best.1.is_none() && !is_still_there(store) {
        return Err(ReadError::Io {
            what: format!("reading on in {}", store.dir.display()),
            reason: "another log was put in its place; open it again".to_owned(),
        });
    }
    Ok(best)
}

/// The thread that keeps followers of the readers of a directory going.
pub(crate) fn crew_of_readers() -> Arc<Crew> {
    let round = Round {
        name: "anabranch-refresh",
        every: REFRESH_EVERY,
        work: |member| {
            member.keep_up();
            false
        },
    };
    Crew::new(&[round], 0, true)
}

impl Member for Reader {
    fn commit(&self) -> bool {
        false
    }

    fn keep_marks(&self) {}

    fn keep_time(&self) {}

    fn keep_up(&self) -> bool {
        if self.store.tail.is_followed()
            && let Err(error) = self.refresh()
        {
            self.store.note(error.to_string());
        }
        false
    }

    fn panicked(&self) {
        self.store
            .note("looking for new events has panicked, which is a bug".to_owned());
    }
}

impl Reader {
    pub fn new(store: Arc<Store>, index_memory: usize) -> Self {
        Self {
            store,
            gate: Mutex::new(()),
            filter_bytes: index_memory / 4,
        }
    }

    /// Takes in what a writer in another process has made durable since.
    pub fn refresh(&self) -> Result<(), ReadError> {
        let _one_at_a_time = lock(&self.gate);
        let store = &*self.store;
        let before = store.published();
        let (marked, epoch) = marked(store)?;
        let live = read_live(&store.env, &store.dir)
            .map_err(|e| crate::reading::io_error(&store.dir.join(LIVE_FILE), &e))?;
        let known = marked.max(told(store, &live, epoch)).max(before);
        let durable = take_in(store)?.max(known);
        let end = store.end();
        if end < known {
            // It was durable before it was looked for, so it is not a matter of time.
            look_again(store, known)?;
        } else {
            store.set_published(durable.min(end));
        }
        if store.published() > before {
            store.tail.wake();
        }
        self.use_index_files();
        Ok(())
    }

    /// Uses the index files that the writer has made since, in the place of indexes in
    /// memory.
    fn use_index_files(&self) {
        let store = &*self.store;
        let parts = store.parts();
        let in_memory = |part: &&Arc<Part>| matches!(&*read(&part.index), PartIndex::Active(_));
        let grown = parts.len().saturating_sub(1);
        let mut changed = false;
        for part in parts[..grown].iter().filter(in_memory).take(LOOKS_MAX) {
            let Some(sealed) = sealed_parts(store, part) else {
                continue;
            };
            changed = true;
            store.change_parts(|parts| {
                if let Some(at) = parts.iter().position(|p| Arc::ptr_eq(p, part)) {
                    parts.splice(at..=at, sealed);
                }
            });
        }
        if changed {
            store.limit_filters(self.filter_bytes);
        }
    }
}

/// The parts, each with an index file, that together hold what `part` holds.
fn sealed_parts(store: &Store, part: &Part) -> Option<Vec<Arc<Part>>> {
    let mut sealed = Vec::new();
    let (mut position, mut offset) = (part.first, part.start_offset);
    while position < part.end() {
        let path = part.segment.index_path(position);
        let index = SealedIndex::open_at(store.files.clone(), path).ok()?;
        let header = &index.header;
        let fits = header.fits(store.identity, part.segment.id, position, offset)
            && header.end <= part.end();
        if !fits {
            return None;
        }
        (position, offset) = (header.end, header.end_offset);
        sealed.push(Arc::new(Part::sealed(part.segment.clone(), index)));
    }
    Some(sealed)
}

/// Reads on from where the parts end; gives the greatest durable mark in what was read.
fn take_in(store: &Store) -> Result<u64, ReadError> {
    let mut durable = 0;
    loop {
        let Some(part) = store.parts().last().cloned() else {
            if next_segment(store, None)? {
                continue;
            }
            return Ok(durable);
        };
        let (mut at, mut next) = match &*read(&part.index) {
            PartIndex::Active(index) => (index.end_offset(), index.end()),
            PartIndex::Sealed(index) => (index.header.end_offset, index.header.end),
        };
        // Where it ends, and whether that is damage, is looked at by the caller.
        while let Ok(scanned) = store.scan(&part, at, next, u64::MAX, BytesMut::new()) {
            if scanned.end == next {
                break;
            }
            for entry in &scanned.block.entries {
                let start = entry.start as usize - FRAME_HEADER;
                let header = &scanned.block.bytes[start..start + FRAME_HEADER];
                durable = durable.max(get!(u64, header, 24));
            }
            if let PartIndex::Active(index) = &mut *write(&part.index) {
                store.add_block(index, &scanned.block, at)?;
            }
            (at, next) = (scanned.next_offset, scanned.end);
        }
        if !next_segment(store, Some(&part))? {
            return Ok(durable);
        }
    }
}

/// Looks at the whole log again, as an opening does: events before `known`, which are
/// durable, were not found.
fn look_again(store: &Store, known: u64) -> Result<(), ReadError> {
    let mut survey = survey(store)?;
    survey.keep_own(store.identity);
    take_contents(store, &survey, known).map_err(|e| ReadError::Io {
        what: "looking for events that are not where they should be".to_owned(),
        reason: e.to_string(),
    })
}

fn survey(store: &Store) -> Result<Survey, ReadError> {
    Survey::take(&store.env, &store.dir).map_err(|e| ReadError::Io {
        what: "looking for new segments".to_owned(),
        reason: e.to_string(),
    })
}

/// Goes on to the segment after the last one known, if there is one by now.
fn next_segment(store: &Store, last: Option<&Arc<Part>>) -> Result<bool, ReadError> {
    let names = store
        .env
        .disk
        .list(&store.dir)
        .map_err(|e| crate::reading::io_error(&store.dir, &e))?;
    let known = last.map_or(0, |part| part.segment.id);
    let is_new = |name: &String| {
        let id = name
            .strip_suffix(".seg")
            .and_then(|id| id.parse::<u64>().ok());
        id.is_some_and(|id| id > known)
    };
    if !names.iter().any(is_new) {
        return Ok(false);
    }
    let mut survey = survey(store)?;
    survey.keep_own(store.identity);
    let Some((segment, header)) = survey
        .segments
        .into_iter()
        .find(|(segment, _)| last.is_none_or(|last| segment.id > last.segment.id))
    else {
        return Ok(false);
    };
    if let Some(last) = last {
        if let PartIndex::Active(index) = &mut *write(&last.index) {
            if header.first > index.end() {
                // Its frames are not all visible yet, or damaged.
                return Ok(false);
            }
            index.truncate(header.first);
        }
        last.set_end(header.first);
    }
    let index = ActiveIndex::new(header.first, store.identity.hash_key, DATA_START);
    let part = Arc::new(Part::growing(segment, DATA_START, index));
    store.change_parts(|parts| parts.push(part));
    Ok(true)
}

#[cfg(test)]
mod tests {
    use anabranch_env::sim;
    use anabranch_log::{Append, Log};
    use anabranch_model::{EventId, EventType, NewEvent, StreamId};
    use futures_executor::block_on;

    use super::*;
    use crate::{Background, Options, SegmentLog};

    #[test]
    fn a_reader_beside_a_writer_keeps_no_index_in_memory_but_the_last() {
        let (env, _, _) = sim::env(1);
        let options = Options {
            segment_bytes: 64 << 10,
            first_segment_bytes: Some(64 << 10),
            reserve_bytes: 0,
            background: Background::Manual,
            ..Options::default()
        };
        let log = SegmentLog::open(env.clone(), "log", options.clone()).unwrap();
        log.prepare();
        let store = open_reader(env, Path::new("log")).unwrap();
        let reader = Reader::new(store.clone(), options.index_memory);
        for i in 0..100_u64 {
            let event = NewEvent::new(
                EventId::from_u128(u128::from(i) + 1),
                StreamId::new("a/1").unwrap(),
                EventType::new("T").unwrap(),
                format!("\"{}\"", "x".repeat(10_000)),
            );
            block_on(log.append(Append::event(event))).unwrap();
            log.prepare();
            reader.refresh().unwrap();
        }
        reader.refresh().unwrap();
        assert_eq!(store.published(), 100);
        let parts = store.parts();
        assert!(parts.len() > 10, "{} parts", parts.len());
        let in_memory = |part: &&Arc<Part>| matches!(&*read(&part.index), PartIndex::Active(_));
        assert!(parts.iter().filter(in_memory).count() <= 1);
        for position in 0..100 {
            assert_eq!(store.event_at(position).unwrap().position.offset, position);
        }
    }
}
