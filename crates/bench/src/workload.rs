use std::sync::Arc;

use anabranch_env::{Clock, SplitMix64};
use anabranch_log_segment::Durability;
use anabranch_model::{EventId, EventType, NewEvent, StreamId};
use bytes::Bytes;

use crate::error::BenchError;

/// The work that every contender of a measurement does.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// Clients at work at the same time. Each waits for its acknowledgement before it
    /// appends again.
    pub clients: usize,
    /// Events of one append.
    pub batch: usize,
    /// Data of one event, in bytes.
    pub size: usize,
    /// Streams; each append goes to one of them, drawn at random.
    pub streams: u64,
    /// Categories that the streams are spread over.
    pub categories: u64,
    /// What an acknowledgement promises.
    pub durability: Durability,
    /// Where the random numbers of the work begin.
    pub seed: u64,
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            clients: 128,
            batch: 1,
            size: 256,
            streams: 10_000,
            categories: 1,
            durability: Durability::Sync,
            seed: 1,
        }
    }
}

impl Workload {
    /// Refuses what cannot be measured.
    pub fn check(&self) -> Result<(), BenchError> {
        let refuse = |what: &str| Err(BenchError::Invalid(what.to_owned()));
        match self {
            Self { clients: 0, .. } => refuse("at least one client is needed"),
            Self { batch: 0, .. } => refuse("a batch has at least one event"),
            Self { streams: 0, .. } => refuse("at least one stream is needed"),
            Self { categories: 0, .. } => refuse("at least one category is needed"),
            Self { size: 0, .. } => refuse("an event has at least one byte of data here"),
            _ => Ok(()),
        }
    }

    /// Data bytes of one append.
    pub fn append_bytes(&self) -> usize {
        self.batch * self.size
    }

    /// The streams of this work.
    pub fn streams(&self) -> Arc<Streams> {
        Arc::new(Streams::new(self.streams, self.categories))
    }
}

/// As many stream names as the work has streams.
pub struct Streams {
    kept: Vec<StreamId>,
    count: u64,
    categories: u64,
}

/// Up to this many names are made once and kept; more are made when they are needed, so
/// that the measurement's own memory stays small.
const KEPT_MAX: u64 = 20_000;

impl Streams {
    fn new(count: u64, categories: u64) -> Self {
        let mut streams = Self {
            kept: Vec::new(),
            count,
            categories,
        };
        if count <= KEPT_MAX {
            streams.kept = (0..count).map(|n| streams.make(n)).collect();
        }
        streams
    }

    /// The same streams, none of their names kept: for comparing few with many.
    pub fn unkept(count: u64) -> Self {
        Self {
            kept: Vec::new(),
            count,
            categories: 1,
        }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The name of category `n`.
    pub fn category(n: u64) -> String {
        format!("load-{n}")
    }

    /// The name of stream `n`.
    pub fn id(&self, n: u64) -> StreamId {
        match usize::try_from(n).ok().and_then(|n| self.kept.get(n)) {
            Some(kept) => kept.clone(),
            None => self.make(n),
        }
    }

    fn make(&self, n: u64) -> StreamId {
        StreamId::new(format!("{}/{n}", Self::category(n % self.categories)))
            .expect("the name has a category, a key and no control characters")
    }
}

/// Makes the events of one client. The same seed and client make the same streams and
/// data; ids also depend on the time.
pub struct EventSource {
    rng: SplitMix64,
    clock: Arc<dyn Clock>,
    streams: Arc<Streams>,
    event_type: EventType,
    data: Vec<Bytes>,
    next_data: usize,
}

/// Different data of one client: enough that none repeats within a commit.
const DATA_KINDS: usize = 61;

impl EventSource {
    /// The source of client number `client`.
    pub fn new(
        workload: &Workload,
        streams: Arc<Streams>,
        clock: Arc<dyn Clock>,
        client: usize,
    ) -> Self {
        let mut rng = SplitMix64::new(workload.seed ^ (client as u64).wrapping_mul(0x9e37));
        let data = (0..DATA_KINDS)
            .map(|_| json_text(&mut rng, workload.size))
            .collect();
        Self {
            rng,
            clock,
            streams,
            // Each client has its own, so that clients share no reference count.
            event_type: EventType::new("LoadAppended").expect("the name is well formed"),
            data,
            next_data: 0,
        }
    }

    /// A batch of `count` events to one stream, drawn at random.
    pub fn batch(&mut self, count: usize) -> Vec<NewEvent> {
        let stream = self.streams.id(self.rng.below(self.streams.count()));
        self.fill(count, |_| stream.clone())
    }

    /// A batch of one event to each of the streams from number `first` on.
    pub fn one_each(&mut self, first: u64, count: usize) -> Vec<NewEvent> {
        let streams = Arc::clone(&self.streams);
        self.fill(count, |i| streams.id(first + i as u64))
    }

    fn fill(&mut self, count: usize, stream: impl Fn(usize) -> StreamId) -> Vec<NewEvent> {
        let unix_ms = self.clock.wall_micros() / 1_000;
        (0..count)
            .map(|i| {
                let random =
                    u128::from(self.rng.next_u64()) << 64 | u128::from(self.rng.next_u64());
                let id = EventId::v7(unix_ms, random);
                NewEvent::new(id, stream(i), self.event_type.clone(), self.data())
            })
            .collect()
    }

    /// The data of one event: JSON text of the wanted size, without zero bytes.
    pub fn data(&mut self) -> Bytes {
        self.next_data = (self.next_data + 1) % self.data.len();
        self.data[self.next_data].clone()
    }
}

/// A JSON string of exactly `size` bytes, hard to compress; digits when it is too short
/// for quotes.
fn json_text(rng: &mut SplitMix64, size: usize) -> Bytes {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    if size < 2 {
        return vec![b'7'; size].into();
    }
    let mut text = Vec::with_capacity(size);
    text.push(b'"');
    text.extend((0..size - 2).map(|_| LETTERS[rng.below(64) as usize]));
    text.push(b'"');
    text.into()
}

#[cfg(test)]
mod tests {
    use anabranch_env::Env;

    use super::*;

    fn source(workload: &Workload, client: usize) -> EventSource {
        EventSource::new(workload, workload.streams(), Env::os().clock, client)
    }

    #[test]
    fn data_is_json_of_the_wanted_size() {
        for size in [1, 2, 3, 256, 70_000] {
            let data = source(
                &Workload {
                    size,
                    ..Workload::default()
                },
                0,
            )
            .data();
            assert_eq!(data.len(), size);
            assert!(serde_json::from_slice::<serde_json::Value>(&data).is_ok());
        }
    }

    #[test]
    fn the_same_client_draws_the_same_streams_and_data() {
        let workload = Workload::default();
        let draw = |client| {
            let mut source = source(&workload, client);
            (0..50)
                .flat_map(|_| source.batch(2))
                .map(|e| (e.stream, e.data))
                .collect::<Vec<_>>()
        };
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
    }

    #[test]
    fn a_batch_goes_to_one_stream_and_its_ids_differ() {
        let events = source(&Workload::default(), 0).batch(100);
        assert!(events.iter().all(|e| e.stream == events[0].stream));
        let mut ids: Vec<_> = events.iter().map(|e| e.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 100);
    }

    #[test]
    fn many_streams_have_the_same_names_as_few() {
        let (few, many) = (Streams::new(10, 3), Streams::new(KEPT_MAX + 1, 3));
        assert!(many.kept.is_empty());
        assert_eq!(few.id(7), many.id(7));
        assert_eq!(few.id(7).as_str(), "load-1/7");
    }
}
