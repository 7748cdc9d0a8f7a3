//! Runs the copies of one view and answers its queries.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anabranch_domain::{Json, Query, View};
use anabranch_log::{BoxFuture, Log, Order, VersionRange};
use anabranch_model::{Cut, StreamId};
use futures_util::future::{Either, select};
use tokio::sync::{Notify, oneshot, watch};

use super::question::fields_of;
use super::{
    Answer, Consistency, Copies, CopyId, CopyState, CopyStatus, JsonAnswer, OperateError, Policy,
    Progress, QueryError, Question, StoreError, ViewCode, ViewContext, ViewCopy, ViewError,
    ViewOptions, ViewStatus, ViewStore, ViewStoreFactory,
};
use crate::diagnostics::Diagnostics;
use crate::follow::{FollowParts, Following, Shown};
use crate::newer::NewerTypes;
use crate::panics::contain;
use crate::time::Time;

type AskByName<V> = Arc<
    dyn Fn(
            &ViewHost<V>,
            &Question,
            Consistency,
        ) -> BoxFuture<'static, Result<JsonAnswer, QueryError>>
        + Send
        + Sync,
>;

/// What of a view is hosted: its queries by name, and how.
pub struct ViewSpec<V: View> {
    options: ViewOptions,
    queries: BTreeMap<&'static str, AskByName<V>>,
    /// The fields of each query whose type says which they are.
    fields: BTreeMap<&'static str, &'static [&'static str]>,
    /// A name that two queries have.
    twice: Option<&'static str>,
}

impl<V: View> Default for ViewSpec<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V: View> ViewSpec<V> {
    /// The view, without queries by name.
    pub fn new() -> Self {
        Self {
            options: ViewOptions::default(),
            queries: BTreeMap::new(),
            fields: BTreeMap::new(),
            twice: None,
        }
    }

    /// How it is hosted.
    #[must_use]
    pub fn options(mut self, options: ViewOptions) -> Self {
        self.options = options;
        self
    }

    /// A query that can be asked by its name, with its fields as JSON.
    #[must_use]
    pub fn query<Q: Query<View = V>>(mut self) -> Self {
        if let Some(fields) = fields_of::<Q>() {
            self.fields.insert(Q::NAME, fields);
        }
        let before = self.queries.insert(
            Q::NAME,
            Arc::new(|host, question, consistency| {
                let failed = |reason: String| QueryError::Failed {
                    query: Q::NAME.to_owned(),
                    reason,
                };
                let query: Q = match contain(|| question.parse()).and_then(|parsed| parsed) {
                    Ok(query) => query,
                    Err(reason) => {
                        let query = Q::NAME.to_owned();
                        let error = QueryError::Malformed { query, reason };
                        return Box::pin(async { Err(error) });
                    }
                };
                let asked = host.ask(query, consistency);
                Box::pin(async move {
                    let answer = asked.await?;
                    let value = contain(|| Json::of(&answer.value).map_err(|e| e.to_string()));
                    Ok(Answer {
                        value: value.and_then(|value| value).map_err(failed)?,
                        cut: answer.cut,
                        stale: answer.stale,
                    })
                })
            }),
        );
        if before.is_some() {
            self.twice = Some(Q::NAME);
        }
        self
    }
}

/// A view, whatever its type: what operators use.
pub trait AnyView: Any + Send + Sync {
    /// How far it is and what it is doing.
    fn status(&self) -> BoxFuture<'_, ViewStatus>;

    /// What it shows: the cut that the serving copy stands at.
    fn seen(&self) -> Cut;

    /// Asks a query by name.
    fn ask_json(
        &self,
        query: &str,
        question: Question,
        consistency: Consistency,
    ) -> BoxFuture<'_, Result<JsonAnswer, QueryError>>;

    /// The names of the fields that a query has, if there is such a query and its type says so.
    fn fields(&self, query: &str) -> Option<&'static [&'static str]>;

    /// Builds a new copy beside the present one; it takes its place when it has caught up.
    fn rebuild(&self) -> BoxFuture<'_, Result<CopyId, OperateError>>;

    /// Takes back the last swap: the copy that served before serves again.
    fn back_out(&self) -> BoxFuture<'_, Result<CopyId, OperateError>>;

    /// Passes over the event that the view has stopped at, or that `stream` was set aside for.
    fn skip(&self, stream: Option<String>) -> BoxFuture<'_, Result<(), OperateError>>;

    /// Tries again the event that the view has stopped at, or what was set aside of `stream`.
    fn retry(&self, stream: Option<String>) -> BoxFuture<'_, Result<(), OperateError>>;

    /// Stops, and keeps how far it is.
    fn close(&self) -> BoxFuture<'_, ()>;

    /// Stops at once, as a crash would.
    fn kill(&self);
}

/// What a view's host is made of.
pub struct ViewParts {
    pub context: ViewContext,
    pub head: watch::Receiver<Cut>,
    pub newer: NewerTypes,
}

/// A view, hosted.
pub struct ViewHost<V: View> {
    inner: Arc<Inner<V::Store>>,
    queries: BTreeMap<&'static str, AskByName<V>>,
    fields: BTreeMap<&'static str, &'static [&'static str]>,
}

/// What the host, its copies and its queries share.
pub struct Inner<S: 'static> {
    pub log: Arc<dyn Log>,
    pub time: Time,
    diagnostics: Arc<Diagnostics>,
    pub head: watch::Receiver<Cut>,
    newer: NewerTypes,
    pub options: ViewOptions,
    pub code: Arc<ViewCode<S>>,
    store: Arc<dyn ViewStore<S>>,
    running: Mutex<Running<S>>,
    /// Rung when another copy serves.
    swapped: Notify,
    /// One operator at a time.
    operator: tokio::sync::Mutex<()>,
}

struct Running<S> {
    copies: Copies,
    serving: Option<Runner<S>>,
    building: Option<Runner<S>>,
}

/// A copy, and what keeps it up to date.
struct Runner<S> {
    copy: Arc<dyn ViewCopy<S>>,
    following: Arc<Following>,
}

/// A copy, and how far it is.
type Watched<S> = (Arc<dyn ViewCopy<S>>, watch::Receiver<Shown>);

impl<V: View> ViewHost<V> {
    /// Opens the copies and starts to keep them up to date.
    pub async fn start(
        parts: ViewParts,
        spec: ViewSpec<V>,
        stores: Box<dyn ViewStoreFactory<V::Store>>,
    ) -> Result<Arc<Self>, ViewError> {
        let view = V::NAME;
        let name = |source| ViewError::Name { view, source };
        StreamId::of(view, "x").map_err(name)?;
        if let Some(query) = spec.twice {
            return Err(ViewError::QueryTwice { view, query });
        }
        let code = ViewCode::taught::<V>(parts.newer.known.clone());
        let code = code.map_err(|source| ViewError::Schema { view, source })?;
        let store = stores.store(&parts.context);
        let ViewContext {
            log,
            time,
            diagnostics,
            ..
        } = parts.context;
        let copies = store.copies().await?;
        let inner = Arc::new(Inner {
            log,
            time,
            diagnostics,
            head: parts.head,
            newer: parts.newer,
            options: spec.options,
            code: Arc::new(code),
            store,
            running: Mutex::new(Running {
                copies,
                serving: None,
                building: None,
            }),
            swapped: Notify::new(),
            operator: tokio::sync::Mutex::default(),
        });
        inner.open().await?;
        Ok(Arc::new(Self {
            inner,
            queries: spec.queries,
            fields: spec.fields,
        }))
    }

    /// Asks a query.
    pub fn ask<Q: Query<View = V>>(
        &self,
        query: Q,
        consistency: Consistency,
    ) -> BoxFuture<'static, Result<Answer<Q::Answer>, QueryError>> {
        let inner = self.inner.clone();
        Box::pin(async move { inner.ask(query, consistency).await })
    }
}

impl<S: 'static> Inner<S> {
    fn running(&self) -> std::sync::MutexGuard<'_, Running<S>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn note(&self, text: String) {
        self.diagnostics.add(self.time.now(), text);
    }

    /// Starts what has to run, given which copies there are and which version the code has.
    async fn open(self: &Arc<Self>) -> Result<(), StoreError> {
        let mut copies = self.running().copies;
        let ours = |id: &CopyId| id.version == self.code.version();
        if !copies.serving.is_some_and(|id| ours(&id)) {
            if let Some(back) = copies.previous.filter(ours) {
                // The program went back to an earlier version, whose rows are still there.
                copies.previous = copies.serving.replace(back);
            } else if !copies.building.is_some_and(|id| ours(&id)) {
                copies.building = Some(CopyId {
                    version: self.code.version(),
                    generation: 1,
                });
            }
        }
        // A copy that is half built and not ours is of no use to anybody.
        let stale = copies.building.filter(|id| !ours(id));
        if stale.is_some() {
            copies.building = None;
        }
        self.store.set_copies(copies).await?;
        if let Some(stale) = stale {
            self.store.remove(stale).await?;
        }
        let serving = match copies.serving.filter(ours) {
            Some(id) => Some(self.clone().run(id).await?),
            None => None,
        };
        let building = match copies.building {
            Some(id) => Some(self.clone().run(id).await?),
            None => None,
        };
        let mut running = self.running();
        *running = Running {
            copies,
            serving,
            building,
        };
        // It may have caught up before it was known here.
        if let Some(building) = &running.building {
            building.following.nudge();
        }
        Ok(())
    }

    /// How a copy follows the log.
    fn follow_parts(self: Arc<Self>, id: CopyId) -> FollowParts {
        FollowParts {
            of: format!("view {}", self.code.name()),
            log: self.log.clone(),
            time: self.time.clone(),
            diagnostics: self.diagnostics.clone(),
            head: self.head.clone(),
            newer: Some(self.newer.clone()),
            filter: Some(self.code.filter().clone()),
            poison: self.code.poison(),
            retry: self.options.retry,
            parked_max: self.options.parked_max,
            keep_every: self.options.snapshot_every,
            caught_up: Some(Box::new(move || {
                let inner = self.clone();
                Box::pin(async move { inner.swap(id).await })
            })),
        }
    }

    /// Opens a copy and starts to keep it up to date.
    async fn run(self: Arc<Self>, id: CopyId) -> Result<Runner<S>, StoreError> {
        let copy = self.store.open(id, self.code.clone()).await?;
        let progress = copy.progress().await;
        let parts = self.follow_parts(id);
        let following = Following::start(parts, copy.clone(), progress, async {});
        let following = Arc::new(following);
        Ok(Runner { copy, following })
    }

    /// The copy that is built has caught up: it serves from now on.
    pub async fn swap(&self, id: CopyId) -> Result<(), StoreError> {
        let copies = {
            let running = self.running();
            if running.copies.building != Some(id) {
                return Ok(());
            }
            Copies {
                serving: Some(id),
                previous: running.copies.serving,
                building: None,
            }
        };
        let forgotten = self.running().copies.previous;
        self.store.set_copies(copies).await?;
        let before = {
            let mut running = self.running();
            running.copies = copies;
            let built = running.building.take();
            std::mem::replace(&mut running.serving, built)
        };
        drop(before);
        self.swapped.notify_waiters();
        if let Some(forgotten) = forgotten.filter(|id| copies.previous != Some(*id)) {
            self.store.remove(forgotten).await?;
        }
        Ok(())
    }

    async fn ask<Q: Query<View: View<Store = S>>>(
        &self,
        query: Q,
        consistency: Consistency,
    ) -> Result<Answer<Q::Answer>, QueryError> {
        let head = self.head.borrow().clone();
        if !head.covers(&consistency.seen) {
            let head = self
                .log
                .head()
                .await
                .map_err(|error| StoreError::new(self.code.name(), error))?;
            if !head.covers(&consistency.seen) {
                return Err(QueryError::BeyondHead {
                    seen: consistency.seen,
                    head,
                });
            }
        }
        let copy = match consistency.policy {
            Policy::Wait(wait) => {
                let deadline = self.time.sleep(wait);
                match select(Box::pin(self.reached(&consistency.seen)), deadline).await {
                    Either::Left((copy, _)) => copy,
                    Either::Right(_) => return Err(self.behind(&consistency.seen)),
                }
            }
            Policy::Fail | Policy::AllowStale => self.serving()?.0,
        };
        let (reply, answer) = oneshot::channel();
        copy.look(Box::new(move |store, progress| {
            let answered = contain(|| query.answer(store).map_err(|error| error.to_string()));
            // Who no longer waits does not want the answer.
            drop(reply.send((answered.unwrap_or_else(Err), progress.cut.clone())));
        }))
        .await?;
        let (answered, cut) = answer
            .await
            .map_err(|_| StoreError::new(self.code.name(), "the query was given up"))?;
        let stale = !cut.covers(&consistency.seen);
        if stale && consistency.policy != Policy::AllowStale {
            return Err(self.behind(&consistency.seen));
        }
        let value = answered.map_err(|reason| QueryError::Failed {
            query: Q::NAME.to_owned(),
            reason,
        })?;
        Ok(Answer { value, cut, stale })
    }

    fn serving(&self) -> Result<Watched<S>, QueryError> {
        let running = self.running();
        if let Some(runner) = &running.serving {
            return Ok((runner.copy.clone(), runner.following.shown.clone()));
        }
        let done = running
            .building
            .as_ref()
            .map(|runner| runner.following.shown.borrow().cut.clone());
        Err(QueryError::Building {
            view: self.code.name().to_owned(),
            percent: percent(&done.unwrap_or_default(), &self.head.borrow()),
        })
    }

    /// The serving copy, as soon as it includes `seen`.
    async fn reached(&self, seen: &Cut) -> Arc<dyn ViewCopy<S>> {
        loop {
            let swapped = self.swapped.notified();
            let Ok((copy, mut shown)) = self.serving() else {
                swapped.await;
                continue;
            };
            let arrived = async { shown.wait_for(|shown| shown.cut.covers(seen)).await.is_ok() };
            match select(Box::pin(arrived), Box::pin(swapped)).await {
                Either::Left((true, _)) => return copy,
                // The copy was replaced while we waited.
                Either::Left((false, swapped)) => swapped.await,
                Either::Right(_) => {}
            }
        }
    }

    fn behind(&self, need: &Cut) -> QueryError {
        let running = self.running();
        match &running.serving {
            None => {
                drop(running);
                match self.serving() {
                    Err(error) => error,
                    Ok((_, shown)) => not_reached(self.code.name(), &shown.borrow(), need),
                }
            }
            Some(runner) => not_reached(self.code.name(), &runner.following.shown.borrow(), need),
        }
    }

    async fn status_of(&self, copy: Arc<dyn ViewCopy<S>>, shown: Shown) -> CopyStatus {
        let head = self.head.borrow().clone();
        let (lag_events, lag) = shown.lag(&head, self.time.now());
        let time_left = shown.rate.filter(|rate| lag_events > 0 && *rate > 0.0);
        CopyStatus {
            id: copy.id(),
            lag_events,
            lag,
            time_left: time_left.map(|rate| Duration::from_secs_f64(lag_events as f64 / rate)),
            parked: copy.progress().await.parked,
            state: shown.state,
            cut: shown.cut,
        }
    }

    /// The copy that an operator means: the one that has stopped, the serving one first.
    fn stopped(&self) -> Result<Arc<Following>, OperateError> {
        let running = self.running();
        let runners = [&running.serving, &running.building];
        let mut all = runners.into_iter().flatten().map(|one| &one.following);
        let stopped = all.find(|one| one.stopped_at().is_some()).cloned();
        stopped.ok_or_else(|| {
            let view = self.code.name();
            OperateError::NotNow(format!("view {view} has not stopped at an event"))
        })
    }

    fn copies_running(&self) -> Vec<Arc<dyn ViewCopy<S>>> {
        let running = self.running();
        let runners = [&running.serving, &running.building];
        let copies = runners.into_iter().flatten();
        copies.map(|runner| runner.copy.clone()).collect()
    }

    async fn skip_parked(&self, stream: String) -> Result<(), OperateError> {
        let mut found = false;
        for copy in self.copies_running() {
            let Some(parked) = copy.progress().await.parked.remove(&stream) else {
                continue;
            };
            found = true;
            copy.edit(Box::new(move |progress: &mut Progress| {
                progress.skipped.insert(parked.position);
            }))
            .await?;
        }
        if found {
            self.retry_parked(stream).await
        } else {
            Err(not_parked(self.code.name(), &stream))
        }
    }

    async fn retry_parked(&self, stream: String) -> Result<(), OperateError> {
        let id = StreamId::system(&stream).map_err(|e| OperateError::Unknown(e.to_string()))?;
        let mut found = false;
        for copy in self.copies_running() {
            let Some(parked) = copy.progress().await.parked.remove(&stream) else {
                continue;
            };
            found = true;
            let mut read =
                self.log
                    .read_stream(&id, VersionRange::from(parked.version), Order::Forward);
            let mut events = Vec::new();
            while let Some(event) = read.next().await {
                events.push(event.map_err(|error| StoreError::new(self.code.name(), error))?);
            }
            if let Some(poison) = copy.apply_parked(stream.clone(), events.into()).await? {
                return Err(OperateError::Poison(poison.to_string()));
            }
        }
        if found {
            Ok(())
        } else {
            Err(not_parked(self.code.name(), &stream))
        }
    }
}

fn not_parked(view: &str, stream: &str) -> OperateError {
    OperateError::NotNow(format!(
        "view {view} has not set stream {stream} aside; `view ls` shows which it has"
    ))
}

fn not_reached(view: &str, shown: &Shown, need: &Cut) -> QueryError {
    let stopped = match &shown.state {
        CopyState::Stopped { event } => Some(event.to_string()),
        CopyState::Failing { reason } => Some(reason.clone()),
        CopyState::CatchingUp | CopyState::CaughtUp => None,
    };
    QueryError::NotReached {
        view: view.to_owned(),
        have: shown.cut.clone(),
        need: need.clone(),
        stopped,
    }
}

fn percent(done: &Cut, head: &Cut) -> u8 {
    let sum = |cut: &Cut| cut.iter().map(|(_, count)| count).sum::<u64>();
    let all = sum(head).max(1);
    (sum(done).min(all) * 100 / all) as u8
}

impl<V: View> AnyView for ViewHost<V> {
    fn seen(&self) -> Cut {
        let running = self.inner.running();
        let serving = running.serving.as_ref();
        serving.map_or_else(Cut::start, |runner| {
            runner.following.shown.borrow().cut.clone()
        })
    }

    fn status(&self) -> BoxFuture<'_, ViewStatus> {
        Box::pin(async {
            let (serving, building, copies) = {
                let running = self.inner.running();
                let of = |runner: &Option<Runner<V::Store>>| {
                    let runner = runner.as_ref()?;
                    Some((runner.copy.clone(), runner.following.shown.borrow().clone()))
                };
                (of(&running.serving), of(&running.building), running.copies)
            };
            let mut status = ViewStatus {
                name: V::NAME,
                version: V::VERSION,
                serving: None,
                building: None,
                previous: copies.previous,
                queries: self.queries.keys().copied().collect(),
            };
            if let Some((copy, shown)) = serving {
                status.serving = Some(self.inner.status_of(copy, shown).await);
            }
            if let Some((copy, shown)) = building {
                status.building = Some(self.inner.status_of(copy, shown).await);
            }
            status
        })
    }

    fn ask_json(
        &self,
        query: &str,
        question: Question,
        consistency: Consistency,
    ) -> BoxFuture<'_, Result<JsonAnswer, QueryError>> {
        match self.queries.get(query) {
            Some(ask) => ask(self, &question, consistency),
            None => {
                let known: Vec<_> = self.queries.keys().copied().collect();
                let error = QueryError::Unknown(format!(
                    "view {} has no query {query:?}; known: {}",
                    V::NAME,
                    known.join(", ")
                ));
                Box::pin(async { Err(error) })
            }
        }
    }

    fn fields(&self, query: &str) -> Option<&'static [&'static str]> {
        self.fields.get(query).copied()
    }

    fn rebuild(&self) -> BoxFuture<'_, Result<CopyId, OperateError>> {
        Box::pin(async {
            let _alone = self.inner.operator.lock().await;
            let mut copies = self.inner.running().copies;
            if let Some(building) = copies.building {
                return Err(OperateError::NotNow(format!(
                    "view {} is being rebuilt already, as generation {}",
                    V::NAME,
                    building.generation
                )));
            }
            let generations = [copies.serving, copies.previous];
            let newest = generations
                .into_iter()
                .flatten()
                .map(|id| id.generation)
                .max();
            let id = CopyId {
                version: V::VERSION,
                generation: newest.unwrap_or(0) + 1,
            };
            copies.building = Some(id);
            self.inner.store.set_copies(copies).await?;
            // Of an earlier attempt that was given up there may be something left.
            self.inner.store.remove(id).await?;
            self.inner.running().copies = copies;
            let runner = self.inner.clone().run(id).await?;
            let following = runner.following.clone();
            self.inner.running().building = Some(runner);
            // It may have caught up before it was known here.
            following.nudge();
            Ok(id)
        })
    }

    fn back_out(&self) -> BoxFuture<'_, Result<CopyId, OperateError>> {
        Box::pin(async {
            let _alone = self.inner.operator.lock().await;
            let mut copies = self.inner.running().copies;
            let Some(back) = copies.previous.filter(|id| id.version == V::VERSION) else {
                return Err(OperateError::NotNow(format!(
                    "view {} has no earlier copy that this program can serve",
                    V::NAME
                )));
            };
            copies.previous = copies.serving.replace(back);
            self.inner.store.set_copies(copies).await?;
            let runner = self.inner.clone().run(back).await?;
            let before = {
                let mut running = self.inner.running();
                running.copies = copies;
                running.serving.replace(runner)
            };
            drop(before);
            self.inner.swapped.notify_waiters();
            Ok(back)
        })
    }

    fn skip(&self, stream: Option<String>) -> BoxFuture<'_, Result<(), OperateError>> {
        Box::pin(async {
            let _alone = self.inner.operator.lock().await;
            if let Some(stream) = stream {
                return self.inner.skip_parked(stream).await;
            }
            self.inner.stopped()?.skip().await?;
            Ok(())
        })
    }

    fn retry(&self, stream: Option<String>) -> BoxFuture<'_, Result<(), OperateError>> {
        Box::pin(async {
            let _alone = self.inner.operator.lock().await;
            if let Some(stream) = stream {
                return self.inner.retry_parked(stream).await;
            }
            self.inner.stopped()?.retry();
            Ok(())
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let (serving, building) = {
                let mut running = self.inner.running();
                (running.serving.take(), running.building.take())
            };
            for Runner { copy, following } in [serving, building].into_iter().flatten() {
                following.end();
                if let Err(error) = copy.keep().await {
                    self.inner.note(error.to_string());
                }
            }
        })
    }

    fn kill(&self) {
        let mut running = self.inner.running();
        let runners = (running.serving.take(), running.building.take());
        drop(running);
        drop(runners);
    }
}

impl<V: View> Drop for ViewHost<V> {
    /// Ends the tasks: they hold the host's inner part, which would live for ever.
    fn drop(&mut self) {
        self.kill();
    }
}
