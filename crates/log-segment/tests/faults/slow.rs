//! What one slow partition of a directory means for the others: nothing.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use anabranch_env::Env;
use anabranch_log::{Append, Layout, Log};
use anabranch_log_segment::{EmbeddedLog, Options, create};
use anabranch_model::{EventId, NewEvent, PartitionId, StreamId};
use futures_executor::block_on;

use crate::hook::{Op, hooked};
use crate::support::TempDir;

/// The `n`th append to a partition, of two events and so by way of the log's own threads.
fn appends(layout: &Layout, partition: u32, n: u128) -> Vec<Append> {
    let stream = (0..).map(|key| StreamId::new(format!("order/{key}")).unwrap());
    let stands_there = |stream: &StreamId| layout.partition_of(stream) == PartitionId(partition);
    let stream = stream.into_iter().find(stands_there).unwrap();
    let id = |i| EventId::from_u128(u128::from(partition) << 32 | n << 1 | i);
    let event = |i| NewEvent::new(id(i), stream.clone(), "Placed".parse().unwrap(), "{}");
    [0, 1].map(|i| Append::event(event(i))).into()
}

#[test]
fn a_partition_whose_disk_does_not_answer_holds_up_no_other_commit() {
    let dir = TempDir::new();
    let layout = Layout::new(vec!["trade=order:3".parse().unwrap()], 1).unwrap();
    let (env, hooks) = hooked(&Env::os());
    create(&env, &dir.0, &layout).unwrap();
    let options = Options {
        append_timeout: Duration::from_secs(5),
        ..Options::default()
    };
    let log = Arc::new(EmbeddedLog::open(env, &dir.0, options).unwrap());
    // (whether a write of the slow partition has come, whether it may go on)
    let gate = Arc::new((Mutex::new((false, false)), Condvar::new()));
    let held = gate.clone();
    hooks.set(move |op, name| {
        if op == Op::Write && name.starts_with("partition-1/") && is_for_events(name) {
            let (state, changed) = &*held;
            let mut state = state.lock().unwrap();
            state.0 = true;
            changed.notify_all();
            while !state.1 {
                state = changed.wait(state).unwrap();
            }
        }
        Ok(())
    });
    let slow = {
        let (log, appends) = (log.clone(), appends(&layout, 1, 0));
        std::thread::spawn(move || block_on(log.append_all(appends)))
    };
    let (state, changed) = &*gate;
    let mut came = state.lock().unwrap();
    while !came.0 {
        came = changed.wait(came).unwrap();
    }
    drop(came);
    for n in 0..20 {
        for partition in [2, 3] {
            for answer in block_on(log.append_all(appends(&layout, partition, n))) {
                answer.unwrap();
            }
        }
    }
    state.lock().unwrap().1 = true;
    changed.notify_all();
    for answer in slow.join().unwrap() {
        answer.unwrap();
    }
}

/// Whether a file is a segment, by the name that it was opened with: that of a file written ahead, or
/// its own.
fn is_for_events(name: &str) -> bool {
    name.ends_with(".pre") || name.ends_with(".seg") || name.contains("segment-")
}
