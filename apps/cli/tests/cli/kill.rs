use serde_json::Value;

use crate::support::{Scratch, lines, numbers};

/// Kills an import at each of these counts of acknowledgements; the log must hold a
/// beginning of the file, and all that was acknowledged.
#[test]
fn an_import_that_is_killed_goes_on_without_loss_or_duplicate() {
    let scratch = Scratch::new("kill-import");
    let total = 6_000;
    scratch.file("f.jsonl", lines("a/b", 0..total));
    for count in [1, 999, 1_000, 1_001, 3_500, 5_999] {
        let mut import = scratch.start("import f.jsonl --acks");
        let mut last = 0;
        for _ in 0..count {
            let ack: Value = serde_json::from_str(&import.line()).unwrap();
            last = ack["version"].as_u64().unwrap();
        }
        import.child.kill().unwrap();
        import.child.wait().unwrap();
        assert_eq!(last, count - 1);
        let found = numbers(&scratch.events(""));
        assert!(found.len() as u64 > last, "an acknowledged event is lost");
        assert_eq!(found, (0..found.len() as u64).collect::<Vec<_>>());
    }
    scratch.run("import f.jsonl").ok();
    assert_eq!(numbers(&scratch.events("")), (0..total).collect::<Vec<_>>());
    scratch.run("log verify").ok();
}
