use anabranch_domain::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(version = 2)]
enum OrderEvent {
    OrderPlaced,
}

fn main() {}
