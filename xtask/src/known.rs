//! Lists of what still breaks a rule. Such a list may only get shorter.

use std::collections::BTreeMap;

use crate::commands::Outcome;
use crate::workspace::Workspace;

/// One list: a name on each line, and behind it how large the thing may be at most.
#[derive(Debug, Default)]
pub struct Known(BTreeMap<String, usize>);

impl Known {
    /// The list in this file; an empty one if there is no such file.
    pub fn read(workspace: &Workspace, path: &str) -> Outcome<Self> {
        if !workspace.has(path) {
            return Ok(Self::default());
        }
        Ok(Self::parse(&workspace.read(path)?))
    }

    /// Lines of `NAME [SIZE]`; what begins with `#` is a comment.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let entries = lines.filter_map(|line| {
            let (name, size) = match line.trim().rsplit_once(' ') {
                Some((name, size)) => (name, size.parse().unwrap_or(0)),
                None => (line.trim(), 0),
            };
            (!name.is_empty()).then(|| (name.to_owned(), size))
        });
        Self(entries.collect())
    }

    /// Whether this name is on the list.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// How large the thing of this name may be.
    pub fn size(&self, name: &str) -> Option<usize> {
        self.0.get(name).copied()
    }

    /// Every name on the list.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}
