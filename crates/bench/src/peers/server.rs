//! Servers of other systems: found on this machine, started, and stopped again.

#![expect(
    clippy::disallowed_methods,
    reason = "it keeps what servers say, and waits for them"
)]

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anabranch_env::{Disk, Env, OpenMode};
use tokio::net::TcpListener;
#[cfg(feature = "peers")]
use tokio::net::TcpStream;

use crate::error::BenchError;

/// What a program says of its version, reduced to the version's number.
#[cfg(feature = "peers")]
pub fn version(program: &Path) -> io::Result<String> {
    let output = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .output()?;
    Ok(number_in(&String::from_utf8_lossy(&output.stdout)))
}

/// The first word with digits and a dot, without what stands around it.
#[cfg(feature = "peers")]
fn number_in(text: &str) -> String {
    let word = text
        .split_whitespace()
        .map(|word| word.trim_start_matches(|c: char| !c.is_ascii_digit()))
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'));
    word.unwrap_or("of unknown version").to_owned()
}

/// A loopback address that nobody listened on a moment ago.
pub async fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await?
        .local_addr()
}

/// A server at work. Stopped with this value.
pub struct Server {
    peer: &'static str,
    child: Child,
    log: PathBuf,
    stop: Option<Command>,
}

/// How long a server may take to come up.
const PATIENCE: Duration = Duration::from_secs(30);

impl Server {
    /// Starts `command`, whose output goes to a file in `dir`.
    pub fn start(peer: &'static str, dir: &Path, mut command: Command) -> Result<Self, BenchError> {
        let log = dir.join("server.log");
        let mut start = || -> io::Result<Child> {
            let out = std::fs::File::create(&log)?;
            let err = out.try_clone()?;
            command
                .stdin(Stdio::null())
                .stdout(out)
                .stderr(err)
                .current_dir(dir)
                .spawn()
        };
        let child = start().map_err(BenchError::io(format!("starting {peer}")))?;
        Ok(Self {
            peer,
            child,
            log,
            stop: None,
        })
    }

    /// The same server, stopped by running `command` instead of by a signal.
    #[cfg(feature = "peers")]
    #[must_use]
    pub fn stopped_by(mut self, command: Command) -> Self {
        self.stop = Some(command);
        self
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `attempt` succeeds once, and gives what it gave.
    pub async fn ready<T, E: std::fmt::Display>(
        &mut self,
        mut attempt: impl AsyncFnMut() -> Result<T, E>,
    ) -> Result<T, BenchError> {
        let clock = Env::os().clock;
        let begun = clock.monotonic();
        loop {
            let error = match attempt().await {
                Ok(ready) => return Ok(ready),
                Err(error) => error,
            };
            let ended = self.child.try_wait();
            if let Some(status) = ended.map_err(BenchError::io("looking after a server"))? {
                return Err(self.failed(&format!("its server ended with {status}")));
            }
            if clock.monotonic().saturating_sub(begun) > PATIENCE {
                return Err(self.failed(&format!(
                    "its server did not answer within {} s: {error}",
                    PATIENCE.as_secs()
                )));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn failed(&self, what: &str) -> BenchError {
        let said = last_lines(&*Env::os().disk, &self.log);
        BenchError::Peer {
            peer: self.peer,
            reason: format!("{what}; its last words: {said}"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let mut stop = || -> io::Result<()> {
            match &mut self.stop {
                Some(command) => {
                    command
                        .stdout(Stdio::null())
                        .stderr(Stdio::null())
                        .status()?;
                }
                // Its data is thrown away: there is nothing that it should save.
                None => self.child.kill()?,
            }
            self.child.wait().map(drop)
        };
        // A server that cannot be stopped has ended before.
        let _ = stop();
    }
}

fn last_lines(disk: &dyn Disk, path: &Path) -> String {
    let read = || -> io::Result<String> {
        let file = disk.open(path, OpenMode::Read)?;
        let len = file.len()?;
        let tail_len = len.min(600);
        let mut tail = vec![0; tail_len as usize];
        file.read_exact_at(&mut tail, len - tail_len)?;
        Ok(String::from_utf8_lossy(&tail).trim().to_owned())
    };
    read().unwrap_or_else(|error| format!("unknown ({error})"))
}

/// Connects over TCP without delay for small packets.
#[cfg(feature = "peers")]
pub async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[cfg(all(test, feature = "peers"))]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        for (said, number) in [
            ("Redis server v=7.0.15 sha=0:0 malloc=jemalloc", "7.0.15"),
            ("nats-server: v2.9.10", "2.9.10"),
            ("postgres (PostgreSQL) 15.18 (Debian)", "15.18"),
            ("hello", "of unknown version"),
        ] {
            assert_eq!(number_in(said), number);
        }
    }
}
