//! Running other programs, with nothing on standard input.

use std::process::{Command, Stdio};

use crate::commands::Outcome;

/// Runs a program and gives what it wrote to standard output.
pub fn output_of(command: &mut Command) -> Outcome<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| format!("{}: {error}", shown(command)))?;
    if !output.status.success() {
        return Err(format!(
            "{} failed ({}):\n{}",
            shown(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        ));
    }
    String::from_utf8(output.stdout).map_err(|error| format!("{}: {error}", shown(command)))
}

/// Announces a step, runs its program with the terminal's output, and fails with it.
pub fn step(title: &str, command: &mut Command) -> Outcome {
    announce(title);
    let status = command
        .stdin(Stdio::null())
        .status()
        .map_err(|error| format!("{title}: {}: {error}", shown(command)))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{title}: {} failed ({status})", shown(command)))
    }
}

/// Says on standard error what begins now.
pub fn announce(title: &str) {
    eprintln!("\n== {title}");
}

/// Whether a program of this name answers `--version`.
pub fn is_installed(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The command as a person would type it.
fn shown(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let name = program.rsplit('/').next().unwrap_or(&program).to_owned();
    let arguments = command.get_args().map(|a| a.to_string_lossy().into_owned());
    std::iter::once(name)
        .chain(arguments)
        .collect::<Vec<_>>()
        .join(" ")
}
