//! Histories by name: what is consistent, what is not, and the witness.

use anabranch_causal_check::{History, Violation, check};

fn history(text: &str) -> History {
    text.parse()
        .unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

fn violation(text: &str) -> Violation {
    check(&history(text)).expect_err(text)
}

fn assert_consistent(text: &str) {
    if let Err(violation) = check(&history(text)) {
        panic!("{text}\n{violation}");
    }
}

/// The history is refused, under this name, and the words say all of these.
fn assert_refused(text: &str, name: &str, words: &[&str]) {
    let violation = violation(text);
    let said = violation.to_string();
    assert_eq!(violation.name(), name, "{text}\n{said}");
    for word in words {
        assert!(said.contains(word), "{text}\n{said}\nlacks {word:?}");
    }
}

fn assert_bad_read(text: &str, words: &str) {
    assert_refused(text, "read without an explanation", &[words]);
}

#[test]
fn a_long_fork_is_consistent() {
    assert_consistent("[x:=1]\n---\n[y:=1]\n---\n[x==1 y==?]\n---\n[x==? y==1]\n");
}

#[test]
fn a_write_skew_is_consistent() {
    assert_consistent("[x:=0 y:=0]\n---\n[x==0 y==0 x:=1]\n---\n[x==0 y==0 y:=1]\n");
}

#[test]
fn a_concurrent_overwrite_is_consistent() {
    assert_consistent("[x:=0]\n---\n[x==0 x:=1]\n---\n[x==0 x:=2]\n---\n[x==1]\n---\n[x==2]\n");
}

#[test]
fn a_read_that_lags_in_another_session_is_consistent() {
    assert_consistent("[x:=1]\n[x:=2]\n---\n[x==?]\n[x==1]\n[x==2]\n");
}

#[test]
fn a_transaction_reads_its_own_writes_over_what_it_read() {
    assert_consistent("[x:=1]\n---\n[x==1 x:=2 x==2 x:=3 x==3]\n");
}

#[test]
fn nothing_at_all_is_consistent() {
    assert_consistent("// nothing\n---\n");
}

#[test]
fn a_value_that_nobody_wrote_is_a_thin_air_read() {
    assert_bad_read(
        "[x:=1]\n---\n[x==2]\n",
        "line 3 reads x==2, which nobody has written",
    );
}

#[test]
fn a_value_of_what_did_not_commit_is_an_aborted_read() {
    assert_bad_read(
        "[x:=1]!\n---\n[x==1]\n",
        "line 1 wrote without committing (aborted read)",
    );
}

#[test]
fn a_transaction_that_did_not_commit_is_not_judged_and_orders_nothing() {
    assert_consistent("[x:=1]\n[x==? y==7]!\n---\n[x==1]\n");
    assert_consistent("[x:=1]\n[y:=1]!\n---\n[x==? y==?]\n");
    assert_refused(
        "[x:=1]\n[y:=1]!\n[z:=1]\n---\n[z==1 x==?]\n",
        "missing value",
        &[],
    );
}

#[test]
fn a_value_that_its_writer_overwrote_is_an_intermediate_read() {
    let words = "which line 1 wrote and then overwrote with 2 (intermediate read)";
    assert_bad_read("[x:=1 x:=2]\n---\n[x==1]\n", words);
}

#[test]
fn a_value_that_the_transaction_writes_later_is_a_future_read() {
    assert_bad_read(
        "[x==1 x:=1]\n",
        "line 1 reads x==1, which it writes only later",
    );
    assert_bad_read("[x:=2 x==1 x:=1]\n", "future read");
}

#[test]
fn another_value_than_the_own_is_not_the_own_write() {
    let words = "though it has itself written 2 before";
    assert_bad_read("[x:=1]\n---\n[x:=2 x==1]\n", words);
    assert_bad_read("[x:=2 x==?]\n", words);
    assert_bad_read("[x:=1 x:=2 x==1]\n", words);
}

#[test]
fn two_values_in_one_transaction_are_a_non_repeatable_read() {
    let two = "[x:=1]\n---\n[x:=2]\n---\n";
    assert_bad_read(
        &format!("{two}[x==1 y==? x==2]\n"),
        "has read 1 before (non-repeatable",
    );
    assert_bad_read(
        &format!("{two}[x==? x==2]\n"),
        "nothing was there when it read it before",
    );
    assert_bad_read(
        &format!("{two}[x==1 x==?]\n"),
        "has read 1 before (non-repeatable read)",
    );
}

#[test]
fn a_reader_that_lacks_what_its_session_has_written_misses_a_value() {
    let words = [
        "line 2 reads x==?, though line 1, which writes it",
        "their session's order",
    ];
    assert_refused("[x:=1]\n[x==?]\n", "missing value", &words);
}

#[test]
fn a_reader_that_lacks_the_cause_of_what_it_sees_misses_a_value() {
    let lost_comment =
        "[ring:=1]\n[found:=1]\n---\n[ring==1 found==1]\n[glad:=1]\n---\n[glad==1 found==?]\n";
    let words = [
        "line 7 reads found==?, though line 2, which writes it",
        "line 2 before line 4: line 4 reads found==1 of line 2",
        "line 4 before line 5: their session's order",
        "line 5 before line 7: line 7 reads glad==1 of line 5",
    ];
    assert_refused(lost_comment, "missing value", &words);
}

#[test]
fn a_part_of_a_transaction_is_a_fractured_read() {
    assert_refused(
        "[a:=1 b:=1]\n---\n[a==1 b==?]\n",
        "fractured read",
        &["reads b==?"],
    );
    let over_an_older_value = "[b:=0]\n[a:=1 b:=1]\n---\n[a==1 b==0]\n";
    let words = ["both write b, and line 4, which comes behind line 2, reads b==0 of line 1"];
    assert_refused(over_an_older_value, "fractured read", &words);
}

#[test]
fn a_value_that_the_session_saw_overwritten_is_a_stale_read() {
    assert_refused(
        "[x:=1]\n[x:=2]\n---\n[x==2]\n[x==1]\n",
        "stale read",
        &["reads x==1 of line 1"],
    );
}

#[test]
fn a_deleted_value_that_appears_again_is_a_stale_read() {
    let text = "[row:=1]\n[row:=0]\n[done:=1]\n---\n[done==1]\n[row==1]\n";
    assert_refused(text, "stale read", &["both write row"]);
}

#[test]
fn readers_that_see_two_writes_in_opposite_orders_are_refused() {
    let text = "[x:=1]\n---\n[x:=2]\n---\n[x==1]\n[x==2]\n---\n[x==2]\n[x==1]\n";
    let words = ["line 1 before line 3", "line 3 before line 1"];
    assert_refused(text, "conflicting orders of writes", &words);
}

#[test]
fn two_that_read_of_one_another_are_a_cyclic_causal_order() {
    let text = "[y==1 x:=1]\n---\n[x==1 y:=1]\n";
    let words = ["line 3 reads x==1 of line 1", "line 1 reads y==1 of line 3"];
    assert_refused(text, "cyclic causal order", &words);
}

#[test]
fn a_circle_over_an_earlier_read_of_the_session_is_a_cyclic_causal_order() {
    let text = "[y==1]\n[x:=1]\n---\n[x==1]\n[y:=1]\n";
    assert_refused(text, "cyclic causal order", &["their session's order"]);
}

#[test]
fn a_circle_is_told_in_as_few_steps_as_it_has() {
    // Behind the circle of two stand many more that miss something too.
    let mut text = "[y==1 x:=1]\n---\n[x==1 y:=1]\n---\n".to_owned();
    for number in 2..50 {
        text.push_str(&format!(
            "[x==1 z:={number}]\n---\n[z=={number} w:={number}]\n---\n"
        ));
    }
    let Violation::Circle(steps) = violation(&text) else {
        panic!("a circle")
    };
    assert_eq!(steps.len(), 2);
}

#[test]
fn photo_and_acl_may_be_seen_in_the_legal_pairs_only() {
    let writes = "[acl:=1]\n[photo:=1]\n[acl:=2]\n[photo:=2]\n[photo:=3]\n[acl:=3]\n---\n";
    for (acl, photo) in [(1, 1), (2, 1), (2, 2), (2, 3), (3, 3)] {
        assert_consistent(&format!("{writes}[acl=={acl} photo=={photo}]\n"));
        assert_consistent(&format!("{writes}[photo=={photo} acl=={acl}]\n"));
    }
    for (acl, photo) in [(1, 2), (1, 3), (3, 1), (3, 2)] {
        let text = format!("{writes}[acl=={acl} photo=={photo}]\n");
        assert_refused(&text, "stale read", &[]);
    }
}
