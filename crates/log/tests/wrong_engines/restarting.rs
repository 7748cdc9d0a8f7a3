use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anabranch_log::Log;
use anabranch_log::conformance::Subject;
use anabranch_model::EventId;

use crate::engines::{Kept, lock};
use crate::wrong::must_fail;

/// A place whose log is wrong in one way after it was opened again, or for its readers.
struct WrongPlace<O, R> {
    kept: Kept,
    opened: AtomicUsize,
    open: O,
    reader: R,
}

impl<O, R> Subject for WrongPlace<O, R>
where
    O: Fn(&Kept, usize) -> Arc<dyn Log> + Send + Sync,
    R: Fn(&Kept) -> Arc<dyn Log> + Send + Sync,
{
    fn open(&self) -> Arc<dyn Log> {
        (self.open)(&self.kept, self.opened.fetch_add(1, Ordering::Relaxed))
    }

    fn open_read_only(&self) -> Option<Arc<dyn Log>> {
        Some((self.reader)(&self.kept))
    }

    fn patience(&self) -> Duration {
        Duration::from_millis(300)
    }
}

fn opens_wrong(open: impl Fn(&Kept, usize) -> Arc<dyn Log> + Send + Sync) -> impl Subject {
    WrongPlace {
        kept: Kept::default(),
        opened: AtomicUsize::new(0),
        open,
        reader: |kept: &Kept| -> Arc<dyn Log> { kept.reader() },
    }
}

fn reads_wrong(reader: impl Fn(&Kept) -> Arc<dyn Log> + Send + Sync) -> impl Subject {
    WrongPlace {
        kept: Kept::default(),
        opened: AtomicUsize::new(0),
        open: |kept: &Kept, _| -> Arc<dyn Log> { kept.open_log() },
        reader,
    }
}

#[test]
fn losing_the_last_batch_in_a_restart_is_caught() {
    let subject = || {
        opens_wrong(|kept, _| {
            lock(&kept.journal).pop();
            kept.open_log()
        })
    };
    for case in [
        "restarting::events_outlive_a_restart",
        "restarting::the_head_is_the_same_after_a_restart",
        "restarting::places_go_on_after_a_restart",
        "restarting::large_batches_outlive_a_restart",
        "random::random_operations_with_restarts_agree_with_the_model",
    ] {
        must_fail(case, &subject());
    }
}

#[test]
fn losing_the_ids_in_a_restart_is_caught() {
    let subject = || {
        opens_wrong(|kept, opened| {
            if opened > 0 {
                for event in lock(&kept.journal).iter_mut().flatten() {
                    event.id = EventId::from_u128(event.id.as_u128() ^ 1 << 90);
                }
            }
            kept.open_log()
        })
    };
    for case in [
        "restarting::a_repeat_after_a_restart_answers_the_original_places",
        "restarting::a_conditional_append_can_be_repeated_after_a_restart",
        "restarting::ids_are_still_taken_after_a_restart",
        "restarting::a_partly_written_batch_is_refused_after_a_restart",
    ] {
        must_fail(case, &subject());
    }
}

#[test]
fn a_reader_that_stands_still_is_caught() {
    let subject = || {
        reads_wrong(|kept| {
            let copy = Kept::default();
            lock(&copy.journal).clone_from(&lock(&kept.journal));
            copy.open_log()
        })
    };
    for case in [
        "read_only::a_reader_sees_what_is_written_later",
        "read_only::a_reader_follows_the_writer",
        "read_only::a_reader_beside_busy_writers_sees_no_gap",
    ] {
        must_fail(case, &subject());
    }
}

#[test]
fn a_reader_that_writes_is_caught() {
    let subject = reads_wrong(|kept| kept.writer());
    must_fail("read_only::a_reader_refuses_to_write", &subject);
}
