use std::collections::HashMap;

use anabranch_model::{
    Cut, Event as StoredEvent, EventId, EventType, NewEvent, PartitionId, Position, StreamId,
};

use crate::command::RecordedEvent;
use crate::time::Timestamp;

/// The shared log of a [`World`](super::World): several partitions, each totally ordered; a
/// stream lies in one of them. Keeps what a leader of a partition keeps: the accumulated
/// dependencies of its prefix.
pub struct WorldLog {
    partitions: Vec<Partition>,
    /// The first partition that is written to; those before it are sealed.
    open_from: usize,
    streams: HashMap<StreamId, Vec<Position>>,
    next_id: u128,
}

#[derive(Default)]
struct Partition {
    events: Vec<StoredEvent>,
    /// What all of it depends on, because of a re-sharding.
    inherits: Cut,
    /// What its events depend on in other partitions.
    depends: Cut,
}

/// Events for one stream.
pub struct Write {
    pub stream: StreamId,
    /// How many events the stream has; otherwise it is a conflict.
    pub expect: u64,
    pub events: Vec<WriteEvent>,
    /// What they depend on.
    pub causes: Cut,
}

pub struct WriteEvent {
    pub event: RecordedEvent,
    pub id: Option<EventId>,
    pub causation: Option<String>,
    pub correlation: Option<String>,
    pub headers: Vec<(&'static str, String)>,
}

impl WriteEvent {
    pub fn plain(event: RecordedEvent) -> Self {
        Self {
            event,
            id: None,
            causation: None,
            correlation: None,
            headers: Vec::new(),
        }
    }
}

impl WorldLog {
    pub fn new(partitions: u32) -> Self {
        let empty = std::iter::repeat_with(Partition::default);
        Self {
            partitions: empty.take(partitions.max(1) as usize).collect(),
            open_from: 0,
            streams: HashMap::new(),
            next_id: 1,
        }
    }

    /// Seals every partition and opens `partitions` new ones, which depend on all of them.
    pub fn reshard(&mut self, partitions: u32) {
        let head = self.head();
        self.open_from = self.partitions.len();
        for _ in 0..partitions.max(1) {
            self.partitions.push(Partition {
                events: Vec::new(),
                inherits: head.clone(),
                depends: head.clone(),
            });
        }
    }

    /// Appends atomically; the closure of the write, or nothing when the stream has moved on.
    pub fn append(&mut self, write: &Write, fenced: bool, now: Timestamp) -> Option<Cut> {
        let length = self.length(&write.stream);
        if fenced && length != write.expect {
            return None;
        }
        let partition = self.partition_of(&write.stream);
        let mut delta = Cut::start();
        let home = &mut self.partitions[partition.0 as usize];
        for (q, count) in write.causes.iter() {
            if q != partition && count > home.depends.get(q) {
                delta.set(q, count);
            }
        }
        home.depends.join(&delta);
        if home.events.is_empty() {
            // The first event says what the partition inherits.
            delta.join(&home.inherits);
        }
        for (i, event) in write.events.iter().enumerate() {
            self.push(
                partition,
                length + i as u64,
                &write.stream,
                event,
                &delta,
                now,
            );
        }
        Some(self.closure_of_partition(partition))
    }

    fn push(
        &mut self,
        partition: PartitionId,
        version: u64,
        stream: &StreamId,
        write: &WriteEvent,
        delta: &Cut,
        now: Timestamp,
    ) {
        let home = &mut self.partitions[partition.0 as usize];
        let position = Position {
            partition,
            offset: home.events.len() as u64,
        };
        let id = write
            .id
            .unwrap_or(EventId::v7(now.micros() / 1000, self.next_id));
        self.next_id += 1;
        let name = EventType::new(&write.event.name).unwrap_or_else(|error| panic!("{error}"));
        let data = write.event.data.as_str().as_bytes().to_vec();
        let mut new = NewEvent::new(id, stream.clone(), name, data);
        new.schema_version = write.event.schema_version;
        let meta = new.meta_mut();
        meta.causation_id = write.causation.clone();
        meta.correlation_id = write.correlation.clone();
        meta.causes = delta.clone();
        for (name, value) in &write.headers {
            meta.headers.insert((*name).to_owned(), value.clone());
        }
        let stored = StoredEvent::stored(&new, position, version, now.micros());
        home.events.push(stored);
        self.streams
            .entry(stream.clone())
            .or_default()
            .push(position);
    }

    /// How many events a stream has.
    pub fn length(&self, stream: &StreamId) -> u64 {
        self.streams
            .get(stream)
            .map_or(0, |places| places.len() as u64)
    }

    /// The events of a stream.
    pub fn stream(&self, stream: &StreamId) -> impl Iterator<Item = &StoredEvent> + '_ {
        let places = self.streams.get(stream).into_iter().flatten();
        places.map(|&place| self.at(place))
    }

    /// The streams of a category, ascending.
    pub fn category(&self, category: &str) -> Vec<StreamId> {
        let streams = self.streams.keys().filter(|s| s.category() == category);
        let mut streams: Vec<StreamId> = streams.cloned().collect();
        streams.sort_unstable();
        streams
    }

    /// The event that follows `cut` in this partition.
    pub fn next(&self, partition: u32, cut: &Cut) -> Option<&StoredEvent> {
        let offset = cut.get(PartitionId(partition)) as usize;
        self.partitions[partition as usize].events.get(offset)
    }

    pub fn partitions(&self) -> u32 {
        self.partitions.len() as u32
    }

    /// Every event, and what it depends on.
    pub fn head(&self) -> Cut {
        let mut cut = Cut::start();
        for (p, partition) in self.partitions.iter().enumerate() {
            cut.set(PartitionId(p as u32), partition.events.len() as u64);
        }
        cut
    }

    /// An event and everything it depends on, from what is stored in its prefix.
    pub fn closure(&self, position: Position) -> Cut {
        let home = &self.partitions[position.partition.0 as usize];
        let mut closure = home.inherits.clone();
        closure.join(&Cut::including(position));
        for event in &home.events[..=position.offset as usize] {
            closure.join(&causes(event));
        }
        closure
    }

    /// The last event of the stream's partition and everything it depends on.
    pub fn closure_of(&self, stream: &StreamId) -> Cut {
        self.closure_of_partition(self.partition_of(stream))
    }

    fn closure_of_partition(&self, partition: PartitionId) -> Cut {
        let home = &self.partitions[partition.0 as usize];
        let mut closure = home.depends.clone();
        closure.set(partition, home.events.len() as u64);
        closure
    }

    fn partition_of(&self, stream: &StreamId) -> PartitionId {
        let hash = anabranch_model::content_hash([stream.as_str().as_bytes()]);
        let open = self.partitions.len() - self.open_from;
        PartitionId((self.open_from + (hash % open as u128) as usize) as u32)
    }

    fn at(&self, place: Position) -> &StoredEvent {
        &self.partitions[place.partition.0 as usize].events[place.offset as usize]
    }
}

/// What an event depends on beyond the prefix of its partition.
pub fn causes(event: &StoredEvent) -> Cut {
    event
        .meta()
        .decode()
        .map(|meta| meta.causes)
        .unwrap_or_default()
}
