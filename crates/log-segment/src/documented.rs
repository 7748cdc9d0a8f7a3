//! Holds `docs/formats/segment.md` to what the code does.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_env::{OpenMode, sim};
use anabranch_model::record::encode;
use anabranch_model::{EventId, EventType, NewEvent, StreamId};

use crate::admin::{decode_manifest, decode_whole};
use crate::format::{
    DATA_START, FRAME_HEADER, FrameHeader, Live, LogIdentity, Mark, PAGE, SegmentHeader, Spot,
    seal_frame,
};
use crate::index::{ActiveIndex, Merge, SealedIndex, Source, stream_key, write_index};

const TEXT: &str = include_str!("../../../docs/formats/segment.md");

const IDENTITY: LogIdentity = LogIdentity {
    log_id: 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10,
    hash_key: 0x1112_1314_1516_1718,
};

/// The rows of the tables that have an offset and a size, table by table.
fn layouts() -> Vec<Vec<(usize, usize, String)>> {
    let mut tables: Vec<Vec<_>> = Vec::new();
    let mut inside = false;
    for line in TEXT.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        if cells[..] == ["offset", "size", "field"] {
            tables.push(Vec::new());
            inside = true;
        } else if !line.starts_with('|') {
            inside = false;
        } else if inside && !cells[0].starts_with('-') {
            let row = (
                cells[0].parse().unwrap(),
                cells[1].parse().unwrap(),
                cells[2].to_owned(),
            );
            tables.last_mut().unwrap().push(row);
        }
    }
    tables
}

/// Each row begins where the one before it ends, and holds the value named by the first
/// words of its field, or zeros. Every value is told of.
fn check(table: &[(usize, usize, String)], bytes: &[u8], values: &[(&str, u128)]) {
    let mut left: BTreeMap<&str, u128> = values.iter().copied().collect();
    let mut next = 0;
    for (offset, size, field) in table {
        assert_eq!(*offset, next, "{field}");
        next = offset + size;
        let stored = bytes[*offset..next].iter().rev();
        let stored = stored.fold(0, |sum: u128, &byte| sum.wrapping_shl(8) | u128::from(byte));
        if field == "zero" {
            assert!(
                bytes[*offset..next].iter().all(|&b| b == 0),
                "{field} at {offset}"
            );
            continue;
        }
        if *size == 0 || field == "checksum" {
            continue;
        }
        let named = left.keys().copied().find(|name| field.starts_with(name));
        let name = named.unwrap_or_else(|| panic!("nothing is known of {field}"));
        assert_eq!(Some(stored), left.remove(name), "{field} at {offset}");
    }
    assert_eq!(next, bytes.len());
    assert!(left.is_empty(), "not in the page: {left:?}");
}

fn magic(text: &[u8; 8]) -> u128 {
    u128::from(u64::from_le_bytes(*text))
}

fn page_crc(page: &[u8]) -> u128 {
    u128::from(crate::format::crc32c(&page[..PAGE - 4]))
}

fn event(id: u128, data: &'static str) -> NewEvent {
    NewEvent::new(
        EventId::from_u128(id),
        StreamId::new("order/1").unwrap(),
        EventType::new("Placed").unwrap(),
        data,
    )
}

/// An index of two frames with three events of two streams.
fn index() -> ActiveIndex {
    let mut index = ActiveIndex::new(40, IDENTITY.hash_key, DATA_START);
    let key = |stream| stream_key(IDENTITY.hash_key, stream);
    index.begin_frame(DATA_START, DATA_START + 100);
    index.push(7, key("a/1"), 0, "a", "T", [].into_iter());
    index.push(8, key("a/2"), 0, "a", "T", [].into_iter());
    index.begin_frame(DATA_START + 100, DATA_START + 200);
    index.push(9, key("a/1"), 1, "a", "T", [].into_iter());
    index
}

/// As the text says: what the CRC of a frame is combined with.
fn frame_secret(segment: u64, offset: u64) -> u32 {
    let mut place = segment.to_le_bytes().to_vec();
    place.extend(offset.to_le_bytes());
    xxhash_rust::xxh3::xxh3_64_with_seed(&place, IDENTITY.hash_key) as u32
}

/// First page and count, or length, as one number.
fn pair(first: u32, count: u32) -> u128 {
    u128::from(first) | u128::from(count) << 32
}

/// The values that files say of the log that they belong to, and more.
fn with(more: &[(&'static str, u128)]) -> Vec<(&'static str, u128)> {
    let identity = [
        ("log id", IDENTITY.log_id),
        ("hash key", u128::from(IDENTITY.hash_key)),
        ("format version", 2),
    ];
    identity.iter().chain(more).copied().collect()
}

#[test]
fn the_tables_of_segment_and_frame_are_true() {
    let tables = layouts();
    let header = SegmentHeader {
        identity: IDENTITY,
        segment_id: 21,
        first: 22,
        capacity: 23,
        created_at: 24,
        previous: 25,
    };
    let bytes = header.encode();
    assert_eq!(bytes.len() as u64, DATA_START);
    let values = [
        ("magic", magic(b"ANABSEG\0")),
        ("segment id", 21),
        ("first", 22),
        ("capacity", 23),
        ("created", 24),
        ("previous", 25),
        ("fields length", 0),
        ("CRC", page_crc(&bytes)),
    ];
    check(&tables[0], &bytes[..PAGE], &with(&values));

    let frame = FrameHeader {
        segment_id: 31,
        first: 32,
        count: 33,
        body_len: 0,
        durable: 34,
        recorded_at: 35,
        fields_len: 0,
    };
    let spot = Spot {
        segment_id: 31,
        offset: 8192,
        hash_key: IDENTITY.hash_key,
    };
    let mut bytes = vec![0; FRAME_HEADER];
    seal_frame(&mut bytes, &frame, spot);
    let values = [
        (
            "CRC",
            u128::from(crate::format::crc32c(&bytes[4..]) ^ frame_secret(31, 8192)),
        ),
        ("magic", 0xa7bf),
        ("count", 33),
        ("body length", 0),
        ("segment id", 31),
        ("first", 32),
        ("durable", 34),
        ("recorded", 35),
        ("fields length", 0),
    ];
    check(&tables[1], &bytes, &values);
}

#[test]
fn the_tables_of_mark_and_live_are_true() {
    let tables = layouts();
    assert_eq!(tables.len(), 6);
    let mark = Mark {
        identity: IDENTITY,
        sequence: 41,
        epoch: 42,
        durable: 43,
        segment_id: 44,
        offset: 45,
        clean: true,
    };
    let bytes = mark.encode();
    let values = [
        ("magic", magic(b"ANABMRK\0")),
        ("clean", 1),
        ("sequence", 41),
        ("epoch", 42),
        ("durable", 43),
        ("segment id", 44),
        ("offset", 45),
        ("CRC", page_crc(&bytes)),
    ];
    check(&tables[2], &bytes, &with(&values));

    let live = Live {
        epoch: 51,
        published: 52,
    };
    let bytes = live.encode(IDENTITY);
    let crc = u128::from(crate::format::crc32c(&bytes[..16]) ^ IDENTITY.log_id as u32);
    check(
        &tables[3],
        &bytes,
        &[("epoch", 51), ("published", 52), ("CRC", crc)],
    );
}

#[test]
fn the_tables_of_index_and_catalogue_are_true() {
    let tables = layouts();
    let (log_id, hash_key) = (IDENTITY.log_id, u128::from(IDENTITY.hash_key));
    let bytes = write_index(&index(), IDENTITY, 61, DATA_START);
    let values = [
        ("magic", magic(b"ANABIDX\0")),
        ("format version", 2),
        ("log id", log_id),
        ("hash key", hash_key),
        ("segment id", 61),
        ("first", 40),
        ("end:", 43),
        ("start offset", 8192),
        ("end offset", 8392),
        ("least", 7),
        ("greatest", 9),
        ("frames", pair(1, 2)),
        ("streams", pair(2, 2)),
        ("stream postings", pair(3, 3)),
        ("stream filter", pair(4, 64)),
        ("ids", pair(5, 3)),
        ("id filter", pair(6, 64)),
        ("terms", pair(7, 2)),
        ("term postings", pair(8, 6)),
    ];
    check(&tables[4], &bytes[..PAGE], &values);

    let (env, disk, _) = sim::env(1);
    disk.plant("i".as_ref(), &bytes).unwrap();
    let sealed = SealedIndex::open(env.disk.open("i".as_ref(), OpenMode::Read).unwrap()).unwrap();
    let file = env.disk.open("c".as_ref(), OpenMode::Create).unwrap();
    let sources = [Source::Part(Arc::new(sealed))];
    let mut merge = Merge::begin(&sources, file, IDENTITY, (40, 43), 5).unwrap();
    assert!(merge.step(10).unwrap());
    merge.finish().unwrap();
    let bytes = disk.content("c".as_ref()).unwrap();
    let values = [
        ("magic", magic(b"ANABCAT\0")),
        ("format version", 2),
        ("log id", log_id),
        ("hash key", hash_key),
        ("first", 40),
        ("end", 43),
        ("level", 5),
        ("first page of the entries", 1),
        ("count of the entries", 2),
        ("first page of the filter", 2),
        ("length of the filter", 64),
    ];
    check(&tables[5], &bytes[..PAGE], &values);
}

/// The content of the block that begins with this fence.
fn block(info: &str) -> &'static str {
    let begin = TEXT.find(&format!("```{info}\n")).unwrap() + info.len() + 4;
    &TEXT[begin..begin + TEXT[begin..].find("```").unwrap()]
}

#[test]
fn the_record_shown_is_what_the_code_writes() {
    let events = [event(1, "{}").with_tag("a:b"), event(2, "[1]")];
    let mut bytes = Vec::new();
    encode(&mut bytes, &events, &[4, 5]);
    let shown: Vec<u8> = block("hex")
        .split_whitespace()
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect();
    assert_eq!(shown, bytes, "{bytes:02x?}");
}

#[test]
fn the_manifest_shown_is_one() {
    assert_eq!(decode_manifest(block("manifest")), Ok(20));
}

#[test]
fn the_layout_and_the_list_of_a_backup_shown_are_such() {
    let layout = crate::layout_file::decode_layout(block("layout")).unwrap();
    assert_eq!(layout.partitions(), 15);
    assert_eq!(decode_whole(block("manifest2")), Ok(vec![12, 3, 40]));
}

#[test]
fn what_says_that_a_log_was_moved_is_shown() {
    assert_eq!(
        crate::moved::decode_to(block("moved")),
        Ok("/logs/new".to_owned())
    );
}

#[test]
fn the_sizes_of_index_entries_are_true() {
    for (what, size) in [("frames", 8), ("streams", 40), ("ids", 12), ("terms", 20)] {
        assert!(
            TEXT.contains(&format!("| {what}, {size} bytes |")),
            "{what}"
        );
    }
    assert_eq!(crate::index::ENTRY_SIZES, [8, 40, 12, 20]);
}
