//! The shop's services, each of which reaches the others through a channel alone, as it would
//! through a network: requests and answers are lost, come twice, and come late.

#![expect(
    clippy::disallowed_methods,
    reason = "the test keeps views in a directory of its own"
)]

mod channel;
mod place;

use std::time::Duration;

use anabranch::log::ReadMode;
use anabranch::model::{Cut, Filter};
use anabranch::runtime::{Service, ServiceBuilder};
use anabranch_shop::audit::Audit;
use anabranch_shop::orders::{Line, Order, OrderCommand};
use anabranch_shop::provider::Mood;
use anabranch_shop::stock::{Stock, StockCommand};
use anabranch_shop::{checkout, orders, payments, pricing, shipping, stock};

use channel::Channel;
use place::{Place, memory};

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
    channel.faults.check();
}
