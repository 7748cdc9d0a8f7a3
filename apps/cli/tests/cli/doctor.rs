//! What is wrong, and what others need to find out.

use std::fs;
use std::io::Read as _;

use flate2::read::GzDecoder;
use serde_json::Value;

use crate::support::{Done, Scratch, done};

/// What was looked at, with how it is.
fn checks(done: &Done) -> Vec<(String, String, String)> {
    let all: Vec<Value> = serde_json::from_slice(&done.stdout).unwrap();
    let text = |check: &Value, name: &str| check[name].as_str().unwrap_or_default().to_owned();
    all.iter()
        .map(|check| {
            let state = text(check, "state");
            assert_eq!(state == "ok", text(check, "do").is_empty(), "{check}");
            (text(check, "about"), state, text(check, "what"))
        })
        .collect()
}

#[track_caller]
fn has(checks: &[(String, String, String)], about: &str, state: &str, what: &str) {
    let found = checks
        .iter()
        .any(|(a, s, w)| a == about && s == state && w.contains(what));
    assert!(found, "{about} {state} {what}: {checks:?}");
}

#[test]
fn a_log_in_a_directory_is_looked_at() {
    let scratch = Scratch::new("doctor-directory");
    scratch.run("append a/1 --type T --log ./log").ok();
    let well = scratch.run("doctor --log ./log --output json");
    assert_eq!(well.code, Some(0), "{}", well.stderr);
    let found = checks(&well);
    has(&found, "clock", "ok", "no event is newer");
    has(&found, "log", "ok", "1 events");
    has(&found, "durability", "ok", "on the disk");
    let text = scratch.run("doctor --log ./log --durability interval").ok();
    assert!(text.contains("do: set durability to sync"), "{text}");
}

#[test]
fn a_fault_is_told_with_what_to_do_and_by_the_exit_code() {
    let scratch = Scratch::new("doctor-fault");
    scratch.run("append a/1 --type T --log ./log").ok();
    // No disk is large enough.
    let full = scratch.run("doctor --log ./log --output json --set engine.reserve_bytes=900000TiB");
    let full = match full.code {
        Some(2) => {
            scratch.run("doctor --log ./log --output json --set engine.reserve_bytes=9000TiB")
        }
        _ => full,
    };
    assert_eq!(full.code, Some(1), "{}", full.stderr);
    has(&checks(&full), "disk", "fault", "appends are refused");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(scratch.path("log"), mode).unwrap();
    let open = scratch.run("doctor --log ./log --output json");
    assert_eq!(open.code, Some(1));
    has(&checks(&open), "disk", "fault", "anybody");
    let none = scratch.run("doctor --log ./nothing --output json");
    assert_eq!(none.code, Some(1));
    has(&checks(&none), "log", "fault", "");
}

#[test]
fn a_server_and_who_has_registered_there_is_looked_at() {
    let scratch = Scratch::new("doctor-server");
    let mut server = scratch.start("serve --log ./log --listen 127.0.0.1:0");
    let line = server.error_line();
    let (_, url) = line.trim().split_once(": ").unwrap();
    let well = scratch.run(&format!("doctor --output json --log {url}"));
    assert_eq!(well.code, Some(0), "{}", well.stderr);
    let found = checks(&well);
    has(&found, "server", "ok", "is ready");
    has(&found, "versions", "ok", env!("CARGO_PKG_VERSION"));
    has(&found, "clock", "ok", "says the same");
    // By its directory both are looked at.
    let both = scratch.run("doctor --output json --log ./log");
    has(&checks(&both), "server", "ok", "is ready");
    has(&checks(&both), "log", "ok", "a program writes to it");
    server.kill();
    let gone = scratch.run("doctor --output json --log ./log");
    assert_eq!(gone.code, Some(1));
    has(&checks(&gone), "server", "fault", "does not answer");
}

/// The files of an archive, by their names.
fn unpacked(bytes: &[u8]) -> Vec<(String, String)> {
    let mut tar = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut tar).unwrap();
    let (mut files, mut rest) = (Vec::new(), &tar[..]);
    while rest[0] != 0 {
        let text = |from: usize, to: usize| {
            let field = rest[from..to].split(|byte| *byte == 0).next().unwrap();
            String::from_utf8(field.to_vec()).unwrap()
        };
        let length = usize::from_str_radix(&text(124, 136), 8).unwrap();
        let content = String::from_utf8(rest[512..512 + length].to_vec()).unwrap();
        files.push((text(0, 100), content));
        rest = &rest[512 + length.next_multiple_of(512)..];
    }
    assert_eq!(rest.len(), 1024);
    files
}

#[test]
fn a_bundle_has_what_is_needed_and_no_secret() {
    let scratch = Scratch::new("doctor-bundle");
    let mut server = scratch.start("serve --log ./log --listen 127.0.0.1:0 --auth");
    while !server.error_line().contains("the log ") {}
    let first = fs::read_dir(scratch.path("log")).unwrap().flatten();
    let first = first.map(|file| file.path()).filter(|path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.contains("key")
    });
    let mut secrets: Vec<String> = first
        .map(|path| {
            String::from_utf8_lossy(&fs::read(path).unwrap())
                .trim()
                .to_owned()
        })
        .collect();
    assert_eq!(secrets.len(), 2, "the first key, and what seals tokens");
    let planted = "pl4nted-and-not-to-be-seen";
    scratch.file("planted.key", planted);
    scratch.file(
        "anabranch.toml",
        format!("server = \"http://me:{planted}@127.0.0.1:9\"\n"),
    );
    secrets.push(planted.to_owned());
    let mut bundle =
        scratch.command("debug bundle b.tar.gz --log ./log --output json --set server=");
    bundle
        .env("STRIPE_API_KEY", planted)
        .env(format!("ANABRANCH_{planted}"), planted)
        .env("ANABRANCH_OTHER_TOKEN", planted);
    let told: Value = serde_json::from_str(&done(bundle).ok()).unwrap();
    let bytes = fs::read(scratch.path("b.tar.gz")).unwrap();
    let files = unpacked(&bytes);
    let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(told["files"], serde_json::json!(names));
    for name in [
        "program.json",
        "settings.json",
        "doctor.json",
        "log.json",
        "version.json",
        "readyz.txt",
        "metrics.txt",
        "registry.json",
        "diagnostics.json",
        "left-out.txt",
    ] {
        assert!(
            names.contains(&&*format!("anabranch-debug/{name}")),
            "{name}: {names:?}"
        );
    }
    for (name, content) in &files {
        for secret in &secrets {
            assert!(!content.contains(secret.as_str()), "{name}: {content}");
        }
    }
    // A file that is there is not written over, and the bundle is its maker's alone.
    scratch.run("debug bundle b.tar.gz --log ./log").fails(1);
    let mode = fs::metadata(scratch.path("b.tar.gz"))
        .unwrap()
        .permissions();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777,
        0o600
    );
    server.kill();
}

#[test]
fn the_secret_in_a_setting_is_not_in_a_bundle() {
    let scratch = Scratch::new("doctor-bundle-settings");
    let planted = "pl4nted-and-not-to-be-seen";
    scratch.file(
        "anabranch.toml",
        format!("server = \"http://me:{planted}@127.0.0.1:9\"\n"),
    );
    scratch.run("debug bundle b.tar.gz").ok();
    let files = unpacked(&fs::read(scratch.path("b.tar.gz")).unwrap());
    let settings = files
        .iter()
        .find(|(name, _)| name.ends_with("settings.json"));
    assert!(settings.unwrap().1.contains("[removed]@127.0.0.1:9"));
    for (name, content) in &files {
        assert!(!content.contains(planted), "{name}: {content}");
    }
}
