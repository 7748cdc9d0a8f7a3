//! `cargo xtask build-times`: how long a service author waits for the compiler.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::commands::Outcome;
use crate::process::{output_of, step};
use crate::workspace::Workspace;

/// The crate that stands for a user's: all the services of the shop.
const PACKAGE: &str = "anabranch-shop";

/// The entity that is changed, and what is changed in it: the text of a rejection.
const ENTITY: &str = "examples/shop/src/stock.rs";

/// The goals, in seconds of processor time.
const GOALS: [f64; 2] = [20.0, 2.0];

/// What compiling cost, in seconds of processor time.
#[derive(Debug)]
pub struct Times {
    /// The crate from clean, with its dependencies built before.
    pub clean: f64,
    /// The crate again, after a change of one entity.
    pub change: f64,
}

/// Prints both times beside their goals.
pub fn command(workspace: &Workspace) -> Outcome {
    let times = measure(workspace)?;
    println!("{PACKAGE}, release, seconds of processor time");
    println!(
        "  from clean beyond its dependencies  {:6.1}  (goal {})",
        times.clean, GOALS[0]
    );
    println!(
        "  after a change of one entity        {:6.1}  (goal {})",
        times.change, GOALS[1]
    );
    Ok(())
}

/// Builds a copy of the sources in a target folder of its own, so that nothing else is disturbed.
pub fn measure(workspace: &Workspace) -> Outcome<Times> {
    let dir = workspace.target()?.join("build-times");
    let source = dir.join("source");
    copy(workspace, &source)?;
    let build = |more: &[&str]| {
        let mut command = Command::new("bash");
        // Bash tells the processor time of what it ran, all children of cargo among it.
        command
            .args([
                "-c",
                "TIMEFORMAT='%U %S'; exec 3>&2; { time \"$@\" 2>&3; } 2>&1",
                "bash",
            ])
            .arg(env!("CARGO"))
            .args(more)
            .env("CARGO_TARGET_DIR", dir.join("target"))
            .env_remove("RUSTC_WRAPPER")
            .current_dir(&source);
        command
    };
    let of_package = |verb| [verb, "--release", "-p", PACKAGE];
    step("dependencies", &mut build(&of_package("build")))?;
    step("clean", &mut build(&of_package("clean")))?;
    let clean = seconds(&output_of(&mut build(&of_package("build")))?)?;
    change(&source.join(ENTITY))?;
    let change = seconds(&output_of(&mut build(&of_package("build")))?)?;
    Ok(Times { clean, change })
}

/// Copies every file that git knows, as it is now.
fn copy(workspace: &Workspace, to: &Path) -> Outcome {
    if to.exists() {
        std::fs::remove_dir_all(to).map_err(|error| format!("{}: {error}", to.display()))?;
    }
    let mut git = Command::new("git");
    let arguments = [
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "-z",
    ];
    let list = output_of(git.args(arguments).current_dir(&workspace.root))?;
    for name in list.split('\0').filter(|name| !name.is_empty()) {
        let (from, to): (PathBuf, PathBuf) = (workspace.root.join(name), to.join(name));
        if !from.is_file() {
            continue;
        }
        let failed = |error| format!("{}: {error}", to.display());
        if let Some(dir) = to.parent() {
            std::fs::create_dir_all(dir).map_err(failed)?;
        }
        std::fs::copy(&from, &to).map_err(failed)?;
    }
    Ok(())
}

/// Changes what one decision answers.
fn change(path: &Path) -> Outcome {
    let failed = |error| format!("{}: {error}", path.display());
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let changed = changed(&text).ok_or_else(|| format!("{ENTITY} rejects nothing"))?;
    std::fs::write(path, changed).map_err(failed)
}

/// The text with a longer reason in its first rejection.
fn changed(text: &str) -> Option<String> {
    let at = text.find("Rejection::new(\"")? + "Rejection::new(\"".len();
    Some(format!("{}changed_{}", &text[..at], &text[at..]))
}

/// The sum of two numbers such as `12.1 0.9`.
fn seconds(text: &str) -> Outcome<f64> {
    let numbers: Result<Vec<f64>, _> = text.split_whitespace().map(str::parse).collect();
    match numbers {
        Ok(numbers) if numbers.len() == 2 => Ok(numbers.iter().sum()),
        _ => Err(format!("bash told no processor time: {text:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_that_of_the_program_and_of_the_system() {
        assert_eq!(seconds("12.5 0.5\n"), Ok(13.0));
        assert!(seconds("").is_err());
    }

    #[test]
    fn a_change_of_an_entity_changes_what_is_compiled() {
        let text = "fn f() { Rejection::new(\"sold_out\") }";
        let longer = "fn f() { Rejection::new(\"changed_sold_out\") }";
        assert_eq!(changed(text).as_deref(), Some(longer));
    }
}
