//! The files `cuts-1`, `cuts-2` … in the directory of a log: how cuts of each earlier layout are read
//! in the one after it.

use std::io;
use std::path::Path;

use anabranch_env::{Env, OpenMode};
use anabranch_model::CutMap;

/// What such a file is called, before its number.
const CUTS: &str = "cuts-";
/// No such file is longer, in bytes.
const BYTES_MAX: u64 = 1 << 30;

/// What the file is called that says how cuts of the layout with this number, counted from 1, are read.
pub fn cuts_file(number: u32) -> String {
    format!("{CUTS}{number}")
}

/// Whether a file of this name says how cuts of an earlier layout are read.
pub fn is_cuts_file(name: &str) -> bool {
    let number = name.strip_prefix(CUTS);
    number.is_some_and(|number| number.parse::<u32>().is_ok())
}

/// How cuts of the layout with this number, counted from 1, are read in the one after it; `None` if
/// nothing says so.
///
/// # Errors
///
/// The disk refuses, or the file is damaged.
pub fn read_cuts(env: &Env, dir: &Path, number: u32) -> io::Result<Option<CutMap>> {
    let path = dir.join(cuts_file(number));
    if !env.disk.exists(&path)? {
        return Ok(None);
    }
    let invalid = |what: String| {
        let text = format!("{}: {what}", path.display());
        io::Error::new(io::ErrorKind::InvalidData, text)
    };
    let file = env.disk.open(&path, OpenMode::Read)?;
    let len = file.len()?;
    if len > BYTES_MAX {
        return Err(invalid("it is too long".to_owned()));
    }
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, 0)?;
    let map = CutMap::decode(&bytes);
    map.map(Some).map_err(|error| invalid(error.0.to_owned()))
}

/// Keeps how cuts of this layout are read, whole or not at all.
///
/// # Errors
///
/// The disk refuses; the file is as it was then.
pub fn write_cuts(env: &Env, dir: &Path, number: u32, map: &CutMap) -> io::Result<()> {
    let path = dir.join(cuts_file(number));
    let fresh = path.with_extension("new");
    if env.disk.exists(&fresh)? {
        env.disk.remove(&fresh)?;
    }
    let file = env.disk.open(&fresh, OpenMode::Create)?;
    file.write_all_at(&map.encode(), 0)?;
    file.sync_data()?;
    env.disk.rename(&fresh, &path)?;
    env.disk.sync_dir(dir)
}
