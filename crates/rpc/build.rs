//! Makes the types and the two ends of the protocol from its description.

fn main() {
    // The description is committed as `protoc` would give it, so that nobody needs one; a test
    // of `anabranch-wire` makes it again from the `.proto`.
    connectrpc_build::Config::new()
        .descriptor_set("proto/protocol.binpb")
        .files(&[
            "anabranch/log/v1/log.proto",
            "anabranch/registry/v1/registry.proto",
            "grpc/health/v1/health.proto",
        ])
        .include_file("protocol.rs")
        .compile()
        .expect("the committed description of the protocol gives code");
}
