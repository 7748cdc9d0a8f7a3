//! Opening the log that the settings name.

#![expect(
    clippy::disallowed_methods,
    reason = "this is about files that the user names"
)]

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anabranch::env::Env;
use anabranch::log::{Log, MemoryLog, OpenError};
use anabranch::remote::{self, RemoteLog};
use anabranch::segment::{Durability, EmbeddedLog};
use anabranch::{Address, DatabaseAddress};

use anabranch_runtime::Time;
use anabranch_server::{Present, guarded};

use crate::context::Context;
use crate::credential;
use crate::database::{self, Use};
use crate::failure::{Exit, Failure};
use crate::output::{Form, note};
use crate::remote_disk;

/// An open log.
pub struct Opened {
    /// The log.
    pub log: Arc<dyn Log>,
    segment: Option<Arc<EmbeddedLog>>,
    form: Form,
}

impl Opened {
    /// Closes the log; says so if that could not be done properly.
    pub fn close(self) -> Result<(), Failure> {
        let Some(segment) = self.segment else {
            return Ok(());
        };
        let closed = segment.close();
        if self.form == Form::Text {
            for text in segment.notes() {
                note(&format!("note: {text}"));
            }
        }
        Ok(closed?)
    }
}

/// Opens the log for appending; makes it if there is none. If a program that serves the log has
/// it open, by that program.
pub fn open(context: &Context) -> Result<Opened, Failure> {
    let opened = match &context.settings.log {
        Address::Directory(dir) => (dir.as_path(), try_open_here(context)?),
        Address::Server(url) => return served(context, url, None),
        Address::Memory => return Ok(memory(context)),
        Address::Database(_) => (Path::new(""), try_open_here(context)?),
    };
    match opened {
        // What a service owns stays its own while no server runs.
        (_, Ok(opened)) => Ok(Opened {
            log: guarded(opened.log, Time::of(&context.env)),
            ..opened
        }),
        (dir, Err(locked)) => beside(context, dir, locked),
    }
}

/// Opens the log for appending by this program alone.
pub fn open_here(context: &Context) -> Result<Opened, Failure> {
    Ok(try_open_here(context)??)
}

/// The log, or that another program has it.
fn try_open_here(context: &Context) -> Result<Result<Opened, OpenError>, Failure> {
    let settings = &context.settings;
    let dir = match &settings.log {
        Address::Directory(dir) => dir,
        Address::Server(url) => return served(context, url, None).map(Ok),
        Address::Memory => return Ok(Ok(memory(context))),
        Address::Database(address) => return in_database(context, address, Use::Append).map(Ok),
    };
    check_new(dir)?;
    let log = match EmbeddedLog::open(context.env.clone(), dir, settings.options.clone()) {
        Err(locked @ OpenError::Locked { .. }) => return Ok(Err(locked)),
        opened => opened?,
    };
    if settings.form == Form::Text
        && let Durability::Interval(every) = settings.options.durability
    {
        note(&format!(
            "note: durability is interval: a power cut may lose what was acknowledged in the last {} ms",
            every.as_millis()
        ));
    }
    Ok(Ok(directory(context, log)))
}

/// Opens the log for reading, also while another process writes to it.
pub fn open_read_only(context: &Context) -> Result<Opened, Failure> {
    let settings = &context.settings;
    let dir = match &settings.log {
        Address::Directory(dir) => dir,
        Address::Server(url) => return served(context, url, None),
        Address::Memory => return Ok(memory(context)),
        Address::Database(address) => return in_database(context, address, Use::Read),
    };
    check_kind(dir)?;
    let log = EmbeddedLog::open_read_only(context.env.clone(), dir, settings.options.clone())?;
    Ok(directory(context, log))
}

/// The log in this directory, for reading.
pub fn read_only_at(dir: &Path, context: &Context) -> Result<Arc<dyn Log>, Failure> {
    let (env, options) = (context.env.clone(), context.settings.options.clone());
    Ok(Arc::new(EmbeddedLog::open_read_only(env, dir, options)?))
}

/// The files of the log, here or behind a server, for commands that read them: where to read, and the
/// log's directory there.
pub async fn files_of(context: &Context) -> Result<(Env, PathBuf), Failure> {
    match &context.settings.log {
        Address::Server(url) => remote_disk::log_of(url, context).await,
        Address::Directory(_) | Address::Memory | Address::Database(_) => {
            Ok((context.env.clone(), directory_of(context)?.to_owned()))
        }
    }
}

/// The directory of the log, for commands that only a log in a directory has.
pub fn directory_of(context: &Context) -> Result<&Path, Failure> {
    match &context.settings.log {
        Address::Directory(dir) => {
            check_kind(dir)?;
            Ok(dir)
        }
        Address::Memory => Err(Failure::usage(
            "a log in memory ends with the command, so there is nothing to look after",
        )
        .remedy("name a directory with --log")),
        Address::Database(address) => Err(Failure::usage(format!(
            "the log at {address} has no files: PostgreSQL keeps its events and has tools of its own for that"
        ))
        .remedy("`anabranch log info` says what the log is; pg_dump backs it up")),
        Address::Server(url) => Err(Failure::usage(format!(
            "the files of a log are looked after where they are, and {url} is a server"
        ))
        .remedy("name its directory with --log, on its machine")),
    }
}

/// The log of a directory that another program has open: if that serves it, by its server.
fn beside(context: &Context, dir: &Path, locked: OpenError) -> Result<Opened, Failure> {
    let found = Present::find(&context.env, dir);
    match found {
        Ok(Some(present)) => {
            // Who has gone has left its file, and whoever holds the log now serves nothing.
            served(context, &present.url, present.log).map_err(|_| locked.into())
        }
        Ok(None) | Err(_) => Err(locked.into()),
    }
}

/// The log behind a server.
pub fn served(context: &Context, url: &str, log: Option<String>) -> Result<Opened, Failure> {
    let mut options = remote::Options::default();
    options.log = log;
    options.key = credential::find(context)?;
    options.trust = credential::trust(context)?;
    Ok(Opened {
        log: Arc::new(RemoteLog::open(url, options)?),
        segment: None,
        form: context.settings.form,
    })
}

fn directory(context: &Context, log: EmbeddedLog) -> Opened {
    let segment = Arc::new(log);
    Opened {
        log: segment.clone(),
        segment: Some(segment),
        form: context.settings.form,
    }
}

fn in_database(
    context: &Context,
    address: &DatabaseAddress,
    wanted: Use,
) -> Result<Opened, Failure> {
    let opened = database::open(address, wanted, None, context)?;
    if context.settings.form == Form::Text && wanted == Use::Append && opened.durability != "sync" {
        note(&format!(
            "note: durability is {}: nobody looks whether what is acknowledged survives a power cut",
            opened.durability
        ));
    }
    Ok(Opened {
        log: opened.log,
        segment: None,
        form: context.settings.form,
    })
}

fn memory(context: &Context) -> Opened {
    let limits = context.settings.options.limits;
    Opened {
        log: Arc::new(MemoryLog::with_limits(context.env.clone(), limits)),
        segment: None,
        form: context.settings.form,
    }
}

/// Refuses what is there and is no log's directory.
fn check_kind(dir: &Path) -> Result<Option<fs::Metadata>, Failure> {
    let found = check_directory(dir, "a log")?;
    if found.is_some() && dir.join(MANIFEST).exists() && !dir.join("mark").exists() {
        let name = dir.display();
        let what = format!("{name} holds a backup, which is not a log");
        return Err(Failure::new(Exit::Failed, "backup", what)
            .safe("the backup is as it was")
            .remedy(format!(
                "make a log of it: anabranch log restore {name} --log NEW"
            )));
    }
    Ok(found)
}

/// What a backup's list of its files is called.
const MANIFEST: &str = "backup.manifest";

/// What is at `dir`, if anything is. Refuses what cannot be `what`: a file, something in a file,
/// a link that leads nowhere.
pub fn check_directory(dir: &Path, what: &str) -> Result<Option<fs::Metadata>, Failure> {
    let name = dir.display();
    let refuse = |code: &'static str, text: String| {
        let other = "name another directory";
        Failure::new(Exit::Failed, code, text)
            .safe("nothing was changed")
            .remedy(if what == "a log" {
                format!("{other} with --log")
            } else {
                other.to_owned()
            })
    };
    let error = match fs::metadata(dir) {
        Ok(found) if found.is_dir() => return Ok(Some(found)),
        Ok(_) => {
            let text = format!("{name} is a file; {what} is a directory");
            return Err(refuse("not-a-directory", text));
        }
        Err(error) => error,
    };
    for part in dir.ancestors() {
        let Ok(found) = fs::symlink_metadata(part) else {
            continue;
        };
        let shown = part.display();
        if found.is_symlink() && !part.exists() {
            let to = fs::read_link(part).unwrap_or_default();
            let text = format!(
                "{shown} is a symbolic link to {}, which leads nowhere",
                to.display()
            );
            return Err(refuse("dangling-link", text));
        }
        if found.is_file() {
            let text = format!("{shown} is a file, so nothing can be at {name}");
            return Err(refuse("not-a-directory", text));
        }
        break;
    }
    match error.kind() {
        io::ErrorKind::NotFound => Ok(None),
        _ => Err(refuse("io", format!("cannot look at {name}: {error}"))),
    }
}

/// Refuses a directory that is to be made inside a log or a backup: whoever looks after that one
/// would move, copy or remove it too.
pub fn check_outside(dir: &Path) -> Result<(), Failure> {
    if holds(dir).is_some() {
        return Ok(());
    }
    let above = real(dir);
    for part in above.ancestors().skip(1) {
        if let Some(what) = holds(part) {
            let (name, part) = (dir.display(), part.display());
            let text = format!("{name} would be inside {part}, which is {what}");
            return Err(Failure::new(Exit::Failed, "inside-a-log", text)
                .safe("nothing was written")
                .remedy("name a directory outside"));
        }
    }
    Ok(())
}

/// Whether a directory is a log or a backup, and which.
fn holds(dir: &Path) -> Option<&'static str> {
    if dir.join(MANIFEST).is_file() {
        return Some("a backup");
    }
    // Many a directory may have a file of that name.
    let is_segment = |entry: io::Result<fs::DirEntry>| {
        entry.is_ok_and(|entry| entry.path().extension().is_some_and(|end| end == "seg"))
    };
    let has_segment = || fs::read_dir(dir).is_ok_and(|mut list| list.any(is_segment));
    let is_log = dir.join("layout").is_file() || (dir.join("mark").is_file() && has_segment());
    is_log.then_some("a log")
}

/// The path without links. What is not there yet is in nothing but the directory that it will be
/// made in.
pub fn real(path: &Path) -> PathBuf {
    path.ancestors()
        .find_map(|ancestor| {
            let rest = path.strip_prefix(ancestor).ok()?;
            let known = if ancestor.as_os_str().is_empty() {
                Path::new(".")
            } else {
                ancestor
            };
            Some(fs::canonicalize(known).ok()?.join(rest))
        })
        .unwrap_or_else(|| path.to_owned())
}

/// Refuses a directory in which no log can be made.
pub fn check_new(dir: &Path) -> Result<(), Failure> {
    check_private(dir)?;
    check_outside(dir)
}

/// Refuses a directory that anybody may write to: what stands there proves nothing.
fn check_private(dir: &Path) -> Result<(), Failure> {
    const WRITABLE_BY_ALL: u32 = 0o002;
    match check_kind(dir)? {
        Some(found) if found.permissions().mode() & WRITABLE_BY_ALL != 0 => {
            let name = dir.display();
            let what = format!("everybody on this machine may write to {name}");
            Err(Failure::new(Exit::Failed, "world-writable", what)
                .safe("nothing was written")
                .remedy(format!(
                    "chmod o-w {name}, or name another directory with --log"
                )))
        }
        _ => Ok(()),
    }
}
