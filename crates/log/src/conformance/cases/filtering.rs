//! Which events a filter lets through.

use anabranch_model::{Cut, Event, Filter};

use crate::ReadMode;
use crate::conformance::check::just_these;
use crate::conformance::make::{Written, stream, tagged, texts, typed};
use crate::conformance::stage::Stage;

fn categories(names: &[&str]) -> Filter {
    Filter {
        categories: texts(names),
        ..Filter::all()
    }
}

fn streams(names: &[&str]) -> Filter {
    Filter {
        streams: names.iter().map(|name| stream(name)).collect(),
        ..Filter::all()
    }
}

fn headers(pairs: &[(&str, &str)]) -> Filter {
    let pair = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
    Filter {
        headers: pairs.iter().map(pair).collect(),
        ..Filter::all()
    }
}

/// Asserts that `filter` gives just the events of `written` with these indices.
fn gives(stage: &Stage<'_>, filter: Filter, written: &[Written], indices: &[usize]) {
    let wanted = indices.iter().map(|&index| &written[index]);
    just_these(&stage.matching(filter), wanted);
}

fn put(stage: &Stage<'_>, names: &[&str]) -> Vec<Written> {
    let put = |name: &&str| stage.put(stage.event(name));
    names.iter().map(put).collect()
}

pub fn a_filter_of_nothing_gives_everything(stage: &mut Stage<'_>) {
    let written = put(stage, &["order/1", "payment/1"]);
    gives(stage, Filter::default(), &written, &[0, 1]);
}

pub fn one_category(stage: &mut Stage<'_>) {
    let written = put(stage, &["order/1", "payment/1", "order/2", "order/1"]);
    gives(stage, categories(&["order"]), &written, &[0, 2, 3]);
}

pub fn several_categories(stage: &mut Stage<'_>) {
    let written = put(stage, &["order/1", "payment/1", "stock/2", "order/1"]);
    gives(stage, categories(&["stock", "order"]), &written, &[0, 2, 3]);
}

pub fn a_category_is_compared_whole(stage: &mut Stage<'_>) {
    let written = put(
        stage,
        &[
            "order/1",
            "orders/1",
            "orde/r",
            "Order/1",
            "x/order",
            "$order/1",
            "order/order/1",
        ],
    );
    gives(stage, categories(&["order"]), &written, &[0, 6]);
    gives(stage, categories(&["$order"]), &written, &[5]);
    gives(stage, categories(&["order/order"]), &written, &[]);
    gives(stage, categories(&[""]), &written, &[]);
}

pub fn one_category_in_a_hundred(stage: &mut Stage<'_>) {
    let mut wanted = Vec::new();
    for round in 0..10 {
        for n in 0..100 {
            let written = stage.put(stage.event(&format!("c{n}/{round}")));
            if n == 42 {
                wanted.push(written);
            }
        }
    }
    just_these(&stage.matching(categories(&["c42"])), &wanted);
}

pub fn one_type(stage: &mut Stage<'_>) {
    let written = ["Placed", "Paid", "Placed", "PlacedTwice"]
        .map(|name| stage.put(stage.typed("order/1", name)));
    gives(stage, typed(&["Placed"]), &written, &[0, 2]);
}

pub fn several_types(stage: &mut Stage<'_>) {
    let written = ["Placed", "Paid", "Shipped"].map(|name| stage.put(stage.typed("order/1", name)));
    gives(stage, typed(&["Shipped", "Placed"]), &written, &[0, 2]);
}

pub fn one_stream(stage: &mut Stage<'_>) {
    let written = put(
        stage,
        &["order/1", "order/10", "order/1", "order/2", "order/1/1"],
    );
    gives(stage, streams(&["order/1"]), &written, &[0, 2]);
}

pub fn several_streams(stage: &mut Stage<'_>) {
    let written = put(stage, &["order/1", "order/2", "order/3", "order/1"]);
    gives(
        stage,
        streams(&["order/3", "order/1"]),
        &written,
        &[0, 2, 3],
    );
}

pub fn a_header_with_its_value(stage: &mut Stage<'_>) {
    let header = |name, value| stage.put(stage.event("order/1").with_header(name, value));
    let written = [
        header("shop", "north"),
        header("shop", "south"),
        header("shop", "northern"),
        header("Shop", "north"),
        stage.put(stage.event("order/1")),
        header("shop", "north"),
    ];
    gives(stage, headers(&[("shop", "north")]), &written, &[0, 5]);
    gives(stage, headers(&[("shop", "")]), &written, &[]);
}

pub fn all_of_several_headers(stage: &mut Stage<'_>) {
    let event = || stage.event("order/1");
    let written = [
        stage.put(event().with_header("a", "1").with_header("b", "2")),
        stage.put(event().with_header("a", "1")),
        stage.put(event().with_header("a", "2").with_header("b", "2")),
    ];
    let filter = headers(&[("a", "1"), ("b", "2")]);
    gives(stage, filter, &written, &[0]);
    gives(stage, headers(&[("a", "1"), ("a", "2")]), &written, &[]);
}

pub fn an_empty_header_value_is_a_value(stage: &mut Stage<'_>) {
    let written = [
        stage.put(stage.event("order/1").with_header("a", "")),
        stage.put(stage.event("order/1")),
    ];
    gives(stage, headers(&[("a", "")]), &written, &[0]);
}

pub fn one_tag(stage: &mut Stage<'_>) {
    let tag = |tag| stage.put(stage.event("order/1").with_tag(tag));
    let written = [
        tag("sku:1"),
        tag("sku:10"),
        tag("sku"),
        stage.put(stage.event("order/1")),
        tag("SKU:1"),
        tag("sku:1"),
    ];
    gives(stage, tagged(&["sku:1"]), &written, &[0, 5]);
}

pub fn all_of_several_tags(stage: &mut Stage<'_>) {
    let event = || stage.event("order/1");
    let written = [
        stage.put(event().with_tag("a:1").with_tag("b:1").with_tag("c:1")),
        stage.put(event().with_tag("a:1")),
        stage.put(event().with_tag("b:1").with_tag("a:1")),
        stage.put(event().with_tag("b:1")),
    ];
    gives(stage, tagged(&["a:1", "b:1"]), &written, &[0, 2]);
}

/// One event for each of 2⁵ choices of category, type, tag, header and key.
fn choices(stage: &Stage<'_>) -> Vec<Written> {
    let choice = |n: usize| {
        let pick =
            |bit: usize, [no, yes]: [&'static str; 2]| if n >> bit & 1 == 1 { yes } else { no };
        let name = format!("{}/{}", pick(0, ["payment", "order"]), pick(4, ["1", "2"]));
        let event = stage.typed(&name, pick(1, ["Paid", "Placed"]));
        let event = event.with_tag(pick(2, ["t:0", "t:1"]));
        stage.put(event.with_header("h", pick(3, ["0", "1"])))
    };
    (0..32).map(choice).collect()
}

pub fn all_fields_of_a_filter_must_fit(stage: &mut Stage<'_>) {
    let written = choices(stage);
    for mask in 0..32 {
        let mut filter = Filter::all();
        if mask & 1 != 0 {
            filter.categories = texts(&["order"]);
        }
        if mask & 2 != 0 {
            filter.types = typed(&["Placed"]).types;
        }
        if mask & 4 != 0 {
            filter.tags = texts(&["t:1"]);
        }
        if mask & 8 != 0 {
            filter.headers = headers(&[("h", "1")]).headers;
        }
        if mask & 16 != 0 {
            filter.streams = streams(&["order/2", "payment/2"]).streams;
        }
        let fit: Vec<_> = (0..32).filter(|n| n & mask == mask).collect();
        gives(stage, filter, &written, &fit);
    }
}

pub fn a_stream_and_another_category_exclude_each_other(stage: &mut Stage<'_>) {
    let written = put(stage, &["order/1", "payment/1"]);
    let filter = Filter {
        categories: texts(&["payment"]),
        ..streams(&["order/1"])
    };
    gives(stage, filter, &written, &[]);
}

pub fn a_name_given_twice_gives_an_event_once(stage: &mut Stage<'_>) {
    let written = put(stage, &["order/1", "payment/1", "order/1"]);
    gives(stage, categories(&["order", "order"]), &written, &[0, 2]);
    gives(stage, streams(&["order/1", "order/1"]), &written, &[0, 2]);
    gives(
        stage,
        typed(&["Happened", "Happened"]),
        &written,
        &[0, 1, 2],
    );
}

pub fn a_filter_that_fits_nothing_gives_nothing(stage: &mut Stage<'_>) {
    let written = choices(stage);
    for filter in [
        categories(&["none"]),
        typed(&["None"]),
        streams(&["none/1"]),
        headers(&[("none", "1")]),
        tagged(&["none:1"]),
    ] {
        gives(stage, filter, &written, &[]);
    }
}

pub fn a_filtered_read_from_each_cut_gives_the_rest(stage: &mut Stage<'_>) {
    let written = choices(stage);
    for from in &written {
        let cut = Cut::including(from.placed.position);
        let rest = written
            .iter()
            .filter(|w| !cut.includes(w.placed.position) && w.new.stream.category() == "order");
        just_these(
            &stage.read(&cut, categories(&["order"]), ReadMode::ToHead),
            rest,
        );
    }
}

pub fn a_filtered_read_keeps_batches_apart(stage: &mut Stage<'_>) {
    let batch = |n: usize| {
        let mut events = stage.events(&format!("order/{n}"), 6);
        for event in events.iter_mut().skip(n % 3).step_by(3) {
            event.meta_mut().tags.push("t:1".to_owned());
        }
        stage.put_all(events)
    };
    let written: Vec<_> = (0..9).flat_map(batch).collect();
    let wanted = written.iter().filter(|written| written.new.meta.is_some());
    just_these(&stage.matching(tagged(&["t:1"])), wanted);
}

pub fn rare_events_in_a_long_log_are_found(stage: &mut Stage<'_>) {
    let mut wanted = Vec::new();
    for n in 0..50 {
        let mut events = stage.events(&format!("order/{n}"), 100);
        if n % 20 == 7 {
            events[n] = stage.event(&format!("order/{n}")).with_tag("rare:1");
        }
        let written = stage.put_all(events);
        wanted.extend(written.into_iter().filter(|w| w.new.meta.is_some()));
    }
    assert_eq!(wanted.len(), 3);
    just_these(&stage.matching(tagged(&["rare:1"])), &wanted);
}

pub fn a_filtered_backward_read_gives_the_newest_first(stage: &mut Stage<'_>) {
    choices(stage);
    let mut wanted = stage.matching(categories(&["order"]));
    wanted.reverse();
    let backward: Vec<Event> =
        stage.read(&stage.head(), categories(&["order"]), ReadMode::Backward);
    assert!(backward == wanted, "{backward:?}");
}

pub fn a_filtered_follower_gives_what_fits(stage: &mut Stage<'_>) {
    let mut written = choices(stage);
    let mut follower = stage.reader(&Cut::start(), tagged(&["t:1"]), ReadMode::Follow);
    let mut read = follower.take(16);
    written.extend(choices(stage));
    read.extend(follower.take(16));
    let fits = |w: &&Written| w.new.meta.as_ref().is_some_and(|m| m.tags == ["t:1"]);
    just_these(&read, written.iter().filter(fits));
}
