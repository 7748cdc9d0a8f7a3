//! What another service asks one request behind another: `POST /peer/many`. See
//! [`line`](anabranch_peer::line) for its form.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use anabranch_access::Caller;
use anabranch_log::BoxFuture;
use anabranch_peer::MANY;
use anabranch_peer::line::{NoRequest, put_answer, take_request};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use bytes::{Bytes, BytesMut};
use futures_util::stream::{FuturesUnordered, Stream};
use futures_util::{FutureExt as _, StreamExt as _};
use hyper::body::Body as _;
use tokio::task::JoinHandle;

use crate::answer::Answer;
use crate::gate::TOO_OFTEN;
use crate::many::stopping;
use crate::peer::{Asker, answer, body_max};
use crate::policy::{By, Needs, Routes};
use crate::reading::NO_MORE;
use crate::refusal::Refusal;
use crate::shared::{Held, Shared};

/// The most requests of one line that are under way at a time; then no more are taken in.
const UNDER_WAY_MAX: usize = 1024;

/// The most bytes of answers that go in one piece.
const PIECE_BYTES: usize = 64 << 10;

pub fn routes() -> Routes {
    // Each request on it gets an answer of its own.
    Routes::default().post(MANY, Needs::Known, many)
}

/// Answers all that comes, for as long as it does.
async fn many(State(shared): State<Shared>, By(caller): By, request: Request) -> Answer {
    let asker = Asker::of(caller, request.headers())?;
    let answers = Body::from_stream(Lines {
        stopping: stopping(shared.stopping.clone()),
        body: Some(request.into_body()),
        came: BytesMut::new(),
        held: Held::default(),
        late: None,
        under_way: FuturesUnordered::new(),
        shared,
        asker,
    });
    Ok(answers.into_response())
}

/// By the client's number.
type Answered = (u64, Result<Vec<u8>, Refusal>);

struct Lines {
    shared: Shared,
    asker: Asker,
    /// `None`: nothing more comes, or is taken in.
    body: Option<Body>,
    /// What has come of a request that is not whole yet.
    came: BytesMut,
    /// The room for that.
    held: Held,
    /// Until when that has to be.
    late: Option<BoxFuture<'static, ()>>,
    under_way: FuturesUnordered<Task>,
    stopping: BoxFuture<'static, ()>,
}

impl Lines {
    /// Takes the requests in that have come whole, and says whether there were some. An error: what came is
    /// none, or there is no room for it.
    fn take_in(&mut self) -> Result<bool, NoRequest> {
        let max = body_max(&self.shared);
        if !self.held.grow(&self.shared.lanes, self.came.len()) {
            return Err(NoRequest);
        }
        let before = self.under_way.len();
        while self.under_way.len() < UNDER_WAY_MAX
            && let Some((number, kind, body)) = take_request(&mut self.came, max)?
        {
            let (shared, asker) = (self.shared.clone(), self.asker.clone());
            let answer = tokio::spawn(async move { answered(&shared, &asker, kind, body).await });
            self.under_way.push(Task { number, answer });
        }
        if self.came.is_empty() {
            self.held = Held::default();
        }
        Ok(self.under_way.len() > before)
    }

    /// Whether what has begun to come has taken too long.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        if self.came.is_empty() {
            self.late = None;
            return false;
        }
        let shared = &self.shared;
        let late = &mut self.late;
        let late = late.get_or_insert_with(|| Box::pin(shared.time.sleep(shared.body_time)));
        late.poll_unpin(cx).is_ready()
    }
}

/// A request that is answered whether or not the client reads answers now. It ends with the line.
struct Task {
    number: u64,
    answer: JoinHandle<Result<Vec<u8>, Refusal>>,
}

impl Future for Task {
    type Output = Answered;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answered> {
        let answered = ready!(self.answer.poll_unpin(cx));
        let answered = answered.unwrap_or_else(|error| Err(Refusal::internal(error.to_string())));
        Poll::Ready((self.number, answered))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.answer.abort();
    }
}

/// What is answered, if there is room for the request beside those of others.
async fn answered(
    shared: &Shared,
    asker: &Asker,
    kind: u8,
    body: Bytes,
) -> Result<Vec<u8>, Refusal> {
    if !shared.is_still_known(&asker.caller) {
        return Err(Refusal::new(
            StatusCode::UNAUTHORIZED,
            "unauthenticated",
            NO_MORE,
        ));
    }
    if let Caller::Known(principal) = &asker.caller
        && let Err(wait) = shared.rates.take(&principal.key, shared.time.monotonic())
    {
        let often = Refusal::new(StatusCode::TOO_MANY_REQUESTS, "overloaded", TOO_OFTEN);
        return Err(often.again_in(wait));
    }
    let held = Held::default();
    let room = shared.lanes.peers.try_acquire();
    if room.is_err() || !held.grow(&shared.lanes, body.len()) {
        let full =
            "too many requests of other services are being answered already; nothing was changed";
        let refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, "overloaded", full);
        return Err(refusal.again_in(std::time::Duration::from_millis(250)));
    }
    let answered = answer(shared, asker, kind, body).await;
    if let (Some(audit), Err(refusal)) = (&shared.audit, &answered)
        && refusal.problem.status == StatusCode::FORBIDDEN.as_u16()
    {
        audit.refused(asker.caller.name(), "POST", "/peer");
    }
    drop((room, held));
    answered
}

impl Stream for Lines {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let mut piece = BytesMut::new();
        if this.body.is_some() && this.stopping.poll_unpin(cx).is_ready() {
            this.body = None;
        }
        loop {
            while piece.len() < PIECE_BYTES
                && let Poll::Ready(Some((number, answered))) = this.under_way.poll_next_unpin(cx)
            {
                match answered {
                    Ok(body) => put_answer(&mut piece, number, 200, &body),
                    Err(Refusal { problem, .. }) => {
                        let body = serde_json::to_vec(&problem).unwrap_or_default();
                        put_answer(&mut piece, number, problem.status, &body);
                    }
                }
            }
            if piece.len() >= PIECE_BYTES || this.under_way.len() >= UNDER_WAY_MAX {
                this.late = None;
                break;
            }
            if this.body.is_none() {
                break;
            }
            // What has come goes first. Who sends what is no request, or begins one and does not end it, is not
            // listened to any more.
            match this.take_in() {
                Ok(true) => {
                    this.late = None;
                    continue;
                }
                Ok(false) if !this.is_late(cx) => {}
                _ => this.body = None,
            }
            let Some(body) = this.body.as_mut() else {
                break;
            };
            match Pin::new(body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        this.came.extend_from_slice(&data);
                    }
                }
                Poll::Ready(_) => this.body = None,
                Poll::Pending => break,
            }
        }
        if !piece.is_empty() {
            Poll::Ready(Some(Ok(piece.freeze())))
        } else if this.body.is_none() && this.under_way.is_empty() {
            Poll::Ready(None)
        } else {
            Poll::Pending
        }
    }
}
