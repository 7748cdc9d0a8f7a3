//! A process that was started here.

use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child as Process, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anabranch::access::{KEY_FILE_VARIABLE, KEY_VARIABLE};
use anabranch_runtime::Time;

use super::below;
use super::build::Build;
use super::plan::Declared;

/// Takes each line that a service writes, with the service's name.
pub type Lines = Arc<dyn Fn(&str, &str) + Send + Sync>;

/// How often it is looked whether a process has ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long the last words of a process that has ended are waited for.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(1);

/// The longest part of a line that is passed on as one.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// A process that runs, or has ended. Killed when it is dropped.
pub struct Child {
    process: Mutex<Process>,
    /// Held by each thread that passes on what it writes.
    reading: Arc<()>,
    pid: u32,
}

impl Child {
    /// Starts a service. What it writes goes to `lines`. When this process ends, however that is, its
    /// input ends too, which tells those that watch it, and the system asks it to end.
    pub fn start(
        name: &str,
        declared: &Declared,
        build: &Build,
        lines: &Lines,
    ) -> std::io::Result<Self> {
        let mut command = below::command(&build.program, &declared.dir)?;
        command
            .args(&build.args)
            // Of this program's keys a service is handed the one that is declared for it.
            .env_remove(KEY_VARIABLE)
            .env_remove(KEY_FILE_VARIABLE)
            .envs(&declared.env)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C is for the supervisor, which stops its services in order.
            .process_group(0);
        let mut process = below::start(command)?;
        let reading = Arc::new(());
        if let Some(stdout) = process.stdout.take() {
            pass_on(name, stdout, lines, &reading)?;
        }
        if let Some(stderr) = process.stderr.take() {
            pass_on(name, stderr, lines, &reading)?;
        }
        Ok(Self {
            reading,
            pid: process.id(),
            process: Mutex::new(process),
        })
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for its end, and until its last words are passed on.
    pub async fn ended(&self, time: &Time) -> std::io::Result<ExitStatus> {
        let status = loop {
            if let Some(status) = self.process().try_wait()? {
                break status;
            }
            time.sleep(LOOK_EVERY).await;
        };
        // What it has started may still live, and write where it wrote.
        let since = time.monotonic();
        while Arc::strong_count(&self.reading) > 1
            && time.monotonic().saturating_sub(since) < LAST_WORDS_WITHIN
        {
            time.sleep(LOOK_EVERY).await;
        }
        Ok(status)
    }

    /// Asks it to end.
    pub fn terminate(&self) -> std::io::Result<()> {
        let mut process = self.process();
        // While it is not waited for, its number is no other's.
        if process.try_wait()?.is_none() {
            let pid = self.pid.to_string();
            let kill = Command::new("sh")
                .args(["-c", "kill -TERM \"$0\"", &pid])
                .stderr(Stdio::null())
                .status();
            kill.map(drop)?;
        }
        Ok(())
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&self) -> std::io::Result<()> {
        self.process().kill()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let mut process = self.process();
        // Who has ended already is not killed.
        drop(process.kill());
        drop(process.wait());
    }
}

/// Passes on what a service writes, line by line, on a thread that ends with it.
fn pass_on(
    name: &str,
    from: impl Read + Send + 'static,
    lines: &Lines,
    reading: &Arc<()>,
) -> std::io::Result<()> {
    let (name, lines, reading) = (name.to_owned(), lines.clone(), reading.clone());
    let read = move || {
        let _reading = reading;
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        loop {
            line.clear();
            match from
                .by_ref()
                .take(LINE_BYTES_MAX)
                .read_until(b'\n', &mut line)
            {
                Ok(0) | Err(_) => return,
                Ok(_) => lines(&name, String::from_utf8_lossy(&line).trim_end()),
            }
        }
    };
    let thread = thread::Builder::new().name("up-output".to_owned());
    thread.spawn(read).map(drop)
}

/// How a process has ended, in words.
pub fn words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}
