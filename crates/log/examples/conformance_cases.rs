//! Prints the conformance cases as they stand in `docs/conformance.md`.

fn main() {
    print!("{}", anabranch_log::conformance::cases_as_markdown());
}
