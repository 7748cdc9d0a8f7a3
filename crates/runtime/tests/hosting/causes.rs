//! What is sent says what it depends on, and to which story it belongs; where that cannot be read,
//! nothing is made up.

use anabranch_log::{Log, Order, VersionRange};
use anabranch_model::{Cut, Event, StreamId, Version};

use crate::processes::{Copier, Transfer, add, builder, moving, phase, run};
use crate::support::{Bench, Counter, CounterCommand};

async fn events(bench: &Bench, stream: &str) -> Vec<Event> {
    let stream = StreamId::system(stream).unwrap();
    let all = VersionRange(0..Version::MAX);
    let mut read = bench.log.read_stream(&stream, all, Order::Forward);
    let mut events = Vec::new();
    while let Some(event) = read.next().await {
        events.push(event.unwrap());
    }
    events
}

fn causes(event: &Event) -> Cut {
    event.meta().decode().unwrap().causes
}

#[tokio::test]
async fn what_a_saga_asks_depends_on_what_its_earlier_steps_have_done() {
    let bench = Bench::new();
    bench.log.claim_partitions(2);
    let service = builder(&bench).saga::<Transfer>().start().await.unwrap();
    add(&service, "here", 10).await;
    let input = moving("here", "there", 5);
    service.start_saga::<Transfer>("1", &input).await.unwrap();
    run(&bench, 5).await;
    assert_eq!(phase(&service, "1").await, "completed");
    let taken = events(&bench, "counter/here").await[1].position;
    let given = &events(&bench, "counter/there").await[0];
    assert!(causes(given).includes(taken), "{}", causes(given));
    let journal = events(&bench, "transfer/1").await;
    let before = journal.iter().filter(|e| e.position < given.position);
    for event in before {
        assert!(causes(given).includes(event.position), "{}", causes(given));
    }
    // The journal itself says so too, for who takes over.
    let last = journal.last().unwrap();
    assert!(causes(last).includes(given.position), "{}", causes(last));
}

#[tokio::test]
async fn what_a_process_asks_depends_on_everything_that_it_has_heard() {
    let bench = Bench::new();
    bench.log.claim_partitions(2);
    let service = builder(&bench).process::<Copier>().start().await.unwrap();
    add(&service, "from-a", 1).await;
    run(&bench, 5).await;
    service.kill();
    let service = builder(&bench).process::<Copier>().start().await.unwrap();
    add(&service, "from-a", 2).await;
    run(&bench, 5).await;
    let heard = events(&bench, "counter/from-a").await;
    let sent = events(&bench, "counter/to-a").await;
    let second = causes(&sent[1]);
    for event in &heard {
        assert!(second.includes(event.position), "{second}");
    }
}

#[tokio::test]
async fn on_one_partition_nothing_says_what_it_depends_on() {
    let bench = Bench::new();
    let service = builder(&bench).saga::<Transfer>().start().await.unwrap();
    add(&service, "here", 10).await;
    let input = moving("here", "there", 5);
    service.start_saga::<Transfer>("1", &input).await.unwrap();
    run(&bench, 5).await;
    for stream in ["counter/there", "transfer/1"] {
        for event in events(&bench, stream).await {
            assert_eq!(causes(&event), Cut::start());
        }
    }
}

#[tokio::test]
async fn a_process_stops_before_an_event_whose_metadata_cannot_be_read_and_begins_no_story() {
    let bench = Bench::new();
    let service = builder(&bench).start().await.unwrap();
    add(&service, "from-a", 1).await;
    drop(service);
    bench.log.spoil_metadata(true);
    let service = builder(&bench).process::<Copier>().start().await.unwrap();
    run(&bench, 5).await;
    let stopped = service.process("copier").unwrap().stopped().unwrap();
    assert!(
        stopped.contains("Added at 0:0") && stopped.contains("metadata field is not UTF-8"),
        "{stopped}"
    );
    assert_eq!(bench.types("copier/a").await, Vec::<String>::new());
    // Once it can be read, the process is told to go on.
    bench.log.spoil_metadata(false);
    assert!(service.process("copier").unwrap().consume_again());
    run(&bench, 5).await;
    assert_eq!(events(&bench, "counter/to-a").await.len(), 1);
}

#[tokio::test]
async fn an_entity_whose_metadata_cannot_be_read_forgets_no_command_but_is_parked() {
    let bench = Bench::new();
    let service = builder(&bench).start().await.unwrap();
    add(&service, "a", 1).await;
    drop(service);
    bench.log.spoil_metadata(true);
    let service = builder(&bench).start().await.unwrap();
    let counter = service.entity::<Counter>("a");
    let error = counter
        .send(CounterCommand::Add { n: 2 })
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(text.contains("its metadata cannot be read"), "{text}");
}
