//! A process below this one: when this one is gone, however that has ended, the system asks it to end.
//!
//! The program is started anew with a [word](WORD) before what it is to become. There it tells the system
//! so, which only a process itself can, and then becomes the other program, with the same number.

#![expect(
    clippy::disallowed_methods,
    reason = "this is about a file that the user names"
)]

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command};
use std::sync::mpsc::{self, Sender, SyncSender};
use std::sync::{Mutex, PoisonError};
use std::thread;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use crate::failure::{Exit, Failure};

/// Stands first on the command line of a process that is to become another.
const WORD: &str = "--below";

/// A command that becomes `program`.
pub fn command(program: &str, dir: &Path) -> io::Result<Command> {
    // Who becomes nothing cannot say so in time.
    if program.contains('/') && !dir.join(program).exists() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let this = this_program(std::env::current_exe()?);
    let mut command = Command::new(&this);
    command.arg(WORD).arg(process::id().to_string());
    match program {
        "anabranch" => command.arg(this),
        other => command.arg(other),
    };
    command.current_dir(dir);
    Ok(command)
}

/// This program, also when another file has taken the place of its own.
pub fn this_program(path: PathBuf) -> PathBuf {
    match path.to_string_lossy().ends_with(" (deleted)") {
        true => "/proc/self/exe".into(),
        false => path,
    }
}

/// Starts a process. That is done by a thread that lives as long as this process: to the system it is
/// that thread whose end counts.
pub fn start(command: Command) -> io::Result<Child> {
    let (answer, answered) = mpsc::sync_channel(1);
    let gone = || io::Error::other("the thread that starts processes is gone");
    let sent = starter()?.send((command, answer));
    sent.map_err(|_| gone())?;
    answered.recv().map_err(|_| gone())?
}

type Start = (Command, SyncSender<io::Result<Child>>);

fn starter() -> io::Result<Sender<Start>> {
    static STARTER: Mutex<Option<Sender<Start>>> = Mutex::new(None);
    let mut starter = STARTER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(starter) = &*starter {
        return Ok(starter.clone());
    }
    let (send, starts) = mpsc::channel::<Start>();
    let work = move || {
        for (mut command, answer) in starts {
            // Who has asked waits.
            drop(answer.send(command.spawn()));
        }
    };
    thread::Builder::new()
        .name("up-starter".to_owned())
        .spawn(work)?;
    *starter = Some(send.clone());
    Ok(send)
}

/// Becomes another program, if the command line says so. Gives why it has not.
pub fn become_other() -> Option<Failure> {
    let mut words = std::env::args_os().skip(1);
    if words.next()? != WORD {
        return None;
    }
    let failed = |what: String| {
        Some(Failure::new(Exit::Failed, "not-started", what).safe("it was not started"))
    };
    let (Some(parent), Some(program)) = (words.next(), words.next()) else {
        return failed(format!("{WORD} is for `anabranch up` alone"));
    };
    if let Err(error) = set_parent_process_death_signal(Some(Signal::TERM)) {
        return failed(format!("cannot end with who has started it: {error}"));
    }
    // It may have gone before the system knew.
    if getppid().map(|above| OsString::from(above.to_string())) != Some(parent) {
        return failed("who has started it is gone".to_owned());
    }
    let error = Command::new(&program).args(words).exec();
    let program = program.display();
    failed(format!("{program} cannot be started: {error}"))
}
