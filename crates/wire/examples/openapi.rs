//! Prints the OpenAPI document: `cargo run -p anabranch-wire --example openapi > docs/openapi.json`.

fn main() {
    println!("{:#}", anabranch_wire::openapi::document());
}
