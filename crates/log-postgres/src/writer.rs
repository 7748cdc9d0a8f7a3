//! Appends: what waits together becomes one transaction.
//!
//! One transaction is under way at a time. Who comes meanwhile waits and goes with the next one,
//! which is one call of the function `append` of `schema.sql`. When the connection breaks before the answer,
//! the same call is made again over a new one: it waits for the lock of the first, and then finds
//! the ids, or writes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anabranch_log::copy::Recorded;
use anabranch_log::{Append, AppendError, Condition, Layout, Placed, ReadError};
use anabranch_model::{EventId, PartitionId, Position};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_postgres::Client;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::call::{Answer, Call, Part, answer_together, answers_of};
use crate::fault::Fault;
use crate::heads::Heads;
use crate::open::weakness_of;
use crate::plain::{Ends, Not};
use crate::pool::{Again, Pool, Value, ask};

/// How much is under way at a time, in KiB; each append counts one more. Who comes meanwhile
/// waits.
const ROOM_KIB: usize = 64 << 10;
/// The most appends of one transaction, and about how many bytes of data.
const GROUP_APPENDS_MAX: usize = 512;
const GROUP_BYTES: usize = 4 << 20;

/// So often a group is tried by the short way: once more after another program has written.
const PLAIN_TRIES: usize = 3;
/// What the server says where a key is there already.
const UNIQUE_VIOLATION: &str = "23505";

/// How often it is looked at whether the server keeps what it acknowledges.
const LOOKED_AT_EVERY: Duration = Duration::from_secs(1);

/// Where callers put their appends.
pub struct Writer {
    room: Arc<Semaphore>,
    to: mpsc::UnboundedSender<Job>,
}

type Found = Result<Option<Placed>, ReadError>;

enum Job {
    Append(Waiting),
    /// Appends that were recorded elsewhere.
    Recorded(Vec<Recorded>, oneshot::Sender<Vec<Answer>>),
    /// Where an event stands, once all that came before has been answered.
    Find(EventId, oneshot::Sender<Found>),
}

/// An append and who waits for it.
struct Waiting {
    append: Append,
    /// By ascending partition: one as a rule.
    parts: Vec<Part>,
    size: usize,
    reply: oneshot::Sender<Answer>,
    _room: OwnedSemaphorePermit,
}

impl Waiting {
    fn home(&self) -> PartitionId {
        self.parts.first().map_or(PartitionId(0), |part| part.home)
    }
}

impl Writer {
    /// Begins; it ends when this is dropped.
    pub fn start(handle: &Handle, pool: Arc<Pool>, heads: Arc<Heads>, layout: &Layout) -> Self {
        let (to, jobs) = mpsc::unbounded_channel();
        let worker = Worker {
            pool,
            heads,
            layout: layout.clone(),
            client: None,
            ends: Ends::default(),
            is_away: false,
            looked: None,
        };
        handle.spawn(worker.run(jobs));
        Self {
            room: Arc::new(Semaphore::new(ROOM_KIB)),
            to,
        }
    }

    /// Appends to the partitions of its streams.
    pub async fn append(&self, append: Append, parts: Vec<Part>) -> Answer {
        let size = append.events.iter().map(|event| event.data.len() + 256);
        let size = size.sum::<usize>();
        let kib = 1 + (size >> 10).min(ROOM_KIB - 1);
        let closed = || AppendError::Unavailable {
            reason: "the log was closed".to_owned(),
            retry_after: None,
        };
        let room = self.room.clone().acquire_many_owned(kib as u32).await;
        let (reply, answer) = oneshot::channel();
        let waiting = Waiting {
            append,
            parts,
            size,
            reply,
            _room: room.map_err(|_| closed())?,
        };
        let sent = self.to.send(Job::Append(waiting));
        sent.map_err(|_| closed())?;
        answer.await.unwrap_or_else(|_| {
            Err(AppendError::Unknown {
                reason: "the log was closed while the append was under way".to_owned(),
            })
        })
    }

    /// Appends what was recorded elsewhere, in one transaction.
    pub async fn append_recorded(&self, appends: Vec<Recorded>) -> Vec<Answer> {
        let (reply, answers) = oneshot::channel();
        // The thread ends with the log; so below.
        let closed = || {
            let reason = "the log was closed while the append was under way".to_owned();
            vec![Err(AppendError::Unknown { reason })]
        };
        match self.to.send(Job::Recorded(appends, reply)) {
            Ok(()) => answers.await.unwrap_or_else(|_| closed()),
            Err(_) => closed(),
        }
    }

    /// Where an event stands, when no append is under way any more that began before.
    pub async fn find(&self, id: EventId) -> Found {
        let (reply, answer) = oneshot::channel();
        let sent = self.to.send(Job::Find(id, reply));
        sent.map_err(|_| ReadError::Closed)?;
        answer.await.unwrap_or(Err(ReadError::Closed))
    }
}

struct Worker {
    pool: Arc<Pool>,
    heads: Arc<Heads>,
    layout: Layout,
    client: Option<Client>,
    ends: Ends,
    /// Nobody has answered the last time: it is asked once, and who waits is told.
    is_away: bool,
    /// When the server was last looked at, whether it keeps what it acknowledges.
    looked: Option<tokio::time::Instant>,
}

impl Worker {
    async fn run(mut self, mut jobs: mpsc::UnboundedReceiver<Job>) {
        let mut ready = VecDeque::new();
        while let Some(job) = next(&mut ready, &mut jobs).await {
            match job {
                Job::Find(id, reply) => {
                    let found = self.find(id).await;
                    // Whoever asked may have given up; so below.
                    drop(reply.send(found));
                }
                Job::Recorded(appends, reply) => {
                    let answers = self.write_recorded(&appends).await;
                    drop(reply.send(answers));
                }
                Job::Append(first) => {
                    // Who was answered just now comes again at once, if others let them.
                    tokio::task::yield_now().await;
                    let group = gather(first, &mut ready, &mut jobs);
                    self.write(group).await;
                }
            }
        }
    }

    /// Writes a group and answers it.
    async fn write(&mut self, mut group: Vec<Waiting>) {
        if let Err(changed) = self.heads.check() {
            for waiting in group {
                drop(waiting.reply.send(Err(stops(&changed))));
            }
            return;
        }
        if let [waiting] = group.as_slice()
            && waiting.parts.len() > 1
        {
            let answer = self.ask_together(&waiting.append, &waiting.parts).await;
            let answer = answer.unwrap_or_else(|failed| Err(failed.error()));
            if let Ok(appended) = &answer {
                self.heads.reach(&appended.cut());
            }
            for waiting in group {
                drop(waiting.reply.send(answer.clone()));
            }
            return;
        }
        let looks_elsewhere = |waiting: &Waiting| {
            let mut looks = waiting.append.conditions.iter();
            looks.any(|condition| match condition {
                Condition::Stream(stream, _) => self.layout.partition_of(stream) != waiting.home(),
                Condition::NoMatch { .. } => true,
            })
        };
        // The appends of a partition keep their order. Those of several too, where one may look at
        // what another has written.
        if !group.iter().any(looks_elsewhere) {
            group.sort_by_key(Waiting::home);
        }
        let appends: Vec<_> = group.iter().map(|it| (it.home(), &it.append)).collect();
        let mut answers = self.ask(&appends).await;
        if let Err(failed) = &answers
            && failed.is_refused
            && !failed.may_be_written
            && appends.len() > 1
        {
            // One of them may be the reason: the others must not suffer for it.
            let mut each = Vec::new();
            for append in &appends {
                let answer = self.ask(std::slice::from_ref(append)).await;
                each.push(answer.map_or_else(|failed| Err(failed.error()), |mut it| it.remove(0)));
            }
            answers = Ok(each);
        }
        let answers = answers.unwrap_or_else(|failed| {
            let failed = |_: &Waiting| Err(failed.error());
            group.iter().map(failed).collect()
        });
        for answer in answers.iter().flatten() {
            self.heads.reach(&answer.cut());
        }
        for (waiting, answer) in group.into_iter().zip(answers) {
            drop(waiting.reply.send(answer));
        }
    }

    async fn write_recorded(&mut self, recorded: &[Recorded]) -> Vec<Answer> {
        let home = |append: &Append| {
            let first = append.events.first();
            first.map_or(PartitionId(0), |event| {
                self.layout.partition_of(&event.stream)
            })
        };
        let appends = recorded.iter().map(|it| (home(&it.append), &it.append));
        let appends: Vec<_> = appends.collect();
        let times = recorded.iter().map(|it| it.recorded_at as i64).collect();
        let call = Call::recorded(&appends, times, &self.layout);
        let answers = match self.call("append", &call.values()).await {
            Ok(rows) => answers_of(&appends, &rows, &self.layout).map_err(Failed::refused),
            Err(failed) => Err(failed),
        };
        let answers = answers.unwrap_or_else(|failed| vec![Err(failed.error())]);
        for answer in answers.iter().flatten() {
            self.heads.reach(&answer.cut());
        }
        answers
    }

    /// One transaction, again and again until it is known what became of it.
    async fn ask(&mut self, appends: &[(PartitionId, &Append)]) -> Result<Vec<Answer>, Failed> {
        if let Some(answers) = self.ask_plain(appends).await? {
            return Ok(answers);
        }
        let call = Call::new(appends, &self.layout);
        let rows = self.call("append", &call.values()).await?;
        answers_of(appends, &rows, &self.layout).map_err(Failed::refused)
    }

    /// The same by the short way; `None`: nothing was written, and the long way has to be gone.
    async fn ask_plain(
        &mut self,
        appends: &[(PartitionId, &Append)],
    ) -> Result<Option<Vec<Answer>>, Failed> {
        let homes = || appends.iter().map(|(home, _)| *home);
        for _ in 0..PLAIN_TRIES {
            let plan = match self.ends.plan(appends, &self.layout) {
                Ok(plan) => plan,
                Err(Not::Plain) => return Ok(None),
                Err(Not::Known(wanted)) => {
                    // Who does not answer now is asked by the long way, which waits and says so.
                    let before = self.heads.ends();
                    match self.ends.ask(&self.pool, &self.layout, &wanted).await {
                        Ok(found) => {
                            for (partition, end) in found {
                                let before = before[partition.0 as usize];
                                self.heads.found(partition, before, end);
                            }
                            if let Err(changed) = self.heads.check() {
                                return Err(Failed::refused(changed.to_string()));
                            }
                            continue;
                        }
                        Err(_) => return Ok(None),
                    }
                }
            };
            let rows = match self.call("append_at", &plan.values()).await {
                Ok(rows) => rows,
                Err(failed) if failed.code == UNIQUE_VIOLATION => {
                    // An id is there, or somebody writes past the lock.
                    self.ends.forget(homes());
                    return Ok(None);
                }
                Err(failed) => {
                    self.ends.forget(homes());
                    return Err(failed);
                }
            };
            let strange = || Failed::refused("the answer to appends is not understood".to_owned());
            let is_written = rows.first().map(|row| row.try_get::<_, bool>(0));
            match is_written {
                Some(Ok(true)) => {
                    return self
                        .ends
                        .written(&plan, &rows)
                        .ok_or_else(strange)
                        .map(Some);
                }
                Some(Ok(false)) => self.ends.forget(homes()),
                None | Some(Err(_)) => return Err(strange()),
            }
            let is_refused = rows.first().map(|row| row.try_get::<_, Option<i64>>(1));
            if let Some(Ok(Some(_))) = is_refused {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// The same of an append to several partitions.
    async fn ask_together(&mut self, append: &Append, parts: &[Part]) -> Result<Answer, Failed> {
        let call = Call::together(append, parts, &self.layout);
        let rows = self.call("append_together", &call.values()).await?;
        answer_together(append, parts, &rows, &self.layout).map_err(Failed::refused)
    }

    async fn call(
        &mut self,
        function: &str,
        values: &[Value<'_>],
    ) -> Result<Vec<tokio_postgres::Row>, Failed> {
        let places: Vec<_> = (1..=values.len()).map(|n| format!("${n}")).collect();
        let (schema, places) = (self.pool.schema(), places.join(", "));
        let sql = format!("SELECT * FROM {schema}.{function}({places})");
        let mut again = Again::new(match self.is_away {
            true => Duration::ZERO,
            false => self.pool.patience(),
        });
        let mut may_be_written = false;
        loop {
            let fault = match self.try_once(&sql, values).await {
                Ok(rows) => {
                    self.is_away = false;
                    return Ok(rows);
                }
                Err(fault) => fault,
            };
            let code = match &fault {
                Fault::Refused { code, .. } => Some(code.clone()),
                Fault::Away(_) | Fault::Lost(_) | Fault::Busy(_) => None,
            };
            may_be_written |= matches!(fault, Fault::Lost(_));
            if code.is_some() || !again.wait().await {
                self.is_away = code.is_none();
                return Err(Failed {
                    is_refused: code.is_some(),
                    may_be_written,
                    code: code.unwrap_or_default(),
                    reason: fault.to_string(),
                });
            }
        }
    }

    async fn try_once(
        &mut self,
        sql: &str,
        values: &[Value<'_>],
    ) -> Result<Vec<tokio_postgres::Row>, Fault> {
        let client = match self.client.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => self.pool.connect().await?,
        };
        self.look(&client).await?;
        let asked = ask(&client, sql, values, self.pool.patience()).await;
        if !matches!(asked, Err(Fault::Lost(_))) {
            self.client = Some(client);
        }
        asked
    }

    /// Refuses to write what the server may lose: its settings may change while it runs.
    #[expect(
        clippy::disallowed_methods,
        reason = "a server is another one later in real time; nothing here is simulated"
    )]
    async fn look(&mut self, client: &Client) -> Result<(), Fault> {
        let is_fresh = |at: tokio::time::Instant| at.elapsed() < LOOKED_AT_EVERY;
        if !self.pool.is_checked() || self.looked.is_some_and(is_fresh) {
            return Ok(());
        }
        match weakness_of(client).await {
            Ok(None) => {
                self.looked = Some(tokio::time::Instant::now());
                Ok(())
            }
            Ok(Some(what)) => Err(Fault::Refused {
                text: format!(
                    "{what}, so nothing is appended that it may lose; correct its settings, or \
                     say durability=unchecked in the address to accept that"
                ),
                code: String::new(),
            }),
            // Nothing was asked to be written yet.
            Err(Fault::Lost(text)) => Err(Fault::Away(text)),
            Err(fault) => Err(fault),
        }
    }

    async fn find(&self, id: EventId) -> Found {
        let sql = format!("SELECT * FROM {}.settled($1)", self.pool.schema());
        let id = Uuid::from_u128(id.as_u128());
        let rows = self.pool.query(&sql, &[(&id, Type::UUID)]).await;
        let rows = rows.map_err(Fault::of_read)?;
        rows.first().map(placed_of).transpose()
    }
}

/// A place that a row begins with: partition, offset, version.
pub fn placed_of(row: &tokio_postgres::Row) -> Result<Placed, ReadError> {
    let strange = |error: tokio_postgres::Error| Fault::of(&error).of_read();
    Ok(Placed {
        position: Position {
            partition: PartitionId(row.try_get::<_, i32>(0).map_err(strange)? as u32),
            offset: row.try_get::<_, i64>(1).map_err(strange)? as u64,
        },
        version: row.try_get::<_, i64>(2).map_err(strange)? as u64,
    })
}

/// Nothing is appended behind what may be another history than that which the program knows.
fn stops(changed: &ReadError) -> AppendError {
    Failed::refused(changed.to_string()).error()
}

/// Why a transaction has no answers.
struct Failed {
    /// The server refuses it as it is, and says so by this code.
    is_refused: bool,
    code: String,
    /// An earlier try may have been done.
    may_be_written: bool,
    reason: String,
}

impl Failed {
    /// Nobody can make anything of it.
    fn refused(reason: String) -> Self {
        Self {
            is_refused: true,
            code: String::new(),
            may_be_written: false,
            reason,
        }
    }

    fn error(&self) -> AppendError {
        let reason = format!("PostgreSQL: {}", self.reason);
        match self.may_be_written {
            false => AppendError::Unavailable {
                reason,
                retry_after: None,
            },
            true => AppendError::Unknown { reason },
        }
    }
}

async fn next(ready: &mut VecDeque<Job>, jobs: &mut mpsc::UnboundedReceiver<Job>) -> Option<Job> {
    match ready.pop_front() {
        Some(job) => Some(job),
        None => jobs.recv().await,
    }
}

/// What waits and goes together. What does not stays in `ready`, in its order.
fn gather(
    first: Waiting,
    ready: &mut VecDeque<Job>,
    jobs: &mut mpsc::UnboundedReceiver<Job>,
) -> Vec<Waiting> {
    let mut bytes = first.size;
    let is_alone = first.parts.len() > 1;
    let mut group = vec![first];
    while !is_alone && group.len() < GROUP_APPENDS_MAX && bytes < GROUP_BYTES {
        let Some(job) = ready.pop_front().or_else(|| jobs.try_recv().ok()) else {
            break;
        };
        match job {
            Job::Append(waiting)
                if bytes + waiting.size <= GROUP_BYTES && waiting.parts.len() == 1 =>
            {
                bytes += waiting.size;
                group.push(waiting);
            }
            other => {
                ready.push_front(other);
                break;
            }
        }
    }
    group
}
