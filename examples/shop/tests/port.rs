//! The shop's services, each of which reaches the others through a channel alone, as it would
//! through a network: requests and answers are lost, come twice, and come late.

#![expect(
    clippy::disallowed_methods,
    reason = "the test keeps views in a directory of its own"
)]

mod place;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anabranch::log::{BoxFuture, ReadMode};
use anabranch::model::{Cut, Filter};
use anabranch::runtime::port::{Port, Problem, Reply, Request};
use anabranch::runtime::{SendError, Service, ServiceBuilder};
use anabranch_shop::audit::Audit;
use anabranch_shop::orders::{Line, Order, OrderCommand};
use anabranch_shop::provider::Mood;
use anabranch_shop::stock::{Stock, StockCommand};
use anabranch_shop::{checkout, orders, payments, pricing, shipping, stock};
use tokio::sync::{mpsc, oneshot};

use place::{Place, memory};

type Answer = Result<Reply, Problem>;

/// A port that is a channel to somebody who has the port itself.
struct Channel {
    requests: mpsc::UnboundedSender<(Request, oneshot::Sender<Answer>)>,
    faults: Arc<Faults>,
}

/// What has gone wrong on the way.
#[derive(Default)]
struct Faults {
    requests: AtomicU64,
    lost_requests: AtomicU64,
    lost_answers: AtomicU64,
    repeated: AtomicU64,
    late: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Channel {
    /// Whoever is behind the other end carries the requests out by `port`.
    fn to(port: Arc<dyn Port>) -> Arc<Self> {
        let faults = Arc::new(Faults::default());
        let (requests, mut arriving) = mpsc::unbounded_channel();
        let told = faults.clone();
        tokio::spawn(async move {
            while let Some((request, answer)) = arriving.recv().await {
                tokio::spawn(carry_out(port.clone(), told.clone(), request, answer));
            }
        });
        Arc::new(Self { requests, faults })
    }
}

async fn carry_out(
    port: Arc<dyn Port>,
    faults: Arc<Faults>,
    request: Request,
    answer: oneshot::Sender<Answer>,
) {
    let number = faults.requests.fetch_add(1, Ordering::Relaxed);
    match number % 6 {
        // It does not arrive: the sender's end of the channel sees that nobody answers.
        1 => return count(&faults.lost_requests),
        2 => {
            count(&faults.repeated);
            drop(port.call(request.clone()).await);
        }
        3 => {
            count(&faults.late);
            // Others that were sent later go first.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
        }
        _ => {}
    }
    let carried_out = port.call(request).await;
    if number % 6 == 4 {
        return count(&faults.lost_answers);
    }
    // Nobody may wait for it any more.
    drop(answer.send(carried_out));
}

impl Port for Channel {
    fn call(&self, request: Request) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            let nobody = || SendError::Unknown {
                reason: "nobody has answered".to_owned(),
            };
            let (answer, answered) = oneshot::channel();
            let sent = self.requests.send((request, answer));
            sent.map_err(|_| nobody())?;
            answered.await.map_err(|_| nobody())?
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shop_works_through_a_channel_that_loses_repeats_and_delays() {
    let place = Place::open("channel", Mood::Reliable, memory()).await;
    let shop = &place.shop;
    let channel = Channel::to(shop.fleet.port());
    let declare = |name: &str| -> ServiceBuilder {
        Service::builder(name, shop.log.clone(), shop.time.clone()).port(channel.clone())
    };
    // Each takes the place of the one that has a straight way to the others.
    for service in [
        orders::service(declare("orders")),
        stock::service(declare("stock")),
        payments::service(declare("payments"), &shop.provider),
        shipping::service(declare("shipping")),
        pricing::service(declare("pricing")),
        checkout::service(declare("checkout")),
    ] {
        shop.fleet.join(service.start().await.unwrap());
    }
    let stock = shop.fleet.owner("stock").unwrap();
    let open = StockCommand::OpenStock {
        units: 100,
        reorder_below: 0,
    };
    stock.entity::<Stock>("p").send(open).await.unwrap();
    let orders = shop.fleet.owner("order").unwrap();
    for number in 0..10 {
        let place = OrderCommand::PlaceOrder {
            customer: "1".to_owned(),
            country: "France".to_owned(),
            placed_at: "2010-12-01T08:26:00".to_owned(),
            lines: vec![Line {
                product: "p".to_owned(),
                quantity: 1,
                mills: 1000,
            }],
        };
        let order = orders.entity::<Order>(number.to_string());
        order.send(place).await.unwrap();
    }
    let confirmed = async {
        let filter = Filter::category("order");
        let mut news = shop.log.read(&Cut::start(), filter, ReadMode::Follow);
        let mut confirmed = 0;
        while confirmed < 10 {
            for event in &news.next_batch().await.unwrap().unwrap() {
                confirmed += usize::from(event.unwrap().event_type == "OrderConfirmed");
            }
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(120), confirmed).await;
    in_time.unwrap_or_else(|_| panic!("not every order was confirmed"));
    let audit = Audit::of(&*shop.log).await.unwrap();
    assert!(audit.money_adds_up(), "{audit:?}");
    assert!(audit.every_order_ended_once(), "{audit:?}");
    let charged = shop.provider.ledger().await.unwrap().charged_mills;
    assert_eq!(charged, 10_000);
    // It was no quiet day.
    let faults = &channel.faults;
    for counter in [
        &faults.lost_requests,
        &faults.lost_answers,
        &faults.repeated,
        &faults.late,
    ] {
        assert!(counter.load(Ordering::Relaxed) > 0);
    }
}
