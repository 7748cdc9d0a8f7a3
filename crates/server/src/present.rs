//! How others on this machine find the program that serves a log: a file in its directory.

use std::io;
use std::path::{Path, PathBuf};

use anabranch_env::{Env, OpenMode};
use anabranch_model::TokenSeal;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::seal::{self, log_name};

const FILE: &str = "server.json";
const FRESH: &str = "server.json.new";
/// The files that servers keep in the directory of a log. They are no part of the log.
pub const FILES: [&str; 3] = [FILE, seal::KEY_FILE, anabranch_access::FIRST_KEY_FILE];

/// No such file is longer.
const BYTES_MAX: u64 = 4096;

/// A program that serves, or did when it wrote this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Present {
    /// Where, for example `http://127.0.0.1:4077`.
    pub url: String,
    /// Its process.
    pub pid: u32,
    /// The log that it serves: requests name it, and a server of another log refuses them.
    #[serde(default)]
    pub log: Option<String>,
}

/// The file cannot be used.
#[derive(Error)]
#[error("{path}: {source}")]
pub struct PresenceError {
    /// The file.
    pub path: String,
    /// What is the matter.
    pub source: io::Error,
}

anabranch_model::debug_is_words!(PresenceError);

impl Present {
    /// The program that serves the log in this directory; `None` if none has said so. One that
    /// was killed may have left its file: only asking it tells.
    pub fn find(env: &Env, dir: &Path) -> Result<Option<Self>, PresenceError> {
        let path = dir.join(FILE);
        read(env, &path).map_err(|source| failed(&path, source))
    }
}

fn failed(path: &Path, source: io::Error) -> PresenceError {
    PresenceError {
        path: path.display().to_string(),
        source,
    }
}

fn read(env: &Env, path: &Path) -> io::Result<Option<Present>> {
    if !env.disk.exists(path)? {
        return Ok(None);
    }
    let file = env.disk.open(path, OpenMode::Read)?;
    let length = file.len()?;
    if length > BYTES_MAX {
        return Err(io::Error::other("this is no file of ours: it is too long"));
    }
    let mut text = vec![0; length as usize];
    file.read_exact_at(&mut text, 0)?;
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(io::Error::other)
}

/// Says that this process serves the log in a directory, for as long as it lives.
pub struct Presence {
    env: Env,
    path: PathBuf,
    said: Present,
}

impl Presence {
    /// Writes the file, in place of one that another process has left.
    pub fn announce(env: &Env, dir: &Path, url: &str) -> Result<Self, PresenceError> {
        let seal = seal::token_key(env, dir);
        let seal = seal.map_err(|source| failed(&dir.join(FILE), source))?;
        Self::announce_sealed(env, dir, url, &seal)
    }

    /// The same for a server whose seal is no file of this directory.
    pub fn announce_sealed(
        env: &Env,
        dir: &Path,
        url: &str,
        seal: &TokenSeal,
    ) -> Result<Self, PresenceError> {
        let path = dir.join(FILE);
        let said = Present {
            url: url.to_owned(),
            pid: std::process::id(),
            log: Some(log_name(seal)),
        };
        write(env, dir, &said).map_err(|source| failed(&path, source))?;
        Ok(Self {
            env: env.clone(),
            path,
            said,
        })
    }

    /// Removes the file, unless another process has written its own meanwhile. Dropping does
    /// the same, but cannot tell when it fails.
    pub fn withdraw(self) -> Result<(), PresenceError> {
        self.remove()
    }

    fn remove(&self) -> Result<(), PresenceError> {
        let removed = match read(&self.env, &self.path) {
            Ok(found) if found.as_ref() == Some(&self.said) => self.env.disk.remove(&self.path),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        removed.map_err(|source| failed(&self.path, source))
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        // A file that stays names a program that does not answer, which its readers find out.
        drop(self.remove());
    }
}

fn write(env: &Env, dir: &Path, said: &Present) -> io::Result<()> {
    let fresh = dir.join(FRESH);
    if env.disk.exists(&fresh)? {
        env.disk.remove(&fresh)?;
    }
    let text = serde_json::to_vec(said).map_err(io::Error::other)?;
    let file = env.disk.open(&fresh, OpenMode::Create)?;
    file.write_all_at(&text, 0)?;
    env.disk.rename(&fresh, &dir.join(FILE))
}
