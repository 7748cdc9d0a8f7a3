use anabranch_domain::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
enum OrderEvent<T> {
    OrderPlaced { order: T },
}

fn main() {}
