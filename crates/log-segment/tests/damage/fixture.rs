//! A small log on a simulated disk, and what a healthy reader sees of it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anabranch_env::Env;
use anabranch_env::sim::{self, SimDisk};
use anabranch_log::{Append, Log, OpenError, Order, ReadError, ReadMode, VersionRange};
use anabranch_log_segment::{Background, Options, SegmentLog, VerifyReport, WriteMethod, verify};
use anabranch_model::{Cut, Event, EventId, EventType, Filter, NewEvent, StreamId};
use futures_executor::block_on;

pub const DIR: &str = "log";

/// What a byte of a data directory is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Region {
    SegmentHeader,
    FrameHeader,
    Body,
    Padding,
    Unused,
    Index,
    Catalogue,
    Mark,
    Live,
    Spare,
    Lock,
}

impl Region {
    pub const ALL: [Self; 11] = [
        Self::SegmentHeader,
        Self::FrameHeader,
        Self::Body,
        Self::Padding,
        Self::Unused,
        Self::Index,
        Self::Catalogue,
        Self::Mark,
        Self::Live,
        Self::Spare,
        Self::Lock,
    ];
}

pub fn options() -> Options {
    Options {
        segment_bytes: 64 << 10,
        first_segment_bytes: Some(64 << 10),
        background: Background::Manual,
        write_method: WriteMethod::Buffered,
        reserve_bytes: 0,
        ..Options::default()
    }
}

/// The events of batch `n`.
pub fn batch(n: u64) -> Vec<NewEvent> {
    padded_batch(n, 150)
}

fn padded_batch(n: u64, padding: usize) -> Vec<NewEvent> {
    (0..1 + n % 4)
        .map(|i| {
            let stream = StreamId::new(format!("order/{}", (n * 7 + i) % 23)).unwrap();
            let id = EventId::v7(1_000 + n, u128::from(i) << 64 | 1);
            let data = format!(
                "{{\"n\":{n},\"i\":{i},\"pad\":\"{}\"}}",
                "x".repeat(padding)
            );
            let event = NewEvent::new(id, stream, EventType::new("Placed").unwrap(), data);
            if n.is_multiple_of(11) {
                event
                    .with_tag(format!("rare:{}", n % 3))
                    .with_header("by", "test")
            } else {
                event
            }
        })
        .collect()
}

/// A frame as it stands in a segment.
#[derive(Debug, Clone)]
struct Frame {
    file: String,
    bytes: Range<u64>,
    body: u64,
    first: u64,
    end: u64,
}

pub struct Fixture {
    disk: SimDisk,
    pub events: Vec<Event>,
    frames: Vec<Frame>,
}

/// What a reader got of a log.
pub struct Read {
    pub events: Vec<Event>,
    /// Runs of positions it was told are damaged.
    pub missing: Vec<Range<u64>>,
    pub head: u64,
}

/// A copy of the fixture's disk to be damaged.
pub struct Trial {
    pub disk: SimDisk,
    pub env: Env,
}

impl Fixture {
    /// Four segments, the last one half full, closed in order.
    pub fn new() -> Self {
        Self::of_seed(1)
    }

    /// The same of another log.
    pub fn of_seed(seed: u64) -> Self {
        Self::build(seed, 150)
    }

    /// One of so many segments that there is a catalogue of streams.
    pub fn large() -> Self {
        Self::build(1, 650)
    }

    fn build(seed: u64, padding: usize) -> Self {
        let (env, disk, _) = sim::env(seed);
        let log = SegmentLog::open(env.clone(), DIR, options()).unwrap();
        // With a segment written ahead, none is made larger than asked for.
        log.prepare();
        for n in 0..330 {
            block_on(log.append(Append::events(padded_batch(n, padding)))).unwrap();
            log.prepare();
        }
        log.close().unwrap();
        drop(log);
        let mut fixture = Self {
            disk,
            events: Vec::new(),
            frames: Vec::new(),
        };
        let read = fixture.trial().read_all();
        assert!(read.missing.is_empty());
        fixture.events = read.events;
        fixture.frames = fixture.parse();
        let report = fixture.trial().verify();
        assert!(report.is_clean(), "{report:?}");
        assert_eq!(report.remarks, []);
        assert_eq!(report.events as usize, fixture.events.len());
        assert!(fixture.frames.last().unwrap().file.as_str() >= "0000000004.seg");
        fixture
    }

    pub fn trial(&self) -> Trial {
        let disk = self.disk.fork();
        Trial {
            env: disk.env(7),
            disk,
        }
    }

    pub fn files(&self) -> Vec<(String, u64)> {
        self.trial().files()
    }

    pub fn length(&self, file: &str) -> u64 {
        self.files()
            .iter()
            .find(|(name, _)| name == file)
            .unwrap()
            .1
    }

    pub fn bytes(&self, file: &str) -> Vec<u8> {
        self.trial().bytes(file)
    }

    pub fn segments(&self) -> Vec<String> {
        let mut names: Vec<_> = self.files().into_iter().map(|(name, _)| name).collect();
        names.retain(|name| name.ends_with(".seg"));
        names
    }

    pub fn last_segment(&self) -> String {
        self.segments().pop().unwrap()
    }

    pub fn an_index(&self) -> String {
        let files = self.files();
        let index = files.iter().find(|(name, _)| name.ends_with(".idx"));
        index.unwrap().0.clone()
    }

    /// How many bytes of a file say something.
    pub fn used(&self, file: &str) -> u64 {
        if file == "mark" {
            return 8192;
        }
        let frames = self.frames.iter().filter(|frame| frame.file == file);
        frames
            .map(|f| f.bytes.end)
            .max()
            .unwrap_or(self.length(file))
    }

    /// The events of a segment.
    pub fn events_of(&self, file: &str) -> Range<u64> {
        let mut frames = self.frames.iter().filter(|frame| frame.file == file);
        let first = frames.next().unwrap();
        first.first..frames.next_back().unwrap_or(first).end
    }

    /// A frame at the beginning, in the middle and at the end of each segment: where it
    /// begins, and its events.
    pub fn some_frames(&self) -> Vec<((String, u64), Range<u64>)> {
        let of = |segment: String| {
            let frames: Vec<_> = self.frames.iter().filter(|f| f.file == segment).collect();
            let some = [0, frames.len() / 2, frames.len() - 1];
            some.map(|at| {
                let frame = frames[at];
                ((segment.clone(), frame.bytes.start), frame.first..frame.end)
            })
        };
        self.segments().into_iter().flat_map(of).collect()
    }

    /// The length of the frame that begins at this byte.
    pub fn length_at(&self, file: &str, offset: u64) -> u64 {
        let mut frames = self.frames.iter();
        let found = frames.find(|f| f.file == file && f.bytes.start == offset);
        found.map_or(0, |frame| frame.bytes.end - frame.bytes.start)
    }

    /// The events of the frames that have a byte in `range`, as one run.
    pub fn frames_on(&self, file: &str, range: &Range<u64>) -> Vec<Range<u64>> {
        let on = |f: &&Frame| f.file == file && f.bytes.start < range.end && range.start < f.body;
        let mut frames = self.frames.iter().filter(on);
        let first = frames.next();
        let last = frames.next_back().or(first);
        let run = first.zip(last).map(|(first, last)| first.first..last.end);
        run.into_iter().collect()
    }

    /// The events of the frame that holds this byte.
    pub fn frame_at(&self, file: &str, offset: u64) -> Option<Range<u64>> {
        let mut frames = self.frames.iter();
        let found = frames.find(|f| f.file == file && f.bytes.contains(&offset));
        found.map(|frame| frame.first..frame.end)
    }

    /// A reader written from the description of the format, knowing none of the engine.
    fn parse(&self) -> Vec<Frame> {
        let mut frames = Vec::new();
        for file in self.segments() {
            let bytes = self.bytes(&file);
            let number = |at: usize, len: usize| {
                let mut raw = [0; 8];
                raw[..len].copy_from_slice(&bytes[at..at + len]);
                u64::from_le_bytes(raw)
            };
            let mut at = 8192;
            while at + 48 <= bytes.len() && bytes[at + 4..at + 6] == [0xbf, 0xa7] {
                let (count, body) = (number(at + 6, 2), number(at + 8, 4));
                let first = number(at + 16, 8);
                let end = (at + 48 + body as usize).next_multiple_of(8);
                frames.push(Frame {
                    file: file.clone(),
                    bytes: at as u64..end as u64,
                    body: at as u64 + 48 + body,
                    first,
                    end: first + count,
                });
                at = end;
            }
        }
        assert_eq!(frames.last().unwrap().end as usize, self.events.len());
        frames
    }

    /// The byte ranges of each region.
    pub fn regions(&self) -> BTreeMap<Region, Vec<(String, Range<u64>)>> {
        let mut regions: BTreeMap<Region, Vec<(String, Range<u64>)>> = BTreeMap::new();
        let mut add = |region, file: &str, range: Range<u64>| {
            if !range.is_empty() {
                regions
                    .entry(region)
                    .or_default()
                    .push((file.to_owned(), range));
            }
        };
        for frame in &self.frames {
            let body = frame.bytes.start + 48;
            add(Region::FrameHeader, &frame.file, frame.bytes.start..body);
            add(Region::Body, &frame.file, body..frame.body);
            add(Region::Padding, &frame.file, frame.body..frame.bytes.end);
        }
        for (file, length) in self.files() {
            match Path::new(&file).extension().and_then(|e| e.to_str()) {
                Some("seg") => {
                    add(Region::SegmentHeader, &file, 0..8192);
                    add(Region::Unused, &file, self.used(&file)..length);
                }
                Some("idx") => add(Region::Index, &file, 0..length),
                Some("pre") => add(Region::Spare, &file, 0..length),
                _ if file == "mark" => add(Region::Mark, &file, 0..length),
                _ if file == "live" => add(Region::Live, &file, 0..length),
                Some("cat") => add(Region::Catalogue, &file, 0..length),
                _ => add(Region::Lock, &file, 0..length),
            }
        }
        regions
    }

    /// Every event read is as it was written; every other one was named.
    pub fn compare(&self, read: &Read, what: &str) {
        let mut next = 0;
        for event in &read.events {
            let at = event.position.offset;
            let skipped = next..at;
            assert!(
                skipped.is_empty() || read.missing.contains(&skipped),
                "{what}: {skipped:?} were passed over; named: {:?}",
                read.missing
            );
            assert_eq!(*event, self.events[at as usize], "{what}: wrong bytes");
            next = at + 1;
        }
        let rest = next..self.events.len() as u64;
        assert!(
            rest.is_empty() || read.missing.contains(&rest),
            "{what}: {rest:?} were passed over at the end; named: {:?}",
            read.missing
        );
    }
}

impl Trial {
    pub fn path(&self, file: &str) -> PathBuf {
        Path::new(DIR).join(file)
    }

    pub fn files(&self) -> Vec<(String, u64)> {
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let files = self.disk.files();
        files.iter().map(|(path, len)| (name(path), *len)).collect()
    }

    pub fn bytes(&self, file: &str) -> Vec<u8> {
        self.disk.content(&self.path(file)).unwrap().to_vec()
    }

    pub fn verify(&self) -> VerifyReport {
        verify(self.env.clone(), DIR, &mut |_| {}).unwrap()
    }

    /// Makes a file say that it is of format version 2, with right checksums.
    pub fn make_newer(&self, file: &str) {
        let mut bytes = self.bytes(file);
        let pages = if file.ends_with(".idx") { 1 } else { 2 };
        for page in bytes.chunks_mut(4096).take(pages) {
            let crc = |page: &[u8]| crc32c::crc32c(&page[..4092]);
            // An index page's checksum is mixed with a salt: what differs from the plain one.
            let stored = u32::from_le_bytes(page[4092..].try_into().unwrap());
            let salt = stored ^ crc(page);
            page[8] = 3;
            let sealed = crc(page) ^ salt;
            page[4092..].copy_from_slice(&sealed.to_le_bytes());
        }
        self.disk.plant(&self.path(file), &bytes).unwrap();
    }

    pub fn open_reader(&self) -> Result<SegmentLog, OpenError> {
        SegmentLog::open_read_only(self.env.clone(), DIR, options())
    }

    pub fn open(&self) -> Result<SegmentLog, OpenError> {
        SegmentLog::open(self.env.clone(), DIR, options())
    }

    pub fn read_all(&self) -> Read {
        read(&self.open_reader().unwrap(), Filter::all())
    }

    pub fn count(ranges: &[Range<u64>]) -> u64 {
        ranges.iter().map(|range| range.end - range.start).sum()
    }

    /// Reading through the indexes gives what reading everything gives.
    pub fn check_lookups(&self, missing: &[Range<u64>], what: &str) {
        let log = self.open_reader().unwrap();
        let all = read(&log, Filter::all()).events;
        let rare = Filter {
            tags: vec!["rare:1".to_owned()],
            ..Filter::default()
        };
        let wanted: Vec<_> = all.iter().filter(|e| rare.matches(&e.as_ref())).collect();
        let found = read(&log, rare.clone()).events;
        assert_eq!(found.iter().collect::<Vec<_>>(), wanted, "{what}: by tag");
        if missing.is_empty() {
            for stream in ["order/3", "order/17"] {
                let wanted: Vec<_> = all.iter().filter(|e| e.stream() == stream).collect();
                let id = StreamId::new(stream).unwrap();
                let mut events = log.read_stream(&id, VersionRange::ALL, Order::Forward);
                let mut found = Vec::new();
                while let Some(event) = block_on(events.next()) {
                    found.push(event.unwrap());
                }
                assert_eq!(found.iter().collect::<Vec<_>>(), wanted, "{what}: {stream}");
            }
        }
    }

    /// Opening for writing works when no event is lost. When one is, it is refused, or, if
    /// the loss is not at the end, goes on and tells readers of it.
    pub fn check_writer(&self, missing: &[Range<u64>], what: &str) {
        match self.open() {
            Ok(log) => {
                let got = read(&log, Filter::all());
                assert_eq!(got.missing, missing, "{what}: through the writer");
                let appended = block_on(log.append(Append::events(batch(1_000)))).unwrap();
                assert_eq!(appended.places[0].position.offset, got.head, "{what}");
            }
            Err(error) => {
                assert!(!missing.is_empty(), "{what}: {error}");
                assert!(
                    matches!(error, OpenError::Damaged { .. }),
                    "{what}: {error}"
                );
            }
        }
    }

    /// After some damage to `file`: a reader gets every event or is told, `verify` names
    /// the file and the same events, and the log is never shortened in silence.
    pub fn check_reported(&self, fixture: &Fixture, file: &str, what: &str) {
        let report = self.verify();
        let told = report.damages.iter().any(|d| d.file == *file)
            || report.remarks.iter().any(|r| r.file == *file)
            // A file that is gone may be named by what it leaves behind.
            || self.files().iter().all(|(name, _)| name != file) && !report.is_clean();
        assert!(told, "{what}: nothing is said of it: {report:?}");
        let log = match self.open_reader() {
            Ok(log) => log,
            Err(error) => return assert!(!report.is_clean(), "{what}: {error}"),
        };
        let read = read(&log, Filter::all());
        fixture.compare(&read, what);
        assert_eq!(
            report.lost(),
            Self::count(&read.missing),
            "{what}: {report:?}"
        );
        if report.damages.iter().all(|d| d.heals) || report.lost() > 0 {
            self.check_writer(&read.missing, what);
        } else {
            assert!(self.open().is_err(), "{what}: opened over damage");
        }
    }
}

/// Reads everything, going on behind damaged events.
pub fn read(log: &SegmentLog, filter: Filter) -> Read {
    let mut got = Read {
        events: Vec::new(),
        missing: Vec::new(),
        head: block_on(log.head())
            .unwrap()
            .get(anabranch_model::PartitionId(0)),
    };
    let mut from = 0;
    while from < got.head {
        let mut events = log.read(&Cut::at(from), filter.clone(), ReadMode::ToHead);
        loop {
            match block_on(events.next()) {
                Some(Ok(event)) => got.events.push(event),
                Some(Err(ReadError::Damaged { first, last, .. })) => {
                    assert!(first <= last && last.offset >= from, "no way forward");
                    got.missing.push(first.offset..last.offset + 1);
                    from = last.offset + 1;
                    break;
                }
                Some(Err(error)) => panic!("{error}"),
                None => return got,
            }
        }
    }
    got
}
