//! A server of a log on a thread of its own, and a network that misbehaves before it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use anabranch_env::Env;
use anabranch_log::Log;
use anabranch_model::{TokenKey, TokenSeal};
use anabranch_runtime::{Fleet, Time};
use anabranch_server::Server;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::oneshot;

/// A server before a log. Ends in order when dropped.
pub struct Served {
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    /// On a free port.
    pub fn start(log: Arc<dyn Log>) -> Self {
        Self::start_at(log, "127.0.0.1:0".parse().unwrap(), 7)
    }

    /// At this address; the log is known by `domain`.
    pub fn start_at(log: Arc<dyn Log>, address: SocketAddr, domain: u64) -> Self {
        Self::start_by(log, address, domain, Time::of(&Env::os()))
    }

    /// The same, by this time.
    pub fn start_by(log: Arc<dyn Log>, address: SocketAddr, domain: u64, time: Time) -> Self {
        Self::start_with(log, address, domain, time, |server| server)
    }

    /// The same, set up further.
    pub fn start_with(
        log: Arc<dyn Log>,
        address: SocketAddr,
        domain: u64,
        time: Time,
        set: impl FnOnce(Server) -> Server + Send + 'static,
    ) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let (say, heard) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = Server::bind(&address.to_string()).await.unwrap();
                say.send(listener.local_addr().unwrap()).unwrap();
                let secret = [domain as u8; 32];
                let seal = TokenSeal::new(domain, 0, TokenKey { id: 1, secret });
                let server = set(Server::new(Arc::new(Fleet::new()), log, time));
                let until = async { drop(stopped.await) };
                server.seal(seal).serve(listener, until).await.unwrap();
            });
        });
        Self {
            address: heard.recv().unwrap(),
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the server panicked");
        }
    }
}

/// A network between a client and a server that breaks each connection after some bytes from
/// either side, whatever they are a part of, or does worse.
pub struct Network {
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    /// Is told when what a client has said was said again and answered.
    pub repeated: Mutex<std::sync::mpsc::Receiver<()>>,
}

/// What becomes of a connection.
#[derive(Debug, Clone, Copy)]
pub enum Fate {
    /// It breaks after so many bytes.
    Breaks(u64),
    /// After so many bytes nothing passes any more, and neither side hears of it.
    FallsSilent(u64),
    /// After so many bytes the server's side is gone, of which the client does not hear.
    HalfOpen(u64),
    /// Each byte comes by itself.
    Trickles,
    /// When the client has gone, all that it has said is said again on a connection of its own.
    Twice,
}

impl Network {
    /// Lets so many bytes through each connection before it breaks, in turn.
    pub fn start(server: SocketAddr, allowed: &[u64]) -> Self {
        Self::start_with(server, allowed.iter().copied().map(Fate::Breaks).collect())
    }

    /// The connections have these fates, in turn.
    pub fn start_with(server: SocketAddr, fates: Vec<Fate>) -> Self {
        let (repeats, repeated) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let (say, heard) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                say.send(listener.local_addr().unwrap()).unwrap();
                let accept = async {
                    for fate in fates.into_iter().cycle() {
                        let Ok((client, _)) = listener.accept().await else {
                            return;
                        };
                        let repeats = repeats.clone();
                        tokio::spawn(async move {
                            if let Ok(to) = TcpStream::connect(server).await {
                                let said = pass(client, to, fate).await;
                                if let Fate::Twice = fate {
                                    say_again(server, &said).await;
                                    // A test that has ended waits for nothing.
                                    repeats.send(()).unwrap_or_default();
                                }
                            }
                        });
                    }
                };
                tokio::select! {
                    () = accept => {}
                    _ = stopped => {}
                }
            });
        });
        Self {
            address: heard.recv().unwrap(),
            stop: Some(stop),
            repeated: Mutex::new(repeated),
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        drop(self.stop.take());
    }
}

/// Carries bytes both ways until so many have passed or one side ends; then resets both, or what else its
/// fate is. Gives what the client has said.
async fn pass(mut client: TcpStream, mut server: TcpStream, fate: Fate) -> Vec<u8> {
    let mut allowed = match fate {
        Fate::Breaks(bytes) | Fate::FallsSilent(bytes) | Fate::HalfOpen(bytes) => bytes,
        Fate::Trickles | Fate::Twice => u64::MAX,
    };
    let piece = match fate {
        Fate::Trickles => 1,
        _ => 16 << 10,
    };
    for side in [&client, &server] {
        side.set_nodelay(true).unwrap();
    }
    let mut said = Vec::new();
    let mut up = vec![0; 16 << 10];
    let mut down = vec![0; 16 << 10];
    while allowed > 0 {
        let (from, to, part, is_up) = tokio::select! {
            read = client.read(&mut up[..piece]) => (read, &mut server, &up, true),
            read = server.read(&mut down[..piece]) => (read, &mut client, &down, false),
        };
        let Ok(read @ 1..) = from else { break };
        let goes = (read as u64).min(allowed);
        allowed -= goes;
        let part = &part[..goes as usize];
        if is_up {
            said.extend_from_slice(part);
        }
        if to.write_all(part).await.is_err() {
            break;
        }
    }
    let spent = allowed == 0;
    match fate {
        Fate::FallsSilent(_) if spent => std::future::pending().await,
        Fate::HalfOpen(_) if spent => {
            drop(server.set_zero_linger());
            drop(server);
            // The client goes on saying what nobody hears.
            while let Ok(1..) = client.read(&mut up).await {}
        }
        _ => {
            for side in [client, server] {
                // A reset, not an end: nothing that is on its way arrives.
                drop(side.set_zero_linger());
            }
        }
    }
    said
}

/// Says to a server what another has said to it before, and waits for the answer.
async fn say_again(server: SocketAddr, said: &[u8]) {
    let mut again = TcpStream::connect(server).await.unwrap();
    again.write_all(said).await.unwrap();
    let read = again.read(&mut [0; 1024]).await.unwrap();
    assert!(read > 0, "the server says nothing");
}

/// A directory of the test's own, removed at its end.
pub struct TempDir(pub PathBuf);

#[expect(
    clippy::disallowed_methods,
    reason = "the logs of these tests are in real directories"
)]
impl TempDir {
    pub fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("anabranch-remote-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for TempDir {
    #[expect(
        clippy::disallowed_methods,
        reason = "the logs of these tests are in real directories"
    )]
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}
