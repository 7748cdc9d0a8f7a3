//! The shop's services in a world that loses messages and crashes them.

use std::collections::BTreeMap;
use std::time::Duration;

use anabranch::domain::Rejection;
use anabranch::testkit::{Faults, Provider, Service, World};
use anabranch_shop::orders::{Line, OrderCommand, OrderEvent};
use anabranch_shop::payments::{Charge, PaymentEvent, Receipt, Refund};
use anabranch_shop::stock::{StockCommand, StockEvent};
use anabranch_shop::{checkout, orders, payments, shipping, stock};

const PRODUCT: &str = "85123A";

/// Declines every third order.
fn declines(charge: &Charge) -> bool {
    charge.payment.ends_with('3') || charge.payment.ends_with('6')
}

fn shop(seed: u64, charges: &Provider<Charge>) -> World {
    let refunds = Provider::<Refund>::new(|refund| {
        Ok(Receipt {
            reference: format!("re-{}", refund.payment),
        })
    });
    World::new(seed)
        .with(Service::new("orders").declared_by(orders::service))
        .with(Service::new("stock").declared_by(stock::service))
        .with(Service::new("shipping").declared_by(shipping::service))
        .with(
            Service::new("payments")
                .declared_by(payments::without_provider)
                .effect(charges)
                .effect(&refunds),
        )
        .with(Service::new("checkout").declared_by(checkout::service))
}

fn charging() -> Provider<Charge> {
    Provider::new(|charge: &Charge| match declines(charge) {
        true => Err(Rejection::new("declined", "the card was declined")),
        false => Ok(Receipt {
            reference: format!("ch-{}", charge.payment),
        }),
    })
}

#[test]
fn in_a_wild_world_each_order_ends_once_and_money_adds_up() {
    let mut of_each_kind = BTreeMap::<String, u64>::new();
    for seed in 0..6 {
        let charges = charging();
        let mut world = shop(seed, &charges);
        let open = StockCommand::OpenStock {
            units: 20,
            reorder_below: 0,
        };
        world.ask::<stock::Stock>(PRODUCT, &open).unwrap();
        world.set_faults(Faults {
            drop_percent: 5,
            duplicate_percent: 10,
            delay_max: Duration::from_millis(500),
            crash_percent_per_minute: 40,
            down_max: Duration::from_secs(10),
        });
        for number in 0..8 {
            let place = OrderCommand::PlaceOrder {
                customer: "guest".to_owned(),
                country: "France".to_owned(),
                placed_at: "2010-12-01T08:26:00".to_owned(),
                lines: vec![Line {
                    product: PRODUCT.to_owned(),
                    quantity: 3,
                    mills: 1000,
                }],
            };
            world.send::<orders::Order>(&number.to_string(), &place);
        }
        world.run_to_end();

        let (mut placed, mut ended) = (0, BTreeMap::<String, u64>::new());
        for number in 0..8 {
            for event in world.events::<OrderEvent>(&format!("order/{number}")) {
                match event {
                    OrderEvent::OrderPlaced { .. } => placed += 1,
                    OrderEvent::OrderConfirmed => {
                        *ended.entry("confirmed".into()).or_default() += 1
                    }
                    OrderEvent::OrderRejected { .. } => {
                        *ended.entry("rejected".into()).or_default() += 1;
                    }
                    OrderEvent::OrderRequested { .. } | OrderEvent::CheckoutBegan => {}
                }
            }
        }
        assert_eq!(
            ended.values().sum::<u64>(),
            placed,
            "seed {seed}: {ended:?}"
        );

        for (how, count) in &ended {
            *of_each_kind.entry(how.clone()).or_default() += count;
        }
        let confirmed = ended.get("confirmed").copied().unwrap_or(0);
        let mut paid = 0;
        for number in 0..8 {
            let events = world.events::<PaymentEvent>(&format!("payment/{number}"));
            let approved = |e: &&PaymentEvent| matches!(e, PaymentEvent::PaymentApproved { .. });
            paid += events.iter().filter(approved).count() as u64;
        }
        assert_eq!(paid, confirmed, "seed {seed}");
        assert_eq!(charges.carried_out(), confirmed, "seed {seed}");

        let mut left: i64 = 0;
        for event in world.events::<StockEvent>(&format!("stock/{PRODUCT}")) {
            left += match event {
                StockEvent::StockOpened { units, .. } => units as i64,
                StockEvent::StockReserved { quantity, .. } => -(quantity as i64),
                StockEvent::StockReleased { quantity, .. } => quantity as i64,
                _ => 0,
            };
            assert!(left >= 0, "seed {seed}");
        }
        assert_eq!(left, 20 - 3 * confirmed as i64, "seed {seed}");
    }
    let seen = |how| of_each_kind.get(how).copied().unwrap_or(0);
    assert!(
        seen("confirmed") > 5 && seen("rejected") > 5,
        "{of_each_kind:?}"
    );
}
