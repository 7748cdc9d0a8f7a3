//! Contexts: names for several logs, each with where it is and the file of the key to show there. They are
//! kept in the user's own directory, in a file that is the user's alone.

#![expect(
    clippy::disallowed_methods,
    reason = "this is about a file of the user"
)]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anabranch::Address;
use serde::{Deserialize, Serialize};

use crate::failure::{Exit, Failure};

/// In which directory of the user, and under which name.
const FOLDER: &str = "anabranch";
const FILE: &str = "contexts.json";

/// No such file is longer.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// All contexts of a user.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Contexts {
    /// Where they are kept; `None`: the user has no directory.
    #[serde(skip)]
    path: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    in_use: Option<String>,
    #[serde(default)]
    contexts: BTreeMap<String, Entry>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where the log is.
    pub log: String,
    /// The file of the key to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// The file of the CA by which the server has to be certified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_ca: Option<PathBuf>,
}

impl Contexts {
    /// Those of the user who has these variables; none if there is no file.
    pub fn load(
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, Failure> {
        let mut contexts = match place(environment) {
            Some(path) => Self::read(&path)?,
            None => return Ok(Self::default()),
        };
        // One that was taken out by hand is used no more.
        contexts.in_use = contexts
            .in_use
            .filter(|name| contexts.contexts.contains_key(name));
        Ok(contexts)
    }

    fn read(path: &Path) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let failed = |error: &io::Error| Failure::file("read the contexts in", &name, error);
        let text = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => "{}".to_owned(),
            Err(error) => return Err(failed(&error)),
            Ok(file) if file.len() > FILE_BYTES_MAX => {
                return Err(failed(&io::Error::other("it is too long")));
            }
            Ok(_) => fs::read_to_string(path).map_err(|error| failed(&error))?,
        };
        let read: Result<Self, _> = serde_json::from_str(&text);
        let mut contexts = read.map_err(|error| failed(&error.into()))?;
        contexts.path = Some(path.to_owned());
        Ok(contexts)
    }

    /// The one that is used where none is named.
    pub fn in_use(&self) -> Option<(&str, &Entry)> {
        let name = self.in_use.as_deref()?;
        Some((name, self.contexts.get(name)?))
    }

    /// All of them, by their names.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.contexts
            .iter()
            .map(|(name, entry)| (name.as_str(), entry))
    }

    /// The one of this name.
    pub fn named(&self, name: &str) -> Result<&Entry, Failure> {
        self.contexts.get(name).ok_or_else(|| {
            let what = format!("there is no context {name:?}");
            Failure::new(Exit::NotFound, "no-such-context", what)
                .safe("nothing was asked for")
                .remedy("see `anabranch context ls`; `anabranch context add` makes one")
        })
    }

    /// Adds one, or changes the one of this name.
    pub fn put(&mut self, name: &str, entry: Entry) -> Result<(), Failure> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || !name.chars().all(is_name) {
            return Err(Failure::usage(format!(
                "{name:?} is no name of a context: it has letters, digits, -, _ and ."
            )));
        }
        let address = entry.log.parse::<Address>();
        let address = address.map_err(|error| Failure::usage(error.to_string()))?;
        if entry.log.contains('@') && matches!(address, Address::Server(_)) {
            return Err(Failure::usage("an address holds no secret")
                .remedy("name the file of a key with --key-file"));
        }
        self.contexts.insert(name.to_owned(), entry);
        Ok(())
    }

    /// Uses this one where none is named.
    pub fn choose(&mut self, name: &str) -> Result<(), Failure> {
        self.named(name)?;
        self.in_use = Some(name.to_owned());
        Ok(())
    }

    /// Uses none where none is named.
    pub fn choose_none(&mut self) {
        self.in_use = None;
    }

    /// Forgets one.
    pub fn remove(&mut self, name: &str) -> Result<(), Failure> {
        self.named(name)?;
        self.contexts.remove(name);
        self.in_use = self.in_use.take().filter(|used| used != name);
        Ok(())
    }

    /// Keeps them.
    pub fn save(&self) -> Result<(), Failure> {
        let Some(path) = &self.path else {
            return Err(Failure::usage("there is no directory for contexts")
                .remedy("set HOME, or XDG_CONFIG_HOME"));
        };
        self.write(path).map_err(|error| {
            Failure::file("write the contexts to", &path.display().to_string(), &error)
        })
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let dir = path.parent().unwrap_or(Path::new("."));
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)?;
        // Whole or not at all, and nobody else's to read from its first byte.
        let fresh = path.with_extension(format!("{}.new", std::process::id()));
        let mut options = fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&fresh)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    }
}

fn place(environment: impl IntoIterator<Item = (OsString, OsString)>) -> Option<PathBuf> {
    let mut home = None;
    for (name, value) in environment {
        let path = PathBuf::from(value);
        match name.to_str() {
            Some("XDG_CONFIG_HOME") if path.is_absolute() => {
                return Some(path.join(FOLDER).join(FILE));
            }
            Some("HOME") if path.is_absolute() => home = Some(path),
            _ => {}
        }
    }
    Some(home?.join(".config").join(FOLDER).join(FILE))
}
