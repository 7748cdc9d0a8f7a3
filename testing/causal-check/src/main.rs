//! `anabranch-causal-check`: judges one file.

#![expect(
    clippy::disallowed_methods,
    reason = "this program reads the file that the user names"
)]

use std::io::Read as _;
use std::process::ExitCode;

use anabranch_causal_check::{History, check};

const USAGE: &str = "\
Says whether a history of transactions is causally consistent.

Usage: anabranch-causal-check FILE

FILE is a history in dbcop's text form, - is standard input:

  // a comment
  [x:=1 y:=1]     a transaction: it writes x and y; its session's next one is below it
  [y:=2]!         one that did not commit
  ---             dashes: the next session
  [x==1 z==?]     it reads what the first wrote, and z, which nobody had written

A value may be written once to a variable.

Exit codes: 0 consistent, 1 not, and why, 2 wrong usage or no history.";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(file), None) = (arguments.next(), arguments.next()) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    if ["-h", "--help"].contains(&file.as_str()) {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let history: History = match read(&file) {
        Ok(history) => history,
        Err(what) => {
            eprintln!("{what}");
            return ExitCode::from(2);
        }
    };
    match check(&history) {
        Ok(summary) => {
            println!("consistent: {summary}");
            ExitCode::SUCCESS
        }
        Err(violation) => {
            println!("not causally consistent: {violation}");
            ExitCode::from(1)
        }
    }
}

fn read(file: &str) -> Result<History, String> {
    let (name, text) = if file == "-" {
        let mut text = String::new();
        let read = std::io::stdin().lock().read_to_string(&mut text);
        ("standard input", read.map(|_| text))
    } else {
        (file, std::fs::read_to_string(file))
    };
    let text = text.map_err(|error| format!("{name} cannot be read: {error}"))?;
    text.parse()
        .map_err(|error| format!("{name} is not a history: {error}"))
}
