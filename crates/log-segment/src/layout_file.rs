//! The file that says how a log with several partitions is laid out.

use std::io;
use std::path::{Path, PathBuf};

use anabranch_env::{Env, OpenMode};
use anabranch_log::{Group, Layout, OpenError};
use anabranch_model::{PartitionId, Position};
use xxhash_rust::xxh3::xxh3_128;

use crate::format::LogIdentity;
use crate::part::write_file;
use crate::reading::read_readable;
use crate::survey::{FOLDER, LAYOUT_FILE, MARK_FILE, io_open, is_folder_name};

/// What its first line begins with.
const LAYOUT: &str = "anabranch-layout";
/// The newest version of its format.
const VERSION: u32 = 1;
/// No layout is longer, in bytes.
const BYTES_MAX: u64 = 1 << 20;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub identity: LogIdentity,
    pub layout: Layout,
}

/// The folder of a partition, which is a log of its own as far as its files go.
pub(crate) fn folder(dir: &Path, partition: PartitionId) -> PathBuf {
    dir.join(folder_name(partition))
}

/// What the folder is called.
pub(crate) fn folder_name(partition: PartitionId) -> String {
    format!("{FOLDER}{}", partition.0)
}

/// The name of a file with the folder of its partition.
pub(crate) fn in_partition(partition: PartitionId, file: &str) -> String {
    format!("{}/{file}", folder_name(partition))
}

/// The position, in the partition that it is of.
pub(crate) fn moved(partition: PartitionId, position: Position) -> Position {
    Position {
        partition,
        ..position
    }
}

/// The error, with the folder of the partition before the name of its file.
pub(crate) fn of_partition(partition: PartitionId, error: OpenError) -> OpenError {
    let inside = |file: String| in_partition(partition, &file);
    match error {
        OpenError::Damaged { file, what } => OpenError::Damaged {
            file: inside(file),
            what,
        },
        OpenError::NewerFormat { file, found, known } => OpenError::NewerFormat {
            file: inside(file),
            found,
            known,
        },
        OpenError::OlderFormat { file, found, known } => OpenError::OlderFormat {
            file: inside(file),
            found,
            known,
        },
        OpenError::Io { what, source } => OpenError::Io {
            what: format!("{}: {what}", folder_name(partition)),
            source,
        },
        other => other,
    }
}

/// How a log in a directory is laid out. One partition where nothing says otherwise, also where
/// there is no log.
///
/// # Errors
///
/// The layout cannot be read, or is missing where there are folders of partitions: nothing tells
/// then which events the log has.
pub fn layout_of(env: &Env, dir: impl AsRef<Path>) -> Result<Layout, OpenError> {
    Ok(read(env, dir.as_ref())?.map_or_else(Layout::one, |kept| kept.layout))
}

/// What the folders of several partitions are called, ascending. One partition has none: the log's
/// directory has its files.
pub fn folder_names(layout: &Layout) -> Vec<String> {
    match layout.is_one() {
        true => Vec::new(),
        false => layout.ids().map(folder_name).collect(),
    }
}

/// What the file in `dir` says; `None` if there is none, as in every log of one partition.
pub(crate) fn read(env: &Env, dir: &Path) -> Result<Option<Kept>, OpenError> {
    let path = dir.join(LAYOUT_FILE);
    let failed = |e| io_open(format!("reading {}", path.display()), e);
    if !env.disk.exists(&path).map_err(failed)? {
        return match first_folder(env, dir)? {
            Some(name) => Err(unreadable(
                dir,
                format!(
                    "there is the folder {name} and no file {LAYOUT_FILE}, which says what stands in \
                     it; nothing was changed: put the file back from a backup, or, if making or \
                     restoring a log was interrupted here, remove the directory"
                ),
            )),
            None => Ok(None),
        };
    }
    let text = read_text(env, &path).map_err(failed)?;
    match text.and_then(|text| decode(&text)) {
        Ok(kept) => Ok(Some(kept)),
        Err(Problem::Newer(found)) => Err(OpenError::NewerFormat {
            file: LAYOUT_FILE.to_owned(),
            found,
            known: VERSION,
        }),
        Err(Problem::Damaged) => Err(unreadable(
            &path,
            "it is damaged, and nothing else says which partition each stream stands in; nothing was \
             changed: put the file back from a backup of the log"
                .to_owned(),
        )),
    }
}

fn unreadable(path: &Path, what: String) -> OpenError {
    io_open(
        format!("reading {}", path.display()),
        io::Error::new(io::ErrorKind::InvalidData, what),
    )
}

fn decode(text: &str) -> Result<Kept, Problem> {
    match unseal(LAYOUT, text)? {
        (VERSION, lines) => Kept::of_lines(lines, |_, _| None),
        (newer, _) => Err(Problem::Newer(newer)),
    }
}

/// The name of a folder of a partition that stands in `dir`.
fn first_folder(env: &Env, dir: &Path) -> Result<Option<String>, OpenError> {
    for partition in 0..2 {
        let name = folder_name(PartitionId(partition));
        let mark = dir.join(&name).join(MARK_FILE);
        let found = env.disk.exists(&mark);
        if found.map_err(|e| io_open(format!("looking for {name}"), e))? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Refuses the folder of a partition: it is a part of a log.
pub(crate) fn refuse_folder(env: &Env, dir: &Path) -> Result<(), OpenError> {
    let name = dir.file_name().and_then(|name| name.to_str());
    let is_named_so = name.is_some_and(is_folder_name);
    let Some(log) = dir.parent().filter(|_| is_named_so) else {
        return Ok(());
    };
    let found = env.disk.exists(&log.join(LAYOUT_FILE));
    if found.map_err(|e| io_open(format!("looking at {}", log.display()), e))? {
        let log = match log.as_os_str().is_empty() {
            true => Path::new("."),
            false => log,
        };
        return Err(OpenError::Invalid(format!(
            "{} is one partition of the log in {}; open that",
            dir.display(),
            log.display()
        )));
    }
    Ok(())
}

impl Kept {
    /// The identity that the files of a partition have, so that a folder in the place of another
    /// is seen.
    pub fn identity_of(&self, partition: PartitionId) -> LogIdentity {
        let number = u128::from(partition.0);
        LogIdentity {
            log_id: self.identity.log_id.wrapping_add(number),
            ..self.identity
        }
    }

    /// What it says, line by line.
    pub fn lines(&self) -> String {
        let LogIdentity { log_id, hash_key } = self.identity;
        let mut text = format!("log {log_id:032x} {hash_key:016x}\n");
        for group in self.layout.groups() {
            text.push_str(&format!("group {group}\n"));
        }
        text.push_str(&format!("rest {}\n", self.layout.rest()));
        text
    }

    /// What the lines say; `other` takes those that are no part of a layout.
    pub fn of_lines(
        lines: &str,
        mut other: impl FnMut(&str, &str) -> Option<()>,
    ) -> Result<Self, Problem> {
        let damaged = || Problem::Damaged;
        let mut identity = None;
        let mut groups: Vec<Group> = Vec::new();
        let mut rest = None;
        for line in lines.lines() {
            let (what, value) = line.split_once(' ').ok_or_else(damaged)?;
            match what {
                "log" => {
                    let (id, key) = value.split_once(' ').ok_or_else(damaged)?;
                    identity = Some(LogIdentity {
                        log_id: u128::from_str_radix(id, 16).map_err(|_| Problem::Damaged)?,
                        hash_key: u64::from_str_radix(key, 16).map_err(|_| Problem::Damaged)?,
                    });
                }
                "group" => groups.push(value.parse().map_err(|_| Problem::Damaged)?),
                "rest" => rest = Some(value.parse().map_err(|_| Problem::Damaged)?),
                what => other(what, value).ok_or_else(damaged)?,
            }
        }
        let layout = Layout::new(groups, rest.ok_or_else(damaged)?);
        Ok(Self {
            identity: identity.ok_or_else(damaged)?,
            layout: layout.map_err(|_| Problem::Damaged)?,
        })
    }

    /// Puts the file into `dir`, whole or not at all.
    pub fn write(&self, env: &Env, dir: &Path) -> Result<(), OpenError> {
        let text = seal(LAYOUT, VERSION, &self.lines());
        write_file(env, &dir.join(LAYOUT_FILE), text.as_bytes())
            .map_err(|e| io_open("writing the layout of the log", e))
    }
}

/// Why a text is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Problem {
    Damaged,
    Newer(u32),
}

/// A text that says what it is, in which version, and whether it is whole.
pub(crate) fn seal(what: &str, version: u32, lines: &str) -> String {
    let mut text = format!("{what} {version}\n{lines}");
    let checksum = xxh3_128(text.as_bytes());
    text.push_str(&format!("checksum {checksum:032x}\n"));
    text
}

/// The lines of such a text, and its version.
pub(crate) fn unseal<'a>(what: &str, text: &'a str) -> Result<(u32, &'a str), Problem> {
    let damaged = || Problem::Damaged;
    let (body, checksum) = text.split_at(text.rfind("checksum ").ok_or_else(damaged)?);
    if checksum != format!("checksum {:032x}\n", xxh3_128(body.as_bytes())) {
        return Err(Problem::Damaged);
    }
    let (first, lines) = body.split_once('\n').ok_or_else(damaged)?;
    let version = first
        .strip_prefix(what)
        .and_then(|rest| rest.strip_prefix(' '))
        .and_then(|version| version.parse().ok());
    Ok((version.ok_or_else(damaged)?, lines))
}

/// The text in a file of at most 1 MiB.
pub(crate) fn read_text(env: &Env, path: &Path) -> io::Result<Result<String, Problem>> {
    let file = env.disk.open(path, OpenMode::Read)?;
    let length = file.len()?;
    if length > BYTES_MAX {
        return Ok(Err(Problem::Damaged));
    }
    let mut bytes = vec![0; length as usize];
    let (len, refused) = read_readable(&*file, &mut bytes, 0);
    if let Some(error) = refused {
        return Err(error);
    }
    bytes.truncate(len);
    Ok(String::from_utf8(bytes).map_err(|_| Problem::Damaged))
}

/// The layout that a text says, or why it is none; for the check of its description.
#[cfg(test)]
pub(crate) fn decode_layout(text: &str) -> Result<Layout, String> {
    let kept = decode(text).map_err(|_| seal_of(text))?;
    Ok(kept.layout)
}

/// What the checksum of a text should be.
#[cfg(test)]
pub(crate) fn seal_of(text: &str) -> String {
    let at = text.rfind("checksum ").unwrap_or(0);
    format!("the checksum is {:032x}", xxh3_128(&text.as_bytes()[..at]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> Kept {
        let groups = ["trade=order,payment:8", "stock=stock:4"];
        let groups = groups.map(|group| group.parse().unwrap());
        Kept {
            identity: LogIdentity {
                log_id: u128::MAX,
                hash_key: 7,
            },
            layout: Layout::new(groups.into(), 2).unwrap(),
        }
    }

    #[test]
    fn a_layout_reads_back() {
        let text = seal(LAYOUT, VERSION, &kept().lines());
        assert_eq!(decode(&text), Ok(kept()));
    }

    #[test]
    fn every_changed_byte_of_a_layout_is_seen() {
        let text = seal(LAYOUT, VERSION, &kept().lines());
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(decode(&changed), Err(Problem::Damaged), "byte {at}");
            assert_eq!(decode(&text[..at]), Err(Problem::Damaged), "cut to {at}");
        }
    }

    #[test]
    fn a_newer_layout_is_told_from_a_damaged_one() {
        let text = seal(LAYOUT, VERSION + 1, "something else\n");
        assert_eq!(decode(&text), Err(Problem::Newer(VERSION + 1)));
        let text = seal(LAYOUT, VERSION, "something else\n");
        assert_eq!(decode(&text), Err(Problem::Damaged));
    }

    #[test]
    fn partitions_have_identities_of_their_own() {
        let kept = kept();
        let ids = kept.layout.ids().map(|id| kept.identity_of(id).log_id);
        let ids: std::collections::BTreeSet<u128> = ids.collect();
        assert_eq!(ids.len(), 15);
    }
}
