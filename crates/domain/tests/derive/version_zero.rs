use anabranch_domain::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
enum OrderEvent {
    #[event(version = 0)]
    OrderPlaced,
}

fn main() {}
