//! The committed description of the protocol is that of its `.proto` files. It stands here
//! because the crate that has both cannot be built while they differ.

#![expect(
    clippy::disallowed_methods,
    reason = "this is about files of the source tree"
)]

use std::path::Path;

#[test]
fn the_committed_description_is_that_of_the_proto() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rpc/proto");
    let made = protox::Compiler::new([&dir])
        .and_then(|mut compiler| {
            compiler.include_imports(true);
            compiler.include_source_info(true);
            compiler.open_files([
                "anabranch/log/v1/log.proto",
                "anabranch/registry/v1/registry.proto",
                "grpc/health/v1/health.proto",
            ])?;
            Ok(compiler.encode_file_descriptor_set())
        })
        .expect("the .proto can be read");
    let file = dir.join("protocol.binpb");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, &made).unwrap();
    }
    assert!(
        std::fs::read(&file).unwrap() == made,
        "{} is not what the .proto says; make it again: UPDATE_GOLDEN=1 cargo test -p anabranch-wire --test protocol",
        file.display()
    );
}
