//! Live reads by WebSocket.

use std::sync::Arc;
use std::time::Duration;

use anabranch_env::Env;
use anabranch_log::{Append, Log, MemoryLog};
use anabranch_model::{EventId, NewEvent};
use anabranch_runtime::{Fleet, ManualTime, Time};
use anabranch_server::Server;
use anabranch_wire::LiveMessage;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::support::{Bank, Timeless, good};

struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    async fn open(url: &str, path: &str) -> Self {
        Self::try_open(url, path, &[]).await.unwrap()
    }

    async fn try_open(
        url: &str,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, Error> {
        let address = url.trim_start_matches("http://");
        let stream = TcpStream::connect(address).await.unwrap();
        let mut request = format!("ws://{address}{path}").into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        Ok(Self(client_async(request, stream).await?.0))
    }

    /// The next message; the code with which the server closes.
    async fn next(&mut self) -> Result<LiveMessage, CloseCode> {
        loop {
            match self.0.next().await.unwrap().unwrap() {
                Message::Text(text) => return Ok(serde_json::from_str(&text).unwrap()),
                Message::Close(frame) => return Err(frame.unwrap().code),
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The next event, and the token of the place behind it.
    async fn event(&mut self) -> (Value, String) {
        loop {
            let message = self.next().await.unwrap();
            if let Some(event) = message.event {
                return (event.parse().unwrap(), message.id.unwrap());
            }
        }
    }

    async fn position(&mut self) -> String {
        let (event, _) = self.event().await;
        event["position"].as_str().unwrap().to_owned()
    }

    async fn send(&mut self, text: impl Into<String>) {
        self.0.send(Message::text(text.into())).await.unwrap();
    }
}

#[tokio::test]
async fn events_come_as_messages_and_a_reader_that_comes_again_misses_nothing() {
    let bank = Bank::with(3).await;
    let url = bank.client.address();
    let mut socket = Socket::open(&url, "/events?category=account").await;
    let (first, token) = socket.event().await;
    assert_eq!(first["data"]["amount"], 1);
    assert_eq!(first["specversion"], "1.0");
    drop(socket);
    let mut again = Socket::open(&url, &format!("/events?category=account&from={token}")).await;
    assert_eq!(again.position().await, "0:1");
    assert_eq!(again.position().await, "0:2");
    // It waits for what is appended now.
    good(&bank.deposit("a", 4).await);
    assert_eq!(again.position().await, "0:3");
    // Also by the header of server-sent events.
    let last = [("last-event-id", token.as_str())];
    let mut again = Socket::try_open(&url, "/events", &last).await.unwrap();
    assert_eq!(again.position().await, "0:1");
}

#[tokio::test]
async fn a_reader_to_the_head_is_told_where_that_is_and_the_socket_closes() {
    let bank = Bank::with(1).await;
    let mut socket = Socket::open(&bank.client.address(), "/events?until=head").await;
    socket.event().await;
    assert_eq!(socket.next().await.unwrap().head.as_deref(), Some("0:1"));
    assert_eq!(socket.next().await, Err(CloseCode::Normal));
}

#[tokio::test]
async fn a_reader_that_counts_gets_as_many_events_as_it_has_asked_for() {
    let bank = Bank::with(5).await;
    let url = bank.client.address();
    let mut socket = Socket::open(&url, "/events?credits=2").await;
    for position in ["0:0", "0:1"] {
        assert_eq!(socket.position().await, position);
    }
    // An answer to a ping comes before any further event.
    let ping = Message::Ping("are you there?".into());
    socket.0.send(ping).await.unwrap();
    let answer = socket.0.next().await.unwrap().unwrap();
    assert!(matches!(answer, Message::Pong(_)), "{answer:?}");
    socket.send("{\"credits\":1}").await;
    assert_eq!(socket.position().await, "0:2");
    socket.send("{\"credits\":2}").await;
    assert_eq!(socket.position().await, "0:3");
    assert_eq!(socket.position().await, "0:4");
}

#[tokio::test]
async fn a_message_that_is_too_large_or_not_understood_ends_the_socket() {
    let bank = Bank::with(0).await;
    let url = bank.client.address();
    let mut socket = Socket::open(&url, "/events").await;
    socket.next().await.unwrap();
    socket.send("x".repeat(1 << 20)).await;
    assert_eq!(socket.next().await, Err(CloseCode::Size));
    for wrong in [
        "credits",
        "{}",
        "{\"credits\":-1}",
        "{\"credits\":1,\"x\":2}",
    ] {
        let mut socket = Socket::open(&url, "/events").await;
        socket.next().await.unwrap();
        socket.send(wrong).await;
        let problem = socket.next().await.unwrap().problem.unwrap();
        assert_eq!(problem.code, "bad-json", "{wrong}");
        assert_eq!(socket.next().await, Err(CloseCode::Policy), "{wrong}");
    }
}

#[tokio::test]
async fn who_takes_no_answer_and_asks_again_and_again_is_not_answered_each_time() {
    const PINGS: usize = 128 << 10;
    let bank = Bank::with(0).await;
    let address = bank.client.address();
    let address = address.trim_start_matches("http://");
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = socket.connect(address.parse().unwrap()).await.unwrap();
    let request = format!("ws://{address}/events")
        .into_client_request()
        .unwrap();
    let mut stream = client_async(request, stream).await.unwrap().0;
    // With as much in it as a ping may have; masked with nothing.
    let mut ping = vec![0x89, 0x80 | 125, 0, 0, 0, 0];
    ping.resize(ping.len() + 125, b'x');
    let stream = stream.get_mut();
    stream.write_all(&ping.repeat(PINGS)).await.unwrap();
    stream.write_all(&[0x88, 0x80, 0, 0, 0, 0]).await.unwrap();
    let mut answered = Vec::new();
    stream.read_to_end(&mut answered).await.unwrap();
    assert!(answered.len() < PINGS * 127 / 2, "{}", answered.len());
}

#[tokio::test]
async fn a_page_of_a_stranger_and_a_place_that_is_not_there_get_no_socket() {
    let bank = Bank::with(0).await;
    let url = bank.client.address();
    for (path, headers, status) in [
        ("/events", ("origin", "http://evil.example"), 403),
        ("/events?from=0:7", ("x-any", "y"), 400),
        ("/events?credits=many", ("x-any", "y"), 400),
        ("/events", ("sec-websocket-version", "8"), 400),
    ] {
        match Socket::try_open(&url, path, &[headers]).await {
            Err(Error::Http(response)) => assert_eq!(response.status(), status, "{path}"),
            other => panic!("{path}: {:?}", other.map(|_| ())),
        }
    }
}

#[tokio::test]
async fn a_server_that_stops_says_so() {
    let bank = Bank::with(1).await;
    let server = Timeless::open(&bank).await;
    let mut socket = Socket::open(&server.client.address(), "/events").await;
    socket.event().await;
    server.stop().await;
    assert_eq!(socket.next().await, Err(CloseCode::Away));
}

/// A server with room for one reader, before a log with more than connections hold.
async fn small_room(manual: &ManualTime) -> String {
    let env = Env::os();
    let log = MemoryLog::new(env.clone());
    for number in 1..=64 {
        let mut event = NewEvent::new(
            EventId::from_u128(number),
            "till/1".parse().unwrap(),
            "Opened".parse().unwrap(),
            "",
        );
        event.data = format!("\"{}\"", "x".repeat(512 << 10)).into();
        log.append(Append::event(event)).await.unwrap();
    }
    let time = Time::manual(manual, env.rng.clone());
    let listener = Server::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = Server::new(Arc::new(Fleet::new()), Arc::new(log), time).readers_max(1);
    tokio::spawn(server.serve(listener, std::future::pending()));
    url
}

/// Lets time pass until there is room for another reader.
async fn until_there_is_room(url: &str, manual: &ManualTime, path: &str) {
    for _ in 0..10_000 {
        match Socket::try_open(url, path, &[]).await {
            Ok(_) => return,
            Err(Error::Http(response)) => assert_eq!(response.status(), 503),
            Err(error) => panic!("{error}"),
        }
        manual.advance(Duration::from_secs(1));
    }
    panic!("the reader that takes nothing is still there");
}

#[tokio::test]
async fn a_reader_that_never_reads_is_given_up() {
    let manual = ManualTime::new();
    let url = small_room(&manual).await;
    let takes_nothing = Socket::open(&url, "/events").await;
    until_there_is_room(&url, &manual, "/events?from=head").await;
    drop(takes_nothing);
}

#[tokio::test]
async fn a_reader_that_asks_for_nothing_and_does_not_say_that_it_is_there_is_given_up() {
    let manual = ManualTime::new();
    let url = small_room(&manual).await;
    let says_nothing = Socket::open(&url, "/events?credits=0").await;
    until_there_is_room(&url, &manual, "/events?from=head").await;
    drop(says_nothing);
}
