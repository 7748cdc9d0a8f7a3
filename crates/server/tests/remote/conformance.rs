use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use anabranch_env::Env;
use anabranch_log::conformance::{Outcome, Subject, cases};
use anabranch_log::{
    Append, AppendError, Appended, BoxFuture, Capabilities, EventStream, Layout, Log, MemoryLog,
    Order, Placed, ReadError, ReadMode, VersionRange,
};
use anabranch_log_remote::RemoteLog;
use anabranch_log_segment::{EmbeddedLog, Options, SegmentLog, create};
use anabranch_model::{Cut, EventId, Filter, StreamId};

use crate::support::{Network, Served, TempDir};

/// A directory with a log, which is served and used from afar.
struct Directory(TempDir);

/// A log in memory behind a network that breaks every connection.
struct Hostile {
    log: Arc<dyn Log>,
    known: Known,
}

/// The events of all appends that were answered.
type Known = Arc<Mutex<BTreeSet<EventId>>>;

/// After how many bytes a connection breaks: within the greetings, within a request, within a
/// batch; and one that carries the largest whole.
const ALLOWED: [u64; 6] = [700, 3_000, 9_000, 40_000, 300_000, 32 << 20];

/// A remote log, and what serves it. Ended in this order.
struct Afar {
    log: RemoteLog,
    /// Where the network loses answers.
    known: Option<Known>,
    _network: Option<Network>,
    _server: Served,
}

/// Files that take little to make: each case has a log of its own.
fn small() -> Options {
    Options {
        segment_bytes: 64 << 10,
        first_segment_bytes: Some(64 << 10),
        ..Options::default()
    }
}

/// Uses the log that this server has.
fn afar(server: Served, network: Option<Network>, known: Option<Known>) -> Arc<dyn Log> {
    let url = network.as_ref().map_or(server.url(), Network::url);
    let log = RemoteLog::open(&url, Default::default()).expect("the server answers");
    Arc::new(Afar {
        log,
        known,
        _network: network,
        _server: server,
    })
}

/// A log that is used for as long as its server is kept with it.
pub fn keeping(log: RemoteLog, server: Served) -> Arc<dyn Log> {
    Arc::new(Afar {
        log,
        known: None,
        _network: None,
        _server: server,
    })
}

impl Subject for Directory {
    fn open(&self) -> Arc<dyn Log> {
        let log = SegmentLog::open(Env::os(), &self.0.0, small()).expect("the log opens");
        afar(Served::start(Arc::new(log)), None, None)
    }

    fn open_read_only(&self) -> Option<Arc<dyn Log>> {
        let log = SegmentLog::open_read_only(Env::os(), &self.0.0, small());
        let log = Arc::new(log.expect("the log opens beside its writer"));
        Some(afar(Served::start(log), None, None))
    }
}

impl Subject for Hostile {
    fn open(&self) -> Arc<dyn Log> {
        let server = Served::start(self.log.clone());
        let network = Network::start(server.address, &ALLOWED);
        afar(server, Some(network), Some(self.known.clone()))
    }

    fn reads_may_begin_late(&self) -> bool {
        true
    }
}

impl Log for Afar {
    fn capabilities(&self) -> Capabilities {
        self.log.capabilities()
    }

    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, AppendError>> {
        Box::pin(async move {
            let ids: Vec<_> = append.events.iter().map(|event| event.id).collect();
            let mut answer = self.log.append(append).await;
            if let (Ok(appended), Some(known)) = (&mut answer, &self.known) {
                // An append whose answer was lost is sent again, and then its own first time is
                // what it repeats. All appends come by here, so this knows better.
                let mut known = known.lock().unwrap();
                appended.repeated = ids.iter().any(|id| known.contains(id));
                known.extend(ids);
            }
            answer
        })
    }

    fn layout(&self) -> Layout {
        self.log.layout()
    }

    fn read_stream(&self, stream: &StreamId, range: VersionRange, order: Order) -> EventStream {
        self.log.read_stream(stream, range, order)
    }

    fn read(&self, from: &Cut, filter: Filter, mode: ReadMode) -> EventStream {
        self.log.read(from, filter, mode)
    }

    fn find(&self, id: EventId) -> BoxFuture<'_, Result<Option<Placed>, ReadError>> {
        self.log.find(id)
    }

    fn head(&self) -> BoxFuture<'_, Result<Cut, ReadError>> {
        self.log.head()
    }
}

/// A directory with a log of several partitions, which is served.
struct Partitions(TempDir);

impl Subject for Partitions {
    fn open(&self) -> Arc<dyn Log> {
        let log = EmbeddedLog::open(Env::os(), &self.0.0, small()).expect("the log opens");
        afar(Served::start(Arc::new(log)), None, None)
    }
}

fn layout() -> Layout {
    let groups = ["trade=order,payment:4", "stock=stock:2"];
    let groups = groups.map(|group| group.parse().expect("a group"));
    Layout::new(groups.into(), 2).expect("a layout")
}

fn partitions() -> Partitions {
    let dir = TempDir::new();
    create(&Env::os(), &dir.0, &layout()).expect("the log is made");
    Partitions(dir)
}

#[test]
fn a_served_directory_of_several_partitions_keeps_their_causes() {
    let mut kept = 0;
    for case in cases().iter().filter(|case| case.group == "partitions") {
        println!("{}", case.title());
        kept += usize::from(case.run(&partitions()) == Outcome::Kept);
    }
    assert!(kept >= 20, "only {kept} cases apply");
}

#[test]
fn the_layout_of_a_log_afar_is_that_of_its_server() {
    let afar = partitions().open();
    assert_eq!(afar.layout(), layout());
    assert_eq!(afar.capabilities().partitions, 9);
}

mod several_partitions {
    use std::sync::Arc;

    use anabranch_log::conformance::Subject;
    use anabranch_log::{Log, PartitionedLog};

    use super::{Env, Layout, Served, afar};

    struct InMemory;

    impl Subject for InMemory {
        fn open(&self) -> Arc<dyn Log> {
            let layout = Layout::new(Vec::new(), 8).expect("a layout");
            let log = PartitionedLog::in_memory(&Env::os(), layout);
            afar(Served::start(Arc::new(log)), None, None)
        }
    }

    fn place() -> InMemory {
        InMemory
    }

    anabranch_log::conformance_tests!(
        place,
        lacking: [TotalOrder, SurvivesRestart, ReadOnly]
    );
}

mod direct {
    use super::{Directory, TempDir};

    fn place() -> Directory {
        Directory(TempDir::new())
    }

    anabranch_log::conformance_tests!(place);
}

mod through_a_network_that_breaks_every_connection {
    use std::sync::Arc;

    use super::{Env, Hostile, Known, MemoryLog};

    fn place() -> Hostile {
        Hostile {
            log: Arc::new(MemoryLog::new(Env::os())),
            known: Known::default(),
        }
    }

    anabranch_log::conformance_tests!(place, lacking: [SurvivesRestart, ReadOnly]);
}
