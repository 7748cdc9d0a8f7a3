//! Lines of aligned columns, and JSON for people.

use crate::event_text::clean;
use crate::failure::Outcome;
use crate::output::Output;

/// Rows whose columns stand below each other.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self {
            rows: vec![headings.map(str::to_uppercase).to_vec()],
        }
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [&str; N]) {
        self.rows.push(cells.map(clean).to_vec());
    }

    /// Prints it; `nothing` when it has no rows.
    pub fn print(&self, nothing: &str, out: &mut Output) -> Outcome {
        if self.rows.len() == 1 {
            return out.line(nothing);
        }
        for line in self.lines() {
            out.line(&line)?;
        }
        Ok(())
    }

    /// Its lines.
    pub fn lines(&self) -> Vec<String> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell: &String| cell.chars().count()).max()
        };
        let widths: Vec<usize> = (0..columns).map(|c| width(c).unwrap_or(0)).collect();
        let line = |row: &Vec<String>| {
            let mut line = String::new();
            for (cell, &width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:<width$}  "));
            }
            line.truncate(line.trim_end().len());
            line
        };
        self.rows.iter().map(line).collect()
    }
}

/// Prints names and values below each other.
pub fn print_facts(facts: &[(&str, String)], out: &mut Output) -> Outcome {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in facts {
        out.line(format!("{name:<width$}  {}", clean(value)).trim_end())?;
    }
    Ok(())
}

/// Prints JSON over several lines, with its numbers and the order of its members as they are.
pub fn print_json(text: &str, indent: usize, out: &mut Output) -> Outcome {
    for line in over_lines(text).lines() {
        out.line(&format!("{:indent$}{}", "", clean(line)))?;
    }
    Ok(())
}

/// How deep the lines of JSON are indented at most: behind that they stand below each other.
const LEVELS_MAX: usize = 64;

/// JSON text with each member and item in a line of its own. It is not taken apart: that would
/// round its numbers, and fail where it is nested deeply.
fn over_lines(text: &str) -> String {
    let mut shown = String::with_capacity(text.len() * 2);
    let (mut level, mut in_string, mut is_escaped) = (0usize, false, false);
    let mut rest = text.chars().filter(|c| !c.is_ascii_control()).peekable();
    let line = |shown: &mut String, level: usize| {
        shown.push('\n');
        shown.extend(std::iter::repeat_n("  ", level.min(LEVELS_MAX)));
    };
    while let Some(c) = rest.next() {
        if in_string {
            shown.push(c);
            in_string = is_escaped || c != '"';
            is_escaped = c == '\\' && !is_escaped;
            continue;
        }
        match c {
            ' ' => {}
            '"' => {
                in_string = true;
                shown.push(c);
            }
            '{' | '[' => {
                shown.push(c);
                while rest.next_if_eq(&' ').is_some() {}
                match rest.next_if(|next| matches!(next, '}' | ']')) {
                    Some(end) => shown.push(end),
                    None => {
                        level += 1;
                        line(&mut shown, level);
                    }
                }
            }
            '}' | ']' => {
                level = level.saturating_sub(1);
                line(&mut shown, level);
                shown.push(c);
            }
            ',' => {
                shown.push(c);
                line(&mut shown, level);
            }
            ':' => shown.push_str(": "),
            _ => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn printed(print: impl FnOnce(&mut Output)) -> String {
        let sink = Sink::default();
        let mut out = Output::to(Box::new(sink.clone()), "memory");
        print(&mut out);
        out.flush().unwrap();
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_is_shown_as_it_is_however_large_its_numbers_and_however_deep_it_is() {
        let show = |text: &str| printed(|out| print_json(text, 1, out).unwrap());
        assert_eq!(
            show(
                r#"{"b":12345678901234567890123,"a":[ ],"t":"a \\\" {,} é","o":{"x":[1.50,null]}}"#
            ),
            r#" {
   "b": 12345678901234567890123,
   "a": [],
   "t": "a \\\" {,} é",
   "o": {
     "x": [
       1.50,
       null
     ]
   }
 }
"#
        );
        let deep = format!("{}1{}", "[".repeat(1000), "]".repeat(1000));
        assert_eq!(show(&deep).matches(['[', ']']).count(), 2000);
        assert_eq!(show(" \n3 "), " 3\n");
    }

    #[test]
    fn columns_stand_below_each_other() {
        let mut table = Table::new(["name", "state"]);
        table.row(["a-long-name", "live"]);
        table.row(["é\u{1b}[2J", ""]);
        let text = printed(|out| table.print("none", out).unwrap());
        assert_eq!(text, "NAME         STATE\na-long-name  live\né\\u{1b}[2J\n");
        let empty = Table::new(["name"]);
        assert_eq!(printed(|out| empty.print("none", out).unwrap()), "none\n");
    }
}
