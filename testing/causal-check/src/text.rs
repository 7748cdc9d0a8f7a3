//! The text form of histories: that of `dbcop`, its files `.hist`.
//!
//! ```text
//! // a comment
//! [x:=1 y:=1] [z==2 z:=3]      transactions of one session, in order
//! [y:=3]!                      this one did not commit
//! ---                          one or more dashes: the next session
//! [x==1 w==?]                  nobody had written w
//! ```
//!
//! Names are letters, digits and `_`; values are whole numbers below 2^64. Blank lines mean
//! nothing. More than there is allowed here: spaces inside the brackets, and a comment behind
//! transactions.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::str::FromStr;

use crate::history::{History, Operation, Place, Transaction};

/// Why a text is no history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextError {
    /// The line, from 1.
    pub line: usize,
    /// The column, in characters from 1.
    pub column: usize,
    /// What is wrong there and what is expected.
    pub what: String,
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "line {}, column {}: {}",
            self.line, self.column, self.what
        )
    }
}

impl Error for TextError {}

impl FromStr for History {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let mut reader = Reader::default();
        reader.history.sessions.push(Vec::new());
        for (index, line) in text.lines().enumerate() {
            Line {
                number: index + 1,
                whole: line,
                rest: line,
            }
            .read(&mut reader)?;
        }
        Ok(reader.history)
    }
}

/// What was read so far.
#[derive(Default)]
struct Reader {
    history: History,
    indexes: BTreeMap<String, usize>,
    /// Where each value was written.
    written: BTreeMap<(usize, u64), usize>,
}

impl Reader {
    fn variable(&mut self, name: &str) -> usize {
        if let Some(&index) = self.indexes.get(name) {
            return index;
        }
        let index = self.history.variables.len();
        self.history.variables.push(name.to_owned());
        self.indexes.insert(name.to_owned(), index);
        index
    }

    /// Whoever reads a value must be able to say who wrote it.
    fn write(&mut self, variable: usize, value: u64, line: usize) -> Result<(), String> {
        match self.written.insert((variable, value), line) {
            None => Ok(()),
            Some(first) => Err(format!(
                "{}:={value} was written before, in line {first}; each value may be written once to a variable, so that a read tells whose write it saw",
                self.history.variables[variable],
            )),
        }
    }
}

/// A line, and what is left of it.
struct Line<'a> {
    number: usize,
    whole: &'a str,
    rest: &'a str,
}

impl<'a> Line<'a> {
    fn read(mut self, reader: &mut Reader) -> Result<(), TextError> {
        self.skip_spaces();
        if self.rest.starts_with('-') {
            self.rest = self.rest.trim_start_matches('-');
            reader.history.sessions.push(Vec::new());
            return match self.at_end() {
                true => Ok(()),
                false => {
                    Err(self.error("expected nothing behind the dashes that part two sessions"))
                }
            };
        }
        let mut transactions = Vec::new();
        while !self.at_end() {
            let expected = "expected a transaction such as [x:=1 y==2], dashes that part two sessions, or a comment after //";
            if !self.take("[") {
                return Err(self.error(expected));
            }
            transactions.push(self.transaction(reader)?);
        }
        if transactions.len() > 1 {
            for (index, transaction) in transactions.iter_mut().enumerate() {
                transaction.place.nth = index + 1;
            }
        }
        if let Some(session) = reader.history.sessions.last_mut() {
            session.append(&mut transactions);
        }
        Ok(())
    }

    fn transaction(&mut self, reader: &mut Reader) -> Result<Transaction, TextError> {
        let mut operations = Vec::new();
        loop {
            let spaced = self.skip_spaces();
            if !operations.is_empty() && self.take("]") {
                break;
            }
            if !operations.is_empty() && !spaced {
                return Err(self.error("expected a space or ']'"));
            }
            operations.push(self.operation(reader)?);
        }
        Ok(Transaction {
            place: Place {
                line: self.number,
                nth: 0,
            },
            operations,
            committed: !self.take("!"),
        })
    }

    fn operation(&mut self, reader: &mut Reader) -> Result<Operation, TextError> {
        let name = self.take_while(|c| c.is_alphanumeric() || c == '_');
        if name.is_empty() {
            return Err(self.error("expected a write such as x:=1, or a read such as x==1 or x==?"));
        }
        let variable = reader.variable(name);
        if self.take(":=") {
            let before = self.rest;
            let value = self.value()?;
            reader.write(variable, value, self.number).map_err(|what| {
                self.rest = before;
                self.error(&what)
            })?;
            Ok(Operation::Write { variable, value })
        } else if self.take("==") {
            let value = if self.take("?") {
                None
            } else {
                Some(self.value()?)
            };
            Ok(Operation::Read { variable, value })
        } else {
            Err(self.error("expected ':=' for a write or '==' for a read"))
        }
    }

    fn value(&mut self) -> Result<u64, TextError> {
        let before = self.rest;
        let digits = self.take_while(|c| c.is_ascii_digit());
        digits.parse().map_err(|_| {
            self.rest = before;
            self.error("expected a whole number from 0 to 18446744073709551615")
        })
    }

    /// Whether nothing but spaces or a comment is left.
    fn at_end(&mut self) -> bool {
        self.skip_spaces();
        self.rest.is_empty() || self.rest.starts_with("//")
    }

    fn skip_spaces(&mut self) -> bool {
        !self.take_while(|c| c == ' ' || c == '\t').is_empty()
    }

    fn take_while(&mut self, is_part: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn take(&mut self, word: &str) -> bool {
        match self.rest.strip_prefix(word) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn error(&self, what: &str) -> TextError {
        let read = &self.whole[..self.whole.len() - self.rest.len()];
        TextError {
            line: self.number,
            column: read.chars().count() + 1,
            what: what.to_owned(),
        }
    }
}
