//! Appends of all callers over one call, and again over the next one when it breaks.

use std::collections::{BTreeMap, VecDeque};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anabranch_log::{Append, AppendError, Appended, Rejection};
use anabranch_rpc::protocol as p;
use anabranch_rpc::protocol::__buffa::oneof::numbered_outcome::Outcome;
use anabranch_rpc::{
    append_error_of, append_to, appended_of, pack_append, parts_bytes, unpack_appended,
};
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::connection::{Again, Connection, Lost};
use crate::leases::Leases;

/// How much is under way at a time, in KiB; each append counts one more. Who comes meanwhile
/// waits.
const ROOM_KIB: usize = 32 << 10;

/// The most appends of one message, and about how many bytes of data and of parts in memory.
const MESSAGE_APPENDS_MAX: usize = 1024;
const MESSAGE_BYTES: usize = 1 << 20;

/// While so many messages are not answered, what comes waits and goes together when one is: while the
/// log writes what one brought, it has those of the other to write next. Not for longer than this.
const UNANSWERED_MAX: usize = 2;
const WAITS_MOST: Duration = Duration::from_millis(5);

/// Where callers put their appends.
pub struct Appends {
    room: Arc<Semaphore>,
    to: mpsc::UnboundedSender<Waiting>,
}

/// An append and who waits for it.
struct Waiting {
    append: Append,
    size: usize,
    reply: oneshot::Sender<Result<Appended, AppendError>>,
    /// Whether it may have come to the server.
    was_sent: bool,
    _room: OwnedSemaphorePermit,
}

/// By the numbers that the server answers by; ascending, so that what is sent again keeps its
/// order.
#[derive(Default)]
struct UnderWay {
    by_number: BTreeMap<u64, Waiting>,
    next: u64,
}

impl Appends {
    /// Begins; it ends when this is dropped.
    pub fn start(
        handle: &Handle,
        connection: Connection,
        leases: Leases,
        patience: Duration,
    ) -> Self {
        let (to, waiting) = mpsc::unbounded_channel();
        handle.spawn(async move {
            let mut worker = Worker {
                connection,
                leases,
                patience,
                waiting,
                under_way: Mutex::default(),
            };
            worker.run().await;
        });
        Self {
            room: Arc::new(Semaphore::new(ROOM_KIB)),
            to,
        }
    }

    pub async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        let size = size(&append);
        let kib = 1 + (size >> 10).min(ROOM_KIB - 1);
        let closed = || AppendError::Unavailable {
            reason: "the log was closed".to_owned(),
            retry_after: None,
        };
        let room = self.room.clone().acquire_many_owned(kib as u32).await;
        let (reply, answer) = oneshot::channel();
        let waiting = Waiting {
            append,
            size,
            reply,
            was_sent: false,
            _room: room.map_err(|_| closed())?,
        };
        self.to.send(waiting).map_err(|_| closed())?;
        answer.await.unwrap_or_else(|_| {
            Err(AppendError::Unknown {
                reason: "the log was closed while the append was under way".to_owned(),
            })
        })
    }
}

/// About how many bytes an append takes: its data, and its parts in memory.
fn size(append: &Append) -> usize {
    let data = append.events.iter().map(|event| event.data.len());
    data.sum::<usize>() + parts_bytes(append)
}

struct Worker {
    connection: Connection,
    /// What the server is told with the appends.
    leases: Leases,
    patience: Duration,
    waiting: mpsc::UnboundedReceiver<Waiting>,
    under_way: Mutex<UnderWay>,
}

impl Worker {
    async fn run(&mut self) {
        let mut again = Again::new(self.patience);
        loop {
            // No call is open while there is nothing to append.
            if self.under_way().by_number.is_empty() {
                let Some(first) = self.waiting.recv().await else {
                    return;
                };
                self.take(first);
                again.reset();
            }
            let lost = self.call(&mut again).await;
            match &lost {
                Lost::Connection(_) if again.wait().await => {}
                Lost::Connection(reason) => {
                    let reason = self.connection.gone(reason);
                    self.give_up(&reason);
                }
                refused => {
                    let reason = refused.reason().to_owned();
                    self.refuse(&reason);
                }
            }
        }
    }

    /// One call, until it breaks.
    async fn call(&mut self, again: &mut Again) -> Lost {
        // What is given to a call that reaches nobody counts as sent. So first: is anybody there?
        let client = self.connection.client();
        if let Err(error) = client.head(p::HeadRequest::default()).await {
            return Lost::of(&error);
        }
        let call = match client.append_many().await {
            Ok(call) => call,
            Err(error) => return Lost::of(&error),
        };
        let (mut out, mut back) = call.into_split();
        let under_way = &self.under_way;
        let waiting = &mut self.waiting;
        let leases = &self.leases;
        let mut told = 0;
        let (takes_packed, answered) = (AtomicBool::new(false), Notify::new());
        let send = async {
            // What the call before has not answered goes first.
            let mut last = None;
            let mut unanswered = VecDeque::new();
            loop {
                loop {
                    let packs = takes_packed.load(Ordering::Relaxed);
                    let (mut message, end) = message_of(&mut lock(under_way), last, packs);
                    let Some(end) = end else { break };
                    last = Some(end);
                    unanswered.push_back(end);
                    leases.tell(&mut told, &mut message);
                    if let Err(error) = out.send(message).await {
                        return Lost::of(&error);
                    }
                }
                let Some(first) = waiting.recv().await else {
                    // The log was dropped; what is under way is answered still.
                    return std::future::pending().await;
                };
                put(&mut lock(under_way), first);
                drop_answered(&mut unanswered, &lock(under_way));
                if unanswered.len() >= UNANSWERED_MAX {
                    let mut late = pin!(soon());
                    while unanswered.len() >= UNANSWERED_MAX {
                        tokio::select! {
                            () = answered.notified() => {}
                            () = &mut late => break,
                        }
                        drop_answered(&mut unanswered, &lock(under_way));
                    }
                }
                let mut under_way = lock(under_way);
                while let Ok(next) = waiting.try_recv() {
                    put(&mut under_way, next);
                }
                drop_answered(&mut unanswered, &under_way);
            }
        };
        let receive = async {
            loop {
                match back.message().await {
                    Ok(Some(message)) => {
                        again.reset();
                        let view = message.view();
                        if view.takes_packed {
                            takes_packed.store(true, Ordering::Relaxed);
                        }
                        let mut under_way = lock(under_way);
                        if !view.outcomes.is_empty() {
                            for outcome in message.to_owned_message().outcomes {
                                answer(&mut under_way, outcome.number, answer_of(outcome));
                            }
                        }
                        let written = unpack_appended(view.packed, |number, appended| {
                            answer(&mut under_way, number, Ok(appended));
                        });
                        if let Err(error) = written {
                            return Lost::strange(&error);
                        }
                        answered.notify_one();
                    }
                    Ok(None) => return Lost::Connection("the server ended the call".to_owned()),
                    Err(error) => return Lost::of(&error),
                }
            }
        };
        tokio::select! {
            // The server says why it ended; sending only notices that it did.
            biased;
            lost = receive => lost,
            lost = send => lost,
        }
    }

    fn take(&self, waiting: Waiting) {
        put(&mut self.under_way(), waiting);
    }

    fn under_way(&self) -> MutexGuard<'_, UnderWay> {
        lock(&self.under_way)
    }

    /// Answers all who wait that nobody answers.
    fn give_up(&mut self, reason: &str) {
        self.answer_all(
            || AppendError::Unavailable {
                reason: reason.to_owned(),
                retry_after: None,
            },
            reason,
        );
    }

    /// Answers all who wait that the server refuses them, and would again.
    fn refuse(&mut self, reason: &str) {
        self.answer_all(|| Rejection::Other(reason.to_owned()).into(), reason);
    }

    /// What may have been written is unknown; of the rest it is certain that it was not.
    fn answer_all(&mut self, unsent: impl Fn() -> AppendError, reason: &str) {
        while let Ok(next) = self.waiting.try_recv() {
            self.take(next);
        }
        for waiting in std::mem::take(&mut self.under_way().by_number).into_values() {
            let error = if waiting.was_sent {
                AppendError::Unknown {
                    reason: reason.to_owned(),
                }
            } else {
                unsent()
            };
            // Whoever asked may have gone.
            drop(waiting.reply.send(Err(error)));
        }
    }
}

fn lock(under_way: &Mutex<UnderWay>) -> MutexGuard<'_, UnderWay> {
    under_way.lock().unwrap_or_else(PoisonError::into_inner)
}

fn put(under_way: &mut UnderWay, waiting: Waiting) {
    let number = under_way.next;
    under_way.next += 1;
    under_way.by_number.insert(number, waiting);
}

/// Forgets the messages whose appends are all answered, and those of the messages before them.
fn drop_answered(unanswered: &mut VecDeque<u64>, under_way: &UnderWay) {
    let oldest = under_way.by_number.keys().next();
    while unanswered
        .front()
        .is_some_and(|end| oldest.is_none_or(|oldest| end < oldest))
    {
        unanswered.pop_front();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a server is slow in real time; nothing here is simulated"
)]
async fn soon() {
    tokio::time::sleep(WAITS_MOST).await;
}

/// The next appends behind `last`, and the number of the last one of them.
fn message_of(
    under_way: &mut UnderWay,
    last: Option<u64>,
    packs: bool,
) -> (p::AppendManyRequest, Option<u64>) {
    let mut message = p::AppendManyRequest::default();
    let mut end = None;
    let (mut count, mut bytes) = (0, 0);
    let from = last.map_or(0, |last| last + 1);
    for (number, waiting) in under_way.by_number.range_mut(from..) {
        // A large one travels alone: the server bounds what a message takes.
        if end.is_some() && bytes + waiting.size > MESSAGE_BYTES {
            break;
        }
        if !(packs && pack_append(&mut message.packed, *number, &waiting.append)) {
            // The server takes those that are not packed first: it begins the next message.
            if !message.packed.is_empty() {
                break;
            }
            message.appends.push(p::NumberedAppend {
                number: *number,
                append: buffa::MessageField::some(append_to(&waiting.append)),
                ..Default::default()
            });
        }
        bytes += waiting.size;
        waiting.was_sent = true;
        end = Some(*number);
        count += 1;
        if count >= MESSAGE_APPENDS_MAX {
            break;
        }
    }
    (message, end)
}

/// What the server says of one append.
fn answer_of(outcome: p::NumberedOutcome) -> Result<Appended, AppendError> {
    match outcome.outcome {
        Some(Outcome::Appended(appended)) => {
            appended_of(&appended).map_err(|error| AppendError::Unknown {
                reason: format!("the server's answer cannot be read: {error}"),
            })
        }
        Some(Outcome::Problem(problem)) => Err(append_error_of(*problem)),
        None => Err(AppendError::Unknown {
            reason: "the server's answer says nothing that is known here".to_owned(),
        }),
    }
}

fn answer(under_way: &mut UnderWay, number: u64, answer: Result<Appended, AppendError>) {
    // One that was given up, or a number that nobody asked by.
    if let Some(waiting) = under_way.by_number.remove(&number) {
        // Whoever asked may have gone.
        drop(waiting.reply.send(answer));
    }
}
