//! What a backup says of itself: a text file, written last.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anabranch_env::{Env, OpenMode};
use anabranch_log::OpenError;
use xxhash_rust::xxh3::xxh3_128;

use crate::format::LogIdentity;
use crate::part::write_file;
use crate::reading::read_readable;
use crate::survey::io_open;

/// The name of the manifest.
pub(super) const MANIFEST_FILE: &str = "backup.manifest";
/// The newest version of its format.
pub(super) const MANIFEST_VERSION: u32 = 1;
/// The longest manifest that is read, in bytes: a million segments.
const BYTES_MAX: u64 = 256 << 20;

/// Everything in a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manifest {
    pub identity: LogIdentity,
    /// How often the log had been opened for writing.
    pub epoch: u64,
    /// Position after the last event.
    pub end: u64,
    /// Ascending, without a gap.
    pub segments: Vec<Entry>,
}

/// A segment in a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub id: u64,
    pub first: u64,
    /// Position after its last event.
    pub end: u64,
    pub created_at: u64,
    /// The bytes kept: the header and the frames.
    pub bytes: u64,
    /// XXH3-128 of them.
    pub hash: u128,
}

impl Entry {
    /// The file in the backup.
    pub fn path(&self, dir: &Path) -> PathBuf {
        dir.join(format!("{:010}-{:032x}.seg", self.id, self.hash))
    }
}

impl Manifest {
    fn encode(&self) -> String {
        let mut text = format!(
            "anabranch-backup {MANIFEST_VERSION}\nlog {:032x} {:016x}\nepoch {}\nend {}\n",
            self.identity.log_id, self.identity.hash_key, self.epoch, self.end
        );
        for s in &self.segments {
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "segment {} {} {} {} {} {:032x}",
                s.id, s.first, s.end, s.created_at, s.bytes, s.hash
            );
        }
        let _ = writeln!(text, "checksum {:032x}", xxh3_128(text.as_bytes()));
        text
    }

    fn decode(text: &str) -> Result<Self, Problem> {
        let damaged = || Problem::Damaged;
        let version = text
            .strip_prefix("anabranch-backup ")
            .and_then(|rest| rest.split('\n').next())
            .and_then(|version| version.parse::<u32>().ok())
            .ok_or_else(damaged)?;
        if version > MANIFEST_VERSION {
            return Err(Problem::Newer(version));
        }
        let checksum_at = text.rfind("checksum ").ok_or_else(damaged)?;
        let (body, checksum) = text.split_at(checksum_at);
        if checksum != format!("checksum {:032x}\n", xxh3_128(body.as_bytes())) {
            return Err(Problem::Damaged);
        }
        let mut manifest = Self {
            identity: LogIdentity {
                log_id: 0,
                hash_key: 0,
            },
            epoch: 0,
            end: 0,
            segments: Vec::new(),
        };
        for line in body.lines().skip(1) {
            let (what, rest) = line.split_once(' ').ok_or_else(damaged)?;
            let mut words = rest.split(' ');
            let mut word = || words.next().ok_or_else(damaged);
            let number = |word: &str| word.parse::<u64>().map_err(|_| Problem::Damaged);
            let hex = |word: &str| u128::from_str_radix(word, 16).map_err(|_| Problem::Damaged);
            match what {
                "log" => {
                    manifest.identity.log_id = hex(word()?)?;
                    manifest.identity.hash_key = hex(word()?)? as u64;
                }
                "epoch" => manifest.epoch = number(word()?)?,
                "end" => manifest.end = number(word()?)?,
                "segment" => manifest.segments.push(Entry {
                    id: number(word()?)?,
                    first: number(word()?)?,
                    end: number(word()?)?,
                    created_at: number(word()?)?,
                    bytes: number(word()?)?,
                    hash: hex(word()?)?,
                }),
                _ => return Err(Problem::Damaged),
            }
        }
        let ends = manifest.segments.iter().map(|s| s.end);
        let firsts = manifest.segments.iter().map(|s| s.first);
        let follows = firsts.eq([0].into_iter().chain(ends).take(manifest.segments.len()));
        let last = manifest.segments.last().map_or(0, |s| s.end);
        if follows && last == manifest.end {
            Ok(manifest)
        } else {
            Err(Problem::Damaged)
        }
    }

    /// The manifest in `dir`, if there is one.
    pub fn read(env: &Env, dir: &Path) -> Result<Option<Self>, OpenError> {
        let path = dir.join(MANIFEST_FILE);
        let failed = |e| io_open(format!("reading {}", path.display()), e);
        if !env.disk.exists(&path).map_err(failed)? {
            return Ok(None);
        }
        let file = env.disk.open(&path, OpenMode::Read).map_err(failed)?;
        let length = file.len().map_err(failed)?.min(BYTES_MAX);
        let mut bytes = vec![0; length as usize];
        let (len, refused) = read_readable(&*file, &mut bytes, 0);
        if let Some(error) = refused {
            return Err(failed(error));
        }
        bytes.truncate(len);
        let text = std::str::from_utf8(&bytes).map_err(|_| Problem::Damaged);
        match text.and_then(Self::decode) {
            Ok(manifest) => Ok(Some(manifest)),
            Err(Problem::Newer(found)) => Err(OpenError::NewerFormat {
                file: MANIFEST_FILE.to_owned(),
                found,
                known: MANIFEST_VERSION,
            }),
            Err(Problem::Damaged) => Err(OpenError::Invalid(format!(
                "{}: the manifest is damaged: this backup cannot be used; restore another one, \
                 or back up into an empty directory",
                path.display()
            ))),
        }
    }

    /// Puts the manifest into `dir`, whole or not at all.
    pub fn write(&self, env: &Env, dir: &Path) -> Result<(), OpenError> {
        write_file(env, &dir.join(MANIFEST_FILE), self.encode().as_bytes())
            .map_err(|e| io_open("writing the manifest of the backup", e))
    }
}

/// The end that a manifest names, or why it is none; for the check of its description.
#[cfg(test)]
pub(crate) fn decode_manifest(text: &str) -> Result<u64, String> {
    let at = text.rfind("checksum ").unwrap_or(0);
    Manifest::decode(text)
        .map(|manifest| manifest.end)
        .map_err(|_| format!("the checksum is {:032x}", xxh3_128(&text.as_bytes()[..at])))
}

enum Problem {
    Damaged,
    Newer(u32),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let entry = |id, first, end| Entry {
            id,
            first,
            end,
            created_at: 7,
            bytes: 9_000,
            hash: 0xabc,
        };
        Manifest {
            identity: LogIdentity {
                log_id: 1 << 100,
                hash_key: u64::MAX,
            },
            epoch: 3,
            end: 20,
            segments: vec![entry(1, 0, 10), entry(4, 10, 20)],
        }
    }

    #[test]
    fn a_manifest_reads_back() {
        assert_eq!(
            Manifest::decode(&manifest().encode()).ok(),
            Some(manifest())
        );
    }

    #[test]
    fn every_changed_byte_of_a_manifest_is_seen() {
        let text = manifest().encode();
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let changed = String::from_utf8(bytes).unwrap();
            assert!(Manifest::decode(&changed).is_err(), "byte {at}");
            assert!(Manifest::decode(&text[..at]).is_err(), "cut to {at}");
        }
    }

    #[test]
    fn a_manifest_with_a_gap_between_segments_is_refused() {
        let mut gap = manifest();
        gap.segments[1].first = 11;
        assert!(Manifest::decode(&gap.encode()).is_err());
    }
}
