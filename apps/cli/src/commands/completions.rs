//! `anabranch completions`.

use clap::Args;
use clap_complete::Shell;

use crate::failure::Outcome;
use crate::output::Output;

/// Print a script that completes commands in a shell
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  anabranch completions bash > ~/.local/share/bash-completion/completions/anabranch
  anabranch completions fish > ~/.config/fish/completions/anabranch.fish")]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Prints the script for these commands.
pub fn run(args: &CompletionsArgs, mut commands: clap::Command) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut commands, "anabranch", &mut script);
    let mut out = Output::stdout();
    out.write(&script)?;
    out.flush()
}
