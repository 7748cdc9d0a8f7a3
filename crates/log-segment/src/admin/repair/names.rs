//! Names of files while a log is mended.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A name under which a file is kept beside the log: never one that is taken.
pub fn aside_name(dir: &Path, path: &Path, names: &BTreeSet<String>) -> PathBuf {
    let name = name_of(path);
    let free = (1_u64..)
        .map(|n| format!("{name}.damaged-{n}"))
        .find(|candidate| !names.contains(candidate));
    dir.join(free.unwrap_or(name))
}

/// Where a misnamed segment waits for its name to become free.
pub fn moving(path: &Path) -> PathBuf {
    path.with_extension("moved")
}

pub fn name_of(path: &Path) -> String {
    path.file_name()
        .map_or_else(String::new, |n| n.to_string_lossy().into_owned())
}
