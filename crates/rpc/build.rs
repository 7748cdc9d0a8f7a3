//! Makes the types and the two ends of the protocol from its description, and a table of what its
//! messages hold.

#![expect(
    clippy::disallowed_methods,
    reason = "this is about files of the source tree and of the build"
)]

use std::fmt::Write as _;
use std::path::Path;

use buffa::Message as _;
use buffa_descriptor::generated::descriptor::field_descriptor_proto::{Label, Type};
use buffa_descriptor::generated::descriptor::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorSet,
};

const DESCRIPTION: &str = "proto/protocol.binpb";

fn main() {
    // The description is committed as `protoc` would give it, so that nobody needs one; a test
    // of `anabranch-wire` makes it again from the `.proto`.
    connectrpc_build::Config::new()
        .descriptor_set(DESCRIPTION)
        .files(&[
            "anabranch/log/v1/log.proto",
            "anabranch/registry/v1/registry.proto",
            "grpc/health/v1/health.proto",
        ])
        .include_file("protocol.rs")
        .compile()
        .expect("the committed description of the protocol gives code");
    let bytes = std::fs::read(DESCRIPTION).expect("the description of the protocol is there");
    let set = FileDescriptorSet::decode_from_slice(&bytes).expect("it is one");
    let out = std::env::var("OUT_DIR").expect("Cargo says where what is made goes");
    std::fs::write(Path::new(&out).join("table.rs"), table(&set)).expect("it can be written");
}

/// Each message with its fields, and each call with its message, as Rust.
fn table(set: &FileDescriptorSet) -> String {
    let mut messages = Vec::new();
    for file in &set.file {
        let package = file.package.clone().unwrap_or_default();
        for message in &file.message_type {
            collect(&format!(".{package}"), message, &mut messages);
        }
    }
    let mut out = "const MESSAGES: &[Message] = &[\n".to_owned();
    for (name, message) in &messages {
        let name = name.trim_start_matches('.');
        writeln!(out, "Message {{ name: {name:?}, fields: &[").expect("a string takes all");
        for field in &message.field {
            let (name, json) = (text(&field.name), text(&field.json_name));
            let holds = holds(field, &messages);
            writeln!(
                out,
                "Field {{ name: {name:?}, json: {json:?}, holds: {holds} }},"
            )
            .expect("a string takes all");
        }
        out += "] },\n";
    }
    out += "];\nconst CALLS: &[(&str, usize)] = &[\n";
    for file in &set.file {
        let package = file.package.clone().unwrap_or_default();
        for service in &file.service {
            for call in &service.method {
                let path = format!("/{package}.{}/{}", text(&service.name), text(&call.name));
                let takes = at(&messages, text(&call.input_type));
                writeln!(out, "({path:?}, {takes}),").expect("a string takes all");
            }
        }
    }
    out + "];\n"
}

fn collect<'a>(
    within: &str,
    message: &'a DescriptorProto,
    messages: &mut Vec<(String, &'a DescriptorProto)>,
) {
    let name = format!("{within}.{}", text(&message.name));
    for nested in &message.nested_type {
        collect(&name, nested, messages);
    }
    messages.push((name, message));
}

fn holds(field: &FieldDescriptorProto, messages: &[(String, &DescriptorProto)]) -> String {
    let is_many = field.label == Some(Label::LABEL_REPEATED);
    if field.r#type != Some(Type::TYPE_MESSAGE) {
        return if is_many {
            "Holds::Values"
        } else {
            "Holds::Value"
        }
        .to_owned();
    }
    let index = at(messages, text(&field.type_name));
    let is_map = messages[index]
        .1
        .options
        .as_option()
        .and_then(|options| options.map_entry);
    match (is_map, is_many) {
        // No map of the protocol has messages as its values.
        (Some(true), _) => "Holds::Map".to_owned(),
        (_, true) => format!("Holds::Messages({index})"),
        (_, false) => format!("Holds::Message({index})"),
    }
}

fn at(messages: &[(String, &DescriptorProto)], name: &str) -> usize {
    let found = messages.iter().position(|(found, _)| found == name);
    found.unwrap_or_else(|| panic!("the description has no message {name}"))
}

fn text(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or_default()
}
