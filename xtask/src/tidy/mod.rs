//! Rules about what people write, run as checks. Each finding names the replacement.
//!
//! * [`sources`]: Rust, Python and shell.
//! * [`errors`]: what a `main` prints of an error.
//! * [`manifests`]: `Cargo.toml` files.
//! * [`lengths`]: how long files and functions may be.
//! * [`documents`]: Markdown; links, paths, names and commands in it.
//! * [`dependencies`]: where other people's crates come from, and their licences.
//! * [`tracked`]: which files the repository keeps.
//!
//! What clippy can check is not here but in `clippy.toml` and the workspace's lints.

mod dependencies;
mod documents;
mod errors;
mod finding;
mod lengths;
mod manifests;
mod sources;
mod tracked;

use crate::commands::Outcome;
use crate::workspace::Workspace;

use finding::Finding;

/// `cargo xtask tidy`: prints every place where a rule is broken.
pub fn command(workspace: &Workspace) -> Outcome {
    let found = findings(workspace)?;
    if found.is_empty() {
        println!("tidy: every rule holds");
        return Ok(());
    }
    let lines: Vec<String> = found.iter().map(Finding::to_string).collect();
    Err(format!(
        "{}\n\ntidy: {} found",
        lines.join("\n"),
        found.len()
    ))
}

/// How many files and functions are longer than they should be, and listed as such.
pub fn known_to_be_long(workspace: &Workspace) -> Outcome<usize> {
    lengths::known(workspace)
}

/// Every place where a rule is broken.
fn findings(workspace: &Workspace) -> Outcome<Vec<Finding>> {
    let files = workspace.files()?;
    let mut found = sources::check(&files);
    found.extend(errors::check(&files));
    found.extend(manifests::check(&files));
    found.extend(lengths::check(workspace, &files)?);
    found.extend(documents::check(workspace, &files)?);
    found.extend(dependencies::check(workspace)?);
    found.extend(tracked::check(workspace)?);
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_workspace_is_tidy() {
        let found = findings(&Workspace::find().unwrap()).unwrap();
        let lines: Vec<String> = found.iter().map(Finding::to_string).collect();
        assert!(lines.is_empty(), "\n{}", lines.join("\n"));
    }
}
