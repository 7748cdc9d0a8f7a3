//! A server of a log on a thread of its own, and a network that misbehaves before it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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
/// either side, whatever they are a part of.
pub struct Network {
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
}

impl Network {
    /// Lets so many bytes through each connection before it breaks, in turn.
    pub fn start(server: SocketAddr, allowed: &'static [u64]) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let (say, heard) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                say.send(listener.local_addr().unwrap()).unwrap();
                let accept = async {
                    for allowed in allowed.iter().cycle() {
                        let Ok((client, _)) = listener.accept().await else {
                            return;
                        };
                        let allowed = *allowed;
                        tokio::spawn(async move {
                            if let Ok(server) = TcpStream::connect(server).await {
                                pass(client, server, allowed).await;
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

/// Carries bytes both ways until so many have passed or one side ends; then resets both.
async fn pass(mut client: TcpStream, mut server: TcpStream, mut allowed: u64) {
    let mut up = vec![0; 16 << 10];
    let mut down = vec![0; 16 << 10];
    while allowed > 0 {
        let (from, to, part) = tokio::select! {
            read = client.read(&mut up) => (read, &mut server, &up),
            read = server.read(&mut down) => (read, &mut client, &down),
        };
        let Ok(read @ 1..) = from else { break };
        let goes = (read as u64).min(allowed);
        allowed -= goes;
        if to.write_all(&part[..goes as usize]).await.is_err() {
            break;
        }
    }
    for side in [client, server] {
        // A reset, not an end: nothing that is on its way arrives.
        drop(side.set_zero_linger());
    }
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
