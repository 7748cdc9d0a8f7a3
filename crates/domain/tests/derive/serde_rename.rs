use anabranch_domain::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
enum OrderEvent {
    #[serde(rename = "placed")]
    OrderPlaced,
}

fn main() {}
