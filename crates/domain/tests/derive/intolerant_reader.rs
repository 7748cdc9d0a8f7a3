use anabranch_domain::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[serde(deny_unknown_fields)]
enum OrderEvent {
    OrderPlaced { total: u64 },
}

fn main() {}
