//! Moving a log to another directory: the file `moved`.
//!
//! 1. The new directory gets the file before it becomes a log: it says where the log comes from.
//!    Who opens it is refused, but for who copies the events.
//! 2. The old directory gets the file, under the lock of its writer: it says where the log goes.
//!    From now on nobody appends there.
//! 3. What is left is copied and compared, and the file of the new directory is removed.
//!
//! So at no time do both take appends, and whatever is interrupted goes on from there.

use std::path::{Path, PathBuf};

use anabranch_env::{DiskLock, Env};
use anabranch_log::OpenError;

use crate::embedded::make;
use crate::format::LogIdentity;
use crate::layout_file::{self, Kept, Problem, read_text, seal, unseal};
use crate::open::{check_private, make_dir, take_lock};
use crate::part::write_file;
use crate::survey::{MOVED_FILE, Survey, io_open};

/// What the first line of the file begins with, and the version of its format.
const MOVED: &str = "anabranch-moved";
const VERSION: u32 = 1;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Moved {
    /// The log went there.
    To(String),
    /// The log is on its way here, from there.
    From(String),
}

/// A directory that a log is to be moved to.
#[derive(Debug, Clone, Copy)]
pub struct Moving<'a> {
    /// Where the log is.
    pub from: &'a Path,
    /// Where it goes.
    pub to: &'a Path,
}

impl Moving<'_> {
    /// Makes the log in `to` that the events of `from` are to be copied to: with its id and layout.
    /// If that was done before, it stays as it is; true if the log has moved altogether.
    ///
    /// # Errors
    ///
    /// `from` has no log, or one that was moved elsewhere; `to` has something else; or the disk
    /// refuses.
    pub fn begin(&self, env: &Env) -> Result<bool, OpenError> {
        let shown = |path: &Path| path.display().to_string();
        let Some(kept) = kept(env, self.from)? else {
            return Err(OpenError::NotFound {
                path: shown(self.from),
            });
        };
        let went = moved_to(env, self.from)?;
        if let Some(to) = went.clone().filter(|to| *to != shown(self.to)) {
            return Err(OpenError::Moved {
                path: shown(self.from),
                to,
            });
        }
        let is_ours = |there: &Kept| *there == kept;
        match (self::kept(env, self.to)?, read(env, self.to)?) {
            (Some(there), Some(Moved::From(from)))
                if is_ours(&there) && from == shown(self.from) =>
            {
                return Ok(false);
            }
            (Some(there), None) if is_ours(&there) && went.is_some() => return Ok(true),
            // What says where a log comes from stands before the log does.
            (None, None | Some(Moved::From(_))) => {}
            _ => return Err(another(self.to)),
        }
        make_dir(env, self.to)
            .map_err(|e| io_open(format!("making the directory {}", self.to.display()), e))?;
        check_private(env, self.to)?;
        let held = take_lock(env, self.to)?;
        write(env, self.to, &Moved::From(shown(self.from)))?;
        make(env, self.to, &kept)?;
        drop(held);
        Ok(false)
    }
}

fn another(to: &Path) -> OpenError {
    OpenError::Invalid(format!(
        "{} has another log, or a copy that takes appends itself; nothing was changed: name a \
         directory that is not there yet",
        to.display()
    ))
}

/// The identity and layout of the log in `dir`; `None` if there is none.
fn kept(env: &Env, dir: &Path) -> Result<Option<Kept>, OpenError> {
    let there = env.disk.exists(dir);
    if !there.map_err(|e| io_open(format!("looking at {}", dir.display()), e))? {
        return Ok(None);
    }
    match layout_file::read(env, dir)? {
        Some(kept) => Ok(Some(kept)),
        None => {
            let identity: Option<LogIdentity> = Survey::take(env, dir)?.identity();
            let layout = anabranch_log::Layout::one();
            Ok(identity.map(|identity| Kept { identity, layout }))
        }
    }
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

/// Has the log in `from` refuse all appends from now on, with the name of `to`. Nobody may have it
/// open for writing.
///
/// # Errors
///
/// Another process has it, it was moved elsewhere, or the disk refuses.
pub fn seal_moved(env: &Env, moving: &Moving<'_>) -> Result<(), OpenError> {
    let _held = take_lock(env, moving.from)?;
    let to = moving.to.display().to_string();
    match moved_to(env, moving.from)? {
        Some(before) if before == to => Ok(()),
        Some(to) => Err(OpenError::Moved {
            path: moving.from.display().to_string(),
            to,
        }),
        None => write(env, moving.from, &Moved::To(to)),
    }
}

/// Lets the log in `to` take appends: everything is there.
///
/// # Errors
///
/// Another process has it, or the disk refuses.
pub fn settle_moved(env: &Env, to: &Path) -> Result<(), OpenError> {
    let _held: Box<dyn DiskLock> = take_lock(env, to)?;
    let removed = match read(env, to)? {
        Some(Moved::From(_)) => env
            .disk
            .remove(&path(to))
            .and_then(|()| env.disk.sync_dir(to)),
        Some(Moved::To(_)) | None => Ok(()),
    };
    removed.map_err(|e| io_open(format!("removing the file {MOVED_FILE}"), e))
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

fn path(dir: &Path) -> PathBuf {
    dir.join(MOVED_FILE)
}

fn read(env: &Env, dir: &Path) -> Result<Option<Moved>, OpenError> {
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

fn write(env: &Env, dir: &Path, moved: &Moved) -> Result<(), OpenError> {
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
        Err(_) => Err(layout_file::seal_of(text)),
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
