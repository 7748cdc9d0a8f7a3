//! The scenarios. Each gives what was seen that must not be.

use std::sync::Arc;
use std::time::Duration;

use anabranch_model::{Cut, PartitionId, Session as Done, StreamId, TokenKey, TokenSeal};
use anabranch_runtime::snapshot::MemorySnapshots;
use tokio::sync::oneshot;

use crate::embedded::Embedded;
use crate::items::Rows;
use crate::session::{Refused, Session, position};
use crate::slow::Slow;
pub use crate::together::*;
use crate::world::{World, seal};

/// What was seen that must not be.
pub type Outcome = Result<(), String>;

/// Fails with what was seen where `is_seen` says so.
pub fn forbid(is_seen: bool, what: &str, shown: &Rows) -> Outcome {
    match is_seen {
        true => Err(format!("{what}: {shown:?}")),
        false => Ok(()),
    }
}

/// The text of an item.
pub fn text<'a>(shown: &'a Rows, item: &StreamId) -> &'a str {
    shown.get(item.key()).map_or("", |row| &row.text)
}

/// That a view is not there yet.
pub fn not_reached() -> Refused {
    Refused {
        status: 503,
        code: "not-reached".to_owned(),
    }
}

pub async fn b11_01_a_reply_is_not_shown_without_the_comment_that_it_answers(
    world: &World,
) -> Outcome {
    let [post, comment, reply] = [0, 1, 2].map(|nth| world.item("note", nth));
    let (near, carols) = (world.reader("near").await, world.reader("carol").await);
    carols.hold(&comment).await;
    let (mut alice, mut bob) = (world.session(), world.session());
    alice.write(world, &post, "lost my ring").await;
    alice.write(world, &comment, "found it").await;
    let shown = alice.ask_waiting(&near, "board").await.unwrap();
    forbid(
        text(&shown, &comment) != "found it",
        "Alice's own comment is missing",
        &shown,
    )?;
    bob.ask(&near, "board").await.unwrap();
    let replied = bob.write(world, &reply, "glad!").await;
    carols.settle(world, replied).await;
    let shown = world.session().ask(&carols, "board").await.unwrap();
    let alone = shown.contains_key(reply.key()) && !shown.contains_key(comment.key());
    forbid(alone, "a reply to a comment that does not exist", &shown)?;
    match bob.ask(&carols, "board").await {
        Ok(shown) => forbid(true, "less than Bob has seen and written", &shown)?,
        Err(refused) => assert_eq!(refused, not_reached()),
    }
    carols.slow.resume();
    let shown = bob.ask_waiting(&carols, "board").await.unwrap();
    for item in [&post, &comment, &reply] {
        assert!(shown.contains_key(item.key()), "{shown:?}");
    }
    Ok(())
}

pub async fn b11_02_a_new_photo_is_not_shown_to_whom_the_old_list_lets_in(
    world: &World,
) -> Outcome {
    let [list, photo] = [0, 1].map(|nth| world.item("note", nth));
    let reader = world.reader("reader").await;
    let mut alice = world.session();
    alice.write(world, &list, "friends, boss").await;
    alice.write(world, &photo, "old").await;
    alice.ask_waiting(&reader, "board").await.unwrap();
    reader.hold(&list).await;
    alice.write(world, &list, "friends").await;
    let posted = alice.write(world, &photo, "new").await;
    reader.settle(world, posted).await;
    let shown = world.session().ask(&reader, "board").await.unwrap();
    let leaks = text(&shown, &list) == "friends, boss" && text(&shown, &photo) == "new";
    forbid(leaks, "the new photo with the old list", &shown)?;
    reader.slow.resume();
    let shown = alice.ask_waiting(&reader, "board").await.unwrap();
    assert_eq!(
        [text(&shown, &list), text(&shown, &photo)],
        ["friends", "new"]
    );
    Ok(())
}

/// The pairs of a list and a photo that there were.
const LEGAL: [[&str; 2]; 7] = [
    ["", ""],
    ["acl1", ""],
    ["acl1", "photo1"],
    ["acl2", "photo1"],
    ["acl2", "photo2"],
    ["acl2", "photo3"],
    ["acl3", "photo3"],
];

pub async fn b11_03_a_list_and_a_photo_are_shown_as_they_were_together(world: &World) -> Outcome {
    let [acl, photo] = [0, 1].map(|nth| world.item("note", nth));
    // How far each reader is given the lists and the photos.
    let held = [(1, 3), (3, 1), (2, 2), (1, 2), (3, 2), (2, 3), (0, 3)];
    let mut readers = Vec::new();
    for (lists, photos) in held {
        let reader = world.reader(&format!("reader-{lists}-{photos}")).await;
        reader.hold_at(&acl, lists);
        reader.hold_at(&photo, photos);
        readers.push(reader);
    }
    let near = world.reader("near").await;
    near.hold_at(&photo, 2);
    let mut alice = world.session();
    let mut last = [None, None];
    for (kind, what) in [
        (0, "acl1"),
        (1, "photo1"),
        (0, "acl2"),
        (1, "photo2"),
        (1, "photo3"),
        (0, "acl3"),
    ] {
        let item = [&acl, &photo][kind];
        let at = alice.write(world, item, what).await;
        last[kind].get_or_insert(at);
    }
    for ((lists, photos), reader) in held.into_iter().zip(&readers) {
        // What a reader is given of the partition that goes further, it has taken.
        let [first_list, first_photo] = last.map(Option::unwrap);
        let seen = if lists >= photos {
            first_list
        } else {
            first_photo
        };
        reader.settle(world, seen).await;
        let shown = world.session().ask(reader, "board").await.unwrap();
        let pair = [text(&shown, &acl), text(&shown, &photo)];
        forbid(!LEGAL.contains(&pair), "a pair that never was", &shown)?;
    }
    // The photo from one answer, and the list from the next, of a replica that is behind.
    near.settle(world, last[1].unwrap()).await;
    let mut boss = world.session();
    let first = boss.ask(&near, "board").await.unwrap();
    assert_eq!(text(&first, &photo), "photo2");
    match boss.ask(&readers[0], "board").await {
        Ok(second) => {
            let pair = [text(&second, &acl), text(&first, &photo)];
            forbid(
                !LEGAL.contains(&pair),
                "of two answers a pair that never was",
                &second,
            )?;
        }
        Err(refused) => assert_eq!(refused, not_reached()),
    }
    Ok(())
}

pub async fn b11_04_an_album_does_not_name_a_photo_that_is_not_there(world: &World) -> Outcome {
    let [photo, album] = [0, 1].map(|nth| world.item("note", nth));
    let reader = world.reader("reader").await;
    reader.hold(&photo).await;
    let mut alice = world.session();
    alice.write(world, &photo, "a beach").await;
    let added = alice.write(world, &album, photo.key()).await;
    reader.settle(world, added).await;
    let shown = world.session().ask(&reader, "board").await.unwrap();
    let named = text(&shown, &album);
    let dangles = !named.is_empty() && !shown.contains_key(named);
    forbid(dangles, "an album with a photo that does not exist", &shown)?;
    reader.slow.resume();
    let shown = alice.ask_waiting(&reader, "board").await.unwrap();
    assert_eq!(text(&shown, &album), photo.key());
    Ok(())
}

pub async fn b11_05_a_client_reads_what_it_has_written_or_is_told_that_it_cannot(
    world: &World,
) -> Outcome {
    let profile = world.item("note", 0);
    let reader = world.reader("reader").await;
    let mut alice = world.session();
    alice.write(world, &profile, "old").await;
    alice.ask_waiting(&reader, "board").await.unwrap();
    reader.hold(&profile).await;
    alice.write(world, &profile, "new").await;
    match alice.ask(&reader, "board").await {
        Ok(shown) => forbid(text(&shown, &profile) != "new", "the old profile", &shown)?,
        Err(refused) => assert_eq!(refused, not_reached()),
    }
    let reply = alice.reply_of(&reader, "board", "stale").await;
    assert_eq!(reply.header("anabranch-stale"), Some("true"));
    // It waits for as long as it says.
    let (told, mut answered) = oneshot::channel();
    let asking = async {
        let asked = alice.ask_by(&reader, "board", "wait=5s").await;
        told.send(asked).unwrap();
    };
    let passing = async {
        loop {
            reader.time.advance(Duration::from_secs(1));
            if let Ok(asked) = answered.try_recv() {
                return asked;
            }
            tokio::task::yield_now().await;
        }
    };
    let ((), asked) = tokio::join!(asking, passing);
    assert_eq!(asked, Err(not_reached()));
    reader.slow.resume();
    let shown = alice.ask_waiting(&reader, "board").await.unwrap();
    assert_eq!(text(&shown, &profile), "new");
    Ok(())
}

pub async fn b11_06_a_session_does_not_go_back(world: &World) -> Outcome {
    let order = world.item("note", 0);
    let (a, b) = (world.reader("a").await, world.reader("b").await);
    b.hold(&order).await;
    let mut writer = world.session();
    let written = writer.write(world, &order, "one teapot").await;
    a.settle(world, written).await;
    let mut alice = world.session();
    let shown = alice.ask(&a, "board").await.unwrap();
    assert_eq!(text(&shown, &order), "one teapot");
    match alice.ask(&b, "board").await {
        Ok(shown) => {
            let gone = !shown.contains_key(order.key());
            forbid(gone, "no order where there was one", &shown)?;
        }
        Err(refused) => assert_eq!(refused, not_reached()),
    }
    b.slow.resume();
    alice.ask_waiting(&b, "board").await.unwrap();

    // What is gone stays gone: that there is nothing was seen too.
    b.settle(world, written).await;
    b.hold(&order).await;
    let erased = writer.erase(world, &order).await;
    a.settle(world, erased).await;
    let mut carol = world.session();
    let shown = carol.ask(&a, "board").await.unwrap();
    assert_eq!(text(&shown, &order), "");
    match carol.ask(&b, "board").await {
        Ok(shown) => {
            let is_back = shown.contains_key(order.key());
            forbid(is_back, "an order that was gone", &shown)?;
        }
        Err(refused) => assert_eq!(refused, not_reached()),
    }
    Ok(())
}

pub async fn b11_07_what_a_session_writes_is_shown_in_its_order(world: &World) -> Outcome {
    let [name, publish] = [0, 1].map(|nth| world.item("note", nth));
    let reader = world.reader("reader").await;
    reader.hold(&name).await;
    let mut alice = world.session();
    alice.write(world, &name, "Alice").await;
    let published = alice.write(world, &publish, "yes").await;
    reader.settle(world, published).await;
    let shown = world.session().ask(&reader, "board").await.unwrap();
    let nameless = shown.contains_key(publish.key()) && !shown.contains_key(name.key());
    forbid(nameless, "published without a name", &shown)?;
    reader.slow.resume();
    let shown = alice.ask_waiting(&reader, "board").await.unwrap();
    assert_eq!(text(&shown, &publish), "yes");
    Ok(())
}

pub async fn b11_08_what_was_written_about_something_is_not_shown_without_it(
    world: &World,
) -> Outcome {
    let [price, comment] = [0, 1].map(|nth| world.item("note", nth));
    let (near, reader) = (world.reader("near").await, world.reader("reader").await);
    let mut shop = world.session();
    shop.write(world, &price, "v1").await;
    shop.ask_waiting(&reader, "board").await.unwrap();
    reader.hold(&price).await;
    let raised = shop.write(world, &price, "v2").await;
    near.settle(world, raised).await;
    let mut bob = world.session();
    let shown = bob.ask(&near, "board").await.unwrap();
    assert_eq!(text(&shown, &price), "v2");
    let written = bob.write(world, &comment, "v2 is too much").await;
    reader.settle(world, written).await;
    let shown = world.session().ask(&reader, "board").await.unwrap();
    let early = shown.contains_key(comment.key()) && text(&shown, &price) == "v1";
    forbid(early, "a comment on a price that is not there yet", &shown)?;
    reader.slow.resume();
    let shown = bob.ask_waiting(&reader, "board").await.unwrap();
    assert_eq!(text(&shown, &comment), "v2 is too much");
    Ok(())
}

pub async fn b11_09_a_cause_counts_through_what_a_view_does_not_read(world: &World) -> Outcome {
    let [x, z] = [0, 1].map(|nth| world.item("note", nth));
    let y = world.item("hop", 0);
    let (near, reader) = (world.reader("near").await, world.reader("reader").await);
    reader.hold(&x).await;
    let (mut alice, mut bob) = (world.session(), world.session());
    alice.write(world, &x, "an order").await;
    let hopped = alice.write(world, &y, "a hop").await;
    near.settle(world, hopped).await;
    let shown = bob.ask(&near, "hops").await.unwrap();
    assert_eq!(text(&shown, &y), "a hop");
    let written = bob.write(world, &z, "its return").await;
    reader.settle(world, written).await;
    let shown = world.session().ask(&reader, "board").await.unwrap();
    let orphan = shown.contains_key(z.key()) && !shown.contains_key(x.key());
    forbid(orphan, "a return of an order that does not exist", &shown)?;
    reader.slow.resume();
    let shown = bob.ask_waiting(&reader, "board").await.unwrap();
    assert_eq!(text(&shown, &z), "its return");
    Ok(())
}

pub async fn b11_09_a_cause_counts_that_is_said_by_what_a_view_leaves_out_of_a_partition(
    world: &World,
) -> Outcome {
    let [x, z] = [0, 1].map(|nth| world.item("note", nth));
    let aside = world.item("aside", 1);
    let reader = world.reader("reader").await;
    reader.hold(&x).await;
    let mut alice = world.session();
    alice.write(world, &x, "an order").await;
    // It says in its partition what all behind it depends on.
    alice.write(world, &aside, "a remark").await;
    let written = alice.write(world, &z, "its return").await;
    reader.settle(world, written).await;
    let shown = world.session().ask(&reader, "board").await.unwrap();
    let orphan = shown.contains_key(z.key()) && !shown.contains_key(x.key());
    forbid(orphan, "a return of an order that does not exist", &shown)
}

pub async fn b11_09_a_cause_counts_that_only_the_history_of_an_entity_has(
    world: &World,
) -> Outcome {
    let [x, z] = [0, 1].map(|nth| world.item("note", nth));
    let mut hops = world.items("hop", 0);
    let [first, second] = [(); 2].map(|()| hops.next().unwrap());
    let reader = world.reader("reader").await;
    reader.hold(&x).await;
    let (mut alice, mut bob) = (world.session(), world.session());
    alice.write(world, &x, "an order").await;
    alice.write(world, &first, "a hop").await;
    alice.write(world, &second, "another").await;
    // What is known of the second in memory is gone. Bob has seen nothing, but it has.
    world.restart().await;
    bob.write(world, &second, "and on").await;
    let written = bob.write(world, &z, "its return").await;
    reader.settle(world, written).await;
    let shown = world.session().ask(&reader, "board").await.unwrap();
    let orphan = shown.contains_key(z.key()) && !shown.contains_key(x.key());
    forbid(orphan, "a return of an order that does not exist", &shown)
}

pub async fn b11_09_what_an_answer_depends_on_was_seen_though_its_view_does_not_show_it(
    world: &World,
) -> Outcome {
    let [other, z] = [0, 1].map(|nth| world.item("note", nth));
    let y = world.item("hop", 0);
    let (board, hops) = (world.reader("board").await, world.reader("hops").await);
    hops.hold(&y).await;
    // So the board has not seen all there is.
    board.hold(&other).await;
    let mut alice = world.session();
    world.session().write(world, &other, "something else").await;
    alice.write(world, &y, "a hop").await;
    let written = alice.write(world, &z, "after the hop").await;
    board.settle(world, written).await;
    let mut bob = world.session();
    let shown = bob.ask(&board, "board").await.unwrap();
    assert_eq!(text(&shown, &z), "after the hop");
    match bob.ask(&hops, "hops").await {
        Ok(shown) => {
            let lacks = !shown.contains_key(y.key());
            forbid(lacks, "no hop where Bob has seen what follows it", &shown)?;
        }
        Err(refused) => assert_eq!(refused, not_reached()),
    }
    hops.slow.resume();
    let shown = bob.ask_waiting(&hops, "hops").await.unwrap();
    assert_eq!(text(&shown, &y), "a hop");
    Ok(())
}

pub async fn b11_13_a_shipment_is_shown_once_and_not_without_its_payment(world: &World) -> Outcome {
    let [paid, later] = [0, 1].map(|nth| world.item("payment", nth));
    let mut notes = world.items("note", 2);
    let [shipment, second] = [(); 2].map(|()| notes.next().unwrap());
    let (near, reader) = (world.reader("near").await, world.reader("reader").await);
    reader.hold(&paid).await;
    let mut alice = world.session();
    let once = [("idempotency-key", "pay-1")];
    let body = |item: &StreamId| format!(r#"{{"text":"{}"}}"#, item.key());
    for _ in 0..2 {
        let sent = alice.command(world, &paid, "Write", &once, body(&shipment));
        position(&sent.await);
    }
    let shipped = world.appears(&shipment).await;
    reader.settle(world, shipped).await;
    let shown = world.session().ask(&reader, "board").await.unwrap();
    let unpaid = shown.contains_key(shipment.key()) && !shown.contains_key(paid.key());
    forbid(unpaid, "a shipment of what nobody has paid", &shown)?;
    world.restart().await;
    let sent = alice.command(world, &paid, "Write", &once, body(&shipment));
    position(&sent.await);
    alice.write(world, &later, second.key()).await;
    let last = world.appears(&second).await;
    near.settle(world, last).await;
    let shown = world.session().ask(&near, "board").await.unwrap();
    assert_eq!(shown[shipment.key()].times, 1, "{shown:?}");
    assert_eq!(shown[paid.key()].times, 1, "{shown:?}");
    Ok(())
}

pub async fn b11_14_what_two_have_made_of_something_is_not_shown_without_it(
    world: &World,
) -> Outcome {
    let [x, y, z] = [0, 1, 2].map(|nth| world.item("note", nth));
    let (near, reader) = (world.reader("near").await, world.reader("reader").await);
    reader.hold(&x).await;
    let [mut alice, mut bob, mut carol] = [(); 3].map(|()| world.session());
    let asked = alice.write(world, &x, "a question").await;
    near.settle(world, asked).await;
    for session in [&mut bob, &mut carol] {
        let shown = session.ask(&near, "board").await.unwrap();
        assert_eq!(text(&shown, &x), "a question");
    }
    let first = bob.write(world, &y, "yes").await;
    let second = carol.write(world, &z, "no").await;
    reader.settle(world, first).await;
    reader.settle(world, second).await;
    let shown = world.session().ask(&reader, "board").await.unwrap();
    let answers = [&y, &z].iter().any(|item| shown.contains_key(item.key()));
    let unasked = answers && !shown.contains_key(x.key());
    forbid(unasked, "an answer to what nobody has asked", &shown)?;
    reader.slow.resume();
    let shown = bob.ask_waiting(&reader, "board").await.unwrap();
    assert_eq!(text(&shown, &y), "yes");
    let shown = carol.ask_waiting(&reader, "board").await.unwrap();
    assert_eq!(text(&shown, &z), "no");
    Ok(())
}

pub async fn b11_17_a_restored_view_does_not_answer_who_has_seen_more(world: &World) -> Outcome {
    let item = world.item("note", 0);
    let mut alice = world.session();
    alice.write(world, &item, "old").await;
    // What is kept of the view is from now.
    let kept = Arc::new(MemorySnapshots::new());
    let before = world.reader_with("reader", Slow::new(), kept.clone()).await;
    alice.ask_waiting(&before, "board").await.unwrap();
    before.site.close().await;
    let newer = alice.write(world, &item, "new").await;
    let near = world.reader("near").await;
    near.settle(world, newer).await;
    let shown = alice.ask(&near, "board").await.unwrap();
    assert_eq!(text(&shown, &item), "new");
    let slow = Slow::new();
    slow.hold(newer.partition, newer.offset);
    let restored = world.reader_with("reader", slow, kept).await;
    let shown = world.session().ask(&restored, "board").await.unwrap();
    assert_eq!(text(&shown, &item), "old");
    match alice.ask(&restored, "board").await {
        Ok(shown) => forbid(text(&shown, &item) != "new", "what was before", &shown)?,
        Err(refused) => assert_eq!(refused, not_reached()),
    }
    restored.slow.resume();
    let shown = alice.ask_waiting(&restored, "board").await.unwrap();
    assert_eq!(text(&shown, &item), "new");
    Ok(())
}

pub async fn b11_18_a_token_that_is_not_good_is_an_error_and_nobody_waits_for_it(
    world: &World,
) -> Outcome {
    let item = world.item("note", 0);
    let reader = world.reader("reader").await;
    let mut alice = world.session();
    alice.write(world, &item, "a text").await;
    let good = alice.token().unwrap().to_owned();
    let future = |partition, count| {
        let mut cut = Cut::start();
        cut.set(PartitionId(partition), count);
        let mut session = Done::new();
        session.wrote(&cut);
        session
    };
    let other = TokenKey {
        id: 1,
        secret: [8; 32],
    };
    let forged = TokenSeal::new(1, 0, other).seal(&future(3, 1));
    let cases = [
        // Beyond the end, or of a log whose end was lost.
        (seal().seal(&future(3, 99)), "token-beyond-head"),
        (seal().seal(&future(77, 1)), "token-beyond-head"),
        (
            seal().seal(&future(u32::MAX, u64::MAX)),
            "token-beyond-head",
        ),
        (forged, "bad-token"),
        (good[..good.len() - 2].to_owned(), "bad-token"),
        (good[1..].to_owned(), "bad-token"),
        ("a".repeat(9000), "bad-token"),
        (String::new(), "bad-token"),
    ];
    for (token, code) in cases {
        // No time passes at the reader: whoever waited would do so for ever.
        let asked = Session::with_token(&token)
            .ask_waiting(&reader, "board")
            .await;
        let refused = asked.expect_err("the token is not good");
        assert_eq!((refused.status, &*refused.code), (400, code), "{token}");
        let body = r#"{"text":"never"}"#.to_owned();
        let sent = Session::with_token(&token)
            .command(world, &item, "Write", &[], body)
            .await;
        assert_eq!(sent.status.as_u16(), 400, "{token}");
        assert_eq!(sent.json()["code"], code, "{token}");
    }
    let shown = alice.ask_waiting(&reader, "board").await.unwrap();
    assert_eq!(shown[item.key()].times, 1);
    Ok(())
}

/// Not forbidden: of what has no cause in common two readers may see different halves.
pub async fn b11_control_a_long_fork_is_allowed(world: &World) -> Outcome {
    let [x, y] = [0, 1].map(|nth| world.item("note", nth));
    let (a, b) = (world.reader("a").await, world.reader("b").await);
    a.hold(&x).await;
    b.hold(&y).await;
    let first = world.session().write(world, &x, "x").await;
    let second = world.session().write(world, &y, "y").await;
    a.settle(world, second).await;
    b.settle(world, first).await;
    let at_a = world.session().ask(&a, "board").await.unwrap();
    let at_b = world.session().ask(&b, "board").await.unwrap();
    assert_eq!([text(&at_a, &x), text(&at_a, &y)], ["", "y"]);
    assert_eq!([text(&at_b, &x), text(&at_b, &y)], ["x", ""]);
    Ok(())
}

/// Not forbidden: two who have read both may each change another one.
pub async fn b11_control_write_skew_and_concurrent_writes_are_allowed(world: &World) -> Outcome {
    let [x, y] = [0, 1].map(|nth| world.item("note", nth));
    let near = world.reader("near").await;
    let mut first = world.session();
    first.write(world, &x, "on call").await;
    let written = first.write(world, &y, "on call").await;
    near.settle(world, written).await;
    let (mut alice, mut bob) = (world.session(), world.session());
    for session in [&mut alice, &mut bob] {
        let shown = session.ask(&near, "board").await.unwrap();
        assert_eq!([text(&shown, &x), text(&shown, &y)], ["on call", "on call"]);
    }
    alice.write(world, &x, "off").await;
    bob.write(world, &y, "off").await;
    let [mut carol, mut dave] = [(); 2].map(|()| world.session());
    carol.write(world, &x, "by Carol").await;
    dave.write(world, &x, "by Dave").await;
    // Bob first: behind what he has seen the others see no less.
    for session in [&mut bob, &mut alice, &mut carol, &mut dave] {
        let shown = session.ask_waiting(&near, "board").await.unwrap();
        assert_eq!(text(&shown, &y), "off");
    }
    Ok(())
}

/// The scenarios as tests of an engine.
macro_rules! on {
    ($engine:expr, $($scenario:ident,)*) => {$(
        #[tokio::test]
        async fn $scenario() {
            // Where its server is missing an engine says so.
            if let Some(engine) = $engine {
                let world = World::new(engine).await;
                super::$scenario(&world).await.unwrap();
            }
        }
    )*};
    ($engine:expr) => {
        on! {
            $engine,
            b11_01_a_reply_is_not_shown_without_the_comment_that_it_answers,
            b11_02_a_new_photo_is_not_shown_to_whom_the_old_list_lets_in,
            b11_03_a_list_and_a_photo_are_shown_as_they_were_together,
            b11_04_an_album_does_not_name_a_photo_that_is_not_there,
            b11_05_a_client_reads_what_it_has_written_or_is_told_that_it_cannot,
            b11_06_a_session_does_not_go_back,
            b11_07_what_a_session_writes_is_shown_in_its_order,
            b11_08_what_was_written_about_something_is_not_shown_without_it,
            b11_09_a_cause_counts_through_what_a_view_does_not_read,
            b11_09_a_cause_counts_that_is_said_by_what_a_view_leaves_out_of_a_partition,
            b11_09_a_cause_counts_that_only_the_history_of_an_entity_has,
            b11_09_what_an_answer_depends_on_was_seen_though_its_view_does_not_show_it,
            b11_10_of_a_transfer_nobody_sees_one_half,
            b11_11_who_has_seen_one_half_in_one_view_sees_the_other_in_another,
            b11_12_transfers_that_cross_are_seen_whole_and_no_view_is_stuck,
            b11_13_a_shipment_is_shown_once_and_not_without_its_payment,
            b11_14_what_two_have_made_of_something_is_not_shown_without_it,
            b11_15_what_depends_on_one_half_is_not_shown_without_the_other,
            b11_17_a_restored_view_does_not_answer_who_has_seen_more,
            b11_18_a_token_that_is_not_good_is_an_error_and_nobody_waits_for_it,
            b11_control_a_long_fork_is_allowed,
            b11_control_write_skew_and_concurrent_writes_are_allowed,
        }
    };
}

mod on_embedded {
    use super::*;

    on!(Some(Embedded::new()));

    // The small log looks at the partitions only that a view reads from.
    on! {
        Some(Embedded::new()),
        b11_11_a_view_that_is_not_given_one_half_does_not_show_the_other,
        b11_15_nobody_writes_about_one_half_that_is_shown_alone,
    }

    #[tokio::test]
    async fn a_view_passes_what_it_does_not_read_while_another_partition_is_held_up() {
        let world = World::new(Embedded::new()).await;
        let reader = world.reader("reader").await;
        let held = world.item("note", 0);
        reader.hold(&held).await;
        world.session().write(&world, &held, "later").await;
        let mut alice = world.session();
        alice.write(&world, &world.item("hop", 0), "a hop").await;
        for _ in 0..5_000 {
            if alice.ask(&reader, "board").await.is_ok() {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("the view waits for another partition");
    }
}

mod on_postgres {
    use super::*;
    use crate::postgres::Database;

    on!(Database::new().await);

    on! {
        Database::new().await,
        b11_11_a_view_that_is_not_given_one_half_does_not_show_the_other,
        b11_15_nobody_writes_about_one_half_that_is_shown_alone,
    }
}

mod on_minimal {
    use super::*;
    use crate::minimal::{Minimal, Protections};

    on!(Some(Minimal::new(Protections::ALL)));
}
