//! Moving a log to another directory: the file `moved`.
//!
//! 1. The new directory gets the file before it becomes a log: it says where the log comes from.
//!    Who opens it is refused, but for who copies the events.
//! 2. The old directory gets the file, under the lock of its writer: it says where the log goes.
//!    From now on nobody appends there.
//! 3. What is left is copied and compared, and the file of the new directory is removed.
//!
//! So at no time do both take appends, and whatever is interrupted goes on from there.

use std::path::Path;

use anabranch_env::{DiskLock, Env};
use anabranch_log::{Layout, OpenError};

use crate::embedded::make;
use crate::format::LogIdentity;
use crate::layout_file::{self, Kept};
use crate::moved::{Moved, moved_to, path, read, write};
use crate::open::{check_private, make_dir, take_lock};
use crate::survey::{MOVED_FILE, Survey, io_open};

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
            let layout = Layout::one();
            Ok(identity.map(|identity| Kept { identity, layout }))
        }
    }
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
