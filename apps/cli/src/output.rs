//! What goes to stdout and stderr.

use std::io::{self, BufWriter, IsTerminal as _, Write};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use indicatif::{ProgressBar, ProgressStyle};

use crate::failure::{Ending, Exit, Failure};
use crate::log_lines;

/// The form of what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Text,
    /// One JSON value.
    Json,
    /// JSON values, one on each line.
    Jsonl,
}

impl Form {
    const ALL: [Self; 3] = [Self::Text, Self::Json, Self::Jsonl];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Jsonl => "jsonl",
        }
    }

    /// The form of this name.
    pub fn parse(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|form| form.name() == name)
            .ok_or_else(|| format!("{name:?} is not text, json or jsonl"))
    }

    /// Reads the form from the command line; knows the names, for completions.
    pub fn parser() -> impl TypedValueParser<Value = Self> {
        PossibleValuesParser::new(Self::ALL.map(Self::name)).try_map(|name| Self::parse(&name))
    }
}

/// Where the data of a command goes: stdout or a file, through a large buffer.
pub struct Output {
    writer: BufWriter<Box<dyn Write>>,
    name: String,
}

impl Output {
    /// Stdout of this process.
    pub fn stdout() -> Self {
        Self::to(Box::new(io::stdout().lock()), "standard output")
    }

    /// An open file called `name`.
    pub fn to(writer: Box<dyn Write>, name: &str) -> Self {
        Self {
            writer: BufWriter::with_capacity(256 << 10, writer),
            name: name.to_owned(),
        }
    }

    /// An array as the form wants it: one value on a line, or all of it.
    pub fn values<T: serde::Serialize>(&mut self, form: Form, values: &[T]) -> Result<(), Ending> {
        let text = |value: &dyn Fn() -> serde_json::Result<String>| {
            value().map_err(|error| Failure::new(Exit::Failed, "io", error.to_string()))
        };
        if form != Form::Jsonl {
            return self.line(&text(&|| serde_json::to_string(values))?);
        }
        for value in values {
            self.line(&text(&|| serde_json::to_string(value))?)?;
        }
        Ok(())
    }

    /// Writes bytes; they may stay in the buffer.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Ending> {
        let written = self.writer.write_all(bytes);
        written.map_err(|error| self.ending(&error))
    }

    /// Writes a line; it may stay in the buffer.
    pub fn line(&mut self, text: &str) -> Result<(), Ending> {
        self.write(text.as_bytes())?;
        self.write(b"\n")
    }

    /// Sends on what is in the buffer.
    pub fn flush(&mut self) -> Result<(), Ending> {
        let flushed = self.writer.flush();
        flushed.map_err(|error| self.ending(&error))
    }

    fn ending(&self, error: &io::Error) -> Ending {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Ending::ReaderGone;
        }
        Failure::file("write to", &self.name, error).into()
    }
}

/// Says what a service says, which has its own name before it as text.
pub fn note_of(service: &str, text: &str, plain: impl FnOnce() -> String) {
    let _ = writeln!(io::stderr(), "{}", log_lines::line_of(service, text, plain));
}

/// Says something beside the data. If stderr is gone there is nobody to tell.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{}", log_lines::line(text));
}

/// A progress bar on stderr, if that is a terminal.
pub struct Progress(Option<ProgressBar>);

impl Progress {
    /// Progress towards `total` bytes, if the total is known.
    pub fn bytes(form: Form, doing: &'static str, total: Option<u64>) -> Self {
        let known = "{prefix} {bar:30} {bytes}/{total_bytes} {eta}";
        Self::new(form, doing, total, known, "{prefix} {spinner} {bytes}")
    }

    /// Progress towards `total` events.
    pub fn events(form: Form, doing: &'static str, total: u64) -> Self {
        let known = "{prefix} {bar:30} {human_pos}/{human_len} events {eta}";
        Self::new(form, doing, Some(total), known, "")
    }

    fn new(
        form: Form,
        doing: &'static str,
        total: Option<u64>,
        known: &str,
        unknown: &str,
    ) -> Self {
        if form != Form::Text || !io::stderr().is_terminal() {
            return Self(None);
        }
        let (bar, template) = match total {
            Some(total) => (ProgressBar::new(total), known),
            None => (ProgressBar::new_spinner(), unknown),
        };
        // The templates are constants; a wrong one shows as the plain bar.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_prefix(doing);
        Self(Some(bar))
    }

    /// Nothing is shown.
    pub fn none() -> Self {
        Self(None)
    }

    /// So much is done of what there is.
    pub fn set_of(&self, done: u64, total: u64) {
        if let Some(bar) = &self.0 {
            bar.set_length(total);
            bar.set_position(done);
        }
    }

    /// So much is done.
    pub fn set(&self, done: u64) {
        if let Some(bar) = &self.0 {
            bar.set_position(done);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
