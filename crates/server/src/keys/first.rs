//! The first key of a log.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anabranch_access::{CATEGORY, FIRST_KEY_FILE, Key, KeyAdded, KeyFact, Scopes};
use anabranch_env::{Env, OpenMode};
use anabranch_log::{Append, AppendError, Condition, Expect, Log, ReadError, ReadMode};
use anabranch_model::{Cut, EventId, EventType, Filter, NewEvent, StreamId};
use thiserror::Error;

/// A log has no first key, and none could be made.
#[derive(Error)]
pub enum FirstKeyError {
    /// Its file cannot be written.
    #[error("the first key cannot be written to {file}: {source}")]
    File {
        /// The file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// The log cannot be read.
    #[error("the log cannot be asked for its keys: {0}")]
    Read(#[from] ReadError),
    /// It cannot be appended to.
    #[error("the first key cannot be said on the log: {0}")]
    Append(#[from] AppendError),
    /// What should be said has no form.
    #[error("the first key cannot be said: {0}")]
    Form(String),
}

anabranch_model::debug_is_words!(FirstKeyError);

/// Makes the first key of a log that speaks of none: it may do everything. It is written to a file of the
/// log's directory, readable by the owner alone; which is given the one time that it is made.
pub async fn first_key(
    env: &Env,
    log: &Arc<dyn Log>,
    dir: &Path,
) -> Result<Option<PathBuf>, FirstKeyError> {
    let mut read = log.read(&Cut::start(), Filter::category(CATEGORY), ReadMode::ToHead);
    if let Some(event) = read.next().await {
        event?;
        return Ok(None);
    }
    let key = Key::generate(&*env.rng);
    let path = dir.join(FIRST_KEY_FILE);
    // First the file: a key that nobody has would be of no use, and one that is on no log is none.
    write(env, dir, &key).map_err(|source| FirstKeyError::File {
        file: path.display().to_string(),
        source,
    })?;
    let fact = KeyFact::Added(KeyAdded {
        name: "first key".to_owned(),
        hash: key.hash().to_string(),
        scopes: Scopes::everything(),
        expires_at: None,
    });
    let id = EventId::v7(env.clock.wall_micros() / 1000, env.rng.next_u128());
    let append = key_append(id, key.id(), &fact).map_err(FirstKeyError::Form)?;
    log.append(append).await?;
    Ok(Some(path))
}

/// What says a fact about the key of this id on the log; a new key has to be new.
pub fn key_append(id: EventId, key: &str, fact: &KeyFact) -> Result<Append, String> {
    let (event_type, data) = fact.event().map_err(|error| error.to_string())?;
    let stream = StreamId::system(format!("{CATEGORY}/{key}"));
    let stream = stream.map_err(|error| error.to_string())?;
    let event_type = EventType::new(event_type).map_err(|error| error.to_string())?;
    let expect = match fact {
        KeyFact::Added(_) => Expect::Empty,
        KeyFact::Revoked => Expect::Exists,
    };
    Ok(Append {
        events: vec![NewEvent::new(id, stream.clone(), event_type, data)],
        conditions: vec![Condition::Stream(stream, expect)],
    })
}

fn write(env: &Env, dir: &Path, key: &Key) -> io::Result<()> {
    let (path, fresh) = (dir.join(FIRST_KEY_FILE), dir.join("admin.key.new"));
    if env.disk.exists(&fresh)? {
        env.disk.remove(&fresh)?;
    }
    let file = env.disk.open(&fresh, OpenMode::Create)?;
    file.write_all_at(format!("{}\n", key.reveal()).as_bytes(), 0)?;
    file.sync_data()?;
    env.disk.rename(&fresh, &path)?;
    env.disk.sync_dir(dir)
}
