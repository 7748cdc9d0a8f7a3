//! The help texts, word by word. To accept new ones, run the tests with `UPDATE_GOLDEN=1`.

use std::fs;
use std::path::Path;

use crate::support::Scratch;

#[track_caller]
fn check(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/cli/golden")
        .join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, found).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        found,
        expected,
        "the help of {name} is not as in {}",
        path.display()
    );
}

#[test]
fn help_says_what_a_stranger_needs() {
    let scratch = Scratch::new("help");
    for command in [
        "append",
        "import",
        "read",
        "tail",
        "story",
        "send",
        "up",
        "entity",
        "view",
        "process",
        "dead-letter",
        "service",
        "schema",
        "key",
        "audit",
        "log",
        "context",
        "config",
        "doctor",
        "debug",
        "completions",
    ] {
        check(command, &scratch.run(&format!("{command} --help")).ok());
    }
    if cfg!(feature = "bench") {
        check("anabranch", &scratch.run("--help").ok());
        check("bench-log", &scratch.run("bench log --help").ok());
        check("bench-remote", &scratch.run("bench remote --help").ok());
    }
    for verb in [
        "create", "info", "verify", "repair", "backup", "restore", "export", "upgrade",
    ] {
        let name = format!("log-{verb}");
        check(&name, &scratch.run(&format!("log {verb} --help")).ok());
    }
    for (noun, verbs) in [
        ("context", "add use ls rm"),
        ("debug", "bundle"),
        ("entity", "show parked unpark"),
        ("view", "ls get rebuild back-out skip retry"),
        ("process", "ls show retry settle abort skip"),
        ("dead-letter", "ls show retry discard"),
        (
            "service",
            "ls graph stop start restart forget diagnostics circuits",
        ),
        ("key", "add ls revoke"),
        ("audit", "ls verify"),
        ("schema", "ls check types"),
    ] {
        for verb in verbs.split(' ') {
            let name = format!("{noun}-{verb}");
            check(&name, &scratch.run(&format!("{noun} {verb} --help")).ok());
        }
    }
    check("config-show", &scratch.run("config show --help").ok());
}

#[test]
fn the_version_is_that_of_the_package() {
    let scratch = Scratch::new("version");
    let version = scratch.run("--version").ok();
    assert_eq!(
        version,
        format!("anabranch {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn completions_know_the_commands() {
    let scratch = Scratch::new("completions");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = scratch.run(&format!("completions {shell}")).ok();
        assert!(script.contains("import"), "{shell}");
    }
    scratch.run("completions tcsh").fails(2);
}
