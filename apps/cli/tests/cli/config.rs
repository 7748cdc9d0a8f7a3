use serde_json::Value;

use crate::support::{Scratch, done};

#[test]
fn a_flag_goes_before_the_environment_and_that_before_the_file() {
    let scratch = Scratch::new("config-order");
    scratch.file(
        "anabranch.toml",
        "log = \"./of-file\"\ndurability = \"interval:7ms\"\n[engine]\nsegment_bytes = \"8MiB\"\nspare_segments = 3\n",
    );
    let mut command = scratch.command("config show --origin --output json --log ./of-flag");
    command.env("ANABRANCH_LOG", "./of-environment");
    command.env("ANABRANCH_ENGINE__SEGMENT_BYTES", "16MiB");
    let shown: Value = serde_json::from_str(&done(command).ok()).unwrap();
    for (key, value, origin) in [
        ("log", "./of-flag", "flag --log"),
        (
            "engine.segment_bytes",
            "16MiB",
            "environment ANABRANCH_ENGINE__SEGMENT_BYTES",
        ),
        ("engine.spare_segments", "3", "file anabranch.toml"),
        ("durability", "interval:7ms", "file anabranch.toml"),
        ("limits.tags_max", "64", "default"),
    ] {
        assert_eq!(shown[key]["value"], value, "{key}");
        assert_eq!(shown[key]["origin"], origin, "{key}");
    }
}

#[test]
fn a_variable_may_name_a_file_that_holds_the_value() {
    let scratch = Scratch::new("config-secret");
    scratch.file("secret", "./hidden\n");
    let mut command = scratch.command("config show --origin");
    command.env("ANABRANCH_LOG_FILE", "secret");
    let text = done(command).ok();
    assert!(text.contains("log = \"./hidden\""), "{text}");
    assert!(
        text.contains("# from: environment ANABRANCH_LOG_FILE, file secret"),
        "{text}"
    );
    let mut command = scratch.command("config show");
    command
        .env("ANABRANCH_LOG_FILE", "secret")
        .env("ANABRANCH_LOG", "./x");
    let stderr = done(command).fails(2);
    assert!(
        stderr.contains("both ANABRANCH_LOG and ANABRANCH_LOG_FILE"),
        "{stderr}"
    );
}

#[test]
fn what_is_shown_is_a_configuration_file() {
    let scratch = Scratch::new("config-shown");
    let shown = scratch
        .run("config show --set engine.index_memory=1MiB")
        .ok();
    scratch.file("other.toml", &shown);
    assert_eq!(scratch.run("config show --config other.toml").ok(), shown);
}

#[test]
fn wrong_settings_are_usage_errors_that_name_their_origin() {
    let scratch = Scratch::new("config-wrong");
    for (content, says) in [
        ("logg = \"x\"", "no setting is called \"logg\""),
        (
            "[engine]\nsegment_bytes = 1.5",
            "engine.segment_bytes cannot be a float",
        ),
        ("a = 1\nb = ", "line 2"),
        ("durability = \"no\"", "durability (file x.toml)"),
    ] {
        scratch.file("x.toml", content);
        let stderr = scratch.run("config show --config x.toml").fails(2);
        assert!(stderr.contains(says), "{stderr}");
    }
    scratch.run("config show --config none.toml").fails(3);
    scratch.run("config show --set x").fails(2);
    scratch.run("config show --set none=1").fails(2);
    let mut command = scratch.command("config show");
    command.env("ANABRANCH_OUTPUT", "xml");
    let stderr = done(command).fails(2);
    assert!(
        stderr.contains("output (environment ANABRANCH_OUTPUT)"),
        "{stderr}"
    );
}

#[test]
fn a_variable_that_sets_nothing_is_pointed_out() {
    let scratch = Scratch::new("config-unknown");
    let mut command = scratch.command("config show");
    command.env("ANABRANCH_DURABLITY", "interval");
    let done = done(command);
    assert!(
        done.stderr.contains("ANABRANCH_DURABLITY sets nothing"),
        "{}",
        done.stderr
    );
    done.ok();
}

#[test]
fn addresses_without_an_engine_are_usage_errors_that_keep_secrets() {
    let scratch = Scratch::new("config-address");
    for address in [
        "nats://user:secret@host",
        "kafka://host",
        "redis://user:secret@host",
        "memory:x",
    ] {
        let stderr = scratch.run(&format!("read --log {address}")).fails(2);
        assert!(stderr.contains("log (flag --log)"), "{stderr}");
        assert!(!stderr.contains("secret"), "{stderr}");
    }
}
