//! The file `moved`: where a log went, or where one comes from that is still on its way.

use std::path::{Path, PathBuf};

use anabranch_env::Env;
use anabranch_log::OpenError;

use crate::layout_file::{Problem, read_text, seal, unseal};
use crate::part::write_file;
use crate::survey::{MOVED_FILE, io_open};

/// What the first line of the file begins with, and the version of its format.
const MOVED: &str = "anabranch-moved";
const VERSION: u32 = 1;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Moved {
    /// The log went there.
    To(String),
    /// The log is on its way here, from there.
    From(String),
}

/// Where the log in `dir` was moved to, if it was.
///
/// # Errors
///
/// The disk refuses, or what says so is damaged.
pub fn moved_to(env: &Env, dir: impl AsRef<Path>) -> Result<Option<String>, OpenError> {
    Ok(match read(env, dir.as_ref())? {
        Some(Moved::To(to)) => Some(to),
        Some(Moved::From(_)) | None => None,
    })
}

/// Refuses to open `dir` for writing, if its log was moved or is still on its way; who copies its events may.
pub(crate) fn refuse(env: &Env, dir: &Path, for_copy: bool) -> Result<(), OpenError> {
    let path = dir.display().to_string();
    match read(env, dir)? {
        None => Ok(()),
        Some(Moved::From(_)) if for_copy => Ok(()),
        Some(Moved::To(to)) => Err(OpenError::Moved { path, to }),
        Some(Moved::From(from)) => Err(OpenError::Invalid(format!(
            "the log in {path} is still on its way from {from}; nothing was changed: run `anabranch log \
             copy {from} {path} --move` to its end"
        ))),
    }
}

/// The file of a directory.
pub(crate) fn path(dir: &Path) -> PathBuf {
    dir.join(MOVED_FILE)
}

/// What the file of a directory says; `None` if there is none.
pub(crate) fn read(env: &Env, dir: &Path) -> Result<Option<Moved>, OpenError> {
    let path = path(dir);
    let failed = |e| io_open(format!("reading {}", path.display()), e);
    if !env.disk.exists(&path).map_err(failed)? {
        return Ok(None);
    }
    let text = read_text(env, &path).map_err(failed)?;
    match text.and_then(|text| decode(&text)) {
        Ok(moved) => Ok(Some(moved)),
        Err(Problem::Newer(found)) => Err(OpenError::NewerFormat {
            file: MOVED_FILE.to_owned(),
            found,
            known: VERSION,
        }),
        Err(Problem::Damaged) => Err(OpenError::Invalid(format!(
            "{} is damaged: it says that the log was moved, and not where; nothing was changed: remove \
             the file if this is the log that takes appends",
            path.display()
        ))),
    }
}

fn decode(text: &str) -> Result<Moved, Problem> {
    let (version, lines) = unseal(MOVED, text)?;
    if version != VERSION {
        return Err(Problem::Newer(version));
    }
    let line = lines.strip_suffix('\n').ok_or(Problem::Damaged)?;
    match line.split_once(' ') {
        Some(("to", to)) => Ok(Moved::To(to.to_owned())),
        Some(("from", from)) => Ok(Moved::From(from.to_owned())),
        _ => Err(Problem::Damaged),
    }
}

/// Puts the file into `dir`, whole or not at all.
pub(crate) fn write(env: &Env, dir: &Path, moved: &Moved) -> Result<(), OpenError> {
    let (word, place) = match moved {
        Moved::To(to) => ("to", to),
        Moved::From(from) => ("from", from),
    };
    if place.contains(char::is_control) {
        return Err(OpenError::Invalid(format!(
            "{place:?} has a control character, so no file can name it; nothing was changed"
        )));
    }
    let text = seal(MOVED, VERSION, &format!("{word} {place}\n"));
    write_file(env, &path(dir), text.as_bytes())
        .map_err(|e| io_open(format!("writing the file {MOVED_FILE}"), e))
}

/// Where a text says that a log was moved to, or why it does not; for the check of its description.
#[cfg(test)]
pub(crate) fn decode_to(text: &str) -> Result<String, String> {
    match decode(text) {
        Ok(Moved::To(to)) => Ok(to),
        Ok(Moved::From(from)) => Err(format!("it is from {from}")),
        Err(_) => Err(crate::layout_file::seal_of(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_byte_of_what_says_where_a_log_went_is_seen() {
        let text = seal(MOVED, VERSION, "to /logs/new\n");
        assert_eq!(decode(&text), Ok(Moved::To("/logs/new".to_owned())));
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(decode(&changed), Err(Problem::Damaged), "byte {at}");
        }
    }
}
