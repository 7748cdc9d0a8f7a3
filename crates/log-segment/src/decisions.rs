//! The log in a folder of its own where appends to several partitions are decided on.
//!
//! It is made when the directory is opened for writing, so that logs of older versions get one. Nobody
//! needs what stands there once the appends are whole in their partitions: a backup leaves it out.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anabranch_env::Env;
use anabranch_log::OpenError;

use crate::SegmentLog;
use crate::crew::Crew;
use crate::format::LogIdentity;
use crate::layout_file::Kept;
use crate::open::{first_mark, make_dir, put_mark};
use crate::options::Options;
use crate::survey::{MARK_FILE, io_open};

/// Its folder.
pub(crate) const FOLDER: &str = "together";

fn folder(dir: &Path) -> PathBuf {
    dir.join(FOLDER)
}

/// Behind those of all partitions.
fn identity(kept: &Kept) -> LogIdentity {
    LogIdentity {
        log_id: kept.identity.log_id.wrapping_add(1 << 32),
        ..kept.identity
    }
}

fn failed(error: OpenError) -> OpenError {
    match error {
        OpenError::Damaged { file, what } => OpenError::Damaged {
            file: format!("{FOLDER}/{file}"),
            what,
        },
        other => other,
    }
}

/// Opens it for writing, and makes it if there is none.
pub(crate) fn open(
    env: &Env,
    dir: &Path,
    kept: &Kept,
    options: Options,
    crew: &Arc<Crew>,
) -> Result<SegmentLog, OpenError> {
    let folder = folder(dir);
    let is_there = env.disk.exists(&folder.join(MARK_FILE));
    if !is_there.map_err(|e| io_open("looking for the log of decisions", e))? {
        make_dir(env, &folder)
            .map_err(|e| io_open(format!("making the folder {}", folder.display()), e))?;
        put_mark(env, &folder, &first_mark(identity(kept)))?;
    }
    let known = Some(identity(kept));
    SegmentLog::open_known(env.clone(), &folder, options, known, crew).map_err(failed)
}

/// Opens it for reading, if there is one.
pub(crate) fn open_read_only(
    env: &Env,
    dir: &Path,
    kept: &Kept,
    options: Options,
    crew: &Arc<Crew>,
) -> Result<Option<SegmentLog>, OpenError> {
    let folder = folder(dir);
    let is_there = env.disk.exists(&folder.join(MARK_FILE));
    if !is_there.map_err(|e| io_open("looking for the log of decisions", e))? {
        return Ok(None);
    }
    let known = Some(identity(kept));
    let opened = SegmentLog::open_known_read_only(env.clone(), &folder, options, known, crew);
    opened.map(Some).map_err(failed)
}
