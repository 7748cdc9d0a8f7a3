//! The appends of one call of `AppendMany`.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use anabranch_access::Caller;
use anabranch_log::{Append, AppendError, Appended, BoxFuture, Rejection};
use anabranch_rpc::protocol as p;
use anabranch_rpc::{
    Malformed, append_error_to, append_of, appended_to, message_bytes_max, pack_appended,
    unpack_appends,
};
use connectrpc::{ConnectError, InboundStream, StreamMessage};
use futures_util::stream::{FuturesUnordered, Stream};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::watch;

use crate::allowed;
use crate::appender::{Appender, Checked};
use crate::reading::NO_MORE;
use crate::registry::{Registry, Shown};
use crate::shared::Shared;

/// The most appends of one call that are under way at a time; then no more are taken in.
const UNDER_WAY_MAX: usize = 4096;
/// The same in bytes of data.
const UNDER_WAY_BYTES_MAX: usize = 32 << 20;
/// The most answers of one message.
const ANSWERS_MAX: usize = 1024;

/// So many are under way at a time, and those that come meanwhile wait in the network. The appends of
/// one message go to the log together, and so do their answers come back.
pub struct Many {
    shared: Shared,
    caller: Caller,
    registry: Arc<Registry>,
    /// The client, by the leases that it has shown last.
    appender: Arc<Appender>,
    requests: Option<InboundStream<p::AppendManyRequest>>,
    /// Ends when the server is about to: then no more are taken in.
    stopping: BoxFuture<'static, ()>,
    under_way: FuturesUnordered<BoxFuture<'static, Ended>>,
    /// Of appends that are under way: how many, and the bytes of their data.
    count: usize,
    bytes: usize,
    answers: VecDeque<Answer>,
    /// Whether the client packs what it sends, and takes it packed.
    packs: bool,
}

/// By the client's number.
type Answer = (u64, Result<Appended, AppendError>);

/// What became of the appends of a message.
struct Ended {
    answers: Vec<Answer>,
    bytes: usize,
}

/// Ready when the server is about to end.
pub fn stopping(mut stopping: watch::Receiver<bool>) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        // It cannot be told any more when the server has gone already.
        drop(stopping.wait_for(|is_stopping| *is_stopping).await);
    })
}

impl Many {
    pub fn new(
        shared: Shared,
        caller: Caller,
        registry: Arc<Registry>,
        requests: InboundStream<p::AppendManyRequest>,
    ) -> Self {
        Self {
            stopping: stopping(shared.stopping.clone()),
            shared,
            appender: Arc::new(Appender::new(caller.clone(), Shown::default())),
            caller,
            registry,
            requests: Some(requests),
            under_way: FuturesUnordered::new(),
            count: 0,
            bytes: 0,
            answers: VecDeque::new(),
            packs: false,
        }
    }

    fn take_in(
        &mut self,
        message: &StreamMessage<p::AppendManyRequest>,
    ) -> Result<(), ConnectError> {
        let view = message.view();
        if !view.leases.is_empty() {
            let leases: Vec<_> = view.leases.iter().map(|&token| token.to_owned()).collect();
            let shown = self.registry.show(&leases);
            self.appender = Arc::new(Appender::new(self.caller.clone(), shown));
        }
        self.packs |= !view.packed.is_empty();
        let is_known = self.shared.is_still_known(&self.caller);
        let (mut numbers, mut appends, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        let mut bytes = 0;
        let mut take = |number, append: Result<Append, Malformed>| {
            let checked = append.map_err(|error| error.to_string());
            match checked.and_then(|append| self.check(append, is_known)) {
                Ok(append) => {
                    bytes += append.data_bytes();
                    numbers.push(number);
                    appends.push(append);
                }
                Err(why) => refused.push((number, Err(Rejection::Other(why).into()))),
            }
        };
        if !view.appends.is_empty() {
            for numbered in message.to_owned_message().appends {
                let append = numbered.append.into_option().unwrap_or_default();
                take(numbered.number, append_of(append));
            }
        }
        if !view.packed.is_empty() {
            let packed = message.bytes().slice_ref(view.packed);
            let unpacked = unpack_appends(&packed, message_bytes_max(&self.shared.limits));
            let unpacked = unpacked.map_err(|error| {
                ConnectError::invalid_argument(format!("{error}; nothing of it was changed"))
            })?;
            for (number, append) in unpacked {
                take(number, append);
            }
        }
        self.answers.extend(refused);
        if appends.is_empty() {
            return Ok(());
        }
        self.count += appends.len();
        self.bytes += bytes;
        let (shared, appender) = (self.shared.clone(), self.appender.clone());
        self.under_way.push(Box::pin(async move {
            let answers = appender.append_all(&shared, appends).await;
            Ended {
                answers: numbers.into_iter().zip(answers).collect(),
                bytes,
            }
        }));
        Ok(())
    }

    /// An append that the client may make; or why it may not.
    fn check(&self, append: Append, is_known: bool) -> Result<Checked, String> {
        if !is_known {
            return Err(NO_MORE.to_owned());
        }
        let allowed = allowed::append(&self.shared, &self.caller, &append.events);
        allowed.map_err(|forbidden| forbidden.to_string())?;
        let checked = self.appender.check(&self.shared, append);
        checked.map_err(|unreadable| unreadable.to_string())
    }

    /// Moves answers into a message, as many as it has room for.
    fn fill(&mut self, message: &mut p::AppendManyResponse, has: &mut usize) {
        while *has < ANSWERS_MAX
            && let Some((number, answer)) = self.answers.pop_front()
        {
            *has += 1;
            if self.packs
                && let Ok(appended) = &answer
                && pack_appended(&mut message.packed, number, appended)
            {
                continue;
            }
            message.outcomes.push(p::NumberedOutcome {
                number,
                outcome: match &answer {
                    Ok(appended) => appended_to(appended).into(),
                    Err(error) => append_error_to(error).into(),
                },
                ..Default::default()
            });
        }
    }
}

impl Stream for Many {
    type Item = Result<p::AppendManyResponse, ConnectError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let mut message = p::AppendManyResponse::default();
        let mut has = 0;
        if this.requests.is_some() && this.stopping.poll_unpin(cx).is_ready() {
            this.requests = None;
        }
        loop {
            // What is under way goes on first: it makes room.
            this.fill(&mut message, &mut has);
            while has < ANSWERS_MAX
                && let Poll::Ready(Some(ended)) = this.under_way.poll_next_unpin(cx)
            {
                this.count -= ended.answers.len();
                this.bytes -= ended.bytes;
                this.answers.extend(ended.answers);
                this.fill(&mut message, &mut has);
            }
            let has_room =
                has < ANSWERS_MAX && this.count < UNDER_WAY_MAX && this.bytes < UNDER_WAY_BYTES_MAX;
            let Some(requests) = this.requests.as_mut().filter(|_| has_room) else {
                break;
            };
            match requests.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(message))) => {
                    if let Err(error) = this.take_in(&message) {
                        return Poll::Ready(Some(Err(error)));
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => this.requests = None,
                Poll::Pending => break,
            }
        }
        if has > 0 {
            message.takes_packed = !this.packs;
            Poll::Ready(Some(Ok(message)))
        } else if this.requests.is_none() && this.under_way.is_empty() {
            Poll::Ready(None)
        } else {
            Poll::Pending
        }
    }
}
