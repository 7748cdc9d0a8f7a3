//! The shop in halves, each before a server of its own, as two processes have it: what one half asks the
//! other goes over HTTP, and is lost, comes twice and comes late on the way.

#![expect(
    clippy::disallowed_methods,
    reason = "the test keeps views in a directory of its own"
)]

mod channel;
mod place;

use std::sync::Arc;
use std::time::Duration;

use anabranch::log::BoxFuture;
use anabranch::runtime::port::Subject;
use anabranch::runtime::snapshot::MemorySnapshots;
use anabranch::runtime::{Fleet, Port};
use anabranch_peer::{Directory, FixedDirectory, PeerOptions, RemotePort};
use anabranch_server::Server;
use anabranch_shop::demo::{Beside, Demo, Options};
use anabranch_shop::floor::{Floor, Standing};
use anabranch_shop::input;
use anabranch_shop::provider::Mood;
use anabranch_shop::shop::{Build, Shop};

use channel::Channel;
use place::{Place, memory};

/// The services of either half.
const HALVES: [&[&str]; 2] = [
    &["orders", "stock", "customers", "storefront"],
    &["payments", "shipping", "pricing", "checkout"],
];

/// Half of the shop behind a server, whose way to the other half is `port`.
async fn half(
    names: &[&'static str],
    whole: &Shop,
    port: Arc<dyn Port>,
    listener: tokio::net::TcpListener,
) -> Shop {
    let half = Shop {
        env: whole.env.clone(),
        time: whole.time.clone(),
        log: whole.log.clone(),
        snapshots: Arc::new(MemorySnapshots::new()),
        views: whole.views.join(names[0]),
        provider: whole.provider.clone(),
        fleet: Arc::new(Fleet::and_elsewhere(port)),
        alerts: None,
        pricing: Build::First,
    };
    std::fs::create_dir_all(&half.views).unwrap();
    for name in names {
        half.start(name).await.unwrap();
    }
    let server = Server::new(half.fleet.clone(), half.log.clone(), half.time.clone());
    tokio::spawn(server.serve(listener, std::future::pending()));
    half
}

/// Both halves, from outside.
struct Halves {
    halves: [Shop; 2],
    port: Arc<dyn Port>,
}

impl Floor for Halves {
    fn port(&self) -> Arc<dyn Port> {
        self.port.clone()
    }

    fn standing(&self) -> BoxFuture<'_, Standing> {
        Box::pin(async move {
            let mut both = Standing::default();
            for half in &self.halves {
                let standing = half.standing().await;
                both.under_way += standing.under_way;
                both.consumed.extend(standing.consumed);
                both.halted.extend(standing.halted);
            }
            both
        })
    }

    fn trouble(&self) -> BoxFuture<'_, Vec<String>> {
        Box::pin(async move {
            let mut trouble = self.halves[0].trouble().await;
            trouble.extend(self.halves[1].trouble().await);
            trouble
        })
    }

    fn crash(&self, chosen: u128) -> BoxFuture<'_, Result<(), String>> {
        // One of the first half; they are started again where they were.
        let name = HALVES[0][(chosen % HALVES[0].len() as u128) as usize];
        Box::pin(async move {
            let started = self.halves[0].start(name).await;
            started.map(drop).map_err(|error| error.to_string())
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shop_in_two_processes_that_ask_each_other_over_http_keeps_what_must_hold() {
    // Its own services are the ones that give the names of what there is, and end.
    let place = Place::open("processes", Mood::Reliable, memory()).await;
    let mut directory = FixedDirectory::default();
    let mut listeners = Vec::new();
    for names in HALVES {
        let listener = Server::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        listeners.push(listener);
        for name in names {
            let service = place.shop.fleet.service(name).unwrap();
            let categories = service.names_like(Subject::Category(""));
            let views = service.names_like(Subject::View(""));
            let at = |name: &&str| ((*name).to_owned(), address.clone());
            directory.categories.extend(categories.iter().map(at));
            directory.views.extend(views.iter().map(at));
            place.shop.fleet.kill(name);
        }
    }
    let directory: Arc<dyn Directory> = Arc::new(directory);
    let remote = || {
        let time = place.shop.time.clone();
        RemotePort::new(directory.clone(), time, PeerOptions::default())
    };
    let channels = [
        Channel::to(Arc::new(remote())),
        Channel::to(Arc::new(remote())),
    ];
    let mut halves = Vec::new();
    for ((names, channel), listener) in HALVES.iter().zip(&channels).zip(listeners) {
        halves.push(half(names, &place.shop, channel.clone(), listener).await);
    }
    let Ok(halves) = <[Shop; 2]>::try_from(halves) else {
        panic!("there are two halves");
    };
    let floor = Halves {
        halves,
        port: Arc::new(remote()),
    };
    let beside = Beside {
        time: place.shop.time.clone(),
        log: place.shop.log.clone(),
        provider: place.shop.provider.clone(),
    };
    let mut work = input::sample_day().unwrap();
    work.invoices.truncate(20);
    let options = Options {
        stock: 100,
        reorder_below: 20,
        rate: None,
        crash_every: Some(Duration::from_millis(300)),
        patience: Duration::from_secs(90),
    };
    let demo = Demo::on(Arc::new(floor), beside, work, options).await;
    let summary = demo.unwrap().run().await.unwrap();
    assert!(summary.holds(), "{summary:#?}");
    assert!(summary.orders.confirmed > 0, "{summary:#?}");
    // The second half has the saga, which asks most.
    channels[1].faults.check();
}
