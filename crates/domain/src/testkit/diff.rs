//! What is expected beside what is there, line by line.

use std::fmt::Write as _;

/// Panics with a difference, if there is one.
#[track_caller]
pub fn assert_same(what: &str, expected: &[String], actual: &[String]) {
    if expected != actual {
        let difference = difference(&lines(expected), &lines(actual));
        panic!("{what}: - expected, + actual\n{difference}");
    }
}

fn lines(items: &[String]) -> Vec<&str> {
    if items.is_empty() {
        return vec!["(nothing)"];
    }
    items.iter().flat_map(|item| item.lines()).collect()
}

/// The lines of both, in order: those of `expected` alone after `-`, those of `actual` alone
/// after `+`.
fn difference(expected: &[&str], actual: &[&str]) -> String {
    let common = common_lengths(expected, actual);
    let (mut i, mut j) = (0, 0);
    let mut out = String::new();
    let mut put = |mark: char, line: &str| {
        let written = writeln!(out, "  {mark} {line}");
        debug_assert!(written.is_ok(), "writing to memory does not fail");
    };
    while i < expected.len() || j < actual.len() {
        if i < expected.len() && j < actual.len() && expected[i] == actual[j] {
            put(' ', expected[i]);
            (i, j) = (i + 1, j + 1);
        } else if j == actual.len() || i < expected.len() && common[i + 1][j] >= common[i][j + 1] {
            put('-', expected[i]);
            i += 1;
        } else {
            put('+', actual[j]);
            j += 1;
        }
    }
    out
}

/// `common[i][j]`: how many lines `expected[i..]` and `actual[j..]` have in common, in order.
fn common_lengths(expected: &[&str], actual: &[&str]) -> Vec<Vec<usize>> {
    let mut common = vec![vec![0; actual.len() + 1]; expected.len() + 1];
    for i in (0..expected.len()).rev() {
        for j in (0..actual.len()).rev() {
            common[i][j] = if expected[i] == actual[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    common
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_shows_what_is_missing_and_what_is_too_much() {
        let text = difference(&["a", "b", "c"], &["a", "x", "c", "d"]);
        assert_eq!(text, "    a\n  - b\n  + x\n    c\n  + d\n");
    }
}
