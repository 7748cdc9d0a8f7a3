//! How the program is packed: as a unit of systemd, and as a container. There is no engine here that
//! builds one, so what can be said of the files is checked.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::Scratch;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn packed(name: &str) -> String {
    fs::read_to_string(root().join("deploy").join(name)).unwrap()
}

/// Fails unless the program takes these arguments, and serves until it is asked to stop. What is
/// below `/var/lib/anabranch` is in the scratch directory instead, on a free port.
fn serves(scratch: &Scratch, arguments: &str) {
    let here = scratch.path("state").display().to_string();
    let arguments = arguments
        .replace("/var/lib/anabranch", &here)
        .replace("127.0.0.1:7400", "127.0.0.1:0");
    let mut server = scratch.start(&arguments);
    loop {
        let line = server.error_line();
        assert!(!line.is_empty(), "it has ended: {arguments}");
        if line.contains("http://127.0.0.1:") {
            break;
        }
    }
    server.terminate();
    server.finish().ok();
}

/// The value of a key of a unit.
fn value<'a>(unit: &'a str, key: &str) -> &'a str {
    let value = unit
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("the unit has no {key}"))
}

#[test]
fn the_unit_starts_a_server_that_is_not_root_and_may_open_enough_files() {
    let unit = packed("anabranch.service");
    assert_eq!(value(&unit, "DynamicUser"), "yes");
    assert_eq!(value(&unit, "NoNewPrivileges"), "yes");
    let files: u64 = value(&unit, "LimitNOFILE").parse().unwrap();
    assert!(files > 8192, "a server has so many connections");
    // Everything that it writes is in the directory that systemd makes for it.
    let state = format!("/var/lib/{}", value(&unit, "StateDirectory"));
    let start = value(&unit, "ExecStart");
    assert!(start.contains(&format!("--log {state}/")), "{start}");
    let arguments = start.strip_prefix("/usr/local/bin/anabranch ").unwrap();
    serves(&Scratch::new("packaging-unit"), arguments);
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    let scratch = Scratch::new("packaging-verify");
    // The program is where it is in this build.
    let unit = packed("anabranch.service");
    let unit = unit.replace("/usr/local/bin/anabranch", env!("CARGO_BIN_EXE_anabranch"));
    scratch.file("anabranch.service", unit);
    let mut verify = Command::new("systemd-analyze");
    verify.arg("verify").arg(scratch.path("anabranch.service"));
    // Where there is no systemd, the other test is what can be said.
    let Ok(said) = verify.output() else { return };
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    let about_us: Vec<_> = said
        .lines()
        .filter(|line| line.contains("anabranch"))
        .collect();
    assert!(about_us.is_empty(), "{about_us:?}");
}

/// The instructions of a Dockerfile, each with what follows it; lines that go on are one.
fn instructions(text: &str) -> Vec<(String, String)> {
    let text = text.replace("\\\n", " ");
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| line.split_once(' ').expect(line))
        .map(|(word, rest)| (word.to_owned(), rest.trim().to_owned()))
        .collect()
}

#[test]
fn the_container_has_all_that_it_copies_and_its_program_is_not_root() {
    let all = instructions(&packed("Dockerfile"));
    let last = all.iter().rposition(|(word, _)| word == "FROM").unwrap();
    let (build, image) = all.split_at(last);
    for (word, rest) in build.iter().filter(|(word, _)| word == "COPY") {
        let mut paths: Vec<_> = rest.split(' ').collect();
        paths.pop();
        for path in paths {
            assert!(
                root().join(path).exists(),
                "{word} {path}: there is no such path"
            );
        }
    }
    // Every member of the workspace is there, or nothing is built.
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let members = manifest.lines().find(|line| line.starts_with("members"));
    for member in members.unwrap().split('"').skip(1).step_by(2) {
        let folder = member.split('/').next().unwrap();
        let copied = build
            .iter()
            .any(|(word, rest)| word == "COPY" && rest.split(' ').next() == Some(folder));
        assert!(copied, "{member} is not copied");
    }
    let of = |wanted: &str| {
        let found = image.iter().find(|(word, _)| word == wanted);
        found
            .map(|(_, rest)| rest.as_str())
            .unwrap_or_else(|| panic!("no {wanted}"))
    };
    let (user, _) = of("USER").split_once(':').unwrap();
    assert_ne!((user, user.parse() == Ok(0)), ("root", true));
    assert!(user.parse::<u32>().unwrap() > 0);
    assert_eq!(of("VOLUME"), "/var/lib/anabranch");
    assert_eq!(of("EXPOSE"), "7400");
    let after_user = image.iter().position(|(word, _)| word == "USER").unwrap();
    let start = image
        .iter()
        .position(|(word, _)| word == "ENTRYPOINT")
        .unwrap();
    assert!(after_user < start);
    let words = |text: &str| serde_json::from_str::<Vec<String>>(text).unwrap();
    assert_eq!(words(of("ENTRYPOINT")), ["anabranch"]);
    let scratch = Scratch::new("packaging-container");
    serves(&scratch, &words(of("CMD")).join(" "));
    // What says whether it is healthy is a command that there is.
    let (_, health) = of("HEALTHCHECK").split_once("CMD ").unwrap();
    let health = words(health);
    assert_eq!(health[0], "anabranch");
    let away = scratch.run(&health[1..].join(" ").replace(":7400", ":1"));
    assert_eq!(away.code, Some(5), "{}", away.stderr);
}
