//! Opening the log that the settings name.

#![expect(
    clippy::disallowed_methods,
    reason = "this is about files that the user names"
)]

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use anabranch::Address;
use anabranch::log::{Log, MemoryLog};
use anabranch::segment::{Durability, SegmentLog};

use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::{Form, note};

/// An open log.
pub struct Opened {
    /// The log.
    pub log: Arc<dyn Log>,
    segment: Option<Arc<SegmentLog>>,
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

/// Opens the log for appending; makes it if there is none.
pub fn open(context: &Context) -> Result<Opened, Failure> {
    let settings = &context.settings;
    let Address::Directory(dir) = &settings.log else {
        return Ok(memory(context));
    };
    check_private(dir)?;
    let log = SegmentLog::open(context.env.clone(), dir, settings.options.clone())?;
    if settings.form == Form::Text
        && let Durability::Interval(every) = settings.options.durability
    {
        note(&format!(
            "note: durability is interval: a power cut may lose what was acknowledged in the last {} ms",
            every.as_millis()
        ));
    }
    Ok(directory(context, log))
}

/// Opens the log for reading, also while another process writes to it.
pub fn open_read_only(context: &Context) -> Result<Opened, Failure> {
    let settings = &context.settings;
    let Address::Directory(dir) = &settings.log else {
        return Ok(memory(context));
    };
    check_kind(dir)?;
    let log = SegmentLog::open_read_only(context.env.clone(), dir, settings.options.clone())?;
    Ok(directory(context, log))
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
    }
}

fn directory(context: &Context, log: SegmentLog) -> Opened {
    let segment = Arc::new(log);
    Opened {
        log: segment.clone(),
        segment: Some(segment),
        form: context.settings.form,
    }
}

fn memory(context: &Context) -> Opened {
    let limits = context.settings.options.limits;
    Opened {
        log: Arc::new(MemoryLog::with_limits(context.env.clone(), limits)),
        segment: None,
        form: context.settings.form,
    }
}

/// Refuses what is there and is no directory.
fn check_kind(dir: &Path) -> Result<Option<fs::Metadata>, Failure> {
    let name = dir.display();
    match fs::metadata(dir) {
        Ok(found) if found.is_dir() => Ok(Some(found)),
        Ok(_) => Err(Failure::new(
            Exit::Failed,
            "not-a-directory",
            format!("{name} is a file; a log is a directory"),
        )
        .safe("the file is as it was")
        .remedy("name another directory with --log")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::new(
            Exit::Failed,
            "io",
            format!("cannot look at {name}: {error}"),
        )),
    }
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
