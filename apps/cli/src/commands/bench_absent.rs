//! `anabranch bench` in a program that was built without it.

use clap::Args;

use super::Context;
use crate::failure::{Exit, Failure, Outcome};

/// Measure speed and size: in a program built with `--features bench`
#[derive(Debug, Args)]
pub struct BenchCommand {
    /// What to measure, and how
    #[arg(
        value_name = "WHAT",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    words: Vec<String>,
}

/// Says which program measures.
pub fn run(command: &BenchCommand, _: &Context) -> Outcome {
    let words = command.words.join(" ");
    let what = format!(
        "this program was built without its benchmarks; in the project's folder, cargo run --release --features bench -- bench {words}"
    );
    Err(Failure::new(Exit::Usage, "bench-absent", what.trim_end().to_owned()).into())
}
