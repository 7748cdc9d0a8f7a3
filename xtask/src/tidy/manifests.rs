//! Rules about `Cargo.toml` files.

use super::finding::Finding;
use crate::workspace::SourceFile;

/// Every place in the manifests where a rule is broken.
pub fn check(files: &[SourceFile]) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in files {
        if file.path == "Cargo.toml" {
            found.extend(root(file));
        } else if ["testing/strangers/", "testing/fuzz/"]
            .iter()
            .any(|outside| file.path.starts_with(outside))
        {
            // Outside the workspace, as somebody else or cargo-fuzz would have it: its rules do not
            // hold there.
        } else if file.path.ends_with("/Cargo.toml") {
            found.extend(member(file));
        }
    }
    found
}

fn root(file: &SourceFile) -> Option<Finding> {
    let forbids = lines_of(&file.text, |section| section == "workspace.lints.rust")
        .any(|(_, line)| line.replace(' ', "") == "unsafe_code=\"forbid\"");
    (!forbids).then(|| {
        Finding::whole(
            &file.path,
            "write unsafe_code = \"forbid\" below [workspace.lints.rust]",
        )
    })
}

fn member(file: &SourceFile) -> Vec<Finding> {
    let mut found = Vec::new();
    let lints = lines_of(&file.text, |section| section == "lints")
        .any(|(_, line)| line.replace(' ', "") == "workspace=true");
    if !lints {
        found.push(Finding::whole(
            &file.path,
            "add [lints] with workspace = true, so that the workspace's rules hold here",
        ));
    }
    for (index, line) in lines_of(&file.text, |section| section.ends_with("dependencies")) {
        let is_entry = line.contains('=') && !line.starts_with('#');
        if is_entry && !line.replace(' ', "").contains("workspace=true") {
            found.push(Finding::at(
                &file.path,
                index,
                "pin the version once, in the root's [workspace.dependencies], and write `name.workspace = true` here",
            ));
        }
    }
    found
}

/// The lines of the sections that are wanted, with their index in the file.
fn lines_of(text: &str, wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = (usize, &str)> {
    let mut inside = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[') {
            inside = wanted(header.trim_end_matches(']'));
            return None;
        }
        inside.then_some((index, line))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<Finding> {
        check(&[SourceFile {
            path: path.to_owned(),
            text: text.to_owned(),
        }])
    }

    #[test]
    fn a_crate_that_leaves_the_workspace_lints_out_is_found() {
        assert_eq!(found("crates/x/Cargo.toml", "[package]\n").len(), 1);
        let complete = "[package]\n\n[lints]\nworkspace = true\n";
        assert!(found("crates/x/Cargo.toml", complete).is_empty());
    }

    #[test]
    fn a_version_pinned_in_a_crate_is_found() {
        let text = "[dependencies]\nbytes = \"1\"\nserde.workspace = true\n\
                    uuid = { workspace = true, features = [\"v5\"] }\n\n[lints]\nworkspace = true\n";
        let found = found("crates/x/Cargo.toml", text);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].line, 2);
    }

    #[test]
    fn a_workspace_that_allows_unsafe_code_is_found() {
        assert_eq!(found("Cargo.toml", "[workspace]\n").len(), 1);
        let text = "[workspace.lints.rust]\nunsafe_code = \"forbid\"\n";
        assert!(found("Cargo.toml", text).is_empty());
    }
}
