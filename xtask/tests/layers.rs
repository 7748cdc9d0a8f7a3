//! `cargo xtask layers` as a person runs it, on a workspace with a planted violation.

#![expect(
    clippy::disallowed_methods,
    reason = "the test writes a small workspace of its own"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A workspace of two crates: `upper` (layer 2) and `lower` (layer 1).
fn planted(name: &str, lower_needs: &str, upper_needs: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let member = |krate: &str, layer: u32, needs: &str| {
        let dir = root.join(krate);
        fs::create_dir_all(dir.join("src")).unwrap();
        fs::write(dir.join("src/lib.rs"), "").unwrap();
        let manifest = format!(
            "[package]\nname = \"{krate}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n\
             [package.metadata.anabranch]\nlayer = {layer}\n\n[dependencies]\n{needs}"
        );
        fs::write(dir.join("Cargo.toml"), manifest).unwrap();
    };
    member("lower", 1, lower_needs);
    member("upper", 2, upper_needs);
    let manifest = "[workspace]\nresolver = \"3\"\nmembers = [\"lower\", \"upper\"]\n";
    fs::write(root.join("Cargo.toml"), manifest).unwrap();
    root
}

fn layers(root: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xtask"))
        .arg("layers")
        .args(more)
        .current_dir(root)
        .output()
        .unwrap()
}

#[test]
fn an_arrow_to_a_higher_layer_fails_the_command() {
    let root = planted("arrow_up", "upper = { path = \"../upper\" }\n", "");
    let output = layers(&root, &[]);
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(
        message.contains("lower (layer 1) depends on upper (layer 2)"),
        "{message}"
    );
}

#[test]
fn arrows_down_pass_the_command() {
    let root = planted("arrow_down", "", "lower = { path = \"../lower\" }\n");
    let output = layers(&root, &[]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let map = String::from_utf8(output.stdout).unwrap();
    assert!(map.contains("2 crates, every arrow points down"), "{map}");
}

#[test]
fn files_in_a_circle_fail_the_command() {
    let root = planted("circle", "", "");
    let write =
        |file: &str, text: &str| fs::write(root.join("lower/src").join(file), text).unwrap();
    write("lib.rs", "mod a;\nmod b;\n");
    write("a.rs", "pub struct A;\n");
    write("b.rs", "pub struct B(super::a::A);\n");
    let output = layers(&root, &["--files"]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    write("a.rs", "pub struct A(Box<crate::b::B>);\n");
    let output = layers(&root, &["--files"]);
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(
        message.contains("lower/src/a.rs → lower/src/b.rs → lower/src/a.rs"),
        "{message}"
    );
}
