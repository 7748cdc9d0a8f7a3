//! Live reads by plain HTTP, through a network that breaks every connection.

use std::sync::Arc;

use anabranch_env::Env;
use anabranch_log::{Append, Log as _, MemoryLog};
use anabranch_model::{EventId, NewEvent};

use crate::reader::Reader;
use crate::support::{Network, Served};

/// Reads on from the last id that came whole; the events, and whether the answer ended in order.
async fn read_on(url: &str, last: &mut String) -> (Vec<String>, bool) {
    let mut came = Vec::new();
    let headers = [("last-event-id", last.clone())];
    let headers = headers.each_ref().map(|(name, id)| (*name, &**id));
    let path = "/events?until=head";
    let Ok(mut reader) = Reader::try_open(url, path, &headers).await else {
        return (came, false);
    };
    if reader.status == 204 {
        return (came, true);
    }
    loop {
        match reader.whole().await {
            Ok(Some(sent)) if sent.data.is_some() => {
                if sent.name == "message" {
                    came.push(sent.json()["position"].as_str().unwrap().to_owned());
                }
                *last = sent.id().to_owned();
            }
            Ok(Some(_)) => {}
            Ok(None) => return (came, true),
            Err(_) => return (came, false),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_whose_connections_break_anywhere_gets_each_event_once() {
    const EVENTS: u128 = 60;
    let log = MemoryLog::new(Env::os());
    for number in 0..EVENTS {
        let event = NewEvent::new(
            EventId::from_u128(number + 1),
            "till/1".parse().unwrap(),
            "Opened".parse().unwrap(),
            "{}",
        );
        log.append(Append::event(event)).await.unwrap();
    }
    let server = Served::start(Arc::new(log));
    // From within the answer's head to behind a few events.
    let network = Network::start(server.address, &[90, 700, 1100, 1234, 2000, 350, 1801]);
    let url = format!("http://{}", network.address);
    let (mut last, mut came, mut broken) = (String::new(), Vec::new(), 0);
    loop {
        let (more, is_whole) = read_on(&url, &mut last).await;
        came.extend(more);
        if is_whole {
            break;
        }
        broken += 1;
        assert!(broken < 1000, "{} events came", came.len());
    }
    let expected: Vec<_> = (0..EVENTS).map(|at| format!("0:{at}")).collect();
    assert_eq!(came, expected);
    assert!(broken > 10, "{broken}");
}
