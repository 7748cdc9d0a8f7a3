//! Servers before services on one log.

use std::sync::Arc;

use anabranch_env::Env;
use anabranch_log::{Layout, Log, ReadMode};
use anabranch_model::{Cut, Filter, PartitionId, Position, StreamId, TokenKey, TokenSeal};
use anabranch_runtime::snapshot::MemorySnapshots;
use anabranch_runtime::view::ViewSpec;
use anabranch_runtime::{Fleet, ManualTime, Service, ServiceBuilder, Time};
use anabranch_server::Server;
use anabranch_server::client::Client;
use tokio::sync::oneshot;

use crate::engine::Engine;
use crate::items::{AllOfBoard, AllOfHops, Aside, Board, Hop, Hops, Note, Payment, Shipper};
use crate::session::Session;
use crate::slow::Slow;
use crate::stores::Stores;

/// A log, the service that writes there, and whoever reads it.
pub struct World {
    engine: Box<dyn Engine>,
    pub layout: Layout,
    seal: TokenSeal,
    pub writers: Site,
    /// Whether clients lose the tokens that they are given.
    pub forgets_tokens: bool,
}

/// A server before one service.
pub struct Site {
    pub log: Arc<dyn Log>,
    pub fleet: Arc<Fleet>,
    pub client: Client,
    stop: Option<oneshot::Sender<()>>,
    served: tokio::task::JoinHandle<()>,
}

/// A reader with boards of its own, and what it is not given yet.
pub struct Reader {
    pub site: Site,
    pub slow: Arc<Slow>,
    pub time: ManualTime,
    layout: Layout,
}

/// What seals the tokens.
pub fn seal() -> TokenSeal {
    let secret = [7; 32];
    TokenSeal::new(1, 0, TokenKey { id: 1, secret })
}

impl Site {
    async fn open(
        log: Arc<dyn Log>,
        fleet: Arc<Fleet>,
        service: Service,
        seal: &TokenSeal,
    ) -> Self {
        fleet.join(service);
        let time = Time::of(&Env::os());
        let listener = Server::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = Server::new(fleet.clone(), log.clone(), time.clone()).seal(seal.clone());
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(async move {
            let until = async { drop(stopped.await) };
            server.serve(listener, until).await.unwrap();
        });
        Self {
            log,
            fleet,
            client: Client::new(&url, time).unwrap(),
            stop: Some(stop),
            served,
        }
    }

    /// Ends the service and its server in order.
    pub async fn close(mut self) {
        for service in self.fleet.services() {
            assert!(service.shutdown(std::time::Duration::from_secs(60)).await);
        }
        drop(self.stop.take());
        self.served.await.unwrap();
    }
}

impl World {
    pub async fn new(engine: impl Engine + 'static) -> Self {
        Self::sealed(engine, seal()).await
    }

    /// One whose tokens are sealed with this.
    pub async fn sealed(engine: impl Engine + 'static, seal: TokenSeal) -> Self {
        let log = engine.log();
        let fleet = Arc::new(Fleet::new());
        let service = desk(&log, &fleet).await;
        Self {
            layout: log.layout(),
            writers: Site::open(log, fleet, service, &seal).await,
            engine: Box::new(engine),
            seal,
            forgets_tokens: false,
        }
    }

    /// Kills the service that writes, and starts it again.
    pub async fn restart(&self) {
        assert!(self.writers.fleet.kill("desk"));
        let service = desk(&self.writers.log, &self.writers.fleet).await;
        self.writers.fleet.join(service);
    }

    /// A reader that has seen all there is.
    pub async fn reader(&self, name: &str) -> Reader {
        let slow = Slow::new();
        let reader = self.reader_with(name, slow, Arc::default()).await;
        // Until they have read what there is its boards answer nobody: what is held back from now on is later.
        for view in ["board", "hops"] {
            let reply = self.session().reply_of(&reader, view, "wait=5s").await;
            assert!(reply.status.is_success(), "{}", reply.json());
        }
        reader
    }

    /// A reader whose boards are restored from what is kept of them.
    pub async fn reader_with(
        &self,
        name: &str,
        slow: Arc<Slow>,
        kept: Arc<MemorySnapshots>,
    ) -> Reader {
        self.reader_that(name, slow, |service| service.snapshots(kept))
            .await
    }

    /// A reader that has its board in every store.
    pub async fn reader_in(&self, name: &str, stores: &Stores) -> Reader {
        self.reader_that(name, Slow::new(), |service| stores.add(name, service))
            .await
    }

    async fn reader_that(
        &self,
        name: &str,
        slow: Arc<Slow>,
        adds: impl FnOnce(ServiceBuilder) -> ServiceBuilder,
    ) -> Reader {
        let log = self.engine.behind(&slow);
        let time = ManualTime::new();
        let fleet = Arc::new(Fleet::new());
        let service = Service::builder(name, log.clone(), Time::manual(&time, Env::os().rng))
            .view(ViewSpec::<Board>::new().query::<AllOfBoard>())
            .view(ViewSpec::<Hops>::new().query::<AllOfHops>())
            .port(fleet.port());
        let service = adds(service).start().await.unwrap();
        Reader {
            site: Site::open(log, fleet, service, &self.seal).await,
            slow,
            time,
            layout: self.layout.clone(),
        }
    }

    /// A client that has done nothing.
    pub fn session(&self) -> Session {
        Session::new(self.forgets_tokens)
    }

    /// The name of an item of this category in the `nth` of the partitions that it may stand in.
    pub fn item(&self, category: &str, nth: u32) -> StreamId {
        self.items(category, nth).next().unwrap()
    }

    /// The names of items that stand there.
    pub fn items(&self, category: &str, nth: u32) -> impl Iterator<Item = StreamId> {
        let first = match category {
            "hop" => 1,
            _ => 3,
        };
        let partition = PartitionId(first + nth);
        (0..).filter_map(move |number| {
            let stream = StreamId::of(category, &format!("{category}-{number}")).unwrap();
            (self.layout.partition_of(&stream) == partition).then_some(stream)
        })
    }

    /// Waits until an item is written that nobody here writes; gives where that stands.
    pub async fn appears(&self, item: &StreamId) -> Position {
        let filter = Filter::category(item.category());
        let log = &self.writers.log;
        let mut events = log.read(&Cut::start(), filter, ReadMode::Follow);
        loop {
            let event = events.next().await.unwrap().unwrap();
            if event.stream() == item.as_str() {
                return event.position;
            }
        }
    }
}

impl Reader {
    /// Is given no more of the partition of this item than so many of its events.
    pub fn hold_at(&self, item: &StreamId, count: u64) {
        self.slow.hold(self.layout.partition_of(item), count);
    }

    /// Is given nothing more of the partition of this item.
    pub async fn hold(&self, item: &StreamId) {
        let partition = self.layout.partition_of(item);
        let head = self.site.log.head().await.unwrap();
        self.slow.hold(partition, head.get(partition));
    }

    /// Waits until its boards show all that they can show, if not what stands at `position` too,
    /// which was read.
    pub async fn settle(&self, world: &World, position: Position) {
        self.slow.has_taken(position).await;
        // What is written now in a partition that nothing holds back comes behind it.
        let mut other = Session::new(false);
        let marker = world.item("note", 5);
        other.write(world, &marker, "now").await;
        let shown = other.ask_waiting(self, "board").await.unwrap();
        assert!(shown.contains_key(marker.key()), "{shown:?}");
    }
}

/// The service that writes.
async fn desk(log: &Arc<dyn Log>, fleet: &Fleet) -> Service {
    Service::builder("desk", log.clone(), Time::of(&Env::os()))
        .entity::<Note>()
        .entity::<Payment>()
        .entity::<Hop>()
        .entity::<Aside>()
        .process::<Shipper>()
        .port(fleet.port())
        .start()
        .await
        .unwrap()
}
