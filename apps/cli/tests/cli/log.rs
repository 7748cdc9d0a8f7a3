use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::support::{Scratch, lines};

#[test]
fn a_log_is_a_directory_of_its_owner() {
    let scratch = Scratch::new("log-path");
    scratch.file("file", "precious");
    fs::create_dir(scratch.path("open")).unwrap();
    fs::set_permissions(scratch.path("open"), fs::Permissions::from_mode(0o777)).unwrap();
    for (path, code) in [
        ("./file", "not-a-directory"),
        ("./file/below", "io"),
        ("./open", "world-writable"),
        ("/proc/none", "io"),
    ] {
        let stderr = scratch
            .run(&format!("append a/b --type T --log {path}"))
            .fails(1);
        assert!(stderr.starts_with(&format!("error[{code}]: ")), "{stderr}");
        assert!(stderr.contains(path.trim_start_matches("./")), "{stderr}");
    }
    assert_eq!(fs::read(scratch.path("file")).unwrap(), b"precious");
    assert_eq!(fs::read_dir(scratch.path("open")).unwrap().count(), 0);
}

#[test]
fn a_new_log_belongs_to_its_owner_alone() {
    let scratch = Scratch::new("log-private");
    scratch.run("append a/b --type T").ok();
    let dir = scratch.path(".anabranch/log");
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for entry in fs::read_dir(&dir).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
}

#[test]
fn export_writes_what_read_prints() {
    let scratch = Scratch::new("log-export");
    scratch.file("f.jsonl", lines("a/b", 0..3_000));
    scratch.run("import f.jsonl").ok();
    let done = scratch.run("log export out.jsonl");
    assert_eq!(done.stderr, "3000 events in out.jsonl\n");
    done.ok();
    let exported = fs::read_to_string(scratch.path("out.jsonl")).unwrap();
    assert_eq!(exported, scratch.run("read --output jsonl").ok());
    assert_eq!(exported, scratch.run("log export -").ok());
    assert!(!scratch.path("out.jsonl.partial").exists());
}

#[test]
fn export_replaces_no_file() {
    let scratch = Scratch::new("log-export-exists");
    scratch.run("append a/b --type T").ok();
    scratch.file("out.jsonl", "precious");
    let stderr = scratch.run("log export out.jsonl").fails(1);
    assert!(stderr.starts_with("error[file-exists]"), "{stderr}");
    assert_eq!(fs::read(scratch.path("out.jsonl")).unwrap(), b"precious");
    scratch.run("log export none/out.jsonl").fails(3);
    scratch.run("log export other.jsonl --log ./none").fails(3);
    assert!(!scratch.path("other.jsonl").exists());
}
