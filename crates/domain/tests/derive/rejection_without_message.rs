use anabranch_domain::Rejection;
use serde::Serialize;

#[derive(Serialize, Rejection)]
enum OrderRejection {
    AlreadyPlaced,
}

fn main() {}
