//! The text form: what is read of it, and what is said about what is none.

use anabranch_causal_check::{History, Operation, Place, TextError};

fn parsed(text: &str) -> History {
    text.parse()
        .unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

fn refused(text: &str) -> TextError {
    text.parse::<History>().expect_err(text)
}

fn sizes(text: &str) -> Vec<usize> {
    parsed(text).sessions.iter().map(Vec::len).collect()
}

#[test]
fn a_write_a_read_and_a_read_of_nothing_are_told_apart() {
    let history = parsed("[x:=1 y==2 z==?]\n");
    assert_eq!(history.variables, ["x", "y", "z"]);
    assert_eq!(
        history.sessions[0][0].operations,
        [
            Operation::Write {
                variable: 0,
                value: 1
            },
            Operation::Read {
                variable: 1,
                value: Some(2)
            },
            Operation::Read {
                variable: 2,
                value: None
            },
        ]
    );
}

#[test]
fn dashes_part_sessions_and_a_session_may_be_empty() {
    assert_eq!(sizes("[x:=1]\n---\n[x:=2]\n"), [1, 1]);
    assert_eq!(sizes("[x:=1]\n-\n[x:=2]\n"), [1, 1]);
    assert_eq!(sizes("[x:=1]\n ---------- \n---\n[x:=2]\n"), [1, 0, 1]);
    assert_eq!(sizes(""), [0]);
}

#[test]
fn a_line_may_have_several_transactions_with_or_without_space_between_them() {
    assert_eq!(sizes("[x:=1] [y:=1]\n[z:=1]\n"), [3]);
    assert_eq!(sizes("[x==1][y==1]"), [2]);
    let places = |line: &str| -> Vec<_> {
        parsed(line).sessions[0]
            .iter()
            .map(|one| one.place.to_string())
            .collect()
    };
    assert_eq!(
        places("\n[x:=1] [y:=1]"),
        ["line 2 (transaction 1)", "line 2 (transaction 2)"]
    );
    assert_eq!(places("[x:=1]"), [Place { line: 1, nth: 0 }.to_string()]);
}

#[test]
fn a_mark_says_that_a_transaction_did_not_commit() {
    let history = parsed("[x:=1]! [y:=2]\n");
    let committed: Vec<_> = history.sessions[0]
        .iter()
        .map(|one| one.committed)
        .collect();
    assert_eq!(committed, [false, true]);
}

#[test]
fn comments_blank_lines_and_spaces_mean_nothing() {
    let bare = parsed("[x:=1 y:=2]\n---\n[x==1]\n");
    let dressed = "// first\r\n\r\n\t[x:=1   y:=2]  // why\r\n   \r\n--- // next\r\n [ x==1 ]";
    let dressed = parsed(dressed);
    let operations = |history: &History| -> Vec<Vec<_>> {
        let sessions = history.sessions.iter();
        sessions
            .map(|all| all.iter().map(|one| one.operations.clone()).collect())
            .collect()
    };
    assert_eq!(operations(&dressed), operations(&bare));
}

#[test]
fn the_smallest_and_the_largest_value_are_values() {
    parsed("[x:=0 x:=18446744073709551615]");
    assert!(
        refused("[x:=18446744073709551616]")
            .what
            .contains("whole number")
    );
}

#[test]
fn what_is_no_history_is_named_with_its_place_and_what_is_expected() {
    let cases = [
        ("[x:=1]\n@bad\n", 2, 1, "expected a transaction"),
        ("[x:=1", 1, 6, "expected a space or ']'"),
        ("[x:=1 ", 1, 7, "expected a write"),
        ("[]", 1, 2, "expected a write"),
        ("[x=1]", 1, 3, "expected ':='"),
        ("[x:=?]", 1, 5, "whole number"),
        ("[x==-1]", 1, 5, "whole number"),
        ("[x:=1,y:=2]", 1, 6, "expected a space or ']'"),
        ("[x:=1]\n--- [x:=2]", 2, 5, "nothing behind the dashes"),
        ("[x:=1] ]", 1, 8, "expected a transaction"),
        ("[é:=1 :=2]", 1, 7, "expected a write"),
    ];
    for (text, line, column, what) in cases {
        let error = refused(text);
        assert_eq!(
            (error.line, error.column),
            (line, column),
            "{text:?}: {error}"
        );
        assert!(error.what.contains(what), "{text:?}: {error}");
    }
}

#[test]
fn a_value_that_is_written_twice_is_refused_with_both_lines() {
    for text in [
        "[x:=1]\n---\n[y:=1]\n[x:=1]\n",
        "[x:=1]!\n\n\n[x:=1]\n",
        "\n\n\n[x:=1 x:=1]",
    ] {
        let error = refused(text);
        assert_eq!(error.line, 4, "{text:?}");
        assert!(
            error.what.contains("x:=1 was written before, in line"),
            "{error}"
        );
    }
}
