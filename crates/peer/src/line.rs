//! Many requests over one: each goes and is answered as soon as it can, and what waits at the same time
//! shares a write, a wake-up and a frame.
//!
//! ```text
//! request := length:u32 number:u64 kind:u8 body
//! answer  := length:u32 number:u64 status:u16 body
//! ```
//!
//! Lengths, of what follows them, and numbers are big-endian. The number is the client's own; the kind is the
//! place of the path in [`KINDS`]; body and status are those of a request by itself.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use anabranch_tls::Connector;

use crate::{ANSWERS, COMMANDS, FORGET, QUERIES};

/// What can be asked, by kind.
pub const KINDS: [&str; 4] = [COMMANDS, ANSWERS, FORGET, QUERIES];

/// The length of a length.
const LENGTH: usize = 4;
/// What stands before the body of a request and of an answer, behind its length.
const REQUEST_HEAD: usize = 9;
const ANSWER_HEAD: usize = 10;

/// Puts an answer behind others.
pub fn put_answer(out: &mut BytesMut, number: u64, status: u16, body: &[u8]) {
    out.put_u32((ANSWER_HEAD + body.len()) as u32);
    out.put_u64(number);
    out.put_u16(status);
    out.put_slice(body);
}

/// What came is no request.
#[derive(Clone, Copy, PartialEq, Eq, Error)]
#[error("what came is no request, or a longer one than may be")]
pub struct NoRequest;

anabranch_model::debug_is_words!(NoRequest);

/// Takes the next request out of what has come: its number, its kind and its body. `None`: it has not come
/// whole. An error: it is longer than `max`, or none.
pub fn take_request(
    came: &mut BytesMut,
    max: usize,
) -> Result<Option<(u64, u8, Bytes)>, NoRequest> {
    let Some(mut whole) = take(came, REQUEST_HEAD, max)? else {
        return Ok(None);
    };
    Ok(Some((whole.get_u64(), whole.get_u8(), whole)))
}

/// The next run of bytes behind its length.
fn take(came: &mut BytesMut, head: usize, max: usize) -> Result<Option<Bytes>, NoRequest> {
    let Some(&[a, b, c, d]) = came.first_chunk() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length < head || length > max.saturating_add(head) {
        return Err(NoRequest);
    }
    if came.len() - LENGTH < length {
        return Ok(None);
    }
    came.advance(LENGTH);
    Ok(Some(came.split_to(length).freeze()))
}

/// The body of a request: all at once, or as it comes.
pub(crate) enum Sent {
    Whole(Full<Bytes>),
    Pieces(mpsc::Receiver<Bytes>),
}

impl Body for Sent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Whole(body) => Pin::new(body).poll_frame(cx),
            Self::Pieces(pieces) => pieces
                .poll_recv(cx)
                .map(|piece| Some(Ok(Frame::data(piece?)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Pieces(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Pieces(_) => SizeHint::default(),
        }
    }
}

pub(crate) type Http = Client<Connector, Sent>;

/// What became of a request on a line.
pub(crate) enum Ended {
    Answer(StatusCode, Bytes),
    /// It was not sent, and who is there takes it by itself only, or nobody is there.
    Alone,
    /// It may have happened: the line broke.
    Broken(String),
}

/// A request, and who waits for its answer.
struct Asking {
    kind: u8,
    body: Bytes,
    reply: oneshot::Sender<Ended>,
}

/// A line to one server. It ends when the server ends it or nobody has it any more.
#[derive(Clone)]
pub(crate) struct Line(mpsc::UnboundedSender<Asking>);

impl Line {
    /// Begins one by this request, which has no body yet.
    pub fn start(http: Http, request: hyper::http::request::Builder, answer_max: usize) -> Self {
        let (to, asked) = mpsc::unbounded_channel();
        tokio::spawn(async move { run(http, request, asked, answer_max).await });
        Self(to)
    }

    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        self.0.is_closed()
    }

    /// Asks, and waits for the answer.
    pub async fn ask(&self, kind: u8, body: Bytes) -> Ended {
        let (reply, answer) = oneshot::channel();
        let asking = Asking { kind, body, reply };
        if self.0.send(asking).is_err() {
            return Ended::Alone;
        }
        // Whoever ended without a word has not sent it.
        answer.await.unwrap_or(Ended::Alone)
    }
}

/// So many requests go in one piece at the most, and so many bytes of them.
const PIECE_MAX: usize = 256;
const PIECE_BYTES: usize = 64 << 10;

async fn run(
    http: Http,
    request: hyper::http::request::Builder,
    mut asked: mpsc::UnboundedReceiver<Asking>,
    answer_max: usize,
) {
    let (pieces, body) = mpsc::channel(1);
    let Ok(request): Result<Request<Sent>, _> = request.body(Sent::Pieces(body)) else {
        return;
    };
    // Who asks is told to do so alone, and finds out what is the matter.
    let response = match http.request(request).await {
        Ok(response) if response.status() == StatusCode::OK => response,
        Ok(_) | Err(_) => return,
    };
    let mut waiting = BTreeMap::new();
    let why = talk(
        response.into_body(),
        &pieces,
        &mut asked,
        &mut waiting,
        answer_max,
    )
    .await;
    for reply in waiting.into_values() {
        // Whoever asked may have gone.
        drop(reply.send(Ended::Broken(why.clone())));
    }
}

/// Sends and receives until the line breaks; why.
async fn talk(
    mut body: Incoming,
    pieces: &mpsc::Sender<Bytes>,
    asked: &mut mpsc::UnboundedReceiver<Asking>,
    waiting: &mut BTreeMap<u64, oneshot::Sender<Ended>>,
    answer_max: usize,
) -> String {
    let mut came = BytesMut::new();
    let mut next = 0_u64;
    let mut first: Option<Asking> = None;
    loop {
        tokio::select! {
            frame = body.frame() => {
                let data = match frame {
                    Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                    Some(Err(error)) => return error.to_string(),
                    None => return "the server ended it".to_owned(),
                };
                came.extend_from_slice(&data);
                loop {
                    let mut whole = match take(&mut came, ANSWER_HEAD, answer_max) {
                        Ok(Some(whole)) => whole,
                        Ok(None) => break,
                        Err(NoRequest) => return "its answer cannot be read".to_owned(),
                    };
                    let (number, status) = (whole.get_u64(), whole.get_u16());
                    if let Some(reply) = waiting.remove(&number) {
                        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
                        // Whoever asked may have gone.
                        drop(reply.send(Ended::Answer(status, whole)));
                    }
                }
            }
            room = pieces.reserve(), if first.is_some() => {
                let Ok(room) = room else {
                    return "the connection broke".to_owned();
                };
                let mut piece = BytesMut::new();
                let mut count = 0;
                while piece.len() < PIECE_BYTES
                    && count < PIECE_MAX
                    && let Some(asking) = first.take().or_else(|| asked.try_recv().ok())
                {
                    // Whoever asked may have given up.
                    if asking.reply.is_closed() {
                        continue;
                    }
                    piece.put_u32((REQUEST_HEAD + asking.body.len()) as u32);
                    piece.put_u64(next);
                    piece.put_u8(asking.kind);
                    piece.put_slice(&asking.body);
                    waiting.insert(next, asking.reply);
                    next += 1;
                    count += 1;
                }
                room.send(piece.freeze());
            }
            asking = asked.recv(), if first.is_none() => {
                let Some(asking) = asking else {
                    return "nobody asks any more".to_owned();
                };
                first = Some(asking);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_taken_when_it_has_come_whole_and_not_when_it_is_too_long() {
        let mut whole = BytesMut::new();
        whole.put_u32((REQUEST_HEAD + 2) as u32);
        whole.put_u64(7);
        whole.put_u8(3);
        whole.put_slice(b"{}");
        let rest = whole.len();
        whole.put_u32(1);
        let mut came = BytesMut::new();
        for (at, byte) in whole.iter().enumerate() {
            assert_eq!(take_request(&mut came, 2), Ok(None), "after {at} bytes");
            came.put_u8(*byte);
            if at + 1 == rest {
                let taken = Some((7, 3, Bytes::from_static(b"{}")));
                assert_eq!(take_request(&mut came.clone(), 2), Ok(taken.clone()));
                assert_eq!(take_request(&mut came.clone(), 1), Err(NoRequest));
                assert_eq!(take_request(&mut came, 2), Ok(taken));
            }
        }
        // What is shorter than its head is none.
        assert_eq!(take_request(&mut came, 2), Err(NoRequest));
    }
}
