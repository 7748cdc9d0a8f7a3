//! Many appends over one call, as messages and packed; and how far a log goes.

use std::sync::Arc;

use anabranch_env::Env;
use anabranch_log::{Append, Log, MemoryLog};
use anabranch_log_remote::{Options, RemoteLog};
use anabranch_log_segment::SegmentLog;
use anabranch_model::{Cut, EventId, Filter, NewEvent};
use anabranch_rpc::protocol as p;
use anabranch_rpc::{append_to, pack_append, unpack_appended};
use axum::http::Uri;
use connectrpc::ErrorCode;
use connectrpc::client::{ClientConfig, Http2Connection};

use crate::support::{Served, TempDir};

fn append(number: u128) -> Append {
    Append::event(NewEvent::new(
        EventId::from_u128(number),
        "till/1".parse().unwrap(),
        "Opened".parse().unwrap(),
        "{}",
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_answered_in_the_form_in_which_it_asks() {
    let server = Served::start(Arc::new(MemoryLog::new(Env::os())));
    let uri: Uri = server.url().parse().unwrap();
    let http = Http2Connection::lazy_plaintext(uri.clone()).shared(8);
    let client = p::LogServiceClient::new(http, ClientConfig::new(uri));
    let (mut out, mut back) = client.append_many().await.unwrap().into_split();
    // One that is a version older never packs.
    for number in 1..4 {
        let mut message = p::AppendManyRequest::default();
        message.appends.push(p::NumberedAppend {
            number,
            append: buffa::MessageField::some(append_to(&append(number.into()))),
            ..Default::default()
        });
        out.send(message).await.unwrap();
        let answer = back.message().await.unwrap().unwrap().to_owned_message();
        assert!(answer.takes_packed && answer.packed.is_empty());
        assert_eq!(answer.outcomes[0].number, number);
    }
    let mut message = p::AppendManyRequest::default();
    for number in 4..7 {
        assert!(pack_append(
            &mut message.packed,
            number,
            &append(number.into())
        ));
    }
    // And one that is refused, by itself.
    assert!(pack_append(&mut message.packed, 7, &Append::default()));
    out.send(message).await.unwrap();
    let (mut written, mut refused) = (Vec::new(), Vec::new());
    while written.len() + refused.len() < 4 {
        let answer = back.message().await.unwrap().unwrap().to_owned_message();
        let read = unpack_appended(&answer.packed, |number, appended| {
            written.push((number, appended.places[0].version));
        });
        read.unwrap();
        refused.extend(answer.outcomes.iter().map(|outcome| outcome.number));
    }
    assert_eq!(written, [(4, 3), (5, 4), (6, 5)]);
    assert_eq!(refused, [7]);
    let message = p::AppendManyRequest {
        packed: vec![0xff; 40],
        ..Default::default()
    };
    out.send(message).await.unwrap();
    let error = back.message().await.unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_a_log_is_told_how_far_it_goes_without_its_events() {
    let dir = TempDir::new();
    let log = SegmentLog::open(Env::os(), &dir.0, anabranch_log_segment::Options::default());
    let server = Served::start(Arc::new(log.unwrap()));
    let log = RemoteLog::open(&server.url(), Options::default()).unwrap();
    assert!(log.is_far());
    log.append(append(1)).await.unwrap();
    let mut watched = log.watch(&Cut::start());
    let wants_nothing = Filter::category("nothing");
    let mut followed = log.read(
        &Cut::start(),
        wants_nothing,
        anabranch_log::ReadMode::Follow,
    );
    for number in 2..20 {
        log.append(append(number)).await.unwrap();
        for read in [&mut watched, &mut followed] {
            loop {
                let batch = read.next_batch().await.unwrap().unwrap();
                assert_eq!(batch.iter().count(), 0);
                if batch.reach().unwrap().offsets.end == number as u64 {
                    break;
                }
            }
        }
    }
}
