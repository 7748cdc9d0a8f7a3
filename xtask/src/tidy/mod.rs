//! Rules about what people write, run as checks. Each finding names the replacement.
//!
//! * [`sources`]: Rust, Python and shell.
//! * [`manifests`]: `Cargo.toml` files.
//! * [`documents`]: Markdown; links, paths, names and commands in it.
//! * [`dependencies`]: where other people's crates come from, and their licences.
//!
//! What clippy can check is not here but in `clippy.toml` and the workspace's lints.

mod dependencies;
mod documents;
mod manifests;
mod sources;

use std::fmt;

use crate::Outcome;
use crate::workspace::Workspace;

/// A place where a rule is broken, and what to do instead.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The file, from the root.
    pub path: String,
    /// The line, from 1; 0 when it is about the whole file.
    pub line: usize,
    /// What is wrong and what to do.
    pub message: String,
}

impl Finding {
    /// A finding at one line, counted from 0.
    fn at(path: &str, line_index: usize, message: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line: line_index + 1,
            message: message.into(),
        }
    }

    /// A finding about a whole file.
    fn whole(path: &str, message: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line: 0,
            message: message.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.message),
            line => write!(f, "{}:{line}: {}", self.path, self.message),
        }
    }
}

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

/// Every place where a rule is broken.
fn findings(workspace: &Workspace) -> Outcome<Vec<Finding>> {
    let files = workspace.files()?;
    let mut found = sources::check(&files);
    found.extend(manifests::check(&files));
    found.extend(documents::check(workspace, &files)?);
    found.extend(dependencies::check(workspace)?);
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
