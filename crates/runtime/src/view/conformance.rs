//! What every store of views must do, as cases that anyone can run on a store of their own.
//!
//! Implement [`Subject`] for a place that holds the rows of one view, and let
//! [`view_conformance_tests!`](crate::view_conformance_tests) make one test of each case:
//!
//! ```
//! use std::collections::BTreeMap;
//! use std::sync::Arc;
//!
//! use anabranch_domain::HandleError;
//! use anabranch_runtime::view::conformance::Subject;
//! use anabranch_runtime::view::{MemoryViews, ViewContext, ViewStore, ViewStoreFactory};
//!
//! struct Memory;
//!
//! impl Subject for Memory {
//!     type Rows = BTreeMap<String, i64>;
//!
//!     fn store(&self, context: &ViewContext) -> Arc<dyn ViewStore<Self::Rows>> {
//!         MemoryViews.store(context)
//!     }
//!
//!     fn set_up(_: &mut Self::Rows) -> Result<(), HandleError> {
//!         Ok(())
//!     }
//!
//!     fn add(rows: &mut Self::Rows, key: &str, n: i64) -> Result<(), HandleError> {
//!         *rows.entry(key.to_owned()).or_default() += n;
//!         Ok(())
//!     }
//!
//!     fn sums(rows: &Self::Rows) -> Result<BTreeMap<String, i64>, HandleError> {
//!         Ok(rows.clone())
//!     }
//! }
//!
//! fn memory() -> Memory {
//!     Memory
//! }
//!
//! anabranch_runtime::view_conformance_tests!(memory);
//! # fn main() {}
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use anabranch_domain::{Event, EventRef, HandleError, View};
use anabranch_env::Env;
use anabranch_log::{Append, BoxFuture, Log, MemoryLog, ReadMode};
use anabranch_model::{Cut, EventBatch, EventId, EventType, NewEvent, StreamId};
use serde::{Deserialize, Serialize};

use super::{
    Copies, CopyId, ParkedStream, PoisonEvent, Progress, StoreError, ViewCode, ViewContext,
    ViewCopy, ViewStore,
};
use crate::diagnostics::Diagnostics;
use crate::snapshot::MemorySnapshots;
use crate::time::Time;

/// A store under test: a place that holds the rows of one view.
///
/// Each case gets a subject of its own and drops it at its end; that is when to remove what
/// was made. The methods may panic to say that the store cannot be tested at all.
pub trait Subject: Send + Sync + 'static {
    /// What views in this store write to.
    type Rows: 'static;

    /// Opens the store. A later call comes after the store given before was dropped and finds
    /// what was kept there, as after the end of the process.
    fn store(&self, context: &ViewContext) -> Arc<dyn ViewStore<Self::Rows>>;

    /// Makes what [`Subject::add`] needs, on empty rows.
    fn set_up(rows: &mut Self::Rows) -> Result<(), HandleError>;

    /// Adds `n` to the sum of `key`, which begins at zero.
    fn add(rows: &mut Self::Rows, key: &str, n: i64) -> Result<(), HandleError>;

    /// The sum of each key that was added to.
    fn sums(rows: &Self::Rows) -> Result<BTreeMap<String, i64>, HandleError>;
}

/// Why a case fails: what the store did, and what it must do.
pub type Finding = String;

/// What a case finds.
type Found = Result<(), Finding>;

/// One case.
pub struct Case<S: Subject> {
    /// Its name: what a store must do.
    pub name: &'static str,
    body: fn(Stage<S>) -> BoxFuture<'static, Found>,
}

macro_rules! cases {
    ($($name:ident)*) => {
        /// Every case.
        pub fn cases<S: Subject>() -> Vec<Case<S>> {
            vec![$(Case { name: stringify!($name), body: |stage| Box::pin($name(stage)) }),*]
        }

        /// Makes a module `view_conformance` with one test for each case. `$subject` is a
        /// function that makes a [`Subject`](crate::view::conformance::Subject).
        #[macro_export]
        macro_rules! view_conformance_tests {
            ($subject:expr) => {
                mod view_conformance {
                    use super::*;
                    $(#[test]
                    fn $name() {
                        $crate::view::conformance::check(stringify!($name), $subject());
                    })*
                }
            };
        }
    };
}

cases! {
    a_new_store_has_no_copies
    which_copies_there_are_is_kept
    a_new_copy_has_taken_in_nothing
    events_count_once_and_are_found_again
    what_was_taken_in_before_changes_nothing
    a_refused_event_leaves_nothing_of_its_append
    a_panic_leaves_nothing_of_its_append
    a_skipped_event_is_passed_over_also_after_a_restart
    a_stream_that_was_set_aside_comes_back_whole_or_not_at_all
    a_query_sees_rows_and_progress_of_one_moment
    what_was_looked_through_is_shown
    copies_share_no_rows
    a_removed_copy_begins_anew
    progress_is_told_while_events_are_taken_in
}

/// Runs the case of this name, and panics with what it finds.
pub fn check<S: Subject>(name: &str, subject: S) {
    let cases = cases::<S>();
    let case = cases.iter().find(|case| case.name == name);
    let Some(case) = case else {
        panic!("there is no case {name:?}")
    };
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(3).enable_all().build();
    let runtime = runtime.unwrap_or_else(|error| panic!("no async runtime: {error}"));
    let found = runtime.block_on((case.body)(Stage::new(subject)));
    if let Err(finding) = found {
        panic!("{name}: {finding}");
    }
}

/// The events of the view under test.
#[derive(Serialize, Deserialize, Event)]
enum Seen {
    Added { n: i64 },
}

/// The view under test: a sum for each key. It refuses 666 after it has added it, unless the
/// key is mended; it panics at 667; at 700 it waits until the key is let go.
struct Sums<S>(PhantomData<S>);

impl<S: Subject> View for Sums<S> {
    const NAME: &'static str = "sums";
    const VERSION: u32 = 1;
    const CATEGORIES: &'static [&'static str] = &["sum"];
    type Event = Seen;
    type Store = S::Rows;

    fn set_up(rows: &mut S::Rows) -> Result<(), HandleError> {
        S::set_up(rows)
    }

    fn handle(rows: &mut S::Rows, event: &Seen, about: &EventRef<'_>) -> Result<(), HandleError> {
        let (Seen::Added { n }, key) = (event, about.key());
        S::add(rows, key, *n)?;
        match n {
            666 if !FREE.has(key) => Err("the number of the beast".into()),
            667 => panic!("its neighbour"),
            700 => {
                TAKING.add(key);
                FREE.wait_for(key);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Keys that are mended, or let go. Each case has keys of its own.
struct Keys(Mutex<BTreeSet<String>>, Condvar);

static FREE: Keys = Keys(Mutex::new(BTreeSet::new()), Condvar::new());
/// Keys whose event the view's code is at.
static TAKING: Keys = Keys(Mutex::new(BTreeSet::new()), Condvar::new());

/// How long a store may hold up whoever must not wait.
const PATIENCE: Duration = Duration::from_secs(30);

impl Keys {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has(&self, key: &str) -> bool {
        self.lock().contains(key)
    }

    fn add(&self, key: &str) {
        self.lock().insert(key.to_owned());
        self.1.notify_all();
    }

    fn wait_for(&self, key: &str) {
        let waited = self.1.wait_while(self.lock(), |keys| !keys.contains(key));
        drop(waited);
    }
}

/// A log, and the store over it.
struct Stage<S: Subject> {
    subject: S,
    log: Arc<MemoryLog>,
    context: ViewContext,
    code: Arc<ViewCode<S::Rows>>,
    env: Env,
}

const ONE: CopyId = CopyId {
    version: 1,
    generation: 1,
};
const TWO: CopyId = CopyId {
    version: 1,
    generation: 2,
};

fn store_failed(error: StoreError) -> Finding {
    format!("the store fails: {error}")
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> Finding) -> Found {
    if holds { Ok(()) } else { Err(otherwise()) }
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, is: T, wanted: T) -> Found {
    ensure(is == wanted, || {
        format!("{what}: {is:?} instead of {wanted:?}")
    })
}

type Opened<S> = Arc<dyn ViewCopy<<S as Subject>::Rows>>;

impl<S: Subject> Stage<S> {
    fn new(subject: S) -> Self {
        let env = Env::os();
        let log = Arc::new(MemoryLog::new(env.clone()));
        let code = ViewCode::of::<Sums<S>>();
        let code = code.unwrap_or_else(|error| panic!("the view of the suite: {error}"));
        Self {
            context: ViewContext {
                service: format!("conformance_{:016x}", env.rng.next_u128() as u64),
                view: "sums",
                log: log.clone(),
                time: Time::of(&env),
                diagnostics: Arc::new(Diagnostics::default()),
                snapshots: Arc::new(MemorySnapshots::new()),
            },
            subject,
            log,
            code: Arc::new(code),
            env,
        }
    }

    /// A key that no other case uses.
    fn key(&self) -> String {
        format!("{:032x}", self.env.rng.next_u128())
    }

    /// Appends these numbers to the key, as one append.
    async fn append(&self, key: &str, numbers: &[i64]) -> Found {
        let failed = |error: String| format!("the suite's own log: {error}");
        let stream = StreamId::of("sum", key).map_err(|e| failed(e.to_string()))?;
        let kind = EventType::new("Added").map_err(|e| failed(e.to_string()))?;
        let events = numbers.iter().map(|n| {
            let id = EventId::from_u128(self.env.rng.next_u128());
            let data = format!("{{\"n\":{n}}}");
            NewEvent::new(id, stream.clone(), kind.clone(), data.into_bytes())
        });
        let append = Append::events(events.collect::<Vec<_>>());
        let appended = self.log.append(append).await;
        appended.map(drop).map_err(|e| failed(e.to_string()))
    }

    /// What the log holds for the view behind `from`, in batches.
    async fn events(&self, from: &Cut) -> Result<Vec<EventBatch>, Finding> {
        let filter = self.code.filter().clone();
        let mut read = self.log.read(from, filter, ReadMode::ToHead);
        let mut batches = Vec::new();
        while let Some(batch) = read.next_batch().await {
            batches.push(batch.map_err(|error| format!("the suite's own log: {error}"))?);
        }
        Ok(batches)
    }

    async fn store(&self) -> Result<Arc<dyn ViewStore<S::Rows>>, Finding> {
        let store = self.subject.store(&self.context);
        store.copies().await.map_err(store_failed)?;
        Ok(store)
    }

    /// Opens the store anew, and a copy in it.
    async fn open(&self, id: CopyId) -> Result<Opened<S>, Finding> {
        let store = self.store().await?;
        let copy = store.open(id, self.code.clone()).await;
        let copy = copy.map_err(store_failed)?;
        equal("the copy's id", copy.id(), id)?;
        Ok(copy)
    }

    /// Takes in everything behind where the copy stands, until an event is refused.
    async fn catch_up(&self, copy: &Opened<S>) -> Result<Option<PoisonEvent>, Finding> {
        let from = copy.progress().await.cut;
        for batch in self.events(&from).await? {
            if let Some(poison) = copy.apply(batch).await.map_err(store_failed)? {
                return Ok(Some(poison));
            }
        }
        Ok(None)
    }

    async fn take_all(&self, copy: &Opened<S>) -> Found {
        let poison = self.catch_up(copy).await?;
        ensure(poison.is_none(), || {
            format!("a good event is refused: {poison:?}")
        })
    }

    /// The sum of `key`, and how far the rows are, of one moment.
    async fn sum(&self, copy: &Opened<S>, key: &str) -> Result<(Option<i64>, Progress), Finding> {
        let (tell, told) = tokio::sync::oneshot::channel();
        let key = key.to_owned();
        let looked = copy.look(Box::new(move |rows, progress| {
            let sums = S::sums(rows).map_err(|error| error.to_string());
            let sum = sums.map(|sums| sums.get(&key).copied());
            drop(tell.send((sum, progress.clone())));
        }));
        looked.await.map_err(store_failed)?;
        let told = told.await.map_err(|_| "the query was never run".to_owned());
        let (sum, progress) = told?;
        let sum = sum.map_err(|error| format!("the subject's sums fail: {error}"))?;
        Ok((sum, progress))
    }
}

async fn a_new_store_has_no_copies<S: Subject>(stage: Stage<S>) -> Found {
    let store = stage.subject.store(&stage.context);
    let copies = store.copies().await.map_err(store_failed)?;
    equal("the copies", copies, Copies::default())
}

async fn which_copies_there_are_is_kept<S: Subject>(stage: Stage<S>) -> Found {
    let copies = Copies {
        serving: Some(ONE),
        previous: None,
        building: Some(TWO),
    };
    let store = stage.store().await?;
    let before = Copies::default();
    store.set_copies(before).await.map_err(store_failed)?;
    store.set_copies(copies).await.map_err(store_failed)?;
    drop(store);
    let store = stage.subject.store(&stage.context);
    let found = store.copies().await.map_err(store_failed)?;
    equal("the copies after a restart", found, copies)
}

async fn a_new_copy_has_taken_in_nothing<S: Subject>(stage: Stage<S>) -> Found {
    let copy = stage.open(ONE).await?;
    equal("its progress", copy.progress().await, Progress::default())?;
    let (sum, progress) = stage.sum(&copy, "a").await?;
    equal("its rows", sum, None)?;
    equal("what a query sees of it", progress, Progress::default())
}

async fn events_count_once_and_are_found_again<S: Subject>(stage: Stage<S>) -> Found {
    let copy = stage.open(ONE).await?;
    for n in 1..=10 {
        stage.append("a", &[n, n]).await?;
        stage.take_all(&copy).await?;
    }
    let (sum, progress) = stage.sum(&copy, "a").await?;
    equal("the sum", sum, Some(110))?;
    equal("how many events it counts", progress.events, 20)?;
    copy.keep().await.map_err(store_failed)?;
    drop(copy);
    let copy = stage.open(ONE).await?;
    equal(
        "the progress after a restart",
        copy.progress().await,
        progress,
    )?;
    stage.append("a", &[1]).await?;
    stage.take_all(&copy).await?;
    equal("the sum later", stage.sum(&copy, "a").await?.0, Some(111))
}

async fn what_was_taken_in_before_changes_nothing<S: Subject>(stage: Stage<S>) -> Found {
    let copy = stage.open(ONE).await?;
    stage.append("a", &[1, 2]).await?;
    stage.append("a", &[3]).await?;
    for _ in 0..2 {
        for batch in stage.events(&Cut::start()).await? {
            copy.apply(batch).await.map_err(store_failed)?;
        }
    }
    let (sum, progress) = stage.sum(&copy, "a").await?;
    equal("the sum", sum, Some(6))?;
    equal("how many events it counts", progress.events, 3)
}

async fn refused<S: Subject>(stage: Stage<S>, number: i64) -> Found {
    let copy = stage.open(ONE).await?;
    stage.append("a", &[1, 2]).await?;
    stage.append("a", &[4, number]).await?;
    stage.append("a", &[8]).await?;
    for round in ["first", "second"] {
        let poison = stage.catch_up(&copy).await?;
        let at = poison.map(|poison| (poison.stream, poison.version));
        let wanted = Some(("sum/a".to_owned(), 3));
        equal(
            &format!("the event that is named the {round} time"),
            at,
            wanted,
        )?;
        let (sum, progress) = stage.sum(&copy, "a").await?;
        equal("the sum of the appends before", sum, Some(3))?;
        equal("how many events it counts", progress.events, 2)?;
        equal("its progress", copy.progress().await.events, 2)?;
    }
    Ok(())
}

async fn a_refused_event_leaves_nothing_of_its_append<S: Subject>(stage: Stage<S>) -> Found {
    refused(stage, 666).await
}

async fn a_panic_leaves_nothing_of_its_append<S: Subject>(stage: Stage<S>) -> Found {
    refused(stage, 667).await
}

async fn a_skipped_event_is_passed_over_also_after_a_restart<S: Subject>(stage: Stage<S>) -> Found {
    let copy = stage.open(ONE).await?;
    stage.append("a", &[1, 667, 2]).await?;
    let Some(poison) = stage.catch_up(&copy).await? else {
        return Err("an event whose code panics is taken in".to_owned());
    };
    let edited = copy.edit(Box::new(move |progress| {
        progress.skipped.insert(poison.position);
    }));
    edited.await.map_err(store_failed)?;
    copy.keep().await.map_err(store_failed)?;
    drop(copy);
    let copy = stage.open(ONE).await?;
    stage.take_all(&copy).await?;
    equal("the sum", stage.sum(&copy, "a").await?.0, Some(3))
}

async fn a_stream_that_was_set_aside_comes_back_whole_or_not_at_all<S: Subject>(
    stage: Stage<S>,
) -> Found {
    let (copy, key) = (stage.open(ONE).await?, stage.key());
    stage.append(&key, &[1]).await?;
    stage.append(&key, &[666]).await?;
    stage.append(&key, &[2]).await?;
    stage.append("b", &[5]).await?;
    let Some(poison) = stage.catch_up(&copy).await? else {
        return Err("an event that the code refuses is taken in".to_owned());
    };
    let stream = poison.stream.clone();
    let edited = copy.edit(Box::new(move |progress| {
        let parked = ParkedStream {
            position: poison.position,
            version: poison.version,
            last: poison.version,
            reason: poison.reason,
        };
        progress.parked.insert(poison.stream, parked);
    }));
    edited.await.map_err(store_failed)?;
    stage.take_all(&copy).await?;
    equal(
        "the sum of what was before",
        stage.sum(&copy, &key).await?.0,
        Some(1),
    )?;
    equal(
        "the sum of another stream",
        stage.sum(&copy, "b").await?.0,
        Some(5),
    )?;
    let all = stage.events(&Cut::start()).await?;
    let set_aside: Vec<_> = all
        .iter()
        .flat_map(|batch| batch.clone())
        .flatten()
        .filter(|event| event.stream() == stream && event.version >= 1)
        .collect();
    let set_aside = EventBatch::from(set_aside);
    let again = copy.apply_parked(stream.clone(), set_aside.clone()).await;
    let again = again.map_err(store_failed)?;
    ensure(again.is_some(), || {
        "an event that is refused again is not named".to_owned()
    })?;
    equal(
        "the sum after a vain try",
        stage.sum(&copy, &key).await?.0,
        Some(1),
    )?;
    FREE.add(&key);
    let again = copy.apply_parked(stream, set_aside).await;
    equal("what is refused later", again.map_err(store_failed)?, None)?;
    let (sum, progress) = stage.sum(&copy, &key).await?;
    equal("the sum of the whole stream", sum, Some(669))?;
    equal("what is set aside still", progress.parked.len(), 0)
}

async fn a_query_sees_rows_and_progress_of_one_moment<S: Subject>(stage: Stage<S>) -> Found {
    let copy = stage.open(ONE).await?;
    for _ in 0..50 {
        stage.append("a", &[1, 1]).await?;
    }
    let mut events = Vec::new();
    for batch in stage.events(&Cut::start()).await? {
        events.extend(batch.into_iter().flatten());
    }
    let writer = copy.clone();
    let writing = tokio::spawn(async move {
        for event in events {
            let single = EventBatch::from(vec![event]);
            writer.apply(single).await.map_err(store_failed)?;
        }
        Ok::<_, Finding>(())
    });
    while !writing.is_finished() {
        let (sum, progress) = stage.sum(&copy, "a").await?;
        let events = i64::try_from(progress.events).unwrap_or_default();
        equal(
            "the sum, by the progress beside it",
            sum.unwrap_or(0),
            events,
        )?;
        tokio::task::yield_now().await;
    }
    writing.await.map_err(|error| error.to_string())??;
    equal(
        "the sum at the end",
        stage.sum(&copy, "a").await?.0,
        Some(100),
    )
}

async fn what_was_looked_through_is_shown<S: Subject>(stage: Stage<S>) -> Found {
    let copy = stage.open(ONE).await?;
    stage.append("a", &[1]).await?;
    stage.take_all(&copy).await?;
    let further = Cut::at(1000);
    copy.advance(further.clone()).await.map_err(store_failed)?;
    let (_, progress) = stage.sum(&copy, "a").await?;
    ensure(progress.cut.covers(&further), || {
        format!(
            "a query sees {}, and there is nothing up to {further}",
            progress.cut
        )
    })
}

async fn copies_share_no_rows<S: Subject>(stage: Stage<S>) -> Found {
    let store = stage.store().await?;
    let open = |id| store.open(id, stage.code.clone());
    let (one, two) = (open(ONE).await, open(TWO).await);
    let (one, two) = (one.map_err(store_failed)?, two.map_err(store_failed)?);
    stage.append("a", &[1]).await?;
    stage.take_all(&one).await?;
    equal(
        "the rows of the other copy",
        stage.sum(&two, "a").await?.0,
        None,
    )?;
    equal("its progress", two.progress().await.events, 0)?;
    stage.take_all(&two).await?;
    equal(
        "the sum of the first",
        stage.sum(&one, "a").await?.0,
        Some(1),
    )?;
    equal(
        "the sum of the second",
        stage.sum(&two, "a").await?.0,
        Some(1),
    )
}

async fn a_removed_copy_begins_anew<S: Subject>(stage: Stage<S>) -> Found {
    stage.append("a", &[1]).await?;
    for id in [ONE, TWO] {
        let copy = stage.open(id).await?;
        stage.take_all(&copy).await?;
        copy.keep().await.map_err(store_failed)?;
    }
    let store = stage.store().await?;
    store.remove(ONE).await.map_err(store_failed)?;
    store.remove(ONE).await.map_err(store_failed)?;
    drop(store);
    let copy = stage.open(ONE).await?;
    equal(
        "the removed copy's rows",
        stage.sum(&copy, "a").await?.0,
        None,
    )?;
    equal("its progress", copy.progress().await.events, 0)?;
    let other = stage.open(TWO).await?;
    equal(
        "the rows of the other copy",
        stage.sum(&other, "a").await?.0,
        Some(1),
    )
}

async fn progress_is_told_while_events_are_taken_in<S: Subject>(stage: Stage<S>) -> Found {
    let (copy, key) = (stage.open(ONE).await?, stage.key());
    stage.append(&key, &[1]).await?;
    stage.take_all(&copy).await?;
    stage.append(&key, &[700]).await?;
    let from = copy.progress().await.cut;
    let batches = stage.events(&from).await?;
    let writer = copy.clone();
    let writing = tokio::spawn(async move {
        for batch in batches {
            writer.apply(batch).await.map_err(store_failed)?;
        }
        Ok::<_, Finding>(())
    });
    let asked = copy.clone();
    let waited_for = key.clone();
    let telling = tokio::task::spawn_blocking(move || {
        TAKING.wait_for(&waited_for);
        let told = futures_util::FutureExt::now_or_never(asked.progress());
        told.map(|progress| progress.events)
    });
    #[expect(
        clippy::disallowed_methods,
        reason = "a store may use threads of its own, so this waits for real time"
    )]
    let told = tokio::time::timeout(PATIENCE, telling).await;
    FREE.add(&key);
    writing.await.map_err(|error| error.to_string())??;
    let Ok(Ok(events)) = told else {
        return Err("whoever asks for the progress is held up".to_owned());
    };
    equal("how many events it says it has", events, Some(1))?;
    equal("and later", copy.progress().await.events, 2)
}
