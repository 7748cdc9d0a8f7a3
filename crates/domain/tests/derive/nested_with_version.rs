use anabranch_domain::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
enum OrderEvent {
    OrderPlaced,
}

#[derive(Serialize, Deserialize, Event)]
enum ShopEvent {
    #[event(nested, version = 2)]
    Order(OrderEvent),
}

fn main() {}
