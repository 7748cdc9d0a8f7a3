//! What services say in the log of the types that they write.

use std::sync::Arc;

use anabranch_domain::types::{FindingCode, ProgramTypes};
use anabranch_domain::{Decide, Entity, Event, EventRef, HandleError, Rejection, StreamId, View};
use anabranch_env::Env;
use anabranch_log::{
    Append, AppendError, Appended, BoxFuture, Capabilities, EventStream, Log, MemoryLog, Order,
    ReadError, ReadMode, VersionRange,
};
use anabranch_model::{Cut, Filter};
use anabranch_runtime::view::ViewSpec;
use anabranch_runtime::{Service, ServiceBuilder, Time, registry};
use serde::{Deserialize, Serialize};

/// A log in memory that says that it outlives its program.
#[derive(Clone)]
struct Lasting(Arc<MemoryLog>);

impl Log for Lasting {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            survives_restart: true,
            ..self.0.capabilities()
        }
    }

    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, AppendError>> {
        self.0.append(append)
    }

    fn read_stream(&self, stream: &StreamId, range: VersionRange, order: Order) -> EventStream {
        self.0.read_stream(stream, range, order)
    }

    fn read(&self, from: &Cut, filter: Filter, mode: ReadMode) -> EventStream {
        self.0.read(from, filter, mode)
    }

    fn find(
        &self,
        id: anabranch_model::EventId,
    ) -> BoxFuture<'_, Result<Option<anabranch_log::Placed>, ReadError>> {
        self.0.find(id)
    }

    fn head(&self) -> BoxFuture<'_, Result<Cut, ReadError>> {
        self.0.head()
    }
}

fn log() -> Lasting {
    Lasting(Arc::new(MemoryLog::new(Env::os())))
}

/// Writes the events that it is told to write; `E` are those that it knows.
macro_rules! ledger {
    ($name:ident, $event:ident) => {
        #[derive(Default, Serialize, Deserialize)]
        struct $name;

        impl Entity for $name {
            const CATEGORY: &'static str = "ledger";
            type Command = $event;
            type Event = $event;
            type Rejection = Rejection;

            fn decide(&self, command: &$event, _: &Decide) -> Result<Vec<$event>, Rejection> {
                Ok(vec![command.clone()])
            }

            fn evolve(&mut self, _: &$event) {}
        }
    };
}

#[derive(Clone, Serialize, Deserialize, Event)]
enum First {
    Booked { amount: u32 },
    Closed {},
}
ledger!(Before, First);

#[derive(Clone, Serialize, Deserialize, Event)]
enum Second {
    Booked { amount: u32, currency: String },
}
ledger!(After, Second);

#[derive(Default, Serialize, Deserialize)]
struct Sums;

impl View for Sums {
    const NAME: &'static str = "sums";
    const VERSION: u32 = 1;
    const CATEGORIES: &'static [&'static str] = &["ledger"];
    type Event = First;
    type Store = Self;

    fn handle(_: &mut Self, _: &First, _: &EventRef<'_>) -> Result<(), HandleError> {
        Ok(())
    }
}

fn builder(log: &Lasting) -> ServiceBuilder {
    Service::builder("books", Arc::new(log.clone()), Time::of(&Env::os()))
}

async fn entries(log: &Lasting) -> usize {
    let held = registry::registered(log).await.unwrap();
    held.registered.get("ledger").map_or(0, Vec::len)
}

#[tokio::test]
async fn a_service_says_what_it_writes_and_again_only_when_that_changes() {
    let log = log();
    for _ in 0..3 {
        builder(&log).entity::<Before>().start().await.unwrap();
        assert_eq!(entries(&log).await, 1);
    }
    builder(&log).entity::<After>().start().await.unwrap();
    assert_eq!(entries(&log).await, 2);
    let held = registry::registered(&log).await.unwrap();
    let said = &held.registered["ledger"][1];
    assert_eq!(said.service, "books");
    assert_eq!(said.kinds[0].name, "Booked");
    assert_eq!(said.kinds[0].shape, Second::shape_of("Booked"));
}

#[tokio::test]
async fn a_service_that_reads_nothing_any_more_says_so_and_what_it_takes() {
    let log = log();
    let view = builder(&log).view(ViewSpec::<Sums>::new());
    view.entity::<Before>().start().await.unwrap();
    let said = registry::readers(&log).await.unwrap();
    assert_eq!(said[0].readers.len(), 1);
    for _ in 0..2 {
        builder(&log).entity::<Before>().start().await.unwrap();
    }
    let said = registry::readers(&log).await.unwrap();
    assert_eq!(said[0].readers, []);
    assert!(said[0].commands.contains_key("ledger"), "{said:?}");
    let entries = log.read(
        &Cut::start(),
        Filter::category("$readers"),
        ReadMode::ToHead,
    );
    assert_eq!(count(entries).await, 2);
}

async fn count(mut events: EventStream) -> usize {
    let mut count = 0;
    while events.next().await.is_some() {
        count += 1;
    }
    count
}

#[tokio::test]
async fn two_services_that_start_at_once_say_it_once() {
    let log = log();
    let starts = (0..8).map(|_| builder(&log).entity::<Before>().start());
    let started = futures_util::future::join_all(starts).await;
    for service in &started {
        let service = service.as_ref().unwrap();
        assert_eq!(service.diagnostics(), []);
    }
    assert_eq!(entries(&log).await, 1);
}

#[tokio::test]
async fn a_log_that_ends_with_its_program_is_told_nothing() {
    let log = Arc::new(MemoryLog::new(Env::os()));
    let service = Service::builder("books", log.clone(), Time::of(&Env::os()));
    service.entity::<Before>().start().await.unwrap();
    assert_eq!(log.head().await.unwrap(), Cut::start());
}

#[tokio::test]
async fn a_change_that_would_break_somebody_is_named() {
    let log = log();
    let service = builder(&log).entity::<Before>().start().await.unwrap();
    let ledger = service.entity::<Before>("a");
    ledger.send(First::Booked { amount: 5 }).await.unwrap();
    ledger.send(First::Closed {}).await.unwrap();
    let fits = ProgramTypes(vec![service.types().clone()]);
    let report = registry::check(&fits, &log).await.unwrap();
    assert_eq!(report.breaks, []);
    assert_eq!((report.kinds, report.events), (2, 2));

    let next = builder(&log)
        .entity::<After>()
        .view(ViewSpec::<Sums>::new());
    let next = ProgramTypes(vec![next.types().clone()]);
    let report = registry::check(&next, &log).await.unwrap();
    let found: Vec<_> = report
        .breaks
        .iter()
        .map(|finding| (finding.code, finding.whom.as_str(), finding.stored))
        .collect();
    assert_eq!(
        found,
        [
            (FindingCode::RemovedType, "entity ledger", 1),
            (FindingCode::RequiredField, "entity ledger", 1),
            (FindingCode::NobodyWrites, "view sums", 0),
        ]
    );
}

#[tokio::test]
async fn the_types_of_a_program_read_back_as_they_were_printed() {
    let log = log();
    let program = builder(&log)
        .entity::<Before>()
        .view(ViewSpec::<Sums>::new());
    let program = ProgramTypes(vec![program.types().clone()]);
    let text = serde_json::to_string(&program).unwrap();
    assert_eq!(
        serde_json::from_str::<ProgramTypes>(&text).unwrap(),
        program
    );
    assert_eq!(program.0[0].readers[0].what, "view");
}
