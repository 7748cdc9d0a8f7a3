//! Turns the rows of the *Online Retail* data set into events, one for each invoice line,
//! as JSON lines for `anabranch import`.
//!
//! Every row becomes an event; none is dropped or judged, because a log holds what
//! happened and readers decide what it means. A row that cannot be read ends the run with
//! its line and the reason.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use retail::event::LineEvent;
use retail::input::{self, Encoding, Failure};

const USAGE: &str = "\
Usage: retail [--latin1] FILE|-

Reads the Online Retail data set as CSV, plain or compressed by gzip, and writes one event
for each row as a JSON line for `anabranch import -`.

  FILE|-     the file, or - for standard input
  --latin1   the text is ISO 8859-1, not UTF-8
";

fn main() -> ExitCode {
    let mut encoding = Encoding::Utf8;
    let mut paths = Vec::new();
    for argument in std::env::args_os().skip(1) {
        match argument.to_str() {
            Some("--latin1") => encoding = Encoding::Latin1,
            Some("--help" | "-h") => {
                print!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            Some(flag) if flag.starts_with("--") => return misused(&format!("unknown {flag}")),
            _ => paths.push(argument),
        }
    }
    let [path] = paths.as_slice() else {
        return misused("name one file");
    };
    match run(path.as_ref(), encoding, BufWriter::new(io::stdout().lock())) {
        Ok(count) => {
            eprintln!("retail: {count} events");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("retail: {}: {failure}", path.display());
            ExitCode::FAILURE
        }
    }
}

fn misused(what: &str) -> ExitCode {
    eprint!("retail: {what}\n\n{USAGE}");
    ExitCode::from(2)
}

/// Writes one event for each row; gives how many.
///
/// Keeps a counter for each invoice, because the lines of one may stand apart.
fn run(path: &std::path::Path, encoding: Encoding, mut out: impl Write) -> Result<u64, Failure> {
    let mut lines_of_invoice: BTreeMap<String, u32> = BTreeMap::new();
    let mut count = 0;
    for row in input::rows(path, encoding)? {
        let row = row?;
        let line = lines_of_invoice.entry(row.invoice.clone()).or_default();
        *line += 1;
        serde_json::to_writer(&mut out, &LineEvent::of(&row, *line))
            .map_err(io::Error::from)
            .and_then(|()| out.write_all(b"\n"))
            .map_err(Failure::Output)?;
        count += 1;
    }
    out.flush().map_err(Failure::Output)?;
    Ok(count)
}
