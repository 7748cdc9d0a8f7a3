//! Rules about which files the repository keeps.

use std::process::Command;

use super::finding::Finding;
use crate::commands::Outcome;
use crate::process::output_of;
use crate::workspace::Workspace;

/// The folder that a build fills.
const BUILT: &str = "target";

/// Every file that the repository keeps and should not. Sources that are no repository, such
/// as an unpacked archive, keep nothing.
pub fn check(workspace: &Workspace) -> Outcome<Vec<Finding>> {
    if !workspace.has(".git") {
        return Ok(Vec::new());
    }
    let mut list = Command::new("git");
    list.args(["ls-files", "-z"]).current_dir(&workspace.root);
    let listed = output_of(&mut list)?;
    Ok(built(listed.split('\0')))
}

/// Files below a folder of builds, whichever crate it is of: one finding for each folder.
fn built<'a>(paths: impl Iterator<Item = &'a str>) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    for path in paths {
        let mut folders = path.split('/').rev().skip(1);
        let Some(below) = folders.position(|folder| folder == BUILT) else {
            continue;
        };
        let parts: Vec<&str> = path.split('/').collect();
        let folder = parts[..parts.len() - 1 - below].join("/");
        let message = format!(
            "a build made what is here: `git rm -r --cached {folder}`, and put `/{folder}` into .gitignore"
        );
        let finding = Finding::whole(&folder, message);
        if !found.contains(&finding) {
            found.push(finding);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders(paths: &[&str]) -> Vec<String> {
        let found = built(paths.iter().copied());
        found.into_iter().map(|finding| finding.path).collect()
    }

    #[test]
    fn a_tracked_file_that_a_build_made_is_found_by_its_folder() {
        let tracked = [
            "crates/model/src/lib.rs",
            "target/debug/anabranch",
            "testing/fuzz/target/CACHEDIR.TAG",
            "testing/fuzz/target/debug/deps/x.d",
        ];
        assert_eq!(folders(&tracked), ["target", "testing/fuzz/target"]);
    }

    #[test]
    fn a_file_or_folder_that_is_only_called_alike_is_none() {
        let tracked = [
            "docs/target",
            "testing/fuzz/fuzz_targets/record.rs",
            "crates/x/src/target.rs",
        ];
        assert!(folders(&tracked).is_empty());
    }

    #[test]
    fn what_git_keeps_is_asked_of_git() {
        let dir = std::env::temp_dir().join(format!("anabranch-tracked-{}", std::process::id()));
        let built = dir.join("crates/x/target");
        std::fs::create_dir_all(&built).unwrap();
        std::fs::write(built.join("x.d"), "x").unwrap();
        for arguments in [&["init", "-q"][..], &["add", "-f", "."]] {
            output_of(Command::new("git").args(arguments).current_dir(&dir)).unwrap();
        }
        let workspace = Workspace { root: dir.clone() };
        let found = check(&workspace);
        std::fs::remove_dir_all(&dir).unwrap();
        let lines: Vec<String> = found.unwrap().iter().map(Finding::to_string).collect();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(
            lines[0].starts_with("crates/x/target: a build made"),
            "{lines:?}"
        );
    }
}
