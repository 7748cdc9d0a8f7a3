//! What people do whom nobody has asked: numbers that stand for two things, payments begun by
//! hand, commands that are for the services alone.

#![expect(
    clippy::disallowed_methods,
    reason = "the tests keep views in a directory of their own"
)]

mod place;

use std::time::Duration;

use anabranch::domain::Entity;
use anabranch::log::{Append, ReadMode};
use anabranch::model::{Cut, EventId, EventType, Filter, NewEvent, StreamId};
use anabranch::runtime::view::Consistency;
use anabranch::runtime::{EntityHandle, SendError};
use anabranch_shop::audit::Audit;
use anabranch_shop::checkout::{Basket, Checkout};
use anabranch_shop::customers::HistoryOf;
use anabranch_shop::orders::{Line, Order, OrderCommand, Return, ReturnCommand};
use anabranch_shop::payments::{Charging, Payment, PaymentCommand, ToCharge};
use anabranch_shop::pricing::{Price, PriceCommand, PriceOf};
use anabranch_shop::provider::Mood;
use anabranch_shop::shipping::{Shipment, ShipmentCommand};
use anabranch_shop::stock::{ProductOf, Stock, StockCommand};
use anabranch_shop::storefront::{AllSales, StateOf};

use place::{Place, memory};

impl Place {
    fn entity<E: Entity>(&self, key: &str) -> EntityHandle<E> {
        let owner = self.shop.fleet.owner(E::CATEGORY).unwrap();
        owner.entity::<E>(key)
    }

    async fn open_stock(&self, units: u64) {
        let open = StockCommand::OpenStock {
            units,
            reorder_below: 0,
        };
        self.entity::<Stock>("p").send(open).await.unwrap();
    }

    async fn place(&self, order: &str, quantity: u64, mills: u64) {
        let place = OrderCommand::PlaceOrder {
            customer: "1".to_owned(),
            country: "France".to_owned(),
            placed_at: "2010-12-01T08:26:00".to_owned(),
            lines: lines(quantity, mills),
        };
        self.entity::<Order>(order).send(place).await.unwrap();
    }

    async fn send_back(&self, number: &str, quantity: u64, mills: u64) {
        let accept = ReturnCommand::AcceptReturn {
            customer: "1".to_owned(),
            country: "France".to_owned(),
            returned_at: "2010-12-02T08:26:00".to_owned(),
            lines: lines(quantity, mills),
        };
        self.entity::<Return>(number).send(accept).await.unwrap();
    }

    /// Waits until an event of this type stands in this stream.
    async fn until(&self, stream: &str, event_type: &str) {
        let (category, _) = stream.split_once('/').unwrap();
        let filter = Filter::category(category);
        let mut news = self.shop.log.read(&Cut::start(), filter, ReadMode::Follow);
        let found = async {
            loop {
                for event in &news.next_batch().await.unwrap().unwrap() {
                    let event = event.unwrap();
                    let is_in = event.stream == stream || stream.ends_with('/');
                    if is_in && event.event_type == event_type {
                        return;
                    }
                }
            }
        };
        let found = tokio::time::timeout(Duration::from_secs(60), found).await;
        found.unwrap_or_else(|_| panic!("{event_type} of {stream} did not come"));
    }

    async fn audit(&self) -> Audit {
        Audit::of(&*self.shop.log).await.unwrap()
    }

    async fn fresh(&self) -> Consistency {
        let head = self.shop.log.head().await.unwrap();
        Consistency::after(head, Duration::from_secs(30))
    }
}

fn lines(quantity: u64, mills: u64) -> Vec<Line> {
    vec![Line {
        product: "p".to_owned(),
        quantity,
        mills,
    }]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_return_with_the_number_of_an_order_stops_no_view_and_money_adds_up() {
    let place = Place::open("same-number", Mood::Reliable, memory()).await;
    place.open_stock(10).await;
    place.place("1", 1, 1000).await;
    place.until("order/1", "OrderConfirmed").await;
    place.send_back("1", 1, 1000).await;
    place.until("refund/1", "PaymentRefunded").await;
    let audit = place.audit().await;
    assert!(audit.money_adds_up(), "{audit:?}");
    let given_back = place.shop.provider.ledger().await.unwrap().refunded_mills;
    assert_eq!((audit.refunded_mills, given_back), (1000, 1000));
    let customers = place.shop.fleet.owner_of_view("customers").unwrap();
    let customer = "1".to_owned();
    let history = customers.query(HistoryOf { customer }, place.fresh().await);
    let history = history.await.unwrap().value;
    assert_eq!((history.spent_mills, history.refunded_mills), (1000, 1000));
    let states: Vec<_> = history.latest.iter().map(|e| e.state.as_str()).collect();
    assert_eq!(states, ["refunded", "confirmed"]);
}

/// CloudEvents of others may have no data, and tell of what is not here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_without_data_of_an_order_that_nobody_placed_stops_no_view() {
    let place = Place::open("no-data", Mood::Reliable, memory()).await;
    for (n, kind) in ["OrderConfirmed", "CheckoutBegan"].into_iter().enumerate() {
        let (stream, kind) = (StreamId::new("order/zz"), EventType::new(kind));
        let id = EventId::from_u128(n as u128);
        let event = NewEvent::new(id, stream.unwrap(), kind.unwrap(), "");
        place.shop.log.append(Append::event(event)).await.unwrap();
    }
    place.open_stock(10).await;
    place.place("1", 1, 1000).await;
    place.until("order/1", "OrderConfirmed").await;
    let storefront = place.shop.fleet.owner_of_view("orders").unwrap();
    let order = "1".to_owned();
    let state = storefront.query(StateOf { order }, place.fresh().await);
    assert_eq!(state.await.unwrap().value.unwrap().state, "confirmed");
    let totals = storefront.query(AllSales {}, place.fresh().await);
    assert_eq!(totals.await.unwrap().value.confirmed, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_paid_in_full_though_a_client_has_started_its_payment_itself() {
    let place = Place::open("own-payment", Mood::Reliable, memory()).await;
    place.open_stock(10).await;
    let payments = place.shop.fleet.owner("charging").unwrap();
    let little = ToCharge { mills: 1 };
    payments.start_saga::<Charging>("2", &little).await.unwrap();
    place.until("charging/2", "SagaCompensated").await;
    place.place("2", 1, 1000).await;
    place.until("order/2", "OrderConfirmed").await;
    let audit = place.audit().await;
    assert_eq!(
        (audit.approved_mills, audit.confirmed_mills()),
        (1000, 1000)
    );
    let taken = place.shop.provider.ledger().await.unwrap().charged_mills;
    assert_eq!(taken, 1000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_but_an_order_starts_its_checkout_and_so_it_is_paid_in_full() {
    let place = Place::open("own-checkout", Mood::Reliable, memory()).await;
    place.open_stock(10).await;
    let checkouts = place.shop.fleet.owner("checkout").unwrap();
    let little = Basket {
        country: "France".to_owned(),
        products: vec![("p".to_owned(), 1)],
        total_mills: 1,
    };
    let started = checkouts.start_saga::<Checkout>("2", &little).await;
    assert!(
        matches!(&started, Err(SendError::Rejected(why)) if why.code == "order-only"),
        "{started:?}"
    );
    place.place("2", 1, 1000).await;
    place.until("order/2", "OrderConfirmed").await;
    let again = checkouts.start_saga::<Checkout>("2", &little).await;
    assert!(again.is_err());
    let audit = place.audit().await;
    assert_eq!(
        (audit.approved_mills, audit.confirmed_mills()),
        (1000, 1000)
    );
    assert!(audit.every_order_ended_once());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_costs_what_pricing_says_at_that_time() {
    let place = Place::open("priced", Mood::Reliable, memory()).await;
    place.open_stock(10).await;
    // Nobody has said what it costs: it is not given away.
    place.place("1", 1, 0).await;
    place.until("order/1", "OrderRejected").await;
    let price = place.entity::<Price>("p");
    let list = PriceCommand::SetListPrice { mills: 2000 };
    price.send(list).await.unwrap();
    place.place("2", 2, 0).await;
    place.until("order/2", "OrderConfirmed").await;
    let raise = PriceCommand::RaisePrice { percent: 10 };
    price.send(raise).await.unwrap();
    place.place("3", 2, 0).await;
    place.until("order/3", "OrderConfirmed").await;
    let audit = place.audit().await;
    assert_eq!(audit.orders["2"].mills, 4000);
    assert_eq!(audit.orders["3"].mills, 4400);
    assert!(audit.every_order_ended_once() && audit.money_adds_up());
    let taken = place.shop.provider.ledger().await.unwrap().charged_mills;
    assert_eq!(taken, 8400);
    let pricing = place.shop.fleet.owner_of_view("prices").unwrap();
    let product = "p".to_owned();
    let now = pricing.query(PriceOf { product }, place.fresh().await);
    assert_eq!(now.await.unwrap().value, Some(2200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn goods_that_came_back_are_sold_again() {
    let place = Place::open("sold-again", Mood::Reliable, memory()).await;
    place.open_stock(1).await;
    place.place("1", 1, 1000).await;
    place.until("order/1", "OrderConfirmed").await;
    place.send_back("C1", 1, 1000).await;
    place.until("stock/p", "StockReturned").await;
    place.place("2", 1, 1000).await;
    place.until("order/2", "OrderConfirmed").await;
    assert!(place.audit().await.returns_are_back_in_stock());
    let stock = place.shop.fleet.owner_of_view("products").unwrap();
    let product = "p".to_owned();
    let shelf = stock.query(ProductOf { product }, place.fresh().await);
    let shelf = shelf.await.unwrap().value.unwrap();
    assert_eq!((shelf.left, shelf.returned), (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_services_tell_each_other_nobody_else_can_say() {
    let place = Place::open("only-services", Mood::Reliable, memory()).await;
    place.open_stock(10).await;
    let refused = |sent: Result<_, SendError>| matches!(sent, Err(SendError::Rejected(_)));
    let pay = PaymentCommand::RequestPayment { mills: 1 };
    assert!(refused(place.entity::<Payment>("3").send(pay).await));
    let ship = ShipmentCommand::ShipOrder {
        country: "France".to_owned(),
        products: vec!["p".to_owned()],
    };
    assert!(refused(place.entity::<Shipment>("3").send(ship).await));
    let reserve = StockCommand::ReserveStock {
        order: "3".to_owned(),
        quantity: 10,
    };
    assert!(refused(place.entity::<Stock>("p").send(reserve).await));
    // So the order of that number goes its way.
    place.place("3", 10, 1000).await;
    place.until("order/3", "OrderConfirmed").await;
}
