//! What the derive macros say when they are used wrongly. A message is part of the interface.

#[test]
fn wrong_uses_of_the_derive_macros_are_explained() {
    trybuild::TestCases::new().compile_fail("tests/derive/*.rs");
}
