//! How others tell a supervisor what to do: a door on this machine, and a file beside the declared set
//! that says where the door is and what opens it. The file is its owner's alone.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anabranch::env::{Env, OpenMode};
use anabranch_runtime::Time;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::asked::{Answer, Asked};
use super::supervisor::Supervisor;

/// What the name of the file ends with.
const ENDING: &str = ".control";

/// No such file, request or answer is longer.
const BYTES_MAX: u64 = 64 << 10;

/// How long a request may take to come.
const REQUEST_WITHIN: Duration = Duration::from_secs(5);

/// How many are answered at a time.
const CALLERS_MAX: usize = 16;

#[derive(Serialize, Deserialize)]
struct Request {
    word: String,
    asked: Asked,
}

/// What the file says.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Door {
    address: SocketAddr,
    /// The process of the supervisor.
    pub process: u32,
    word: String,
}

/// A door that is open. Dropped, it is closed.
pub struct Control {
    env: Env,
    path: PathBuf,
    door: Door,
    task: JoinHandle<()>,
}

/// The file that belongs to this declared set.
pub fn file_of(plan: &Path) -> PathBuf {
    let mut name = plan.file_name().unwrap_or_default().to_owned();
    name.push(ENDING);
    plan.with_file_name(name)
}

/// The files in this directory; none if it is not there.
pub fn files_in(env: &Env, dir: &Path) -> io::Result<Vec<PathBuf>> {
    if !env.disk.exists(dir)? {
        return Ok(Vec::new());
    }
    let names = env.disk.list(dir)?.into_iter();
    let files = names.filter(|name| name.ends_with(ENDING));
    Ok(files.map(|name| dir.join(name)).collect())
}

impl Control {
    /// Opens a door to the services of this declared set.
    pub async fn open(env: &Env, plan: &Path, supervisor: Arc<Supervisor>) -> io::Result<Self> {
        let time = Time::of(env);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let door = Door {
            address: listener.local_addr()?,
            process: std::process::id(),
            word: format!("{:032x}{:032x}", time.random(), time.random()),
        };
        let path = file_of(plan);
        write(env, &path, &door)?;
        let word = door.word.clone();
        let task = tokio::spawn(async move {
            let callers = Arc::new(Semaphore::new(CALLERS_MAX));
            while let Ok(room) = callers.clone().acquire_owned().await {
                let Ok((stream, _)) = listener.accept().await else {
                    // Too many files are open for now.
                    time.sleep(Duration::from_millis(100)).await;
                    continue;
                };
                let (word, supervisor, time) = (word.clone(), supervisor.clone(), time.clone());
                tokio::spawn(async move {
                    // Who has gone hears nothing more.
                    drop(serve(stream, &word, &supervisor, &time).await);
                    drop(room);
                });
            }
        });
        Ok(Self {
            env: env.clone(),
            path,
            door,
            task,
        })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
        // A file that stays names a process that does not answer, which its readers find out.
        if matches!(Door::read(&self.env, &self.path), Ok(Some(found)) if found == self.door) {
            drop(self.env.disk.remove(&self.path));
        }
    }
}

async fn serve(
    mut stream: TcpStream,
    word: &str,
    supervisor: &Supervisor,
    time: &Time,
) -> io::Result<()> {
    let request: Request = tokio::select! {
        request = receive(&mut stream) => request?,
        () = time.sleep(REQUEST_WITHIN) => return Err(io::ErrorKind::TimedOut.into()),
    };
    let answer = if is_same(&request.word, word) {
        supervisor.asked(&request.asked, time).await
    } else {
        Answer::Refused
    };
    send(&mut stream, &answer).await
}

/// Takes as long wherever the two differ.
fn is_same(given: &str, word: &str) -> bool {
    let pairs = given.bytes().zip(word.bytes());
    given.len() == word.len() && pairs.fold(0, |differing, (a, b)| differing | (a ^ b)) == 0
}

async fn receive<T: DeserializeOwned>(stream: &mut TcpStream) -> io::Result<T> {
    let mut line = String::new();
    let mut from = BufReader::new(stream.take(BYTES_MAX));
    from.read_line(&mut line).await?;
    serde_json::from_str(&line).map_err(io::Error::other)
}

async fn send<T: Serialize>(stream: &mut TcpStream, what: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    stream.shutdown().await
}

impl Door {
    /// What this file says; `None`: there is none.
    pub fn read(env: &Env, path: &Path) -> io::Result<Option<Self>> {
        if !env.disk.exists(path)? {
            return Ok(None);
        }
        let file = env.disk.open(path, OpenMode::Read)?;
        let length = file.len()?;
        if length > BYTES_MAX {
            return Err(io::Error::other("this is no file of ours: it is too long"));
        }
        let mut text = vec![0; length as usize];
        file.read_exact_at(&mut text, 0)?;
        let door = serde_json::from_slice(&text);
        door.map(Some).map_err(io::Error::other)
    }

    /// Asks whoever is behind it.
    pub async fn ask(&self, asked: Asked) -> io::Result<Answer> {
        let mut stream = TcpStream::connect(self.address).await?;
        let word = self.word.clone();
        send(&mut stream, &Request { word, asked }).await?;
        receive(&mut stream).await
    }
}

fn write(env: &Env, path: &Path, door: &Door) -> io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    if env.disk.exists(&fresh)? {
        env.disk.remove(&fresh)?;
    }
    let file = env.disk.open(&fresh, OpenMode::Create)?;
    file.write_all_at(&serde_json::to_vec(door)?, 0)?;
    env.disk.rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_that_opens_the_door_is_the_whole_word() {
        assert!(is_same("abc", "abc"));
        for wrong in ["", "ab", "abcd", "abd", "xbc"] {
            assert!(!is_same(wrong, "abc"), "{wrong}");
        }
    }

    #[test]
    fn the_file_stands_beside_the_declared_set() {
        assert_eq!(
            file_of(Path::new("a/shop.toml")),
            Path::new("a/shop.toml.control")
        );
    }
}
