//! Checks the OpenAPI document against the official schema, by the validator that others use.
//!
//! It is a Python package, which is installed into an environment of its own below `target/`
//! and never committed.

use std::path::Path;
use std::process::Command;

use crate::checked::Checked;
use crate::commands::Outcome;
use crate::process::{is_installed, output_of};
use crate::workspace::Workspace;

const DOCUMENT: &str = "docs/openapi.json";
const VALIDATOR: &str = "openapi-spec-validator";

/// Installs the validator if need be, and lets it judge the document.
pub fn check(workspace: &Workspace) -> Checked {
    if !is_installed("python3", &[]) {
        return Checked::Skipped(format!("{DOCUMENT}: python3 is not installed"));
    }
    let environment = workspace.root.join("target/openapi-validator");
    let program = environment.join("bin").join(VALIDATOR);
    if !program.exists()
        && let Err(why) = install(&environment)
    {
        return Checked::Skipped(format!(
            "{DOCUMENT}: {VALIDATOR} cannot be installed: {why}"
        ));
    }
    let document = workspace.root.join(DOCUMENT);
    match Command::new(&program).arg(&document).output() {
        Ok(said) if said.status.success() => Checked::Valid("valid".to_owned()),
        // It says on standard output what is wrong.
        Ok(said) => Checked::Invalid(format!(
            "{DOCUMENT}: {}",
            String::from_utf8_lossy(&said.stdout).trim_end()
        )),
        Err(error) => Checked::Skipped(format!("{DOCUMENT}: {VALIDATOR}: {error}")),
    }
}

fn install(environment: &Path) -> Outcome {
    output_of(
        Command::new("python3")
            .args(["-m", "venv"])
            .arg(environment),
    )?;
    let pip = environment.join("bin/pip");
    output_of(Command::new(pip).args(["install", "--quiet", VALIDATOR]))?;
    Ok(())
}
