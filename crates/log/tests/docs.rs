//! What the docs say is what the code says.

use anabranch_log::conformance::cases_as_markdown;

#[test]
fn the_docs_list_every_conformance_case() {
    let docs = include_str!("../../../docs/conformance.md");
    let (_, list) = docs
        .split_once("<!-- cases: begin -->\n")
        .expect("the list has a beginning");
    let (list, _) = list
        .split_once("\n<!-- cases: end -->")
        .expect("the list has an end");
    assert_eq!(
        list,
        cases_as_markdown(),
        "put what `cargo run -p anabranch-log --example conformance_cases` prints into \
         docs/conformance.md"
    );
}
