use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::support::{Scratch, lines, numbers};

#[test]
fn a_log_is_a_directory_of_its_owner() {
    let scratch = Scratch::new("log-path");
    scratch.file("file", "precious");
    fs::create_dir(scratch.path("open")).unwrap();
    fs::set_permissions(scratch.path("open"), fs::Permissions::from_mode(0o777)).unwrap();
    for (path, code) in [
        ("./file", "not-a-directory"),
        ("./file/below", "not-a-directory"),
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

/// A log of 3,000 events in three batches.
fn filled(name: &str) -> Scratch {
    let scratch = Scratch::new(name);
    scratch.file("f.jsonl", lines("a/b", 0..3_000));
    scratch.run("import f.jsonl").ok();
    scratch
}

/// Turns one bit of a file of the default log.
fn flip(scratch: &Scratch, file: &str, offset: usize) {
    let path = scratch.path(".anabranch/log").join(file);
    let mut bytes = fs::read(&path).unwrap();
    bytes[offset] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

const SEGMENT: &str = "0000000001.seg";
/// Within the data of the second batch of a filled log.
const IN_SECOND_BATCH: usize = 60_000;

#[test]
fn info_says_what_a_log_is_and_holds() {
    let scratch = filled("log-info");
    let text = scratch.run("log info").ok();
    for line in [
        "log          ./.anabranch/log\n",
        "format       2\n",
        "state        closed in order\n",
        "events       3,000\n",
        "0000000001.seg   0:0 to 0:2999",
    ] {
        assert!(text.contains(line), "{text}");
    }
    let info: Value = serde_json::from_str(&scratch.run("log info --output json").ok()).unwrap();
    assert_eq!(info["events"], 3_000);
    assert_eq!(info["marked"], 3_000);
    assert_eq!(info["clean"], true);
    assert_eq!(info["segments"][0]["last"], "0:2999");
    assert_eq!(info["problems"], json!([]));
}

#[test]
fn info_and_verify_work_beside_a_writer() {
    let scratch = filled("log-beside");
    let mut writer = scratch.start("import - --acks");
    writer.send(lines("a/b", 3_000..3_001).trim_end());
    writer.line();
    let text = scratch.run("log info").ok();
    assert!(
        text.contains("state        a process writes to it\n"),
        "{text}"
    );
    let text = scratch.run("log verify").ok();
    assert!(text.contains("note: a process writes to the log"), "{text}");
    writer.finish().ok();
    let text = scratch.run("log verify").ok();
    assert!(text.contains("clean: 3,001 events in "), "{text}");
}

#[test]
fn a_log_of_a_killed_writer_is_not_closed_in_order_and_clean() {
    let scratch = filled("log-killed");
    let mut writer = scratch.start("import - --acks");
    writer.send(lines("a/b", 3_000..3_001).trim_end());
    writer.line();
    writer.child.kill().unwrap();
    writer.child.wait().unwrap();
    let text = scratch.run("log info").ok();
    assert!(text.contains("state        not closed in order"), "{text}");
    scratch.run("log verify").ok();
    assert_eq!(scratch.events("").len(), 3_001);
}

#[test]
fn verify_names_file_place_and_positions_of_damage() {
    let scratch = filled("log-verify");
    let text = scratch.run("log verify").ok();
    assert!(
        text.contains("clean: 3,000 events in 3 batches; "),
        "{text}"
    );
    flip(&scratch, SEGMENT, IN_SECOND_BATCH);
    let done = scratch.run("log verify");
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    let text = String::from_utf8(done.stdout).unwrap();
    assert!(
        text.contains(&format!("damage: {SEGMENT}: byte ")),
        "{text}"
    );
    assert!(
        text.contains("; events 0:1000..=0:1999 cannot be read"),
        "{text}"
    );
    assert!(
        text.contains("damaged: 2,000 events in 2 batches; "),
        "{text}"
    );
    assert!(
        done.stderr.starts_with("error[damaged]: 1 place is damaged\n  safe: 1,000 events cannot be read, all others can; nothing was changed\n  do: restore"),
        "{}",
        done.stderr
    );
    let done = scratch.run("log verify --output json");
    assert_eq!(done.code, Some(1));
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(report["clean"], false);
    assert_eq!(report["lost"], 1_000);
    let damage = &report["damages"][0];
    assert_eq!(damage["file"], SEGMENT);
    assert_eq!(
        (&damage["first"], &damage["last"]),
        (&json!("0:1000"), &json!("0:1999"))
    );
    assert!(damage["offset"].as_u64().unwrap() <= IN_SECOND_BATCH as u64);
    let error: Value = serde_json::from_str(&done.stderr).unwrap();
    assert_eq!(error["error"]["code"], "damaged");
}

#[test]
fn reading_stops_at_damage_names_it_and_goes_on_behind_it() {
    let scratch = filled("log-read-damage");
    flip(&scratch, SEGMENT, IN_SECOND_BATCH);
    let done = scratch.run("read");
    assert_eq!(done.code, Some(1));
    assert_eq!(done.stdout.iter().filter(|&&b| b == b'\n').count(), 1_000);
    assert!(
        done.stderr.starts_with("error[damaged]: "),
        "{}",
        done.stderr
    );
    assert!(
        done.stderr
            .contains("do: read what follows with --from 0:2000"),
        "{}",
        done.stderr
    );
    assert_eq!(
        numbers(&scratch.events("--from 0:2000")),
        (2_000..3_000).collect::<Vec<_>>()
    );
}

#[test]
fn repair_says_what_it_would_lose_and_changes_nothing() {
    let scratch = filled("log-repair-plan");
    flip(&scratch, SEGMENT, IN_SECOND_BATCH);
    let before = fs::read(scratch.path(".anabranch/log").join(SEGMENT)).unwrap();
    let done = scratch.run("log repair");
    assert_eq!(done.code, Some(1));
    let text = String::from_utf8(done.stdout).unwrap();
    assert!(
        text.starts_with(&format!("lost: events 0:1000..=0:1999 ({SEGMENT}, byte ")),
        "{text}"
    );
    assert!(text.contains("\nwould: keep a copy of "), "{text}");
    assert!(
        text.ends_with("not repaired; 1,000 events would be lost\n"),
        "{text}"
    );
    assert!(
        done.stderr.starts_with("error[loss-not-accepted]: a repair would lose 1,000 events\n  safe: nothing was changed\n"),
        "{}",
        done.stderr
    );
    let after = fs::read(scratch.path(".anabranch/log").join(SEGMENT)).unwrap();
    assert!(before == after, "the plan of a repair changed the segment");
}

#[test]
fn an_accepted_repair_loses_what_it_said_and_nothing_else() {
    let scratch = filled("log-repair");
    flip(&scratch, SEGMENT, IN_SECOND_BATCH);
    let text = scratch.run("log repair --accept-loss").ok();
    let said = text.find("lost: events 0:1000..=0:1999").unwrap();
    assert!(said < text.find("now: ").unwrap(), "{text}");
    assert!(
        text.contains("\nrepaired; 1,000 events lost, and events of type $EventLost"),
        "{text}"
    );
    scratch.run("append a/b --type T").ok();
    scratch.run("log verify").ok();
    let text = scratch.run("log repair").ok();
    assert_eq!(text, "nothing to repair: the log is whole\n");
    let events = scratch.events("--type Counted");
    let kept: Vec<u64> = (0..1_000).chain(2_000..3_000).collect();
    assert_eq!(numbers(&events), kept);
    let positions: Vec<_> = events.iter().map(|e| e["position"].clone()).collect();
    let unmoved: Vec<_> = kept.iter().map(|n| json!(format!("0:{n}"))).collect();
    assert_eq!(positions, unmoved);
    assert_eq!(scratch.events("--type $EventLost").len(), 1_000);
}

#[test]
fn a_repair_in_json_tells_losses_and_actions() {
    let scratch = filled("log-repair-json");
    flip(&scratch, SEGMENT, IN_SECOND_BATCH);
    for (flag, code, is_done) in [("", 1, false), ("--accept-loss", 0, true)] {
        let done = scratch.run(&format!("log repair --output json {flag}"));
        assert_eq!(done.code, Some(code), "{}", done.stderr);
        let plan: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(plan["lost"], 1_000);
        assert_eq!(plan["losses"][0]["first"], "0:1000");
        assert_eq!(plan["losses"][0]["last"], "0:1999");
        assert_eq!(plan["losses"][0]["file"], SEGMENT);
        assert!(!plan["actions"].as_array().unwrap().is_empty());
        assert_eq!(plan["done"], is_done);
    }
}

#[test]
fn a_repair_leaves_a_log_that_is_written_alone() {
    let scratch = filled("log-repair-locked");
    let mut writer = scratch.start("import - --acks");
    writer.send(lines("a/b", 0..1).trim_end());
    writer.line();
    let stderr = scratch.run("log repair --accept-loss").fails(5);
    assert!(stderr.starts_with("error[locked]"), "{stderr}");
    writer.finish().ok();
}

#[test]
fn a_backup_is_taken_beside_a_writer_and_restores_byte_for_byte() {
    let scratch = filled("log-backup");
    let mut writer = scratch.start("import - --acks");
    writer.send(lines("a/b", 3_000..3_001).trim_end());
    writer.line();
    let text = scratch.run("log backup ./copy").ok();
    assert!(text.contains(" events in "), "{text}");
    writer.finish().ok();
    let text = scratch.run("log backup ./copy --output json").ok();
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["events"], 3_001);
    scratch.run("log restore ./copy --log ./restored").ok();
    let original = scratch.run("read --output jsonl").ok();
    assert_eq!(
        scratch.run("read --output jsonl --log ./restored").ok(),
        original
    );
    let text = scratch.run("append a/b --type T --log ./restored").ok();
    assert!(
        text.starts_with("position 0:3001, a/b version 3001, "),
        "{text}"
    );
    scratch.run("log verify --log ./restored").ok();
}

#[test]
fn a_damaged_backup_restores_nothing() {
    let scratch = filled("log-backup-damaged");
    scratch.run("log backup ./copy").ok();
    let copy = fs::read_dir(scratch.path("copy"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|end| end == "seg"))
        .unwrap();
    let mut bytes = fs::read(&copy).unwrap();
    bytes[IN_SECOND_BATCH] ^= 1;
    fs::write(copy, bytes).unwrap();
    let stderr = scratch.run("log restore ./copy --log ./restored").fails(1);
    assert!(stderr.starts_with("error[restore]: "), "{stderr}");
    assert!(stderr.contains("damaged"), "{stderr}");
    scratch.run("read --log ./restored").fails(3);
}

#[test]
fn backups_and_restores_keep_to_places_of_their_own() {
    let scratch = filled("log-backup-places");
    for place in [
        "./.anabranch/log",
        "./.anabranch/log/copy",
        "./.anabranch",
        ".",
    ] {
        let stderr = scratch.run(&format!("log backup {place}")).fails(2);
        assert!(stderr.contains("within each other"), "{stderr}");
    }
    scratch.run("log backup ./copy --log ./none").fails(3);
    scratch.run("log restore ./none --log ./restored").fails(3);
    scratch.run("log backup ./copy").ok();
    scratch.run("log restore ./copy").fails(1);
    fs::create_dir(scratch.path("empty")).unwrap();
    let stderr = scratch.run("log restore ./empty --log ./restored").fails(1);
    assert!(stderr.contains("no complete backup"), "{stderr}");
    let other = Scratch::new("log-backup-other");
    other.run("append a/b --type T").ok();
    let copy = scratch.path("copy");
    let stderr = other
        .run(&format!("log backup {}", copy.display()))
        .fails(1);
    assert!(stderr.contains("another log"), "{stderr}");
}

#[test]
fn commands_that_look_after_a_log_need_one() {
    let scratch = Scratch::new("log-none");
    scratch.file("file", "");
    for verb in ["info", "verify", "repair", "export -"] {
        scratch.run(&format!("log {verb} --log ./none")).fails(3);
        scratch.run(&format!("log {verb} --log ./file")).fails(1);
    }
    for verb in [
        "info",
        "verify",
        "repair",
        "backup ./copy",
        "restore ./copy",
    ] {
        scratch.run(&format!("log {verb} --log memory:")).fails(2);
    }
    assert!(!scratch.path("none").exists());
}
