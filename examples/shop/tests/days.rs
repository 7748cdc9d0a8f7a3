//! The whole shop on a log in memory: real orders, a provider that fails, services that are
//! killed.

#![expect(
    clippy::disallowed_methods,
    reason = "the tests keep views in a directory of their own"
)]

mod place;

use std::time::Duration;

use anabranch_shop::demo::{Demo, Options, Summary};
use anabranch_shop::input::{self, Work};
use anabranch_shop::provider::Mood;

use place::{Place, memory};

const CALM: Options = Options {
    stock: 100_000,
    reorder_below: 0,
    rate: None,
    crash_every: None,
    patience: Duration::from_secs(60),
};

async fn run(place: &Place, work: Work, options: Options) -> Summary {
    let demo = Demo::new(place.shop.clone(), work, options).await.unwrap();
    demo.run().await.unwrap()
}

/// The first invoices of the sample day.
fn morning(invoices: usize) -> Work {
    let mut work = input::sample_day().unwrap();
    work.invoices.truncate(invoices);
    work
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_enough_stock_and_a_reliable_provider_every_order_is_confirmed() {
    let place = Place::open("calm", Mood::Reliable, memory()).await;
    let summary = run(&place, input::sample_day().unwrap(), CALM).await;
    assert!(summary.holds(), "{summary:#?}");
    assert_eq!(summary.orders.confirmed, summary.orders.placed);
    assert_eq!((summary.orders.placed, summary.returns), (127, 6));
    assert_eq!(summary.invariants.len(), 8, "{summary:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_is_rejected_and_leaves_nothing_behind() {
    let place = Place::open("scarce", Mood::Reliable, memory()).await;
    let options = Options { stock: 20, ..CALM };
    let summary = run(&place, morning(60), options).await;
    assert!(summary.holds(), "{summary:#?}");
    assert!(summary.orders.rejected > 0 && summary.orders.confirmed > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_services_and_a_flaky_provider_lose_nothing_and_do_nothing_twice() {
    let place = Place::open("storm", Mood::Flaky, memory()).await;
    let options = Options {
        stock: 100,
        reorder_below: 50,
        rate: Some(40.0),
        crash_every: Some(Duration::from_millis(100)),
        ..CALM
    };
    let summary = run(&place, morning(60), options).await;
    assert!(summary.holds(), "{summary:#?}");
    assert!(summary.crashes > 5, "{summary:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_orders_again_are_the_same_orders() {
    let log = memory();
    let first = Place::open("first", Mood::Reliable, log.clone()).await;
    let before = run(&first, morning(30), CALM).await;
    first.shop.fleet.shutdown(Duration::from_secs(5)).await;
    let again = Place::open("again", Mood::Reliable, log).await;
    let after = run(&again, morning(30), CALM).await;
    assert!(after.holds(), "{after:#?}");
    assert_eq!(after.events, 0);
    assert_eq!(after.revenue_mills, before.revenue_mills);
}
