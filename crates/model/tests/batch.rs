//! Batches read in place and as owned values: the same events, whatever part is asked for.

use std::sync::Arc;

use anabranch_model::record::{RecordError, encode};
use anabranch_model::{
    Block, BlockEntry, Event, EventBatch, EventId, EventType, Filter, NewEvent, PartitionId,
    Position, Reach, StreamId,
};
use bytes::Bytes;

/// Three stored batches of 1, 3 and 2 events: offsets 10 to 15.
fn block() -> Arc<Block> {
    let mut bytes = Vec::new();
    let mut entries = Vec::new();
    let mut first = 10;
    for (index, count) in [1_u64, 3, 2].into_iter().enumerate() {
        let events: Vec<NewEvent> = (first..first + count)
            .map(|offset| {
                let stream = if offset % 2 == 0 { "even/x" } else { "odd/x" };
                NewEvent::new(
                    EventId::from_u128(u128::from(offset)),
                    StreamId::new(stream).unwrap(),
                    EventType::new("Counted").unwrap(),
                    offset.to_string(),
                )
            })
            .collect();
        let versions: Vec<u64> = (0..count).collect();
        let start = bytes.len();
        encode(&mut bytes, &events, &versions);
        entries.push(BlockEntry {
            first,
            append: first,
            count: count as u32,
            recorded_at: index as u64,
            start: start as u32,
            len: (bytes.len() - start) as u32,
        });
        first += count;
    }
    Arc::new(Block {
        bytes: Bytes::from(bytes),
        entries,
        partition: PartitionId(0),
    })
}

fn offsets(batch: &EventBatch) -> Vec<u64> {
    let borrowed = batch.iter().map(|event| event.unwrap().position.offset);
    borrowed.collect()
}

#[test]
fn every_range_gives_its_events_both_ways() {
    let block = block();
    for from in 9..18 {
        for to in from..18 {
            let batch = EventBatch::of_block(block.clone(), from, to, None);
            let wanted: Vec<u64> = (from.max(10)..to.clamp(10, 16)).collect();
            assert_eq!(offsets(&batch), wanted, "{from}..{to}");
            let owned: Result<Vec<Event>, RecordError> = batch.clone().into_iter().collect();
            let owned = owned.unwrap();
            let borrowed: Vec<Event> = batch.iter().map(|e| e.unwrap().to_event()).collect();
            assert_eq!(owned, borrowed, "{from}..{to}");
        }
    }
}

#[test]
fn a_filter_leaves_out_what_does_not_pass() {
    let filter = Some(Arc::new(Filter::category("even")));
    let batch = EventBatch::of_block(block(), 10, 16, filter);
    assert_eq!(offsets(&batch), [10, 12, 14]);
    assert_eq!(batch.into_iter().count(), 3);
}

#[test]
fn an_owned_event_shares_the_memory_of_its_block_until_detached() {
    let block = block();
    let memory = block.bytes.as_ptr_range();
    let batch = EventBatch::of_block(block.clone(), 11, 12, None);
    let event = batch.into_iter().next().unwrap().unwrap();
    assert!(memory.contains(&event.data().as_ptr()));
    let detached = event.detach();
    assert_eq!(detached, event);
    assert!(!memory.contains(&detached.data().as_ptr()));
}

#[test]
fn malformed_records_end_a_batch_with_an_error() {
    let mut broken = Arc::unwrap_or_clone(block());
    broken.entries[1].len -= 1;
    let batch = EventBatch::of_block(Arc::new(broken), 10, 16, None);
    assert!(batch.iter().any(|event| event.is_err()));
    assert!(batch.into_iter().any(|event| event.is_err()));
}

#[test]
fn a_batch_says_how_far_it_reaches_and_where_its_appends_begin() {
    let batch = EventBatch::of_block(block(), 9, 16, None);
    let reach = batch.reach().unwrap();
    assert_eq!(reach.offsets, 9..16);
    let starts: Vec<u64> = (10..16)
        .map(|offset| batch.append_start(Position::at(offset)).offset)
        .collect();
    assert_eq!(starts, [10, 11, 11, 11, 14, 14]);
    let events: Vec<Event> = batch.into_iter().map(Result::unwrap).collect();
    let run = EventBatch::of_run(events.clone(), reach.clone(), vec![10, 11, 14]);
    assert_eq!(run.reach(), Some(reach));
    for (offset, start) in (10..16).zip(starts) {
        let position = Position::at(offset);
        assert_eq!(run.append_start(position).offset, start);
        // Of events alone nobody knows.
        assert_eq!(
            EventBatch::from(events.clone()).append_start(position),
            position
        );
    }
}

#[test]
fn events_out_of_order_or_out_of_reach_are_found() {
    let in_order: Vec<Event> = EventBatch::of_block(block(), 10, 16, None)
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let reach = |offsets| Reach::of(PartitionId(0), offsets);
    let run =
        |events: &[Event], offsets| EventBatch::of_run(events.to_vec(), reach(offsets), Vec::new());
    assert_eq!(run(&in_order, 10..16).first_out_of_order(), None);
    let outside = run(&in_order, 10..15).first_out_of_order();
    assert_eq!(outside, Some(Position::at(15)));
    let mut swapped = in_order;
    swapped.swap(2, 3);
    for batch in [run(&swapped, 10..16), swapped.clone().into()] {
        assert_eq!(batch.first_out_of_order(), Some(Position::at(12)));
    }
}
