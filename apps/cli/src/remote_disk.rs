//! The files of a log behind a server, as a disk: what looks at, checks and copies a log does it from
//! elsewhere as it does it here.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use anabranch::env::{Disk, DiskLock, DiskStats, Env, File, OpenMode};
use anabranch_server::client::{ClientError, Reply, path};
use anabranch_wire::{FILE_BYTES_HEADER, FILE_HEADER, LogFiles, Problem};
use tokio::runtime::Builder;

use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::remote::{Remote, ServerArgs};

/// The most bytes that are asked for at once.
const READ_BYTES_MAX: usize = 1 << 20;

/// The log behind a server: an environment in which it is a directory, and that directory. All else is
/// where it is here.
pub async fn log_of(url: &str, context: &Context) -> Result<(Env, PathBuf), Failure> {
    let remote = Remote::find(&ServerArgs::default(), context)?;
    let listed = remote.get::<LogFiles>("/operate/log/files").await;
    listed.map_err(|failure| explained(failure, url))?;
    let asker = Asker::start(remote)
        .map_err(|error| Failure::new(Exit::Failed, "io", format!("no thread starts: {error}")))?;
    let dir = PathBuf::from(url);
    let mut env = context.env.clone();
    env.disk = Arc::new(RemoteDisk {
        here: env.disk,
        dir: dir.clone(),
        asker,
    });
    Ok((env, dir))
}

fn explained(failure: Failure, url: &str) -> Failure {
    match &*failure.code {
        "no-files" => {
            failure.remedy("a log in memory has no files; `anabranch log export` writes its events")
        }
        "no-such-path" => {
            let what = format!("the program at {url} shows no files of its log");
            Failure::new(Exit::Failed, "no-files", what).remedy(
                "name the log's directory with --log on its machine, or a server of this version",
            )
        }
        _ => failure,
    }
}

/// Asks the server on a thread of its own, for callers that wait.
#[derive(Clone)]
struct Asker(mpsc::Sender<Question>);

struct Question {
    path: String,
    answer: mpsc::Sender<Result<Reply, ClientError>>,
}

impl Asker {
    fn start(remote: Remote) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (asker, questions) = mpsc::channel::<Question>();
        let answer_all = move || {
            for Question { path, answer } in questions {
                // Who does not wait any more has gone.
                drop(answer.send(runtime.block_on(remote.reply(&path))));
            }
        };
        let thread = thread::Builder::new().name("remote-files".to_owned());
        thread.spawn(answer_all)?;
        Ok(Self(asker))
    }

    fn ask(&self, path: String) -> io::Result<Reply> {
        let gone = || io::Error::other("the thread that asks the server has ended");
        let (answer, answered) = mpsc::channel();
        let question = Question { path, answer };
        self.0.send(question).map_err(|_| gone())?;
        let reply = answered.recv().map_err(|_| gone())?;
        let reply = reply.map_err(io::Error::other)?;
        if reply.status.is_success() {
            return Ok(reply);
        }
        let problem = serde_json::from_slice::<Problem>(&reply.body).map_err(io::Error::other)?;
        Err(match &*problem.code {
            "no-file" => io::Error::new(io::ErrorKind::NotFound, problem.detail),
            "file-closed" => io::Error::new(io::ErrorKind::StaleNetworkFileHandle, problem.detail),
            _ => io::Error::other(problem.detail),
        })
    }
}

struct RemoteDisk {
    here: Arc<dyn Disk>,
    /// As which directory the log appears.
    dir: PathBuf,
    asker: Asker,
}

impl RemoteDisk {
    /// The name of a file of the log; `None`: it is a path of this machine.
    fn name<'a>(&self, path: &'a Path) -> Option<&'a str> {
        path.strip_prefix(&self.dir).ok()?.to_str()
    }

    fn files(&self) -> io::Result<LogFiles> {
        let reply = self.asker.ask("/operate/log/files".to_owned())?;
        serde_json::from_slice(&reply.body).map_err(io::Error::other)
    }

    /// Refuses to change what is elsewhere.
    fn check_here(&self, path: &Path) -> io::Result<()> {
        match self.name(path) {
            None => Ok(()),
            Some(_) => Err(only_read()),
        }
    }
}

fn only_read() -> io::Error {
    io::Error::new(
        io::ErrorKind::ReadOnlyFilesystem,
        "the files of a log behind a server are only read",
    )
}

impl Disk for RemoteDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let Some(name) = self.name(path) else {
            return self.here.open(path, mode);
        };
        if mode != OpenMode::Read {
            return Err(only_read());
        }
        let mut file = RemoteFile {
            asker: self.asker.clone(),
            name: name.to_owned(),
            path: path.to_owned(),
            handle: String::new(),
        };
        let reply = file.ask(0, 0)?;
        let handle = reply.header(FILE_HEADER).map(str::to_owned);
        file.handle = handle.ok_or_else(|| io::Error::other("the server names no handle"))?;
        Ok(Arc::new(file))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.check_here(path)?;
        self.here.create_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        match self.name(dir) {
            None => self.here.list(dir),
            Some(folder) => {
                let files = self.files()?.files.into_iter();
                // Those of partitions have names with their folder.
                let inside = files.filter_map(|name| match name.rsplit_once('/') {
                    Some((of, name)) => (of == folder).then(|| name.to_owned()),
                    None => folder.is_empty().then_some(name),
                });
                Ok(inside.collect())
            }
        }
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        match self.name(path) {
            None => self.here.exists(path),
            Some("") => Ok(true),
            Some(name) => {
                let is_in = |found: &String| {
                    let rest = found.strip_prefix(name);
                    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                };
                Ok(self.files()?.files.iter().any(is_in))
            }
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.check_here(from)?;
        self.check_here(to)?;
        self.here.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.check_here(path)?;
        self.here.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.check_here(dir)?;
        self.here.sync_dir(dir)
    }

    fn lock(&self, path: &Path, note: &str) -> io::Result<Result<Box<dyn DiskLock>, String>> {
        self.check_here(path)?;
        self.here.lock(path, note)
    }

    fn is_locked(&self, path: &Path) -> io::Result<bool> {
        match self.name(path) {
            None => self.here.is_locked(path),
            Some(_) => Ok(self.files()?.written),
        }
    }

    fn is_world_writable(&self, dir: &Path) -> io::Result<bool> {
        match self.name(dir) {
            None => self.here.is_world_writable(dir),
            // Its server has looked at that.
            Some(_) => Ok(false),
        }
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.check_here(dir)?;
        self.here.free_bytes(dir)
    }

    fn stats(&self) -> DiskStats {
        self.here.stats()
    }
}

struct RemoteFile {
    asker: Asker,
    name: String,
    path: PathBuf,
    handle: String,
}

impl RemoteFile {
    fn ask(&self, from: u64, length: usize) -> io::Result<Reply> {
        let (from, length) = (from.to_string(), length.to_string());
        let mut parameters = vec![("from", from.as_str()), ("length", length.as_str())];
        let parts = ["operate", "log", "files", &self.name];
        let by_name = path(&parts, &parameters);
        if self.handle.is_empty() {
            return self.asker.ask(by_name);
        }
        parameters.push(("handle", &self.handle));
        match self.asker.ask(path(&parts, &parameters)) {
            // The server keeps only so many open. What is closed and whole stays what it is.
            Err(error) if error.kind() == io::ErrorKind::StaleNetworkFileHandle => {
                self.asker.ask(by_name)
            }
            answer => answer,
        }
    }
}

impl File for RemoteFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let reply = self.ask(offset, buf.len().min(READ_BYTES_MAX))?;
        let count = reply.body.len().min(buf.len());
        buf[..count].copy_from_slice(&reply.body[..count]);
        Ok(count)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        Err(only_read())
    }

    fn sync_data(&self) -> io::Result<()> {
        Err(only_read())
    }

    fn len(&self) -> io::Result<u64> {
        let reply = self.ask(0, 0)?;
        let length = reply.header(FILE_BYTES_HEADER);
        let length = length.and_then(|text| text.parse().ok());
        length.ok_or_else(|| io::Error::other("the server does not say how long the file is"))
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        Ok(path == self.path)
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(only_read())
    }
}
