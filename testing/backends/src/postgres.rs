use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Account, Outcome, find, pooler, told};

/// Where the programs of PostgreSQL are.
#[derive(Debug, Clone)]
pub struct PostgresPrograms {
    /// The server.
    pub postgres: PathBuf,
    /// Makes its directory.
    pub initdb: PathBuf,
    /// Starts and stops it.
    pub pg_ctl: PathBuf,
}

impl PostgresPrograms {
    /// Finds them on the search path or where Debian keeps them; the error says how to get
    /// them.
    pub fn find() -> Outcome<Self> {
        let places = places();
        let found = |program: &str| {
            find(program, &places).ok_or_else(|| {
                format!(
                    "{program} was not found; install PostgreSQL \
                     (Debian: apt-get install postgresql)"
                )
            })
        };
        Ok(Self {
            postgres: found("postgres")?,
            initdb: found("initdb")?,
            pg_ctl: found("pg_ctl")?,
        })
    }
}

/// Where Debian keeps the programs, the newest version first.
fn places() -> Vec<PathBuf> {
    let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") else {
        return Vec::new();
    };
    let mut versions: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let number = entry.file_name().to_str()?.parse().ok()?;
            Some((number, entry.path().join("bin")))
        })
        .collect();
    versions.sort_by(|a, b| b.cmp(a));
    versions.into_iter().map(|(_, path)| path).collect()
}

/// What a server does with what it has acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeps {
    /// It need not outlive the machine: the server does not wait for the disk.
    Nothing,
    /// As the server does by itself.
    Everything,
}

/// A server of its own that runs on when this program ends.
pub struct Postgres {
    dir: PathBuf,
}

/// The user who may do anything in it.
const USER: &str = "anabranch";

impl Postgres {
    /// Starts one whose directory is `dir`, which is made and must not exist. What it holds may
    /// be lost with the machine.
    pub fn start(dir: &Path) -> Outcome<Self> {
        Self::start_that_keeps(dir, Keeps::Nothing)
    }

    /// The same, one that keeps so much.
    pub fn start_that_keeps(dir: &Path, keeps: Keeps) -> Outcome<Self> {
        let programs = PostgresPrograms::find()?;
        let account = Account::for_server()?;
        let made = std::fs::DirBuilder::new().mode(0o700).create(dir);
        told(made, dir)?;
        account.give(dir)?;
        let server = Self {
            dir: dir.to_owned(),
        };
        let started = server.set_up(&programs, &account, keeps);
        if started.is_err() {
            // What went wrong is told; what is left of it helps nobody.
            let _ = std::fs::remove_dir_all(dir);
        }
        started.map(|()| server)
    }

    /// The one that was started with this directory.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    fn set_up(&self, programs: &PostgresPrograms, account: &Account, keeps: Keeps) -> Outcome {
        let password = random_word()?;
        let words = self.dir.join("password");
        let written = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&words)
            .and_then(|mut file| std::io::Write::write_all(&mut file, password.as_bytes()));
        told(written, &words)?;
        account.give_file(&words)?;
        let mut initdb = Command::new(&programs.initdb);
        initdb
            .arg("-D")
            .arg(self.data())
            .args(["-U", USER, "-A", "scram-sha-256", "--pwfile"])
            .arg(&words)
            .args(["-E", "UTF8", "--locale=C", "--no-sync"])
            .current_dir(&self.dir);
        account.run(&mut initdb, "initdb")?;
        let port = free_port()?;
        let careless = match keeps {
            Keeps::Nothing => "-c fsync=off -c synchronous_commit=off -c full_page_writes=off",
            Keeps::Everything => "",
        };
        let options = format!(
            "-h 127.0.0.1 -p {port} -c unix_socket_directories= -c max_connections=200 {careless}"
        );
        let file = self.dir.join("options");
        told(std::fs::write(&file, options), &file)?;
        self.run(programs, account)?;
        let address = format!("postgres://{USER}:{password}@127.0.0.1:{port}/postgres");
        let file = self.dir.join("address");
        told(std::fs::write(&file, address), &file)
    }

    /// Runs it again where it ran, after [`Postgres::kill`].
    pub fn start_again(&self) -> Outcome {
        self.run(&PostgresPrograms::find()?, &Account::for_server()?)
    }

    /// Kills it, with all of its processes, as the system does that is out of memory.
    pub fn kill(&self) -> Outcome {
        let file = self.data().join("postmaster.pid");
        let text = told(std::fs::read_to_string(&file), &file)?;
        let first = text.lines().next().unwrap_or_default();
        let parent: u32 = first
            .parse()
            .map_err(|_| format!("{}: it names no process", file.display()))?;
        // The first goes first: it would start the others again.
        let children = children_of(parent)?;
        let all: Vec<u32> = std::iter::once(parent).chain(children).collect();
        for process in &all {
            let mut kill = Command::new("kill");
            kill.args(["-KILL", &process.to_string()]);
            // Those that have gone with the first are no mistake.
            let ended = kill.stderr(Stdio::null()).status();
            ended.map_err(|error| format!("kill: {error}"))?;
        }
        while all.iter().any(|process| is_alive(*process)) {
            std::thread::yield_now();
        }
        // The next one would not begin while somebody has not taken note of the end of this one.
        told(std::fs::remove_file(&file), &file)
    }

    /// Keeps a copy of its data as they are. It must not run.
    pub fn keep_copy(&self) -> Outcome {
        copy(&self.data(), &self.older())
    }

    /// Puts the copy in the place of its data. It must not run.
    pub fn put_back_copy(&self) -> Outcome {
        copy(&self.older(), &self.data())
    }

    fn older(&self) -> PathBuf {
        self.dir.join("older")
    }

    fn run(&self, programs: &PostgresPrograms, account: &Account) -> Outcome {
        let file = self.dir.join("options");
        let options = told(std::fs::read_to_string(&file), &file)?;
        let mut start = Command::new(&programs.pg_ctl);
        start
            .arg("-D")
            .arg(self.data())
            .args(["-w", "-t", "60", "-o", &options, "-l"])
            .arg(self.log())
            .arg("start")
            .current_dir(&self.dir);
        account.set(&mut start);
        // The server keeps what it is given: its output would hold up whoever reads ours.
        let status = start
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => {
                let said = std::fs::read_to_string(self.log()).unwrap_or_default();
                let said = said.trim();
                Err(format!("pg_ctl start failed ({status}): {said}"))
            }
            Err(error) => Err(format!("pg_ctl start: {error}")),
        }
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// `postgres://user:password@127.0.0.1:port/database`.
    pub fn address(&self) -> Outcome<String> {
        let file = self.dir.join("address");
        told(std::fs::read_to_string(&file), &file)
    }

    /// Starts a pooler before it, which lends its connections for one transaction each, and ends with
    /// it; its address.
    pub fn start_pooler(&self) -> Outcome<String> {
        pooler::start(&self.pooler(), &self.address()?, free_port()?)
    }

    fn pooler(&self) -> PathBuf {
        self.dir.join("pooler")
    }

    /// Whether it runs.
    pub fn is_running(&self) -> Outcome<bool> {
        if !self.dir.is_dir() {
            return Ok(false);
        }
        let mut status = self.control("status", &[])?;
        let ended = status
            .status()
            .map_err(|error| format!("pg_ctl: {error}"))?;
        Ok(ended.success())
    }

    /// Stops it, and removes what it has written.
    pub fn stop(&self) -> Outcome {
        pooler::stop(&self.pooler())?;
        if self.is_running()? {
            let mut stop = self.control("stop", &["-m", "immediate", "-w"])?;
            let ended = stop.status().map_err(|error| format!("pg_ctl: {error}"))?;
            if !ended.success() {
                return Err(format!("pg_ctl stop failed ({ended})"));
            }
        }
        match std::fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(format!("{}: {error}", self.dir.display()))
            }
            _ => Ok(()),
        }
    }

    fn control(&self, what: &str, more: &[&str]) -> Outcome<Command> {
        let mut command = Command::new(PostgresPrograms::find()?.pg_ctl);
        command.arg("-D").arg(self.data()).args(more).arg(what);
        command.current_dir(&self.dir);
        command.stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Account::for_server()?.set(&mut command);
        Ok(command)
    }
}

/// The processes that a process has started.
fn children_of(parent: u32) -> Outcome<Vec<u32>> {
    let list = PathBuf::from(format!("/proc/{parent}/task/{parent}/children"));
    let text = told(std::fs::read_to_string(&list), &list)?;
    let numbers = text.split_whitespace();
    Ok(numbers.filter_map(|number| number.parse().ok()).collect())
}

/// Whether a process runs; one that has ended, which nobody has taken note of, does not.
fn is_alive(process: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let state = status
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

/// A loopback port that nobody listened on a moment ago.
fn free_port() -> Outcome<u16> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| format!("looking for a free port: {error}"))
}

/// A password: who else is on this machine has no business on the server.
fn random_word() -> Outcome<String> {
    let source = Path::new("/dev/urandom");
    let mut bytes = [0; 16];
    let read = std::fs::File::open(source).and_then(|mut file| file.read_exact(&mut bytes));
    told(read, source)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Makes `to` the same as `from`, owners and all.
fn copy(from: &Path, to: &Path) -> Outcome {
    if to.exists() {
        told(std::fs::remove_dir_all(to), to)?;
    }
    let mut copy = Command::new("cp");
    let status = copy.arg("-a").arg(from).arg(to).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("cp -a {} ended with {status}", from.display())),
        Err(error) => Err(format!("cp: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_was_never_started_does_not_run_and_can_be_stopped() {
        let server = Postgres::at("/nowhere/at/all");
        assert_eq!(server.is_running(), Ok(false));
        assert_eq!(server.stop(), Ok(()));
        assert!(server.address().is_err());
    }

    #[test]
    fn a_server_is_started_and_stopped_and_leaves_nothing() {
        if let Err(why) = PostgresPrograms::find() {
            let text = format!("skipped: starting PostgreSQL: {why}\n");
            // Not by a macro, whose output a passing test keeps to itself.
            std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes()).unwrap();
            return;
        }
        let name = format!("anabranch-backends-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        let server = Postgres::start(&dir).unwrap();
        assert_eq!(server.is_running(), Ok(true));
        let address = Postgres::at(&dir).address().unwrap();
        let (_, place) = address.split_once('@').unwrap();
        let (place, _) = place.split_once('/').unwrap();
        std::net::TcpStream::connect(place).unwrap();
        assert!(Postgres::start(&dir).is_err(), "the directory is taken");
        assert_eq!(server.is_running(), Ok(true));
        server.stop().unwrap();
        assert_eq!(server.is_running(), Ok(false));
        assert!(!dir.exists());
    }

    #[test]
    fn no_two_passwords_are_the_same() {
        let (one, other) = (random_word().unwrap(), random_word().unwrap());
        assert_eq!(one.len(), 32);
        assert_ne!(one, other);
    }
}
