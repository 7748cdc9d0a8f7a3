//! The scenarios of several entities that are commanded together.

use anabranch_env::SplitMix64;
use anabranch_model::StreamId;
use serde_json::json;

use crate::items::Rows;
use crate::scenarios::{Outcome, forbid, not_reached, text};
use crate::world::World;

/// What is seen of two items that have the same text whenever they are written.
fn half(shown: &Rows, one: &StreamId, other: &StreamId) -> bool {
    text(shown, one) != text(shown, other)
}

pub async fn b11_10_of_a_transfer_nobody_sees_one_half(world: &World) -> Outcome {
    let [debit, credit] = [0, 1].map(|nth| world.item("note", nth));
    let reader = world.reader("reader").await;
    let mut alice = world.session();
    alice
        .write_together(world, &[(&debit, "1"), (&credit, "1")])
        .await;
    alice.ask_waiting(&reader, "board").await.unwrap();
    for held in [&credit, &debit] {
        reader.hold(held).await;
        let other = if *held == credit { &debit } else { &credit };
        let number = if *held == credit { "2" } else { "3" };
        let items = [(&debit, number), (&credit, number)];
        let places = alice.write_together(world, &items).await;
        let seen = places[usize::from(*other == credit)];
        reader.settle(world, seen).await;
        let shown = world.session().ask(&reader, "board").await.unwrap();
        forbid(
            half(&shown, &debit, &credit),
            "one half of a transfer",
            &shown,
        )?;
        match alice.ask(&reader, "board").await {
            Ok(shown) => forbid(true, "less than Alice has written", &shown)?,
            Err(refused) => assert_eq!(refused, not_reached()),
        }
        reader.slow.resume();
        let shown = alice.ask_waiting(&reader, "board").await.unwrap();
        assert_eq!([text(&shown, &debit), text(&shown, &credit)], [number; 2]);
    }
    // What one of them refuses leaves no trace.
    let write =
        |item: &StreamId| json!({"to": item.to_string(), "type": "Write", "data": {"text": "4"}});
    let mut second = write(&credit);
    second["expect"] = json!({"at": 77});
    let refused = alice.list(world, vec![write(&debit), second]).await;
    assert_eq!(refused.status.as_u16(), 412, "{}", refused.json());
    let shown = alice.ask_waiting(&reader, "board").await.unwrap();
    forbid(text(&shown, &debit) == "4", "what was refused", &shown)
}

pub async fn b11_11_who_has_seen_one_half_in_one_view_sees_the_other_in_another(
    world: &World,
) -> Outcome {
    let (note, hop) = (world.item("note", 0), world.item("hop", 0));
    let (near, far) = (world.reader("near").await, world.reader("far").await);
    far.hold(&hop).await;
    let mut alice = world.session();
    alice
        .write_together(world, &[(&note, "1"), (&hop, "1")])
        .await;
    alice.ask_waiting(&near, "board").await.unwrap();
    // Bob has no token but that of what he reads.
    let mut bob = world.session();
    let shown = bob.ask(&near, "board").await.unwrap();
    assert_eq!(text(&shown, &note), "1");
    match bob.ask(&far, "hops").await {
        Ok(shown) => forbid(
            true,
            "a hop as it was before the note that was seen",
            &shown,
        )?,
        Err(refused) => assert_eq!(refused, not_reached()),
    }
    far.slow.resume();
    let shown = bob.ask_waiting(&far, "hops").await.unwrap();
    forbid(text(&shown, &hop) != "1", "no hop", &shown)
}

pub async fn b11_11_a_view_that_is_not_given_one_half_does_not_show_the_other(
    world: &World,
) -> Outcome {
    let (note, hop) = (world.item("note", 0), world.item("hop", 0));
    let (near, far) = (world.reader("near").await, world.reader("far").await);
    far.hold(&hop).await;
    near.hold(&hop).await;
    let items = [(&note, "1"), (&hop, "1")];
    let places = world.session().write_together(world, &items).await;
    near.settle(world, places[0]).await;
    let mut bob = world.session();
    let shown = bob.ask(&near, "board").await.unwrap();
    if text(&shown, &note) == "1"
        && let Ok(shown) = bob.ask(&far, "hops").await
    {
        forbid(
            true,
            "a hop as it was before the note that was seen",
            &shown,
        )?;
    }
    near.slow.resume();
    far.slow.resume();
    let shown = bob.ask_waiting(&near, "board").await.unwrap();
    // Its time comes.
    match text(&shown, &note) {
        "1" => bob.ask_waiting(&far, "hops").await.map(drop).unwrap(),
        shown => assert_eq!(shown, ""),
    }
    Ok(())
}

pub async fn b11_12_transfers_that_cross_are_seen_whole_and_no_view_is_stuck(
    world: &World,
) -> Outcome {
    let [mut here, mut there] = [0, 1].map(|nth| world.items("note", nth));
    let mut pair = || [here.next().unwrap(), there.next().unwrap()];
    let ([a, c], [b, d]) = (pair(), pair());
    let [e, f] = pair();
    let reader = world.reader("reader").await;
    let mut random = SplitMix64::new(11);
    for round in 1..=20 {
        let number = round.to_string();
        let (mut one, mut other, mut third) = (world.session(), world.session(), world.session());
        let first = [(&a, &*number), (&c, &*number)];
        let second = [(&d, &*number), (&b, &*number)];
        // Meanwhile a third writes to both partitions, the second time about the first.
        let between = async {
            third.write(world, &e, &number).await;
            third.write(world, &f, &number).await
        };
        let crossing = one.write_together(world, &first);
        let crossed = other.write_together(world, &second);
        tokio::join!(crossing, crossed, between);
        let held = [&a, &c][random.below(2) as usize];
        let count = reader.site.log.head().await.unwrap();
        let count = count.get(world.layout.partition_of(held));
        reader.hold_at(held, count - random.below(4).min(count));
        tokio::task::yield_now().await;
        let shown = world.session().ask(&reader, "board").await.unwrap();
        let halves = half(&shown, &a, &c) || half(&shown, &b, &d);
        forbid(halves, "one half of a transfer", &shown)?;
        reader.slow.resume();
        for mut session in [one, other, third] {
            let shown = session.ask_waiting(&reader, "board").await.unwrap();
            let halves = half(&shown, &a, &c) || half(&shown, &b, &d);
            forbid(halves, "one half of a transfer", &shown)?;
        }
    }
    let shown = world.session().ask(&reader, "board").await.unwrap();
    for item in [&a, &b, &c, &d, &e, &f] {
        assert_eq!(text(&shown, item), "20");
    }
    Ok(())
}

pub async fn b11_15_what_depends_on_one_half_is_not_shown_without_the_other(
    world: &World,
) -> Outcome {
    let (hop, note, about) = (
        world.item("hop", 0),
        world.item("note", 0),
        world.item("note", 1),
    );
    let (near, other) = (world.reader("near").await, world.reader("other").await);
    other.hold(&note).await;
    let mut alice = world.session();
    alice
        .write_together(world, &[(&hop, "1"), (&note, "1")])
        .await;
    alice.ask_waiting(&near, "hops").await.unwrap();
    // Bob reads the hop alone, and writes about it.
    let mut bob = world.session();
    let shown = bob.ask(&near, "hops").await.unwrap();
    assert_eq!(text(&shown, &hop), "1");
    let written = bob.write(world, &about, "a hop!").await;
    other.settle(world, written).await;
    let shown = world.session().ask(&other, "board").await.unwrap();
    let alone = shown.contains_key(about.key()) && !shown.contains_key(note.key());
    forbid(alone, "an answer to one half without the other", &shown)?;
    other.slow.resume();
    let shown = bob.ask_waiting(&other, "board").await.unwrap();
    assert_eq!([text(&shown, &note), text(&shown, &about)], ["1", "a hop!"]);
    Ok(())
}

pub async fn b11_15_nobody_writes_about_one_half_that_is_shown_alone(world: &World) -> Outcome {
    let (hop, note, about) = (
        world.item("hop", 0),
        world.item("note", 0),
        world.item("note", 1),
    );
    let (near, other) = (world.reader("near").await, world.reader("other").await);
    other.hold(&note).await;
    near.hold(&note).await;
    let items = [(&hop, "1"), (&note, "1")];
    let places = world.session().write_together(world, &items).await;
    near.settle(world, places[0]).await;
    let mut bob = world.session();
    let shown = bob.ask(&near, "hops").await.unwrap();
    if text(&shown, &hop) == "1" {
        let written = bob.write(world, &about, "a hop!").await;
        other.settle(world, written).await;
        let shown = world.session().ask(&other, "board").await.unwrap();
        let alone = shown.contains_key(about.key()) && !shown.contains_key(note.key());
        forbid(alone, "an answer to one half without the other", &shown)?;
    }
    Ok(())
}
