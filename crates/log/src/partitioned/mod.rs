//! A log of several partitions, each of which is a log of its own.
//!
//! | file | what it does |
//! | --- | --- |
//! | `at_once.rs` | what is asked of partitions that answer without waiting |
//! | `causes.rs` | the rule of causes for appends: no I/O |
//! | `clock.rs` | the time of all partitions |
//! | `deltas.rs` | what the events of a partition say of their causes, by offset |
//! | `held.rs` | who writes and who looks at what, while it is written |
//! | `looks.rs` | conditions on what stands in other partitions |
//! | `kept.rs` | the same in a file, so that opening reads no history |
//! | `merge.rs` | a forward read over all partitions, never an effect before its cause |
//! | `reads.rs` | the other reads |
//! | `together.rs` | what is written to several partitions, and how that is decided |
//! | `shared.rs` | what the log and its readers have in common |
//! | `writing.rs` | how an append to several partitions is made |

mod at_once;
mod causes;
mod clock;
mod deltas;
mod errors;
mod held;
mod kept;
mod looks;
mod merge;
mod reads;
mod shared;
mod together;
mod writing;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use anabranch_env::{Env, File};
use anabranch_model::{Cut, EventId, Filter, NewEvent, PartitionId, StreamId};

pub use self::clock::CausalClock;
pub use self::merge::{CausalIndex, Dependency, MergeLane, merged};
pub use self::reads::{in_order_of_time, merged_backward};

use self::causes::to_cut;
use self::deltas::Known;
use self::errors::{append_error, placed, read_error, unavailable};
use self::held::Hold;
use self::looks::Looks;
use self::reads::{Reading, Relabelled, Start};
use self::shared::Shared;
use self::together::Together;
use crate::contract::{
    Append, Appended, Capabilities, Condition, Log, Order, Placed, ReadMode, Scope, VersionRange,
};
use crate::error::{AppendError, ReadError, Rejection};
use crate::layout::Layout;
use crate::memory::MemoryLog;
use crate::stream::{BoxFuture, EventStream, all_of};

/// A log whose streams are spread over partitions by a [`Layout`]. Each partition is a log with
/// one partition: of any engine in this process that answers where it ends, and reads what is
/// there, without waiting. Nobody else writes to them: what a condition looks at in other
/// partitions stays as it is until the append is written.
///
/// Each partition has an order of its own, and takes appends by itself. What an event depends
/// on in other partitions is said by [`Meta::causes`](anabranch_model::Meta::causes): a token
/// that [`Appended::closure`] has given, or any cut or position of the log. Readers get no
/// effect before its cause.
pub struct PartitionedLog {
    layout: Layout,
    parts: Vec<Arc<dyn Log>>,
    capabilities: Capabilities,
    shared: Arc<Shared>,
    looks: Looks,
    /// Where appends to several partitions are decided on; `None`: nothing outlives this process.
    decisions: Option<Arc<dyn Log>>,
    /// What another log says of causes is taken as it is.
    is_copy: bool,
}

/// Appends to one partition: which they are of all, and what goes with them.
type Group<'a> = (Vec<(usize, Sent, Option<Hold<'a>>)>, Vec<Append>);
type Groups<'a> = BTreeMap<PartitionId, Group<'a>>;
type Answers = Vec<Option<Result<Appended, AppendError>>>;

/// What of an append's causes goes with it.
struct Sent {
    /// All of them, closed.
    causes: Cut,
    /// What is stored of them.
    delta: Cut,
    /// The id of the append's last event.
    last: EventId,
}

impl PartitionedLog {
    /// A log of these partitions, in their order; as many as `layout` has. All that their
    /// events say of causes is read first.
    ///
    /// # Errors
    ///
    /// A partition cannot be read, there are more or fewer than the layout has, or an event
    /// depends on what is not there: a partition was lost, or is older than the others.
    pub fn open(layout: Layout, parts: Vec<Arc<dyn Log>>) -> Result<Self, ReadError> {
        Self::open_kept(layout, parts, Vec::new(), None)
    }

    /// As [`PartitionedLog::open`], with a file for each partition that keeps what its events
    /// say of causes: then only what came after it was last written is read. The files need not
    /// outlive anything: what is missing or wrong in them is made again.
    ///
    /// `decisions` is a log of one partition that has nothing else: where appends to several
    /// partitions are decided on. It has to outlive what the partitions do. What was decided on
    /// before is written when the log is first written or asked for its head. Partitions that
    /// outlive this process take no such appends without it.
    ///
    /// # Errors
    ///
    /// Those of [`PartitionedLog::open`], and what the disk says.
    pub fn open_kept(
        layout: Layout,
        parts: Vec<Arc<dyn Log>>,
        files: Vec<Arc<dyn File>>,
        decisions: Option<Arc<dyn Log>>,
    ) -> Result<Self, ReadError> {
        Self::open_with(layout, parts, files, decisions, false)
    }

    /// As [`PartitionedLog::open_kept`], for a copy of another log: what events say of causes is taken
    /// as it is, and may come later. So parts of an append to several partitions are copied one by one.
    ///
    /// # Errors
    ///
    /// Those of [`PartitionedLog::open_kept`].
    pub fn open_for_copy(
        layout: Layout,
        parts: Vec<Arc<dyn Log>>,
        files: Vec<Arc<dyn File>>,
    ) -> Result<Self, ReadError> {
        Self::open_with(layout, parts, files, None, true)
    }

    fn open_with(
        layout: Layout,
        parts: Vec<Arc<dyn Log>>,
        files: Vec<Arc<dyn File>>,
        decisions: Option<Arc<dyn Log>>,
        is_copy: bool,
    ) -> Result<Self, ReadError> {
        if parts.len() != layout.partitions() as usize {
            return Err(ReadError::Invalid(format!(
                "there are {} partitions, and the layout has {}: {layout}",
                parts.len(),
                layout.partitions()
            )));
        }
        let is_one = layout.is_one();
        let each = parts[0].capabilities();
        let undone = match &decisions {
            Some(decisions) => Together::undone(&**decisions, &parts)?,
            None => Vec::new(),
        };
        let shared = Shared::open(&parts, files, &undone, is_copy)?;
        let looks = Looks::new(layout.clone(), parts.clone());
        undone
            .into_iter()
            .for_each(|undone| looks.is_decided(undone));
        let may_batch = decisions.is_some() || !each.survives_restart;
        Ok(Self {
            capabilities: Capabilities {
                partitions: layout.partitions(),
                batches: match is_one {
                    true => each.batches,
                    false if each.batches >= Scope::Partition && may_batch => Scope::Log,
                    false => each.batches.min(Scope::Partition),
                },
                total_order: is_one,
                ..each
            },
            looks,
            layout,
            parts,
            shared: Arc::new(shared),
            decisions,
            is_copy,
        })
    }

    /// Has `clock`, which all partitions record their events by, go on behind the events that
    /// there are.
    ///
    /// # Errors
    ///
    /// The last event of a partition cannot be read.
    pub fn go_on(&self, clock: &CausalClock) -> Result<(), ReadError> {
        let passes = |micros| clock.passes(micros);
        self.shared.last_times()?.into_iter().for_each(passes);
        Ok(())
    }

    /// An empty log in memory.
    pub fn in_memory(env: &Env, layout: Layout) -> Self {
        let env = Env {
            clock: Arc::new(CausalClock::new(env.clock.clone())),
            ..env.clone()
        };
        let part = |_| Arc::new(MemoryLog::new(env.clone())) as Arc<dyn Log>;
        let parts = layout.ids().map(part).collect();
        match Self::open(layout, parts) {
            Ok(log) => log,
            Err(error) => unreachable!("partitions in memory are there: {error}"),
        }
    }

    /// The partitions of an append, ascending: one as a rule.
    fn place(&self, append: &Append) -> Result<Vec<PartitionId>, Rejection> {
        let place = |stream| self.layout.partition_of(stream);
        let mut streams = append.events.iter().map(|event| &event.stream);
        let Some(first) = streams.next() else {
            return Ok(vec![PartitionId(0)]);
        };
        let home = place(first);
        let mut homes = vec![home];
        let mut apart = None;
        for stream in streams {
            let partition = place(stream);
            if !homes.contains(&partition) {
                homes.push(partition);
                apart = apart.or(Some(stream));
            }
        }
        homes.sort_unstable();
        if apart.is_none() || self.capabilities.batches == Scope::Log {
            apart = None;
            // What the partitions cannot keep others from writing is not looked at over partitions.
            if self.capabilities.conditions < Scope::Log {
                let named = append.conditions.iter();
                let mut named = named.filter_map(|condition| match condition {
                    Condition::Stream(stream, _) => Some(stream),
                    Condition::NoMatch { .. } => None,
                });
                apart = named.find(|stream| place(stream) != home);
            }
        }
        match apart {
            None => Ok(homes),
            Some(second) => Err(Rejection::Apart {
                first: first.clone(),
                first_in: home,
                second: second.clone(),
                second_in: place(second),
            }),
        }
    }

    /// Checks and closes the causes of an append, `looked_at` among them, and leaves in it what is
    /// to be stored.
    async fn send(
        &self,
        home: usize,
        append: &mut Append,
        looked_at: Cut,
    ) -> Result<Sent, AppendError> {
        let mut causes = looked_at;
        causes.join(&causes_of(append));
        // There is one: the append was checked.
        let last = append.events.last().map(|event| event.id);
        let last = last.unwrap_or(EventId::from_u128(0));
        // A log with one partition keeps them as they are.
        if causes == Cut::start() || self.layout.is_one() {
            causes = Cut::start();
            let delta = Cut::start();
            return Ok(Sent {
                causes,
                delta,
                last,
            });
        }
        if self.is_copy {
            // They stay as they stand there: of appends that were under way together each says what the others
            // say, too.
            self.shared.causes().send_part(home, &causes);
            let delta = causes.clone();
            return Ok(Sent {
                causes,
                delta,
                last,
            });
        }
        self.check_causes(&causes).await?;
        let news = self.shared.causes().news(home, &causes);
        // A cause brings what it depends on itself; a token has that already.
        for (q, count) in news.iter() {
            let before = self
                .shared
                .with_deltas(q.0 as usize, count, |deltas| deltas.before(count));
            causes.join(&to_cut(&before.map_err(unavailable)?));
        }
        let delta = self.shared.causes().send(home, &causes);
        store(&mut append.events, &delta);
        Ok(Sent {
            causes,
            delta,
            last,
        })
    }

    /// Refuses causes that are not in the log, after a fresh look.
    async fn check_causes(&self, causes: &Cut) -> Result<(), AppendError> {
        let beyond = self.shared.causes().beyond(causes);
        for (q, _) in beyond.iter() {
            if (q.0 as usize) < self.parts.len() {
                let asked = self.shared.ask_end(q.0 as usize).await;
                asked.map_err(unavailable)?;
            }
        }
        let known = self.shared.causes();
        let causes = known.beyond(causes);
        if causes == Cut::start() {
            return Ok(());
        }
        let head = to_cut(&known.ends());
        Err(Rejection::FutureCause { causes, head }.into())
    }

    /// What became of an append, in the whole log.
    fn answered(
        &self,
        home: PartitionId,
        sent: Sent,
        answer: Result<Appended, AppendError>,
    ) -> Result<Appended, AppendError> {
        let mut appended = answer.map_err(|error| append_error(error, home))?;
        for place in &mut appended.places {
            place.position = placed(place.position, home);
        }
        let end = appended.cut().get(home);
        let p = home.0 as usize;
        let delta = if appended.repeated {
            Cut::start()
        } else {
            sent.delta
        };
        {
            let mut causes = self.shared.causes();
            causes.stored(p, &delta, end);
            appended.closure = causes.closure(p, &sent.causes, end);
        }
        if let (false, false, Some(first)) = (
            self.layout.is_one(),
            appended.repeated,
            appended.places.first(),
        ) {
            let last = sent.last;
            let known = Known { end, delta, last };
            self.shared.deltas(p).learn(first.position.offset, known);
        }
        Ok(appended)
    }

    /// Takes what an append writes and looks at, and looks. Gives that, and where it was looked at.
    async fn hold(
        &self,
        home: PartitionId,
        append: &mut Append,
        groups: &mut Groups<'_>,
        answers: &mut Answers,
    ) -> Result<(Option<Hold<'_>>, Cut), AppendError> {
        if self.layout.is_one() {
            return Ok((None, Cut::start()));
        }
        let (wants, looks) = self.looks.split(home, append);
        let hold = match self.looks.try_hold(wants) {
            Ok(hold) => hold,
            Err(wants) => {
                // Who waits holds nothing.
                self.write_groups(groups, answers).await;
                self.take(wants).await?
            }
        };
        let looked_at = self.looks.look(&self.shared, home, append, looks).await?;
        Ok((Some(hold), looked_at))
    }

    /// Makes an append ready and puts it to those of its partition.
    async fn prepare<'a>(
        &'a self,
        at: usize,
        mut append: Append,
        groups: &mut Groups<'a>,
        answers: &mut Answers,
    ) -> Result<(), AppendError> {
        let limits = &self.capabilities.limits;
        append.check(limits).map_err(Rejection::from)?;
        let home = match *self.place(&append)?.as_slice() {
            [home] => home,
            ref homes => {
                self.write_groups(groups, answers).await;
                answers[at] = Some(self.write_together(append, homes).await);
                return Ok(());
            }
        };
        let (hold, looked_at) = self.hold(home, &mut append, groups, answers).await?;
        let sent = self.send(home.0 as usize, &mut append, looked_at).await?;
        let (sents, appends) = groups.entry(home).or_default();
        sents.push((at, sent, hold));
        appends.push(append);
        Ok(())
    }

    /// Writes appends, those of each partition together.
    async fn write_all(&self, appends: Vec<Append>) -> Vec<Result<Appended, AppendError>> {
        let mut answers: Answers = appends.iter().map(|_| None).collect();
        let mut groups = Groups::new();
        for (at, append) in appends.into_iter().enumerate() {
            let prepared = self.prepare(at, append, &mut groups, &mut answers).await;
            if let Err(error) = prepared {
                answers[at] = Some(Err(error));
            }
        }
        self.write_groups(&mut groups, &mut answers).await;
        answers.into_iter().flatten().collect()
    }

    /// Writes what is ready, all partitions side by side.
    async fn write_groups(&self, groups: &mut Groups<'_>, answers: &mut Answers) {
        let (homes, groups): (Vec<_>, Vec<_>) = std::mem::take(groups)
            .into_iter()
            .map(|(home, (mut sents, appends))| {
                let holds = sents.iter_mut().filter_map(|(.., hold)| hold.as_mut());
                holds.for_each(Hold::is_sent);
                let writing = self.parts[home.0 as usize].append_all(appends);
                ((home, sents), writing)
            })
            .unzip();
        let given = all_of(groups.into_iter()).await;
        for ((home, sents), group) in homes.into_iter().zip(given) {
            for ((at, sent, hold), answer) in sents.into_iter().zip(group) {
                let is_known = is_known(&answer);
                answers[at] = Some(self.answered(home, sent, answer));
                if let Some(hold) = hold {
                    hold.answered(is_known);
                }
            }
        }
    }

    async fn write(&self, mut append: Append) -> Result<Appended, AppendError> {
        let limits = &self.capabilities.limits;
        append.check(limits).map_err(Rejection::from)?;
        let home = match *self.place(&append)?.as_slice() {
            [home] => home,
            ref homes => return self.write_together(append, homes).await,
        };
        let (mut groups, mut answers) = (Groups::new(), Answers::new());
        let held = self.hold(home, &mut append, &mut groups, &mut answers);
        let (mut hold, looked_at) = held.await?;
        let sent = self.send(home.0 as usize, &mut append, looked_at).await?;
        hold.iter_mut().for_each(Hold::is_sent);
        let answer = self.parts[home.0 as usize].append(append).await;
        let is_known = is_known(&answer);
        let answer = self.answered(home, sent, answer);
        if let Some(hold) = hold {
            hold.answered(is_known);
        }
        answer
    }
}

/// What was decided on cannot be written: then nobody knows how far the log goes.
fn unwritten(error: AppendError) -> ReadError {
    ReadError::Io {
        what: "writing an append to several partitions that was decided on".to_owned(),
        reason: error.to_string(),
    }
}

/// What the events of an append are said to depend on.
fn causes_of(append: &Append) -> Cut {
    let mut causes = Cut::start();
    let metas = append
        .events
        .iter()
        .filter_map(|event| event.meta.as_deref());
    metas.for_each(|meta| causes.join(&meta.causes));
    causes
}

/// Whether it is known what became of an append.
fn is_known(answer: &Result<Appended, AppendError>) -> bool {
    !matches!(answer, Err(AppendError::Unknown { .. }))
}

impl Drop for PartitionedLog {
    fn drop(&mut self) {
        for p in 0..self.parts.len() {
            self.shared.deltas(p).write();
        }
    }
}

/// Stores the delta with the first event, and nothing of causes with the others.
fn store(events: &mut [NewEvent], delta: &Cut) {
    let mut delta = Some(delta);
    for event in events {
        let delta = delta.take().cloned().unwrap_or_default();
        let has = event.meta.as_ref().map(|meta| &meta.causes);
        if *has.unwrap_or(&Cut::start()) != delta {
            event.meta_mut().causes = delta;
        }
    }
}

impl Log for PartitionedLog {
    fn capabilities(&self) -> Capabilities {
        self.capabilities.clone()
    }

    fn layout(&self) -> Layout {
        self.layout.clone()
    }

    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, AppendError>> {
        Box::pin(self.write(append))
    }

    fn append_all(
        &self,
        appends: Vec<Append>,
    ) -> BoxFuture<'_, Vec<Result<Appended, AppendError>>> {
        Box::pin(self.write_all(appends))
    }

    fn read_stream(&self, stream: &StreamId, range: VersionRange, order: Order) -> EventStream {
        let partition = self.layout.partition_of(stream);
        let p = partition.0 as usize;
        let until = self.shared.causes().until(p);
        let events = self.parts[p].read_stream(stream, range, order);
        EventStream::new(Relabelled {
            events,
            partition,
            until,
        })
    }

    fn read(&self, from: &Cut, filter: Filter, mode: ReadMode) -> EventStream {
        let shared = Arc::clone(&self.shared);
        let mut reading = Reading::Start(Start {
            ends: Box::pin(async move { shared.ask_ends().await }),
            shared: Arc::clone(&self.shared),
            from: from.clone(),
            filter,
            mode,
        });
        match reading.begin(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Err(error)) => EventStream::failed(error),
            Poll::Ready(Ok(())) | Poll::Pending => EventStream::new(reading),
        }
    }

    fn find(&self, id: EventId) -> BoxFuture<'_, Result<Option<Placed>, ReadError>> {
        Box::pin(async move {
            if let Err(error) = self.finish().await
                && self.looks.is_undone(id)
            {
                return Err(unwritten(error));
            }
            let asked = self.parts.iter().map(|part| part.find(id));
            let answers = all_of(asked).await;
            for (p, answer) in answers.into_iter().enumerate() {
                let partition = PartitionId(p as u32);
                let found = answer.map_err(|error| read_error(error, partition))?;
                if let Some(found) = found {
                    return Ok(Some(Placed {
                        position: placed(found.position, partition),
                        ..found
                    }));
                }
            }
            Ok(None)
        })
    }

    fn head(&self) -> BoxFuture<'_, Result<Cut, ReadError>> {
        Box::pin(async {
            // What cannot be finished now is not in the head, nor is any half of it.
            drop(self.finish().await);
            Ok(to_cut(&self.shared.ask_ends().await?))
        })
    }

    fn takes_appends(&self) -> Result<(), AppendError> {
        self.parts.iter().try_for_each(|part| part.takes_appends())
    }
}
