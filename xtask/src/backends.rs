//! `cargo xtask backends`: servers that tests need, on loopback ports of their own.
//!
//! `up` starts them and says where they are; `down` stops them and removes what they hold.
//! Tests find them by the environment, or by the file that `up` writes below the target
//! directory, so that a plain `cargo test` uses them too.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anabranch_backends::{Keeps, Postgres};

use crate::commands::Outcome;
use crate::workspace::Workspace;

/// Tells tests where PostgreSQL is.
pub const POSTGRES: &str = "ANABRANCH_TEST_POSTGRES";

/// `cargo xtask backends up`.
pub fn up(workspace: &Workspace) -> Outcome {
    let (address, is_new) = Place::of(workspace)?.up(Keeps::Everything)?;
    let how = if is_new { "started" } else { "runs already" };
    eprintln!("PostgreSQL {how}; `cargo xtask backends down` stops it");
    eprintln!("postgres {address}");
    match Place::of(workspace)?.pooler() {
        Ok(address) => eprintln!("pgbouncer {address}"),
        Err(why) => eprintln!("NO POOLER: {why}"),
    }
    println!("export {POSTGRES}={address}");
    Ok(())
}

/// `cargo xtask backends down`.
pub fn down(workspace: &Workspace) -> Outcome {
    Place::of(workspace)?.down()?;
    eprintln!("PostgreSQL does not run");
    Ok(())
}

/// `cargo xtask backends status`.
pub fn status(workspace: &Workspace) -> Outcome {
    match Place::of(workspace)?.running()? {
        Some(server) => println!("export {POSTGRES}={}", server.address()?),
        None => eprintln!("PostgreSQL does not run; `cargo xtask backends up` starts it"),
    }
    Ok(())
}

/// The servers for a run of tests. They are stopped with this value, unless they ran before.
pub struct Backends {
    /// What to add to the environment of the tests.
    pub environment: Vec<(&'static str, String)>,
    /// What could not be started, and why.
    pub missing: Vec<String>,
    started: Option<Place>,
}

impl Backends {
    /// Starts what does not run.
    pub fn for_tests(workspace: &Workspace) -> Self {
        let mut backends = Self {
            environment: Vec::new(),
            missing: Vec::new(),
            started: None,
        };
        // Who runs the tests may have a server of his own.
        if std::env::var_os(POSTGRES).is_some() {
            return backends;
        }
        let place = Place::of(workspace);
        match place.and_then(|place| Ok((place.up(Keeps::Nothing)?, place))) {
            Ok(((address, is_new), place)) => {
                backends.environment.push((POSTGRES, address));
                backends.started = is_new.then_some(place);
            }
            Err(why) => backends
                .missing
                .push(format!("tests that need PostgreSQL: {why}")),
        }
        backends
    }

    /// Stops what was started.
    pub fn stop(&mut self) -> Outcome {
        self.started.take().map_or(Ok(()), |place| place.down())
    }
}

impl Drop for Backends {
    fn drop(&mut self) {
        if let Err(why) = self.stop() {
            eprintln!("PostgreSQL was not stopped: {why}");
        }
    }
}

/// Where it is written down which server runs.
struct Place {
    /// Holds the server's directory.
    file: PathBuf,
    /// Holds the server's address, for tests.
    address: PathBuf,
    /// Holds the address of the pooler before it, if one was started.
    pooler: PathBuf,
}

impl Place {
    fn of(workspace: &Workspace) -> Outcome<Self> {
        let metadata = workspace.metadata(&["--no-deps"])?;
        let target = metadata["target_directory"]
            .as_str()
            .ok_or("cargo metadata names no target directory")?;
        let dir = Path::new(target).join("backends");
        told(std::fs::create_dir_all(&dir), &dir)?;
        Ok(Self {
            file: dir.join("postgres.dir"),
            address: dir.join("postgres.address"),
            pooler: dir.join("pooler.address"),
        })
    }

    fn running(&self) -> Outcome<Option<Postgres>> {
        let Ok(dir) = std::fs::read_to_string(&self.file) else {
            return Ok(None);
        };
        let server = Postgres::at(dir);
        Ok(server.is_running()?.then_some(server))
    }

    /// The server's address, and whether it was started just now.
    fn up(&self, keeps: Keeps) -> Outcome<(String, bool)> {
        if let Some(server) = self.running()? {
            return Ok((server.address()?, false));
        }
        // What is left of one that was killed.
        self.down()?;
        // Not below the target directory: the server's user may not be able to get there.
        let name = format!("anabranch-postgres-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        let server = Postgres::start_that_keeps(&dir, keeps)?;
        told(
            std::fs::write(&self.file, dir.display().to_string()),
            &self.file,
        )?;
        let address = server.address()?;
        told(write_private(&self.address, &address), &self.address)?;
        Ok((address, true))
    }

    /// The address of a pooler before the server, which is started with it.
    fn pooler(&self) -> Outcome<String> {
        let server = self.running()?.ok_or("PostgreSQL does not run")?;
        match std::fs::read_to_string(&self.pooler) {
            Ok(address) => Ok(address),
            Err(_) => {
                let address = server.start_pooler()?;
                told(write_private(&self.pooler, &address), &self.pooler)?;
                Ok(address)
            }
        }
    }

    fn down(&self) -> Outcome {
        if let Ok(dir) = std::fs::read_to_string(&self.file) {
            Postgres::at(dir).stop()?;
        }
        for file in [&self.file, &self.address, &self.pooler] {
            match std::fs::remove_file(file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(format!("{}: {error}", file.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The address holds a password.
fn write_private(file: &Path, text: &str) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options.open(file)?.write_all(text.as_bytes())
}

fn told<T>(outcome: std::io::Result<T>, path: &Path) -> Outcome<T> {
    outcome.map_err(|error| format!("{}: {error}", path.display()))
}
