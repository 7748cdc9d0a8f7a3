//! One copy of a view in PostgreSQL: the rows' writer, and connections for queries.

use std::sync::{Arc, Mutex};

use anabranch_log::BoxFuture;
use anabranch_model::{Cut, Event, EventBatch};
use anabranch_runtime::view::{
    CopyId, Edit, Intake, Look, PoisonEvent, Progress, StoreError, ViewCode, ViewCopy,
};
use tokio::sync::{Notify, Semaphore};

use crate::database::{Place, blocking, locked};
use crate::line::Fault;
use crate::store::{Pace, Postgres};
use crate::writer::{Stop, Writer};

/// The most queries that one copy answers at a time; others wait. Each has a connection.
const QUERIES_MAX: usize = 8;

/// One copy.
pub struct PostgresCopy {
    place: Arc<Place>,
    id: CopyId,
    code: Arc<ViewCode<Postgres>>,
    writer: Arc<Mutex<Writer>>,
    /// What the writer's progress was when it was last free: for those who must not wait.
    progress: Arc<Mutex<Progress>>,
    scanned: Arc<Mutex<Scanned>>,
    /// Connections for queries that nobody uses now.
    idle: Arc<Mutex<Vec<Postgres>>>,
    queries: Arc<Semaphore>,
    fell_back: Arc<Notify>,
}

/// Behind rows that include `from` there is nothing for the view up to `to`. Rows of a
/// database that was put back do not include `from`, and so do not reach `to` either.
#[derive(Clone, Default)]
struct Scanned {
    from: Cut,
    to: Cut,
}

impl PostgresCopy {
    /// The copy that `writer` writes to.
    pub fn new(
        place: Arc<Place>,
        id: CopyId,
        code: Arc<ViewCode<Postgres>>,
        writer: Writer,
    ) -> Self {
        let progress = writer.progress().clone();
        Self {
            place,
            id,
            code,
            writer: Arc::new(Mutex::new(writer)),
            progress: Arc::new(Mutex::new(progress)),
            scanned: Arc::default(),
            idle: Arc::default(),
            queries: Arc::new(Semaphore::new(QUERIES_MAX)),
            fell_back: Arc::default(),
        }
    }

    /// Runs `code` on the writer, on a thread that may block.
    fn on_writer<T: Send + 'static>(
        &self,
        code: impl FnOnce(&mut Writer, &ViewCode<Postgres>) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let (writer, of) = (self.writer.clone(), self.code.clone());
        let progress = self.progress.clone();
        Box::pin(blocking(of.name(), move || {
            let mut writer = locked(&writer);
            let done = code(&mut writer, &of);
            // Also after an error: the rows may be further, or less far, than was known.
            locked(&progress).clone_from(writer.progress());
            done
        }))
    }
}

/// Takes a batch in, event by event, to find the one that the database refuses.
fn find_refused(
    place: &Place,
    writer: &mut Writer,
    code: &ViewCode<Postgres>,
    batch: &EventBatch,
) -> Result<Option<PoisonEvent>, StoreError> {
    let found = writer.transact(Pace::StepByStep, |store, progress| {
        for event in batch.clone() {
            // One that cannot be decoded is named below.
            let Ok(event) = event else { break };
            let single = EventBatch::from(vec![event.clone()]);
            code.take_in(store, progress, &single, None)
                .map_err(|poison| *poison)?;
            // The view's code may have passed over the error.
            store.settled().map_err(|fault| blamed(&event, &fault))?;
        }
        code.take_in(store, progress, batch, None)
            .map_err(|poison| *poison)
    });
    match found? {
        Ok(()) => Ok(None),
        Err(Stop::Code(poison)) => Ok(Some(poison)),
        Err(Stop::Refused(text)) => Err(place.failed(format!(
            "the transaction is refused at its end, where no event can be named: {text}; \
             do not defer constraints"
        ))),
    }
}

fn blamed(event: &Event, fault: &Fault) -> PoisonEvent {
    PoisonEvent {
        position: event.position,
        stream: event.stream().to_string(),
        version: event.version,
        event_type: event.event_type().to_string(),
        reason: fault.to_string(),
    }
}

impl Intake for PostgresCopy {
    fn progress(&self) -> BoxFuture<'_, Progress> {
        let progress = locked(&self.progress).clone();
        Box::pin(async move { progress })
    }

    fn apply(&self, batch: EventBatch) -> BoxFuture<'_, Result<Option<PoisonEvent>, StoreError>> {
        let place = self.place.clone();
        self.on_writer(move |writer, code| {
            let taken = writer.transact(Pace::Ahead, |store, progress| {
                code.take_in(store, progress, &batch, None)
            })?;
            let poison = match taken {
                Ok(()) => return Ok(None),
                Err(Stop::Code(poison)) => *poison,
                Err(Stop::Refused(_)) => match find_refused(&place, writer, code, &batch)? {
                    Some(poison) => poison,
                    None => return Ok(None),
                },
            };
            // Nothing of the batch was kept; the appends before the event's are taken in again.
            let end = batch.append_start(poison.position);
            let again = writer.transact(Pace::Ahead, |store, progress| {
                code.take_in(store, progress, &batch, Some(end))
            })?;
            let refused = |other: String| {
                place.failed(format!(
                    "an event that was taken in before is refused now: {other}"
                ))
            };
            match again {
                Ok(()) => Ok(Some(poison)),
                Err(Stop::Code(other)) => Err(refused(other.to_string())),
                Err(Stop::Refused(other)) => Err(refused(other)),
            }
        })
    }

    fn edit(&self, edit: Edit) -> BoxFuture<'_, Result<(), StoreError>> {
        let place = self.place.clone();
        self.on_writer(move |writer, _| {
            let edited = writer.transact::<StoreError>(Pace::StepByStep, |_, progress| {
                edit(progress);
                Ok(())
            })?;
            edited.map_err(|stop| match stop {
                Stop::Code(error) => error,
                Stop::Refused(text) => place.failed(text),
            })
        })
    }

    fn advance(&self, cut: Cut) -> BoxFuture<'_, Result<(), StoreError>> {
        let from = locked(&self.progress).cut.clone();
        *locked(&self.scanned) = Scanned { from, to: cut };
        Box::pin(async { Ok(()) })
    }

    fn fell_back(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.fell_back.notified())
    }

    fn keep(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }
}

impl ViewCopy<Postgres> for PostgresCopy {
    fn id(&self) -> CopyId {
        self.id
    }

    fn apply_parked(
        &self,
        stream: String,
        events: EventBatch,
    ) -> BoxFuture<'_, Result<Option<PoisonEvent>, StoreError>> {
        self.on_writer(move |writer, code| {
            let taken = writer.transact(Pace::StepByStep, |store, progress| {
                code.take_back(store, progress, &stream, &events)
                    .map(|_| ())
            })?;
            Ok(match taken {
                Ok(()) => None,
                Err(Stop::Code(poison)) => Some(*poison),
                // The view's code has passed over the error: the first event is as good as any.
                Err(Stop::Refused(reason)) => {
                    let parked = writer.progress().parked.get(&stream);
                    Some(PoisonEvent {
                        position: parked.map(|parked| parked.position).unwrap_or_default(),
                        version: parked.map_or(0, |parked| parked.version),
                        stream,
                        event_type: String::new(),
                        reason,
                    })
                }
            })
        })
    }

    fn look(&self, look: Look<Postgres>) -> BoxFuture<'_, Result<(), StoreError>> {
        let (idle, place, id) = (self.idle.clone(), self.place.clone(), self.id);
        let (known, fell_back) = (self.progress.clone(), self.fell_back.clone());
        let (queries, view) = (self.queries.clone(), self.code.name());
        // What was scanned before the rows are looked at: the rows can only be further.
        let scanned = locked(&self.scanned).clone();
        Box::pin(async move {
            let turn = queries.acquire_owned().await;
            let turn = turn.map_err(|error| place.failed(error))?;
            blocking(view, move || {
                let _turn = turn;
                let (store, mut progress) = begin_look(&place, id, &idle)?;
                if progress.cut.covers(&scanned.from) {
                    progress.cut.join(&scanned.to);
                } else {
                    // There may be no news that would make the writer find out.
                    locked(&known).clone_from(&progress);
                    fell_back.notify_one();
                }
                look(&store, &progress);
                // One that has failed is closed by being dropped.
                if store.roll_back().is_ok() {
                    locked(&idle).push(store);
                }
                Ok(())
            })
            .await
        })
    }
}

/// A connection that sees one state of the rows, and how far they are in it.
fn begin_look(
    place: &Place,
    id: CopyId,
    idle: &Mutex<Vec<Postgres>>,
) -> Result<(Postgres, Progress), StoreError> {
    let schema = place.schema(id);
    let begin = |store: &Postgres| {
        store.begin(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            &format!("SELECT progress FROM {schema}.anabranch_progress"),
            Pace::StepByStep,
            |row| row.try_get::<_, String>(0),
        )
    };
    loop {
        let waiting = locked(idle).pop();
        let is_new = waiting.is_none();
        let store = match waiting {
            Some(store) => store,
            None => place
                .connect(&schema)
                .map_err(|fault| place.fault(&fault))?,
        };
        match begin(&store) {
            // It may have ended while nobody used it.
            Err(Fault::Lost(_)) if !is_new => {}
            Err(fault) => return Err(place.fault(&fault)),
            Ok(None) => return Err(place.failed("the rows of this copy are gone")),
            Ok(Some(json)) => {
                let progress = serde_json::from_str(&json).map_err(|error| place.failed(error))?;
                return Ok((store, progress));
            }
        }
    }
}
