use anabranch_domain::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
enum OrderEvent {
    OrderPlaced,
    #[event(rename = "OrderPlaced")]
    Placed,
}

fn main() {}
