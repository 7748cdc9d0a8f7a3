//! The program: what it prints and how it ends.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_anabranch-causal-check"))
}

/// Runs it on this text as standard input.
fn judged(text: &str) -> Output {
    let mut child = program()
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().expect("its input is ours");
    stdin.write_all(text.as_bytes()).expect("it reads");
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_consistent_history_ends_with_0_and_a_line() {
    let output = judged("[x:=1]\n[y:=1]!\n---\n[x==1 y==?]\n");
    assert_eq!(output.status.code(), Some(0));
    let line =
        "consistent: 2 transactions of 2 sessions, 2 reads; 1 that did not commit are left out\n";
    assert_eq!(out(&output), line);
}

#[test]
fn a_violation_ends_with_1_and_the_witness() {
    let output = judged("[x:=1]\n[y:=1]\n---\n[y==1 x==?]\n");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        out(&output),
        "not causally consistent: line 4 reads x==?, though line 1, which writes it, comes before it (missing value)\n  \
         line 1 before line 2: their session's order\n  \
         line 2 before line 4: line 4 reads y==1 of line 2\n"
    );
}

#[test]
fn what_is_no_history_ends_with_2_and_the_place() {
    let output = judged("[x:=1]\n[x=1]\n");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        err(&output).contains("line 2, column 3: expected ':='"),
        "{}",
        err(&output)
    );
}

#[test]
fn a_value_that_is_written_twice_ends_with_2() {
    let output = judged("[x:=1]\n---\n[x:=1]\n");
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("x:=1 was written before, in line 1"));
}

#[test]
fn a_file_that_is_not_there_and_wrong_words_end_with_2() {
    for arguments in [vec!["/nowhere/at/all.hist"], vec![], vec!["a", "b"]] {
        let output = program().args(&arguments).output().expect("it runs");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!err(&output).is_empty());
    }
}

#[test]
fn a_file_is_judged_by_its_name() {
    for (name, code, word) in [
        ("lost-comment.hist", 1, "(missing value)"),
        ("photo-and-acl.hist", 0, "consistent: 8 transactions"),
    ] {
        let file = format!("{}/tests/{name}", env!("CARGO_MANIFEST_DIR"));
        let output = program().arg(file).output().expect("it runs");
        assert_eq!(output.status.code(), Some(code), "{name}");
        assert!(out(&output).contains(word), "{}", out(&output));
    }
}
