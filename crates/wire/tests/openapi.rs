//! The document that is kept for clients is what the types say.

use anabranch_wire::openapi::document;

#[test]
fn the_kept_document_is_what_the_types_say() {
    let kept = include_str!("../../../docs/openapi.json");
    let said = format!("{:#}\n", document());
    assert!(
        kept == said,
        "docs/openapi.json is old; make it again with \
         `cargo run -p anabranch-wire --example openapi > docs/openapi.json`"
    );
}
