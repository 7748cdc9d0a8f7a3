//! Wrong and hostile input at the program's doors: each is refused in words, and nothing is
//! changed.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use crate::support::{Scratch, done};

fn filled(name: &str) -> Scratch {
    let scratch = Scratch::new(name);
    for key in 1..4 {
        let append = format!("append order/{key} --type Placed --log l");
        scratch.run(&append).ok();
    }
    scratch
}

/// The one file of a backup that holds events.
fn copied_segment(scratch: &Scratch) -> String {
    let mut names = fs::read_dir(scratch.path("b")).unwrap();
    let name = names.find_map(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        name.ends_with(".seg").then_some(name)
    });
    name.unwrap()
}

#[test]
fn numbers_below_nothing_are_refused_in_words() {
    let scratch = filled("doors-negative");
    for (arguments, part) in [
        ("read --log l --from -1", "\"-1\" is not a position"),
        ("read --log l --from 0:-1", "\"0:-1\" is not a position"),
        ("read --log l --limit -3", "\"-3\" is not a whole number"),
        ("read --log l -n ten", "\"ten\" is not a whole number"),
        ("tail --log l --limit -3", "\"-3\" is not a whole number"),
        (
            "append order/1 --type A --log l --expect -1",
            "a stream without events is empty, and the first event has version 0",
        ),
        (
            "send order/1 --type Place --expect -1",
            "a stream without events is empty, and the first event has version 0",
        ),
        (
            "entity show order/1 --at -1",
            "\"-1\" is not a whole number",
        ),
        ("demo --stock -5", "\"-5\" is not a whole number"),
        #[cfg(feature = "bench")]
        ("bench log --seconds -5", "\"-5\" is not a number"),
    ] {
        let told = scratch.run(arguments).fails(2);
        assert!(told.contains(part), "{arguments}: {told}");
    }
    assert_eq!(scratch.run("read --log l").ok().lines().count(), 3);
}

#[test]
fn a_link_that_leads_nowhere_is_no_log_and_is_called_what_it_is() {
    let scratch = filled("doors-links");
    symlink("nowhere", scratch.path("dangling")).unwrap();
    symlink("loop", scratch.path("loop")).unwrap();
    for link in ["dangling", "dangling/below", "loop"] {
        for command in [
            format!("append order/1 --type A --log {link}"),
            format!("read --log {link}"),
            format!("log info --log {link}"),
            format!("log repair --log {link}"),
            format!("log backup {link} --log l"),
            format!("log restore {link} --log new"),
            format!("log upgrade {link} new"),
            format!("log upgrade l {link}"),
        ] {
            let told = scratch.run(&command).fails(1);
            assert!(told.contains("error[dangling-link]: "), "{command}: {told}");
            assert!(told.contains("leads nowhere"), "{command}: {told}");
            assert!(told.contains("nothing was changed"), "{command}: {told}");
        }
    }
    assert!(!scratch.path("nowhere").exists());
}

#[test]
fn a_file_in_the_place_of_a_directory_is_refused_as_one() {
    let scratch = filled("doors-file");
    scratch.file("file", "kept");
    for command in [
        "append order/1 --type A --log file",
        "append order/1 --type A --log file/below",
        "read --log file/below",
        "log backup file --log l",
        "log backup file/below --log l",
        "log restore file --log new",
        "log upgrade file new",
        "log upgrade l file",
    ] {
        let told = scratch.run(command).fails(1);
        assert!(
            told.contains("error[not-a-directory]: file "),
            "{command}: {told}"
        );
    }
    assert_eq!(fs::read(scratch.path("file")).unwrap(), b"kept");
}

#[test]
fn nothing_is_made_inside_a_log_or_a_backup() {
    let scratch = filled("doors-inside");
    scratch.run("log backup b --log l").ok();
    let other = "append order/1 --type A --log other";
    scratch.run(other).ok();
    symlink("l", scratch.path("alias")).unwrap();
    for (command, inside) in [
        ("append order/1 --type A --log ./l/x", "is a log"),
        ("append order/1 --type A --log alias/x/y", "is a log"),
        ("append order/1 --type A --log b/x", "is a backup"),
        ("log backup l/x --log other", "is a log"),
        ("log restore b --log l/x", "is a log"),
        ("log restore b --log b/x", "lie within each other"),
        ("log backup l/x --log l", "lie within each other"),
        ("log backup . --log l", "lie within each other"),
        ("log upgrade l l/x", "lie within each other"),
        ("log upgrade l other/x", "is a log"),
    ] {
        let ended = scratch.run(command);
        assert!(matches!(ended.code, Some(1 | 2)), "{command}: {ended:?}");
        assert!(ended.stderr.contains(inside), "{command}: {}", ended.stderr);
        assert!(!scratch.path("l/x").exists(), "{command}");
    }
    // A log in a directory whose files are only called alike is one like others.
    scratch.file("mark", "of my own");
    scratch.run(other).ok();
}

#[test]
fn a_mark_before_utf_8_is_no_part_of_the_data_and_another_encoding_is_named() {
    let scratch = Scratch::new("doors-mark");
    let append = "append order/1 --type Placed --data -";
    scratch
        .run_with(append, &b"\xef\xbb\xbf{\"total\":1550}\r\n"[..])
        .ok();
    let mut given = scratch.command("append order/1 --type Placed --data");
    given.arg("\u{feff}{\"total\":1550}");
    done(given).ok();
    for event in scratch.events("") {
        assert_eq!(event["data"]["total"], 1550);
    }
    for (bytes, name) in [
        (&b"\xff\xfe{\0}\0"[..], "UTF-16"),
        (b"\xfe\xff\0{\0}", "UTF-16"),
        (b"\xff\xfe\0\0{\0\0\0", "UTF-32"),
    ] {
        let told = scratch.run_with(append, bytes).fails(1);
        assert!(told.contains(&format!("the data is {name}")), "{told}");
    }
    assert_eq!(scratch.events("").len(), 2);
}

#[test]
fn no_broken_backup_becomes_a_log() {
    let scratch = filled("doors-backup");
    let whole = copied_backup(&scratch);
    let (manifest, segment) = (
        scratch.path("b/backup.manifest"),
        scratch.path("b").join(&whole),
    );
    let (listed, copied) = (fs::read(&manifest).unwrap(), fs::read(&segment).unwrap());
    let broken = [
        (&manifest, listed[..10].to_vec(), "the manifest is damaged"),
        (&manifest, Vec::new(), "the manifest is damaged"),
        (&manifest, vec![0xa5; 3 << 20], "the manifest is damaged"),
        (&segment, copied[..5_000].to_vec(), "has 5000 bytes"),
        (&segment, vec![0; copied.len()], "is damaged"),
    ];
    for (path, bytes, part) in broken {
        fs::write(path, bytes).unwrap();
        let told = scratch.run("log restore b --log new").fails(1);
        assert!(told.contains(part), "{part}: {told}");
        assert!(told.contains("the backup is as it was"), "{told}");
        assert!(!scratch.path("new/mark").exists(), "{part}");
        fs::write(&manifest, &listed).unwrap();
        fs::write(&segment, &copied).unwrap();
    }
    scratch.run("log restore b --log new").ok();
    assert_eq!(scratch.run("read --log new").ok().lines().count(), 3);
}

fn copied_backup(scratch: &Scratch) -> String {
    scratch.run("log backup b --log l").ok();
    copied_segment(scratch)
}

#[test]
fn what_is_no_file_in_a_backup_holds_nobody_up() {
    let scratch = filled("doors-pipes");
    let segment = copied_backup(&scratch);
    for name in [segment.as_str(), "backup.manifest"] {
        let path = scratch.path("b").join(name);
        let kept = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let made = Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        let told = scratch.run("log restore b --log new").fails(1);
        assert!(told.contains("not a file of bytes"), "{name}: {told}");
        fs::remove_file(&path).unwrap();
        symlink(name, &path).unwrap();
        let told = scratch.run("log restore b --log new").fails(1);
        assert!(told.contains("symbolic links"), "{name}: {told}");
        fs::remove_file(&path).unwrap();
        fs::write(&path, kept).unwrap();
    }
    scratch.run("log restore b --log new").ok();
}

#[test]
fn a_backup_and_what_is_made_of_one_go_into_directories_of_their_own() {
    let scratch = filled("doors-full");
    scratch.run("log backup b --log l").ok();
    fs::create_dir(scratch.path("full")).unwrap();
    scratch.file("full/letter.txt", "kept");
    for command in [
        "log backup full --log l",
        "log restore b --log full",
        "log upgrade l full",
    ] {
        let told = scratch.run(command).fails(1);
        assert!(told.contains("not empty"), "{command}: {told}");
    }
    assert_eq!(fs::read_dir(scratch.path("full")).unwrap().count(), 1);
    for command in ["read --log b", "log repair --log b", "log verify --log b"] {
        let told = scratch.run(command).fails(1);
        assert!(
            told.contains("b holds a backup, which is not a log"),
            "{told}"
        );
        assert!(told.contains("anabranch log restore b"), "{told}");
    }
}

#[test]
fn a_directory_that_may_not_be_read_is_told_with_what_the_system_said() {
    let scratch = filled("doors-permission");
    scratch.run("log backup b --log l").ok();
    let shut = |path: &str, mode: u32| {
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(scratch.path(path), permissions).unwrap();
    };
    for path in ["l", "b"] {
        shut(path, 0);
    }
    if fs::read_dir(scratch.path("l")).is_ok() {
        println!("skipped: directories that may not be read: this user may read everything");
    } else {
        for command in [
            "append order/1 --type A --log l",
            "read --log l",
            "log backup new --log l",
            "log repair --log l",
            "log restore b --log new",
        ] {
            let told = scratch.run(command).fails(1);
            assert!(told.contains("Permission denied"), "{command}: {told}");
        }
    }
    for path in ["l", "b"] {
        shut(path, 0o700);
    }
}
