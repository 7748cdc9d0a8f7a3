//! What comes before the first request of a connection: encryption, and who says nothing.

use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anabranch_runtime::Time;
use anabranch_tls::{Certificate, Expiry, Looked, Stream};
use axum::Router;
use futures_util::future::{Either, select};
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::Service as _;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::Watcher;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::{AcquireError, Semaphore, SemaphorePermit, watch};

use crate::until::until_stopped;

/// How often a connection of many requests is asked whether somebody is there, and how long that
/// may take.
const ALIVE_EVERY: Duration = Duration::from_secs(10);
const ALIVE_WITHIN: Duration = Duration::from_secs(20);

/// How much a client may send unasked: for one request, and over one connection.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// The largest frame of a request: a message of many appends is one.
const FRAME_BYTES: u32 = 128 << 10;

/// The most requests of one connection at a time: one for each of its readers.
const STREAMS_MAX: u32 = 4096;

/// The largest head of a request, in bytes: a token and a key have room, and what else a client library
/// says.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// The most clients that begin to encrypt at a time, and of one address. Others wait, within the time that
/// they have.
const HANDSHAKES_MAX: usize = 256;
const HANDSHAKES_OF_ONE_MAX: usize = 32;

/// How long a client may take to encrypt that has begun to.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);

/// How often the files of a certificate are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// How often it is said that a certificate ends soon.
const SAY_EVERY: Duration = Duration::from_secs(24 * 3600);

const SECONDS_A_DAY: u64 = 24 * 3600;

/// Whom a server tells what people should know.
pub type Says = Arc<dyn Fn(&str) + Send + Sync>;

/// Where a request comes from: an address, or of IPv6 the network of one site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin(pub IpAddr);

impl Origin {
    fn of(address: SocketAddr) -> Self {
        // Of the other half anybody there has as many as they want.
        const SITE: u128 = !0 << 64;
        Self(match address.ip().to_canonical() {
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & SITE)),
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

/// Whose turn it is to begin to encrypt.
struct Turns {
    all: Semaphore,
    /// Of each address of which somebody is here.
    of_one: Mutex<BTreeMap<Origin, Arc<Semaphore>>>,
}

impl Turns {
    fn new() -> Self {
        Self {
            all: Semaphore::new(HANDSHAKES_MAX),
            of_one: Mutex::default(),
        }
    }

    /// Lines up with others of the same address.
    fn line_up(&self, origin: Origin) -> Lined<'_> {
        let room = || Arc::new(Semaphore::new(HANDSHAKES_OF_ONE_MAX));
        let own = self.of_one().entry(origin).or_insert_with(room).clone();
        Lined {
            turns: self,
            origin,
            own,
        }
    }

    fn of_one(&self) -> MutexGuard<'_, BTreeMap<Origin, Arc<Semaphore>>> {
        self.of_one.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who begins to encrypt, or waits to.
struct Lined<'a> {
    turns: &'a Turns,
    origin: Origin,
    own: Arc<Semaphore>,
}

impl Lined<'_> {
    /// Waits until it is its turn, which lasts as long as what this gives.
    async fn turn(&self) -> Result<[SemaphorePermit<'_>; 2], AcquireError> {
        let own = self.own.acquire().await?;
        Ok([own, self.turns.all.acquire().await?])
    }
}

impl Drop for Lined<'_> {
    fn drop(&mut self) {
        let mut of_one = self.turns.of_one();
        // This one, and the one of the map.
        if Arc::strong_count(&self.own) == 2 {
            of_one.remove(&self.origin);
        }
    }
}

/// The way from a connection to its first request.
pub struct Entrance {
    http: auto::Builder<TokioExecutor>,
    certificate: Option<Arc<Certificate>>,
    turns: Turns,
    patience: Duration,
}

impl Entrance {
    /// Encrypts with the certificate, if there is one. The head of a request may take as long as the
    /// patience lasts; so may all that comes before the first one.
    pub fn new(patience: Duration, certificate: Option<Arc<Certificate>>) -> Self {
        let mut http = auto::Builder::new(TokioExecutor::new());
        http.http1()
            .timer(TokioTimer::new())
            .max_buf_size(HEAD_BYTES_MAX)
            .header_read_timeout(patience);
        http.http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(ALIVE_EVERY)
            .keep_alive_timeout(ALIVE_WITHIN)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME_BYTES)
            .max_header_list_size(HEAD_BYTES_MAX as u32)
            .max_concurrent_streams(STREAMS_MAX);
        Self {
            http,
            certificate,
            turns: Turns::new(),
            patience,
        }
    }

    /// Answers what somebody asks who has connected, until they go or say nothing.
    pub async fn answer(&self, stream: TcpStream, routes: Router, watcher: Watcher, time: Time) {
        let heard = Arc::new(AtomicBool::new(false));
        let silent = pin!(async {
            time.sleep(self.patience).await;
            // Who says nothing that is a request holds a place for others no longer.
            if heard.load(Ordering::Relaxed) {
                pending::<()>().await;
            }
        });
        let answered = pin!(self.answer_all(stream, routes, watcher, heard.clone(), &time));
        select(answered, silent).await;
    }

    async fn answer_all(
        &self,
        stream: TcpStream,
        routes: Router,
        watcher: Watcher,
        heard: Arc<AtomicBool>,
        time: &Time,
    ) {
        let origin = stream.peer_addr().ok().map(Origin::of);
        // Whoever does not get so far has gone, or does not encrypt, and was told so.
        let Ok(stream) = self.encrypt(stream, origin, time).await else {
            return;
        };
        let routes = TowerToHyperService::new(routes);
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            heard.store(true, Ordering::Relaxed);
            if let Some(origin) = origin {
                request.extensions_mut().insert(origin);
            }
            routes.call(request)
        });
        let stream = TokioIo::new(stream);
        // A WebSocket goes on by itself; its readers are counted as the others are.
        let connection = self.http.serve_connection_with_upgrades(stream, service);
        // Its errors are the client's: it has gone, or it has sent no HTTP.
        drop(watcher.watch(connection).await);
    }

    async fn encrypt(
        &self,
        stream: TcpStream,
        origin: Option<Origin>,
        time: &Time,
    ) -> io::Result<Stream> {
        let Some(certificate) = &self.certificate else {
            return Ok(Stream::Plain(stream));
        };
        let origin = origin.ok_or(io::ErrorKind::NotConnected)?;
        // Who says nothing takes nobody's turn.
        stream.peek(&mut [0]).await?;
        let lined = self.turns.line_up(origin);
        let _turn = lined.turn().await.map_err(io::Error::other)?;
        let within = HANDSHAKE_WITHIN.min(self.patience);
        let accepted = pin!(certificate.accept(stream));
        match select(accepted, time.sleep(within)).await {
            Either::Left((accepted, _)) => accepted,
            Either::Right(((), _)) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// Looks at the files of a certificate again and again until the server stops, and says what people
/// should know of it.
pub async fn look_after(
    certificate: Arc<Certificate>,
    time: Time,
    says: Says,
    stopping: watch::Receiver<bool>,
) {
    let looking = async {
        let mut failed = None;
        let mut said_at: Option<Duration> = None;
        loop {
            match certificate.look(time.now().micros() / 1_000_000) {
                Looked::Same => failed = None,
                Looked::Renewed => {
                    says("the certificate was renewed; whoever connects from now on is shown it");
                    (failed, said_at) = (None, None);
                }
                Looked::Failed(error) => {
                    let why = error.to_string();
                    if failed.as_ref() != Some(&why) {
                        says(&format!("{why}; the certificate from before stays"));
                    }
                    failed = Some(why);
                }
            }
            let now = time.monotonic();
            if said_at.is_none_or(|said| now.saturating_sub(said) >= SAY_EVERY)
                && let Some(words) = ends(&certificate, &time)
            {
                says(&format!("WARNING: {words}"));
                said_at = Some(now);
            }
            time.sleep(LOOK_EVERY).await;
        }
    };
    until_stopped(stopping, looking).await;
}

/// In words, that a certificate has ended or will soon.
pub fn ends(certificate: &Certificate, time: &Time) -> Option<String> {
    match certificate.expiry(time.now().micros() / 1_000_000) {
        Expiry::Good => None,
        Expiry::Soon { left } => Some(format!(
            "the certificate ends in {} days; put a new one in its files",
            left / SECONDS_A_DAY
        )),
        Expiry::Expired => Some(
            "the certificate has expired, and clients refuse it; put a new one in its files"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use anabranch_env::sim::{SimClock, SimDisk};
    use anabranch_runtime::ManualTime;
    use anabranch_tls::Versions;
    use futures_util::FutureExt as _;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    fn origin(last: u8) -> Origin {
        Origin(IpAddr::from([10, 0, 0, last]))
    }

    #[test]
    fn one_address_has_a_part_of_the_turns_and_none_is_remembered_that_has_gone() {
        let turns = Turns::new();
        let lined: Vec<_> = (0..=HANDSHAKES_OF_ONE_MAX)
            .map(|_| turns.line_up(origin(1)))
            .collect();
        let mut taken: Vec<_> = lined
            .iter()
            .map(|lined| lined.turn().now_or_never())
            .collect();
        assert!(taken.pop().unwrap().is_none());
        assert!(taken.iter().all(Option::is_some));
        let other = turns.line_up(origin(2));
        assert!(other.turn().now_or_never().is_some());
        // One goes, and the next one has its turn.
        taken.pop();
        assert!(lined[0].turn().now_or_never().is_some());
        drop(taken);
        drop((lined, other));
        assert!(turns.of_one().is_empty());
    }

    /// A certificate for somebody who is asked for nothing more.
    fn certificate() -> Certificate {
        let made = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        let disk = SimDisk::new(1, Arc::new(SimClock::new()));
        let (chain, key) = (Path::new("/chain"), Path::new("/key"));
        disk.plant(chain, made.cert.pem().as_bytes()).unwrap();
        let secret = made.signing_key.serialize_pem();
        disk.plant(key, secret.as_bytes()).unwrap();
        let disk = disk.env(1).disk;
        Certificate::open(disk, chain, key, Versions::default(), 0).unwrap()
    }

    #[tokio::test]
    async fn who_begins_to_encrypt_and_stops_is_given_up_before_who_says_nothing() {
        let clock = ManualTime::new();
        let time = Time::manual(&clock, anabranch_env::Env::os().rng);
        let patience = 10 * HANDSHAKE_WITHIN;
        let entrance = Entrance::new(patience, Some(Arc::new(certificate())));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        client.write_all(&[0x16]).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        stream.readable().await.unwrap();
        let encrypting =
            tokio::spawn(async move { entrance.encrypt(stream, Some(origin(1)), &time).await });
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        clock.advance(HANDSHAKE_WITHIN);
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(encrypting.is_finished());
        assert!(encrypting.await.unwrap().is_err());
    }
}
