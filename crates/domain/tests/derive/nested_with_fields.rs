use anabranch_domain::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
enum ShopEvent {
    #[event(nested)]
    Order { event: u64 },
}

fn main() {}
