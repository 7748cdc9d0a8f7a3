//! What clients append: a mixture that touches every edge of a frame, a sector and a
//! segment.

use anabranch_env::SplitMix64;
use anabranch_log::{Append, Condition, Expect};
use anabranch_model::{
    Cut, EventId, EventType, Filter, NewEvent, Query, QueryItem, StreamId, Version,
};
use bytes::Bytes;

use crate::model::{Model, event_id};

const CATEGORIES: [&str; 3] = ["order", "stock", "payment"];
const TYPES: [&str; 4] = ["Placed", "Reserved", "Paid", "Shipped"];
const TAGS: [&str; 5] = ["sku:1", "sku:2", "customer:7", "land:FR", "day:3"];
const STREAMS: u64 = 12;

/// A stream of the few that are in use, so that versions grow and conditions collide.
pub(crate) fn stream(rng: &mut SplitMix64) -> StreamId {
    let number = if rng.one_in(20) {
        rng.below(100_000)
    } else {
        rng.below(STREAMS)
    };
    let category = CATEGORIES[(number % 3) as usize];
    StreamId::of(category, &number.to_string()).expect("a valid stream id")
}

fn event_type(rng: &mut SplitMix64) -> EventType {
    EventType::new(TYPES[rng.below(4) as usize]).expect("a valid event type")
}

fn tag(rng: &mut SplitMix64) -> String {
    TAGS[rng.below(5) as usize].to_owned()
}

fn header(rng: &mut SplitMix64) -> (String, String) {
    (
        "tenant".to_owned(),
        ["a", "b"][rng.below(2) as usize].to_owned(),
    )
}

/// A new batch for the model, with conditions that mostly hold.
pub(crate) fn append(rng: &mut SplitMix64, model: &Model) -> Append {
    let batch = model.next_batch();
    let count = match rng.below(20) {
        0..11 => 1,
        11..19 => 2 + rng.below(5),
        _ => 10 + rng.below(60),
    };
    let streams: Vec<StreamId> = (0..1 + rng.below(3)).map(|_| stream(rng)).collect();
    let large = rng.one_in(60);
    let free = free_id_bits(rng);
    let fresh_ids = rng.one_in(4);
    let events = (0..count as usize).map(|index| {
        let free = if fresh_ids { free_id_bits(rng) } else { free };
        let id = EventId::from_u128(event_id(batch, index, free));
        let stream = streams[rng.below(streams.len() as u64) as usize].clone();
        new_event(rng, id, stream, large && index == 0)
    });
    let events = events.collect();
    Append {
        conditions: conditions(rng, model, &streams),
        events,
    }
}

/// A new batch of the very shape of another, with other ids and other bytes: what a client
/// sends that gave up on the other. Its frame is as long.
pub(crate) fn twin(rng: &mut SplitMix64, model: &Model, batch: usize) -> Append {
    let number = model.next_batch();
    let free = free_id_bits(rng);
    let original = &model.batches[batch].append.events;
    let events = original.iter().enumerate().map(|(index, event)| NewEvent {
        id: EventId::from_u128(event_id(number, index, free)),
        data: data(rng, event.data.len(), is_binary(event)),
        ..event.clone()
    });
    Append::events(events.collect::<Vec<_>>())
}

fn free_id_bits(rng: &mut SplitMix64) -> u128 {
    let random = u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64());
    if rng.one_in(2) {
        EventId::v7(1_767_225_600_000 + rng.below(1 << 20), random).as_u128()
    } else {
        random
    }
}

fn new_event(rng: &mut SplitMix64, id: EventId, stream: StreamId, large: bool) -> NewEvent {
    let len = match rng.below(40) {
        _ if large => 5_000 + rng.below(100_000),
        0 => 0,
        1..30 => rng.below(200),
        30..38 => 200 + rng.below(600),
        _ => rng.below(9000),
    };
    let binary = rng.one_in(2);
    let data = data(rng, len as usize, binary);
    let mut event = NewEvent::new(id, stream, event_type(rng), data);
    event.schema_version = 1 + rng.below(3) as u32;
    for _ in 0..rng.below(3) {
        event = event.with_tag(tag(rng));
    }
    if rng.one_in(4) {
        let (name, value) = header(rng);
        event = event.with_header(name, value);
    }
    if binary {
        event.meta_mut().content_type = Some(BINARY.to_owned());
    }
    if rng.one_in(10) {
        event.meta_mut().correlation_id = Some("story".to_owned());
    }
    event
}

/// The media type of data that are no JSON.
const BINARY: &str = "application/octet-stream";

fn is_binary(event: &NewEvent) -> bool {
    (event.meta.as_ref()).is_some_and(|meta| meta.content_type.is_some())
}

/// Bytes that no compressor or zero-filler can fake; sometimes zeros, which look like
/// unwritten blocks. Where they are not binary, a text in JSON.
fn data(rng: &mut SplitMix64, len: usize, binary: bool) -> Bytes {
    if !binary {
        let mut text: Vec<u8> = (0..len).map(|_| b'0' + rng.below(10) as u8).collect();
        match &mut text[..] {
            [] | [_] => {}
            [first, .., last] => (*first, *last) = (b'"', b'"'),
        }
        return text.into();
    }
    if rng.one_in(16) {
        return vec![0; len].into();
    }
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&rng.next_u64().to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}

fn conditions(rng: &mut SplitMix64, model: &Model, streams: &[StreamId]) -> Vec<Condition> {
    let mut conditions = Vec::new();
    if rng.one_in(3) {
        let written = streams[0].clone();
        let expect = expect(rng, model, &written);
        conditions.push(Condition::Stream(written, expect));
    }
    if rng.one_in(10) {
        let other = stream(rng);
        let expect = expect(rng, model, &other);
        conditions.push(Condition::Stream(other, expect));
    }
    if rng.one_in(10) {
        // Mostly what was just read, so that it mostly holds.
        let back = if rng.one_in(4) { rng.below(20) } else { 0 };
        conditions.push(Condition::NoMatch {
            query: query(rng),
            after: Cut::at(model.events_known().saturating_sub(back)),
        });
    }
    conditions
}

fn expect(rng: &mut SplitMix64, model: &Model, stream: &StreamId) -> Expect {
    let count: Version = model.tips.get(stream).copied().unwrap_or(0);
    match (rng.below(12), count.checked_sub(1)) {
        (0, _) => Expect::Any,
        (1, _) => Expect::Empty,
        (2, _) => Expect::Exists,
        (3, _) => Expect::At(rng.below(count + 3)),
        (_, Some(version)) => Expect::At(version),
        (_, None) => Expect::Empty,
    }
}

fn query(rng: &mut SplitMix64) -> Query {
    let items = (0..1 + rng.below(2)).map(|_| QueryItem {
        types: if rng.one_in(2) {
            vec![event_type(rng)]
        } else {
            Vec::new()
        },
        tags: (0..1 + rng.below(2)).map(|_| tag(rng)).collect(),
    });
    Query {
        items: items.collect(),
    }
}

/// What a reader wants: often everything.
pub(crate) fn filter(rng: &mut SplitMix64) -> Filter {
    let mut filter = Filter::all();
    match rng.below(8) {
        0 => filter.categories = vec![CATEGORIES[rng.below(3) as usize].to_owned()],
        1 => filter.types = vec![event_type(rng), event_type(rng)],
        2 => filter.streams = vec![stream(rng), stream(rng)],
        3 => filter.tags = vec![tag(rng)],
        4 => {
            filter.headers = vec![header(rng)];
            filter.categories = CATEGORIES[..2].iter().map(|&c| c.to_owned()).collect();
        }
        _ => {}
    }
    filter
}
