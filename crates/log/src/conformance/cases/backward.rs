//! Reads from a cut back to the start.

use anabranch_model::{Cut, Filter};

use crate::ReadMode;
use crate::conformance::check::just_these_backward;
use crate::conformance::make::Written;
use crate::conformance::stage::{Stage, whole};

fn write(stage: &Stage<'_>) -> Vec<Written> {
    let batch = |n: usize| stage.put_all(stage.events(&format!("order/{}", n % 3), 1 + n % 4));
    (0..10).flat_map(batch).collect()
}

pub fn backward_from_the_head_gives_everything_newest_first(stage: &mut Stage<'_>) {
    let written = write(stage);
    let read = stage.read(&stage.head(), Filter::all(), ReadMode::Backward);
    just_these_backward(&read, &written);
}

pub fn backward_in_one_order_is_forward_turned_round(stage: &mut Stage<'_>) {
    write(stage);
    let mut forward = stage.read_all();
    forward.reverse();
    let backward = stage.read(&stage.head(), Filter::all(), ReadMode::Backward);
    assert!(backward == forward);
}

pub fn backward_from_each_cut_gives_what_it_includes(stage: &mut Stage<'_>) {
    let written = write(stage);
    for from in &written {
        let cut = Cut::including(from.placed.position);
        let read = stage.read(&cut, Filter::all(), ReadMode::Backward);
        let wanted = written.iter().filter(|w| cut.includes(w.placed.position));
        just_these_backward(&read, wanted);
    }
}

pub fn backward_from_the_start_gives_nothing(stage: &mut Stage<'_>) {
    write(stage);
    let read = stage.read(&Cut::start(), Filter::all(), ReadMode::Backward);
    assert!(read.is_empty(), "{read:?}");
}

pub fn backward_in_an_empty_log_gives_nothing(stage: &mut Stage<'_>) {
    let read = stage.read(&stage.head(), Filter::all(), ReadMode::Backward);
    assert!(read.is_empty(), "{read:?}");
}

pub fn backward_gives_nothing_that_came_later(stage: &mut Stage<'_>) {
    let written = write(stage);
    let mut begun = stage.reader(&stage.head(), Filter::all(), ReadMode::Backward);
    let mut read = begun.take(1);
    write(stage);
    read.extend(whole(begun.rest()));
    just_these_backward(&read, &written);
}

pub fn a_backward_read_in_batches_keeps_its_order(stage: &mut Stage<'_>) {
    let written = write(stage);
    let read = stage.reader(&stage.head(), Filter::all(), ReadMode::Backward);
    just_these_backward(&whole(read.rest_in_batches()), &written);
}

pub fn a_long_log_is_read_backward(stage: &mut Stage<'_>) {
    let batch = |n: usize| stage.put_all(stage.events(&format!("order/{}", n % 10), 100));
    let written: Vec<_> = (0..40).flat_map(batch).collect();
    let read = stage.read(&stage.head(), Filter::all(), ReadMode::Backward);
    just_these_backward(&read, &written);
}

pub fn the_newest_event_is_found_without_the_rest(stage: &mut Stage<'_>) {
    write(stage);
    let newest = stage.put(stage.event("order/1"));
    let cut = Cut::including(newest.placed.position);
    let mut backward = stage.reader(
        &cut,
        Filter::stream(newest.new.stream.clone()),
        ReadMode::Backward,
    );
    just_these_backward(&backward.take(1), [&newest]);
}
