//! The log tells of everything in it what it follows from, and which story it belongs to.

#![expect(
    clippy::disallowed_methods,
    reason = "the tests keep views in a directory of their own"
)]

mod place;

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use anabranch::domain::process::{Planned, ProcessEvent};
use anabranch::domain::saga::SagaEvent;
use anabranch::domain::{CommandId, Event as _};
use anabranch::log::ReadMode;
use anabranch::model::{Cut, Event, Filter};
use anabranch::runtime::SendOptions;
use anabranch_shop::demo::{Demo, Options};
use anabranch_shop::input;
use anabranch_shop::orders::{Line, Order, OrderCommand};
use anabranch_shop::pricing::{Price, PriceCommand};
use anabranch_shop::provider::Mood;
use anabranch_shop::stock::{Stock, StockCommand};

use place::{Place, memory};

async fn events(place: &Place) -> Vec<Event> {
    let mut read = place
        .shop
        .log
        .read(&Cut::start(), Filter::all(), ReadMode::ToHead);
    let mut events = Vec::new();
    while let Some(batch) = read.next_batch().await {
        for event in &batch.unwrap() {
            events.push(event.unwrap().to_event());
        }
    }
    events
}

/// The ids of the commands and calls that an event of a journal writes down.
fn recorded(event: &Event) -> Vec<CommandId> {
    let (name, version, data) = (event.event_type(), event.schema_version, event.data());
    if let Ok(entry) = SagaEvent::decode(name, version, data) {
        return match entry {
            SagaEvent::SagaStarted { id, .. } | SagaEvent::OperatorAsked { id, .. } => vec![id],
            SagaEvent::StepStarted { command, .. }
            | SagaEvent::StepRetried { command, .. }
            | SagaEvent::CompStarted { command, .. }
            | SagaEvent::CompRetried { command, .. } => {
                vec![command.expect("it names what it sends")]
            }
            _ => Vec::new(),
        };
    }
    let Ok(ProcessEvent::Received { actions, .. }) = ProcessEvent::decode(name, version, data)
    else {
        return Vec::new();
    };
    let sent = actions.into_iter().filter_map(|action| match action {
        Planned::Command(command) => Some(command.id),
        Planned::Call(call) => Some(call.key),
        _ => None,
    });
    sent.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_of_a_run_belongs_to_a_story_and_what_it_follows_from_is_in_the_log() {
    let place = Place::open("whole-story", Mood::Flaky, memory()).await;
    let mut work = input::sample_day().unwrap();
    work.invoices.truncate(40);
    let options = Options {
        stock: 30,
        reorder_below: 10,
        rate: None,
        crash_every: Some(Duration::from_millis(300)),
        patience: Duration::from_secs(60),
    };
    let demo = Demo::new(place.shop.clone(), work, options).await.unwrap();
    assert!(demo.run().await.unwrap().holds());
    let events = events(&place).await;
    let ids: HashSet<String> = events.iter().map(|event| event.id.to_string()).collect();
    let commands: HashSet<CommandId> = events.iter().flat_map(recorded).collect();
    assert!(events.len() > 1000);
    for event in &events {
        let meta = event.meta().decode().unwrap();
        let what = format!("{} of {}", event.event_type(), event.stream());
        assert!(meta.correlation_id.is_some(), "{what} belongs to no story");
        let Some(cause) = meta.causation_id else {
            // A timer, or somebody who takes over: nothing was sent.
            continue;
        };
        let command = cause.parse::<CommandId>().unwrap();
        // A command from outside is known by what it has recorded.
        let is_known = ids.contains(&cause)
            || commands.contains(&command)
            || ids.contains(&command.event_id(0).to_string());
        assert!(is_known, "{what} follows from {cause}, which is nowhere");
    }
    let started = events.iter().filter(|e| e.event_type() == "SagaStarted");
    for event in started.filter(|e| e.stream().starts_with("checkout/")) {
        let entry = SagaEvent::decode(event.event_type(), event.schema_version, event.data());
        let Ok(SagaEvent::SagaStarted { origin, .. }) = entry else {
            panic!("it can be read");
        };
        assert!(ids.contains(&origin.event.unwrap().to_string()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_story_and_the_trace_of_an_order_go_through_every_service() {
    let place = Place::open("one-story", Mood::Reliable, memory()).await;
    let fleet = &place.shop.fleet;
    let stock = fleet.owner("stock").unwrap().entity::<Stock>("p");
    let open = StockCommand::OpenStock {
        units: 10,
        reorder_below: 0,
    };
    stock.send(open).await.unwrap();
    let price = fleet.owner("price").unwrap().entity::<Price>("p");
    let list = PriceCommand::SetListPrice { mills: 2000 };
    price.send(list).await.unwrap();
    let order = OrderCommand::PlaceOrder {
        customer: "1".to_owned(),
        country: "France".to_owned(),
        placed_at: "2010-12-01T08:26:00".to_owned(),
        lines: vec![Line {
            product: "p".to_owned(),
            quantity: 1,
            mills: 0,
        }],
    };
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let options = SendOptions {
        correlation_id: Some("my-story".to_owned()),
        traceparent: Some(trace.to_owned()),
        ..SendOptions::default()
    };
    let orders = fleet.owner("order").unwrap().entity::<Order>("1");
    orders.send_with(order, options).await.unwrap();
    let until = std::time::Instant::now() + Duration::from_secs(60);
    let story = loop {
        let all = events(&place).await;
        let of_story = |event: &&Event| {
            let meta = event.meta().decode().unwrap();
            meta.correlation_id.as_deref() == Some("my-story")
        };
        let story: Vec<Event> = all.iter().filter(of_story).cloned().collect();
        let types: Vec<&str> = story.iter().map(|event| event.event_type()).collect();
        if types.contains(&"OrderConfirmed") && types.contains(&"StockShipped") {
            break story;
        }
        assert!(std::time::Instant::now() < until, "{types:?}");
        tokio::task::yield_now().await;
    };
    let category = |event: &Event| {
        event
            .stream()
            .split('/')
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    let categories: BTreeSet<String> = story.iter().map(category).collect();
    for expected in [
        "order",
        "quoting",
        "price",
        "checkout",
        "stock",
        "payment",
        "charging",
        "shipment",
        "goods-out",
    ] {
        assert!(categories.contains(expected), "{expected}: {categories:?}");
    }
    for event in &story {
        let meta = event.meta().decode().unwrap();
        assert_eq!(
            meta.traceparent.as_deref(),
            Some(trace),
            "{}",
            event.stream()
        );
    }
}
