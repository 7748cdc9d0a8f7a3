//! Causes that a command names itself.

use anabranch_env::Env;
use anabranch_log::{Log, Order, VersionRange};
use anabranch_model::{Position, StreamId};
use anabranch_runtime::view::ViewSpec;
use anabranch_runtime::{Cause, Causes, EntityOptions, Service, Time};

use crate::embedded::Embedded;
use crate::items::{AllOfHops, Hops, ItemCommand, Remark, Shelf};
use crate::session::{Session, position};
use crate::world::{Reader, World};

const TEXT: &str = r#"{"text":"a text"}"#;

async fn write_with(
    session: &mut Session,
    world: &World,
    item: &StreamId,
    causes: &str,
) -> Position {
    let headers = [("anabranch-causes", causes)];
    let reply = session.command(world, item, "Write", &headers, TEXT.to_owned());
    position(&reply.await)
}

async fn shows(reader: &Reader, item: &StreamId) -> bool {
    let shown = Session::new(false).ask(reader, "board").await.unwrap();
    shown.contains_key(item.key())
}

#[tokio::test]
async fn a_command_waits_for_the_causes_that_it_names_and_for_no_others() {
    let world = World::new(Embedded::new()).await;
    let [x, y] = [0, 1].map(|nth| world.item("note", nth));
    let [free, root, late] = [2, 3, 4].map(|nth| world.item("note", nth));
    let told = world.items("note", 3).nth(1).unwrap();
    let reader = world.reader("reader").await;
    reader.hold(&x).await;
    let mut alice = world.session();
    let other = alice.write(&world, &y, "y").await;
    let held = alice.write(&world, &x, "x").await;
    let token = alice.token().unwrap().to_owned();
    let last = write_with(&mut alice, &world, &free, &other.to_string()).await;
    reader.settle(&world, last).await;
    assert!(shows(&reader, &free).await);
    let last = write_with(&mut alice, &world, &root, "root").await;
    reader.settle(&world, last).await;
    assert!(shows(&reader, &root).await);
    // What she has written she reads all the same, or is told that she cannot.
    assert!(alice.ask(&reader, "board").await.is_err());
    let named = format!("{other}, {held}");
    let last = write_with(&mut world.session(), &world, &late, &named).await;
    reader.settle(&world, last).await;
    assert!(!shows(&reader, &late).await);
    let last = write_with(&mut world.session(), &world, &told, &token).await;
    reader.settle(&world, last).await;
    assert!(!shows(&reader, &told).await);
    reader.slow.resume();
    let shown = alice.ask_waiting(&reader, "board").await.unwrap();
    assert!(shown.contains_key(x.key()));
}

#[tokio::test]
async fn bad_causes_are_refused_and_nothing_is_done() {
    let world = World::new(Embedded::new()).await;
    let item = world.item("note", 0);
    let mut many = "3:0,".repeat(64);
    many.push_str("3:0");
    let cases = [
        ("", "bad-causes"),
        ("root, 3:0", "bad-causes"),
        ("3:x", "bad-causes"),
        ("9:0", "bad-causes"),
        ("not-a-token", "bad-causes"),
        (&*many, "bad-causes"),
        ("3:99", "causes-beyond-head"),
        ("3:18446744073709551615", "causes-beyond-head"),
    ];
    for (causes, code) in cases {
        let headers = [("anabranch-causes", causes)];
        let sent = world
            .session()
            .command(&world, &item, "Write", &headers, TEXT.to_owned())
            .await;
        let said = sent.json();
        assert_eq!(
            (sent.status.as_u16(), said["code"].as_str()),
            (400, Some(code)),
            "{causes}: {said}"
        );
        assert!(
            said["detail"]
                .as_str()
                .unwrap()
                .contains("Anabranch-Causes"),
            "{said}"
        );
    }
    let log = &world.writers.log;
    let mut events = log.read_stream(&item, VersionRange::ALL, Order::Forward);
    assert!(events.next().await.is_none());
}

/// Whether what was recorded last of an item says that it depends on an event.
async fn depends(log: &dyn Log, item: &StreamId, on: Position) -> bool {
    let mut events = log.read_stream(item, VersionRange::ALL, Order::Backward);
    let event = events.next().await.unwrap().unwrap();
    event.as_ref().meta.decode().unwrap().causes.includes(on)
}

#[tokio::test]
async fn a_command_that_says_nothing_depends_on_what_its_service_has_read_or_as_its_entity_says() {
    let world = World::new(Embedded::new()).await;
    let (log, fleet) = (world.writers.log.clone(), &world.writers.fleet);
    let rooted = EntityOptions {
        causes: Causes::Root,
        ..EntityOptions::default()
    };
    let service = Service::builder("shelves", log.clone(), Time::of(&Env::os()))
        .entity::<Shelf>()
        .entity_with::<Remark>(rooted)
        .view(ViewSpec::<Hops>::new().query::<AllOfHops>())
        .port(fleet.port());
    let service = fleet.join(service.start().await.unwrap());
    let hop = world.item("hop", 0);
    let mut alice = world.session();
    let read = alice.write(&world, &hop, "a hop").await;
    alice.ask_here(&world, "hops").await;
    // What a partition says already is not said again, so each stands in one of its own.
    let [shelf, remark, here, rooted_here, root, named] = [
        world.item("shelf", 0),
        world.item("remark", 1),
        world.item("shelf", 2),
        world.item("remark", 3),
        world.item("shelf", 4),
        world.item("remark", 5),
    ];
    world.session().write(&world, &shelf, "by HTTP").await;
    assert!(depends(&*log, &shelf, read).await);
    world.session().write(&world, &remark, "by HTTP").await;
    assert!(!depends(&*log, &remark, read).await);
    let write = || ItemCommand::Write {
        text: "here".to_owned(),
    };
    let entity = service.entity::<Shelf>(here.key());
    entity.send(write()).await.unwrap();
    assert!(depends(&*log, &here, read).await);
    let entity = service.entity::<Remark>(rooted_here.key());
    entity.send(write()).await.unwrap();
    assert!(!depends(&*log, &rooted_here, read).await);
    let entity = service.entity::<Shelf>(root.key()).causes(Causes::Root);
    entity.send(write()).await.unwrap();
    assert!(!depends(&*log, &root, read).await);
    let causes = Causes::Explicit(vec![Cause::Event(read)]);
    let entity = service.entity::<Remark>(named.key()).causes(causes);
    entity.send(write()).await.unwrap();
    assert!(depends(&*log, &named, read).await);
}
