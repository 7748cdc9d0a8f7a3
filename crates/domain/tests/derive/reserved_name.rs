use anabranch_domain::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
enum OrderEvent {
    #[event(rename = "$Placed")]
    OrderPlaced,
}

fn main() {}
