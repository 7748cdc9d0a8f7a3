use anabranch_domain::Event;

#[derive(Event)]
enum OrderEvent {}

fn main() {}
