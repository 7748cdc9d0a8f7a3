use anabranch_domain::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
enum OrderEvent {
    #[event(upcasts = upcasts)]
    OrderPlaced,
}

fn main() {}
