//! Events of a read as messages of a WebSocket (RFC 6455), each one JSON: [`anabranch_wire::LiveMessage`].
//!
//! The reader says how many events it wants, by messages of its own: [`anabranch_wire::LiveRequest`].
//! Who takes nothing, or does not answer when asked whether it is there, is given up.

use std::time::Duration;

use anabranch_model::record::RecordError;
use anabranch_model::{Cut, EventRef, Limits, write_cloud_event};
use anabranch_wire::LiveRequest;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;
use futures_util::SinkExt as _;
use futures_util::future::{Either, select};

use crate::event_source::{Ends, EventSource, Heard, Words};
use crate::refusal::Refusal;
use crate::shared::Shared;

/// The largest message of a reader.
const MESSAGE_BYTES_MAX: usize = 1 << 10;

/// How much is kept back until it is written.
const WRITE_BYTES: usize = 32 << 10;

/// How long a reader may take for what was sent to it.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);

/// Messages of a WebSocket.
pub struct Live;

/// Goes on as a WebSocket, on which the source's events are sent.
pub fn upgrade(upgrade: WebSocketUpgrade, shared: &Shared, source: EventSource<Live>) -> Response {
    let shared = shared.clone();
    upgrade
        .max_message_size(MESSAGE_BYTES_MAX)
        .max_frame_size(MESSAGE_BYTES_MAX)
        .write_buffer_size(WRITE_BYTES)
        .max_write_buffer_size(kept_back_max(&shared.limits))
        .on_upgrade(|socket| {
            Box::pin(async move {
                let mut conversation = Conversation {
                    socket,
                    shared,
                    is_asked: false,
                };
                let goodbye = conversation.hold(source).await;
                conversation.close(goodbye).await;
            })
        })
}

/// The most that is kept back, in bytes: the largest event, as JSON, has room behind what waits. Who takes
/// nothing and asks again and again whether the server is there is not answered each time.
fn kept_back_max(limits: &Limits) -> usize {
    // Data that is no JSON is base64; a character of a header takes six bytes at most.
    let event = 2 * limits.data_bytes_max + 6 * limits.headers_bytes_max;
    3 * WRITE_BYTES + event
}

struct Conversation {
    socket: WebSocket,
    shared: Shared,
    /// Whether the reader was asked if it is there, and has not been heard since.
    is_asked: bool,
}

/// Why it ends, for the other end; `None` if that is gone.
type Goodbye = Option<CloseFrame>;

fn goodbye(code: u16, reason: &'static str) -> Goodbye {
    let reason = reason.into();
    Some(CloseFrame { code, reason })
}

impl Conversation {
    /// Sends what comes until one end has enough.
    async fn hold(&mut self, mut source: EventSource<Live>) -> Goodbye {
        loop {
            let heard = {
                let next = Box::pin(source.next());
                let came = Box::pin(self.socket.recv());
                match select(next, came).await {
                    Either::Left((heard, _)) => Either::Left(heard),
                    Either::Right((came, _)) => Either::Right(came),
                }
            };
            match heard {
                Either::Left(None) => return goodbye(close_code::NORMAL, ""),
                Either::Left(Some(heard)) => {
                    if let Err(goodbye) = self.tell(heard).await {
                        return goodbye;
                    }
                }
                Either::Right(None) => return None,
                Either::Right(Some(Ok(message))) => {
                    self.is_asked = false;
                    match asked(&message) {
                        Ok(Some(credits)) => source.ask(credits),
                        Ok(None) => {}
                        Err(refused) => {
                            drop(self.send(Live::problem(&refused)).await);
                            return goodbye(close_code::POLICY, "a message was not understood");
                        }
                    }
                }
                // What it is told may not reach it: it has broken the rules, or the connection.
                Either::Right(Some(Err(_))) => {
                    return goodbye(close_code::SIZE, "a message is too large, or no message");
                }
            }
        }
    }

    async fn tell(&mut self, heard: Heard) -> Result<(), Goodbye> {
        match heard {
            Heard::Said(said) => self.send(said).await,
            Heard::Beat(said) => {
                if self.is_asked {
                    return Err(None);
                }
                self.is_asked = true;
                self.send(said).await?;
                self.feed(vec![Message::Ping(Bytes::new())]).await
            }
            Heard::Last(said, why) => {
                self.send(said).await?;
                Err(match why {
                    Ends::AtHead => goodbye(close_code::NORMAL, "everything was given"),
                    Ends::Stops => goodbye(close_code::AWAY, "the server stops"),
                    Ends::Dismissed => goodbye(close_code::POLICY, "the key is good no more"),
                    Ends::Failed => goodbye(close_code::ERROR, "the log cannot be read on"),
                })
            }
        }
    }

    /// Sends each line as a message.
    async fn send(&mut self, lines: Vec<u8>) -> Result<(), Goodbye> {
        // JSON, of which each line is whole.
        let text = String::from_utf8(lines).map_err(|_| goodbye(close_code::ERROR, "no UTF-8"))?;
        let messages = text.lines().map(Message::text).collect();
        self.feed(messages).await
    }

    async fn feed(&mut self, messages: Vec<Message>) -> Result<(), Goodbye> {
        let late = self.shared.time.sleep(TAKEN_WITHIN);
        let socket = &mut self.socket;
        let sent = Box::pin(async move {
            for message in messages {
                socket.feed(message).await?;
            }
            socket.flush().await
        });
        match select(sent, late).await {
            Either::Left((Ok(()), _)) => Ok(()),
            // Who is gone, or takes nothing, is told nothing.
            Either::Left((Err(_), _)) | Either::Right(_) => Err(None),
        }
    }

    async fn close(mut self, goodbye: Goodbye) {
        if goodbye.is_some() {
            drop(self.feed(vec![Message::Close(goodbye)]).await);
        }
    }
}

/// How many events a message asks for; `None` if it is not about that.
fn asked(message: &Message) -> Result<Option<u64>, Refusal> {
    let wrong = |what: &str| Err(Refusal::bad_request("bad-json", what.to_owned()));
    match message {
        Message::Text(text) => match serde_json::from_str::<LiveRequest>(text) {
            Ok(request) => Ok(Some(request.credits)),
            Err(error) => wrong(&format!(
                "a message of a reader is {{\"credits\":10}}: {error}"
            )),
        },
        Message::Binary(_) => wrong("a message of a reader is a text, {\"credits\":10}"),
        Message::Ping(_) | Message::Pong(_) | Message::Close(_) => Ok(None),
    }
}

impl Words for Live {
    fn begins(token: &str) -> Vec<u8> {
        place(token)
    }

    fn event(token: &str, event: &EventRef<'_>, out: &mut Vec<u8>) -> Result<(), RecordError> {
        out.extend_from_slice(format!("{{\"id\":\"{token}\",\"event\":").as_bytes());
        write_cloud_event(event, out)?;
        out.extend_from_slice(b"}\n");
        Ok(())
    }

    fn beat(token: Option<&str>) -> Vec<u8> {
        token.map(place).unwrap_or_default()
    }

    fn head(token: &str, place: &Cut) -> Vec<u8> {
        format!("{{\"id\":\"{token}\",\"head\":\"{place}\"}}\n").into()
    }

    fn problem(refusal: &Refusal) -> Vec<u8> {
        // A problem has a JSON form, on one line; a test of the wire types says so.
        let problem = serde_json::to_string(&refusal.problem).unwrap_or_default();
        format!("{{\"problem\":{problem}}}\n").into()
    }

    fn stops() -> Vec<u8> {
        Vec::new()
    }
}

fn place(token: &str) -> Vec<u8> {
    format!("{{\"id\":\"{token}\"}}\n").into()
}

/// Refuses what asks for a WebSocket and cannot have one.
pub fn refuse(rejection: &impl ToString) -> Refusal {
    let what = format!("no WebSocket: {}", rejection.to_string());
    Refusal::new(StatusCode::BAD_REQUEST, "bad-upgrade", what)
}
