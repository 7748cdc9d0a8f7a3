//! What programs say beside their data.

use serde_json::Value;

use crate::support::{Running, Scratch};

/// The next line that it says, as JSON.
fn said(program: &mut Running) -> Value {
    let line = program.error_line();
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
}

#[test]
fn with_logs_as_json_each_line_is_an_object_that_names_the_service() {
    let scratch = Scratch::new("log-lines-serve");
    scratch.file("anabranch.toml", "logs = \"json\"\n");
    let mut server = scratch.start("serve --log ./log --listen 127.0.0.1:0");
    let line = said(&mut server);
    assert_eq!(line["service"], "backbone");
    assert_eq!(line["level"], "info");
    assert!(
        line["message"].as_str().unwrap().contains("http://"),
        "{line}"
    );
    assert!(line["time"].as_str().unwrap().ends_with('Z'), "{line}");
    server.terminate();
    server.finish().ok();
}

#[test]
fn whoever_else_answers_at_an_address_makes_no_service_ready() {
    let scratch = Scratch::new("up-stranger");
    let mut stranger = scratch.start("serve --log ./log --listen 127.0.0.1:0");
    let line = stranger.error_line();
    let (_, url) = line.trim().split_once(": ").unwrap();
    let text = format!(
        "[service.idle]\nprogram = \"sh\"\nargs = [\"-c\", \"exec sleep 60\"]\n\
         ready = \"{url}/livez\"\nready_within = \"1s\"\n"
    );
    scratch.file("set.toml", text);
    let mut up = scratch.start("up set.toml");
    let told = up.error_line();
    let pid = stranger.child.id();
    assert!(
        told.contains(&format!("process {pid}, which is none of this service")),
        "{told}"
    );
    let late = up.error_line();
    assert!(late.contains("was not ready within 1s"), "{late}");
    up.terminate();
    up.finish().ok();
    stranger.kill();
}

#[test]
fn what_a_service_of_a_set_says_has_its_name_in_either_form() {
    let scratch = Scratch::new("log-lines-up");
    scratch.file(
        "set.toml",
        "[service.greeter]\nprogram = \"sh\"\nargs = [\"-c\", \"echo hello; exec sleep 60\"]\n",
    );
    let mut text = scratch.start("up set.toml");
    let mut lines = std::iter::from_fn(|| Some(text.error_line()));
    assert!(lines.any(|line| line == "greeter | hello\n"));
    text.terminate();
    text.finish().ok();
    let mut json = scratch.start("up set.toml --set logs=json");
    let mut lines = std::iter::from_fn(|| Some(said(&mut json)));
    assert!(lines.any(|line| line["service"] == "greeter" && line["message"] == "hello"));
    json.terminate();
    json.finish().ok();
}
