//! Names for several logs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::support::{Scratch, done};

#[test]
fn a_context_names_a_log_and_what_is_named_more_strongly_goes_before_it() {
    let scratch = Scratch::new("contexts");
    scratch.run("context add one --log ./one").ok();
    scratch.run("context add two --log ./two").ok();
    scratch.run("append a/1 --type One --context one").ok();
    scratch.run("append a/1 --type Two --context two").ok();
    assert!(scratch.path("one").is_dir() && scratch.path("two").is_dir());
    let types = |arguments: &str| {
        let text = scratch.run(&format!("read {arguments}")).ok();
        text.split('\t').nth(3).map(str::to_owned)
    };
    assert_eq!(types("--context one").as_deref(), Some("One"));
    scratch.run("context use two").ok();
    assert_eq!(types("").as_deref(), Some("Two"));
    assert_eq!(types("--log ./one").as_deref(), Some("One"));
    assert_eq!(types("--context two --log ./one").as_deref(), Some("One"));
    let mut by_variable = scratch.command("read");
    by_variable.env("ANABRANCH_CONTEXT", "one");
    assert!(done(by_variable).ok().contains("\tOne\t"));
    let listed = scratch.run("context ls").ok();
    assert!(listed.contains("two") && listed.contains("yes"), "{listed}");
    let shown = scratch.run("config show --origin").ok();
    assert!(shown.contains("from: context two"), "{shown}");
    scratch.run("context rm two").ok();
    let error = scratch.run("read --context two").fails(3);
    assert!(error.contains("no-such-context"), "{error}");
}

#[test]
fn contexts_are_their_users_alone_and_hold_no_secret() {
    let scratch = Scratch::new("contexts-private");
    scratch.file("a.key", "ab_whatever-this-is-a-secret-of-somebody");
    scratch
        .run("context add far --log http://127.0.0.1:1 --key-file a.key")
        .ok();
    let file = scratch.path("config/anabranch/contexts.json");
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(file.clone()), 0o600);
    assert_eq!(mode(scratch.path("config/anabranch")), 0o700);
    let text = fs::read_to_string(file).unwrap();
    assert!(!text.contains("secret-of-somebody"), "{text}");
    // From wherever it is used.
    assert!(
        text.contains(&scratch.path("a.key").display().to_string()),
        "{text}"
    );
    scratch
        .run("context add bad --log http://me:pw@127.0.0.1:1")
        .fails(2);
    scratch.run("context add b/d --log ./x").fails(2);
    scratch.run("context add nowhere").fails(2);
}
