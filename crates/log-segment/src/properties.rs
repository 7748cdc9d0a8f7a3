//! What stands in files reads back as it was written, and no changed byte passes for something else
//! or makes a reader panic: over values drawn at random.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_env::{File, OpenMode, sim};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::format::{
    DATA_START, FRAME_HEADER, FrameAt, FrameHeader, Live, LogIdentity, Mark, PAGE, SegmentHeader,
    Spot, frame_at, seal_frame,
};
use crate::index::{
    ActiveIndex, Lookup, Merge, Run, SealedIndex, Source, Term, stream_key, term_key, write_index,
};

fn identities() -> impl Strategy<Value = LogIdentity> {
    (any::<u128>(), any::<u64>()).prop_map(|(log_id, hash_key)| LogIdentity { log_id, hash_key })
}

/// Another value than it has, for the byte at any place.
fn changes() -> impl Strategy<Value = (Index, u8)> {
    (any::<Index>(), 1..=u8::MAX)
}

fn changed(bytes: &[u8], (at, by): (Index, u8)) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    changed[at.index(bytes.len())] ^= by;
    changed
}

prop_compose! {
    fn headers()(
        identity in identities(),
        [segment_id, first, capacity, created_at, previous] in any::<[u64; 5]>(),
    ) -> SegmentHeader {
        SegmentHeader { identity, segment_id, first, capacity, created_at, previous }
    }
}

prop_compose! {
    fn marks()(
        identity in identities(),
        [sequence, epoch, durable, segment_id, offset] in any::<[u64; 5]>(),
        clean in any::<bool>(),
    ) -> Mark {
        Mark { identity, sequence, epoch, durable, segment_id, offset, clean }
    }
}

/// A frame with its header and where it stands.
fn frames() -> impl Strategy<Value = (FrameHeader, Spot, Vec<u8>)> {
    let body = prop::collection::vec(any::<u8>(), 0..200);
    let fields =
        prop::collection::vec((0..0x40_u8, prop::collection::vec(any::<u8>(), 0..5)), 0..3);
    let numbers = (any::<[u64; 4]>(), 1..=u16::MAX);
    (body, fields, numbers, any::<u64>()).prop_map(
        |(body, fields, ([segment_id, offset, first, recorded_at], count), hash_key)| {
            let mut bytes = vec![0; FRAME_HEADER];
            bytes.extend(&body);
            for (number, value) in fields {
                bytes.extend([number, value.len() as u8]);
                bytes.extend(value);
            }
            let header = FrameHeader {
                segment_id,
                first,
                count,
                body_len: body.len() as u32,
                durable: first / 2,
                recorded_at,
                fields_len: (bytes.len() - FRAME_HEADER - body.len()) as u32,
            };
            let spot = Spot {
                segment_id,
                offset,
                hash_key,
            };
            seal_frame(&mut bytes, &header, spot);
            (header, spot, bytes)
        },
    )
}

/// Events of few streams and categories, in frames: of each its id and which stream.
fn events() -> impl Strategy<Value = Vec<Vec<(u128, u8)>>> {
    let event = (any::<u128>(), 0..6_u8);
    prop::collection::vec(prop::collection::vec(event, 1..6), 1..20)
}

const FIRST: u64 = 40;

/// The index of these events, and the next version of each stream.
fn index(identity: LogIdentity, frames: &[Vec<(u128, u8)>]) -> (ActiveIndex, BTreeMap<u128, u64>) {
    let mut index = ActiveIndex::new(FIRST, identity.hash_key, DATA_START);
    let mut heads = BTreeMap::new();
    let mut offset = DATA_START;
    for frame in frames {
        index.begin_frame(offset, offset + 100);
        offset += 100;
        for &(id, stream) in frame {
            let category = format!("c{}", stream % 2);
            let key = stream_key(identity.hash_key, &format!("{category}/{stream}"));
            let version = heads.entry(key).or_insert(0);
            index.push(id, key, *version, &category, "T", ["tag"].into_iter());
            *version += 1;
        }
    }
    (index, heads)
}

fn file(bytes: &[u8]) -> Arc<dyn File> {
    let (env, disk, _) = sim::env(1);
    disk.plant("f".as_ref(), bytes).unwrap();
    env.disk.open("f".as_ref(), OpenMode::Read).unwrap()
}

/// The bytes of a run of the catalogue that is merged from this index.
fn run_of(identity: LogIdentity, index: &ActiveIndex) -> Vec<u8> {
    let sealed = write_index(index, identity, 3, DATA_START);
    let sources = [Source::Part(Arc::new(
        SealedIndex::open(file(&sealed)).unwrap(),
    ))];
    let (env, disk, _) = sim::env(1);
    let out = env.disk.open("c".as_ref(), OpenMode::Create).unwrap();
    let span = (index.first(), index.end());
    let mut merge = Merge::begin(&sources, out, identity, span, 1).unwrap();
    while !merge.step(7).unwrap() {}
    merge.finish().unwrap();
    disk.content("c".as_ref()).unwrap().to_vec()
}

proptest! {
    #[test]
    fn headers_and_marks_read_back_and_a_changed_byte_is_seen(
        header in headers(),
        mark in marks(),
        change in changes(),
    ) {
        let bytes = header.encode();
        for copy in bytes.chunks(PAGE) {
            prop_assert_eq!(SegmentHeader::decode(copy), Ok(header));
            prop_assert!(SegmentHeader::decode(&changed(copy, change)).is_err());
        }
        let bytes = mark.encode();
        prop_assert_eq!(Mark::decode(&bytes), Ok(mark));
        prop_assert!(Mark::decode(&changed(&bytes, change)).is_err());
        let live = Live { epoch: mark.epoch, published: mark.durable };
        let bytes = live.encode(mark.identity);
        prop_assert_eq!(Live::decode(&bytes, mark.identity), Some(live));
        prop_assert_eq!(Live::decode(&changed(&bytes, change), mark.identity), None);
    }

    #[test]
    fn a_frame_reads_back_where_it_stands_and_a_changed_byte_is_seen(
        (header, spot, bytes) in frames(),
        change in changes(),
        elsewhere in any::<u64>(),
    ) {
        let look = |bytes: &[u8], spot| frame_at(bytes, u64::MAX, spot, true);
        prop_assert_eq!(look(&bytes, spot), FrameAt::Frame(header));
        let found = look(&changed(&bytes, change), spot);
        prop_assert!(!matches!(found, FrameAt::Frame(_)), "{found:?}");
        // Cut short it asks for more, and never reads beyond.
        for end in [0, FRAME_HEADER - 1, FRAME_HEADER, bytes.len() - 1] {
            let found = look(&bytes[..end.min(bytes.len() - 1)], spot);
            prop_assert!(matches!(found, FrameAt::Short(_)), "{found:?}");
        }
        if elsewhere != spot.offset {
            let found = look(&bytes, Spot { offset: elsewhere, ..spot });
            prop_assert!(matches!(found, FrameAt::Bad(_)), "{found:?}");
        }
    }

    #[test]
    fn no_bytes_make_the_readers_of_pages_and_frames_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..PAGE + 9),
        spot in frames().prop_map(|(_, spot, _)| spot),
    ) {
        prop_assert!(SegmentHeader::decode(&bytes).is_err());
        prop_assert!(Mark::decode(&bytes).is_err());
        let found = frame_at(&bytes, bytes.len() as u64, spot, true);
        prop_assert!(!matches!(found, FrameAt::Frame(_)));
        let identity = LogIdentity { log_id: 1, hash_key: spot.hash_key };
        prop_assert!(SealedIndex::open(file(&bytes)).is_err());
        prop_assert!(Run::open(file(&bytes), identity).is_err());
    }

    #[test]
    fn a_sealed_index_finds_what_the_one_in_memory_finds_and_a_changed_byte_is_seen(
        identity in identities(),
        frames in events(),
        change in changes(),
    ) {
        let (active, heads) = index(identity, &frames);
        let bytes = write_index(&active, identity, 3, DATA_START);
        let sealed = SealedIndex::open(file(&bytes)).unwrap();
        prop_assert!(sealed.header.fits(identity, 3, FIRST, DATA_START));
        prop_assert_eq!(sealed.header.end, active.end());
        sealed.check_pages(bytes.len() as u64).unwrap();
        for (rel, &(id, _)) in frames.iter().flatten().enumerate() {
            prop_assert!(sealed.find_id(id).unwrap().contains(&(rel as u32)));
        }
        for (&key, &next) in &heads {
            let span = sealed.stream(key).unwrap();
            prop_assert_eq!(span, active.stream(key));
            prop_assert_eq!(span.map(|span| span.next_version), Some(next));
            prop_assert_eq!(sealed.stream_rels(key).unwrap(), active.stream_rels(key));
        }
        for term in [Term::Category("c1"), Term::Type("T"), Term::Tag("tag"), Term::Tag("no")] {
            let lookup = Lookup::Terms(vec![term_key(identity.hash_key, term)]);
            let known = active.lookup(&lookup, &(0..active.count()));
            prop_assert_eq!(sealed.lookup(&lookup).unwrap(), known);
        }
        // What it says after that is an error or was not on the page; it never panics.
        let spoilt = changed(&bytes, change);
        if let Ok(spoilt) = SealedIndex::open(file(&spoilt)) {
            prop_assert!(spoilt.check_pages(bytes.len() as u64).is_err());
            for (&key, &next) in &heads {
                if let Ok(span) = spoilt.stream(key) {
                    prop_assert_eq!(span.map(|span| span.next_version), Some(next));
                }
            }
        }
    }

    #[test]
    fn a_run_of_the_catalogue_knows_every_head_and_a_changed_byte_is_seen(
        identity in identities(),
        frames in events(),
        change in changes(),
    ) {
        let (active, heads) = index(identity, &frames);
        let bytes = run_of(identity, &active);
        let run = Run::open(file(&bytes), identity).unwrap();
        run.verify().unwrap();
        prop_assert_eq!((run.first, run.end), (active.first(), active.end()));
        for (&key, &next) in &heads {
            prop_assert_eq!(run.next_version(key).unwrap(), Some(next));
        }
        if let Ok(spoilt) = Run::open(file(&changed(&bytes, change)), identity) {
            prop_assert!(spoilt.verify().is_err());
            for (&key, &next) in &heads {
                if let Ok(found) = spoilt.next_version(key) {
                    prop_assert_eq!(found, Some(next));
                }
            }
        }
    }
}
