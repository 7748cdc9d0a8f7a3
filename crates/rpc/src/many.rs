//! Many appends in one run of bytes, and what became of them in another. `AppendManyRequest.packed` and
//! `AppendManyResponse.packed` in the `.proto` have the form.

use anabranch_log::{Append, Appended, Condition, Expect, Placed};
use anabranch_model::record::{Cursor, RecordError, decode_new, encode_new, put_bytes, put_varint};
use anabranch_model::{PartitionId, Position, StreamId};
use bytes::Bytes;

use crate::append::{APPEND_BYTES, CONDITION_BYTES, EVENT_PARTS_BYTES, PART_BYTES};
use crate::malformed::Malformed;

const ANY: u8 = 0;
const EMPTY: u8 = 1;
const EXISTS: u8 = 2;
const AT: u8 = 3;

const REPEATED: u8 = 1;

/// The fields of metadata that an event has one of at the most; they count as parts of the event.
const FIELDS_OF_ONE: usize = 5;

/// Puts an append behind others, if its form has room for it: conditions on what is in the whole log
/// have none.
pub fn pack_append(out: &mut Vec<u8>, number: u64, append: &Append) -> bool {
    let is_stream = |condition: &Condition| matches!(condition, Condition::Stream(..));
    if !append.conditions.iter().all(is_stream) {
        return false;
    }
    put_varint(out, number);
    put_varint(out, append.conditions.len() as u64);
    for condition in &append.conditions {
        if let Condition::Stream(stream, expect) = condition {
            put_bytes(out, stream.as_str().as_bytes());
            let (state, version) = match *expect {
                Expect::Any => (ANY, 0),
                Expect::Empty => (EMPTY, 0),
                Expect::Exists => (EXISTS, 0),
                Expect::At(version) => (AT, version),
            };
            out.push(state);
            put_varint(out, version);
        }
    }
    let mut records = Vec::new();
    encode_new(&mut records, &append.events);
    put_bytes(out, &records);
    true
}

/// Appends by their numbers; of one that is none, why.
pub type Numbered = Vec<(u64, Result<Append, Malformed>)>;

/// The appends of a message by their numbers; of one that is none, why. Their data shares the memory of
/// the message. All together take about `room` bytes of memory at the most.
pub fn unpack_appends(packed: &Bytes, mut room: usize) -> Result<Numbered, Malformed> {
    let mut appends = Vec::new();
    let mut cursor = Cursor {
        bytes: packed,
        at: 0,
    };
    while cursor.at < packed.len() {
        room = less(room, APPEND_BYTES)?;
        let (number, conditions, records) = append_at(&mut cursor, &mut room).map_err(malformed)?;
        let weight =
            |fields: usize| EVENT_PARTS_BYTES + PART_BYTES * fields.saturating_sub(FIELDS_OF_ONE);
        let events = decode_new(&packed.slice_ref(records), &mut room, weight);
        let append = match (conditions, events) {
            (Ok(conditions), Ok(events)) => Ok(Append { conditions, events }),
            (Err(error), _) => Err(error),
            (_, Err(error)) => Err(Malformed(error.to_string())),
        };
        appends.push((number, append));
    }
    Ok(appends)
}

type Parts<'a> = (u64, Result<Vec<Condition>, Malformed>, &'a [u8]);

/// The parts of the next append. What is wrong with a name is wrong with this append alone.
fn append_at<'a>(cursor: &mut Cursor<'a>, room: &mut usize) -> Result<Parts<'a>, RecordError> {
    let number = cursor.varint()?;
    let count = cursor.varint()?;
    let mut conditions = Ok(Vec::new());
    for _ in 0..count {
        let left = room.checked_sub(CONDITION_BYTES);
        *room = left.ok_or(RecordError("it has too many conditions"))?;
        let stream = cursor.text()?;
        let (state, version) = (cursor.byte()?, cursor.varint()?);
        let expect = match state {
            ANY => Expect::Any,
            EMPTY => Expect::Empty,
            EXISTS => Expect::Exists,
            AT => Expect::At(version),
            _ => return Err(RecordError("a condition expects what is not known here")),
        };
        if let Ok(list) = &mut conditions {
            match StreamId::system(stream) {
                Ok(stream) => list.push(Condition::Stream(stream, expect)),
                Err(error) => conditions = Err(Malformed::new(error)),
            }
        }
    }
    Ok((number, conditions, cursor.run()?))
}

/// Puts what an append has done behind others, if its form has room for it: it has for one partition,
/// and not for what the events depend on in others.
pub fn pack_appended(out: &mut Vec<u8>, number: u64, appended: &Appended) -> bool {
    let places = &appended.places;
    let partition = places.first().map_or(0, |at| at.position.partition.0);
    let is_apart = places.iter().any(|at| at.position.partition.0 != partition);
    if is_apart || appended.closure != appended.cut() {
        return false;
    }
    put_varint(out, number);
    out.push(if appended.repeated { REPEATED } else { 0 });
    put_varint(out, partition.into());
    put_varint(out, places.len() as u64);
    let (mut offset, mut version) = (0, 0);
    for at in places {
        put_varint(out, at.position.offset.wrapping_sub(offset));
        put_varint(out, at.version.wrapping_sub(version));
        offset = at.position.offset.wrapping_add(1);
        version = at.version.wrapping_add(1);
    }
    true
}

/// What appends have done, by their numbers.
pub fn unpack_appended(
    packed: &[u8],
    mut each: impl FnMut(u64, Appended),
) -> Result<(), Malformed> {
    let mut cursor = Cursor {
        bytes: packed,
        at: 0,
    };
    while cursor.at < packed.len() {
        let (number, appended) = appended_at(&mut cursor).map_err(malformed)?;
        each(number, appended);
    }
    Ok(())
}

fn appended_at(cursor: &mut Cursor<'_>) -> Result<(u64, Appended), RecordError> {
    let number = cursor.varint()?;
    let repeated = cursor.byte()? == REPEATED;
    let partition = u32::try_from(cursor.varint()?);
    let partition = partition.map_err(|_| RecordError("there is no such partition"))?;
    let count = cursor.varint()?;
    // Each has two bytes at least.
    let most = cursor.bytes.len().saturating_sub(cursor.at) / 2;
    if count > most as u64 {
        return Err(RecordError("it ends early"));
    }
    let mut places = Vec::with_capacity(count as usize);
    let (mut offset, mut version) = (0_u64, 0_u64);
    for _ in 0..count {
        offset = offset.wrapping_add(cursor.varint()?);
        version = version.wrapping_add(cursor.varint()?);
        places.push(Placed {
            position: Position {
                partition: PartitionId(partition),
                offset,
            },
            version,
        });
        offset = offset.wrapping_add(1);
        version = version.wrapping_add(1);
    }
    Ok((number, Appended::new(places, repeated)))
}

fn less(room: usize, bytes: usize) -> Result<usize, Malformed> {
    let left = room.checked_sub(bytes);
    left.ok_or_else(|| Malformed::new("the message has too many appends"))
}

fn malformed(error: RecordError) -> Malformed {
    Malformed(format!("what came packed cannot be read: {error}"))
}
