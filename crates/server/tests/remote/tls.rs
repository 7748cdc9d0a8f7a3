//! What is said is encrypted, by a server that has proved who it is.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anabranch_access::Transport;
use anabranch_env::{Env, OpenMode};
use anabranch_log::conformance::Subject;
use anabranch_log::{Append, Log, MemoryLog, OpenError};
use anabranch_log_remote::{Options, RemoteLog};
use anabranch_model::{EventId, EventType, NewEvent, StreamId};
use anabranch_runtime::Time;
use anabranch_server::client::Client;
use anabranch_server::{Certificate, CertificateError, Doors, Server, Versions};
use anabranch_tls::{Looked, Trust};
use futures_executor::block_on;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};
use tokio::runtime::Builder;

use crate::conformance::keeping;
use crate::support::{Served, TempDir};

/// Somebody who certifies servers.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// The file with its own certificate.
    file: PathBuf,
}

impl Authority {
    fn new(dir: &Path, name: &str) -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let own = parameters.self_signed(&key).unwrap();
        let file = dir.join(format!("{name}.pem"));
        write(&file, &own.pem());
        Self {
            issuer: Issuer::new(parameters, key),
            file,
        }
    }

    /// Certifies the server whose files are in this directory, for so many seconds from now.
    fn certify(&self, dir: &Path, seconds: i64) {
        self.certify_as(dir, "127.0.0.1", seconds);
    }

    fn certify_as(&self, dir: &Path, name: &str, seconds: i64) {
        let mut parameters = CertificateParams::new([name.to_owned()]).unwrap();
        let now = i64::try_from(now()).unwrap();
        let since_1970 = Duration::from_secs(u64::try_from(now + seconds).unwrap());
        parameters.not_after = rcgen::date_time_ymd(1970, 1, 1) + since_1970;
        let key = KeyPair::generate().unwrap();
        let made = parameters.signed_by(&key, &self.issuer).unwrap();
        write(&dir.join("server.pem"), &made.pem());
        write(&dir.join("server.key"), &key.serialize_pem());
    }

    fn trust(&self) -> Trust {
        Trust::of_file(&Env::os(), &self.file).unwrap()
    }
}

fn now() -> u64 {
    Env::os().clock.wall_micros() / 1_000_000
}

fn write(path: &Path, text: &str) {
    let disk = Env::os().disk;
    if disk.exists(path).unwrap() {
        disk.remove(path).unwrap();
    }
    let file = disk.open(path, OpenMode::Create).unwrap();
    file.write_all_at(text.as_bytes(), 0).unwrap();
}

fn certificate(dir: &Path, now: u64) -> Result<Certificate, CertificateError> {
    certificate_for(dir, Versions::default(), now)
}

fn certificate_for(
    dir: &Path,
    versions: Versions,
    now: u64,
) -> Result<Certificate, CertificateError> {
    let (chain, key) = (dir.join("server.pem"), dir.join("server.key"));
    Certificate::open(Env::os().disk, &chain, &key, versions, now)
}

/// A server that encrypts, and who has certified it.
struct Encrypted {
    dir: TempDir,
    authority: Authority,
    certificate: Arc<Certificate>,
    server: Served,
}

const A_YEAR: i64 = 365 * 24 * 3600;

impl Encrypted {
    fn start() -> Self {
        Self::start_for(A_YEAR, Duration::from_secs(10))
    }

    fn start_that_speaks(versions: Versions) -> Self {
        Self::start_with(A_YEAR, versions, Duration::from_secs(10))
    }

    /// With a certificate that is good for so many seconds.
    fn start_for(seconds: i64, patience: Duration) -> Self {
        Self::start_with(seconds, Versions::default(), patience)
    }

    fn start_with(seconds: i64, versions: Versions, patience: Duration) -> Self {
        let dir = TempDir::new();
        let authority = Authority::new(&dir.0, "ca");
        authority.certify(&dir.0, seconds);
        let certificate = Arc::new(certificate_for(&dir.0, versions, 0).unwrap());
        let shown = certificate.clone();
        let server = Served::start_with(
            Arc::new(MemoryLog::new(Env::os())),
            "127.0.0.1:0".parse().unwrap(),
            7,
            Time::of(&Env::os()),
            move |server| server.certificate(shown).patience(patience),
        );
        Self {
            dir,
            authority,
            certificate,
            server,
        }
    }

    fn url(&self) -> String {
        format!("https://{}", self.server.address)
    }

    /// Whether a client that speaks this version alone gets through.
    fn speaks(&self, version: &'static SupportedProtocolVersion) -> bool {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_file(&self.authority.file).unwrap();
        roots.add(authority).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut stream = TcpStream::connect(self.server.address).unwrap();
        client.complete_io(&mut stream).is_ok() && !client.is_handshaking()
    }

    fn open(&self) -> Result<RemoteLog, OpenError> {
        open(&self.url(), self.authority.trust())
    }
}

fn open(url: &str, trust: Trust) -> Result<RemoteLog, OpenError> {
    let mut options = Options::default();
    options.trust = Some(trust);
    options.patience = Duration::from_secs(2);
    RemoteLog::open(url, options)
}

fn refusal(opened: Result<RemoteLog, OpenError>) -> String {
    opened.err().expect("nobody is there").to_string()
}

fn append(log: &dyn Log) {
    let event = NewEvent::new(
        EventId::v7(1, Env::os().rng.next_u128()),
        StreamId::of("order", "1").unwrap(),
        EventType::new("Placed").unwrap(),
        b"{}".to_vec(),
    );
    block_on(log.append(Append::events([event]))).unwrap();
}

fn get(url: &str, trust: Trust, path: &str) -> Result<String, String> {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let client = Client::new(url, Time::of(&Env::os())).unwrap();
    let client = client.with_trust(Some(trust));
    let reply = runtime.block_on(client.get(path));
    let reply = reply.map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&reply.body).into_owned())
}

/// A log whose server encrypts.
struct Afar;

impl Subject for Afar {
    fn open(&self) -> Arc<dyn Log> {
        let encrypted = Encrypted::start();
        let log = encrypted.open().expect("the server answers");
        keeping(log, encrypted.server)
    }
}

mod the_same_contract {
    use super::Afar;

    fn place() -> Afar {
        Afar
    }

    anabranch_log::conformance_tests!(place, lacking: [SurvivesRestart, ReadOnly]);
}

#[test]
fn a_client_that_believes_who_has_certified_the_server_is_answered_by_http_1_and_2() {
    let encrypted = Encrypted::start();
    append(&encrypted.open().unwrap());
    let alive = get(&encrypted.url(), encrypted.authority.trust(), "/livez");
    assert_eq!(alive.as_deref(), Ok("ok\n"));
    let described = get(
        &encrypted.url(),
        encrypted.authority.trust(),
        "/asyncapi.json",
    );
    let described: serde_json::Value = serde_json::from_str(&described.unwrap()).unwrap();
    assert_eq!(described["servers"]["here"]["protocol"], "https");
}

#[test]
fn a_server_that_somebody_else_has_certified_is_refused_with_what_to_do() {
    let encrypted = Encrypted::start();
    let other = Authority::new(&encrypted.dir.0, "other");
    for error in [
        refusal(open(&encrypted.url(), other.trust())),
        get(&encrypted.url(), other.trust(), "/livez").unwrap_err(),
    ] {
        assert!(
            error.contains("signed by nobody who is believed here"),
            "{error}"
        );
        assert!(error.contains("--tls-ca"), "{error}");
    }
}

#[test]
fn a_server_that_is_certified_for_other_names_is_refused() {
    let encrypted = Encrypted::start();
    let authority = &encrypted.authority;
    authority.certify_as(&encrypted.dir.0, "log.example", A_YEAR);
    assert!(matches!(encrypted.certificate.look(now()), Looked::Renewed));
    let error = refusal(encrypted.open());
    assert!(error.contains("is one for other names"), "{error}");
}

#[test]
fn who_does_not_encrypt_is_told_so_in_their_own_protocol() {
    let encrypted = Encrypted::start();
    let plain = format!("http://{}", encrypted.server.address);
    let error = refusal(open(&plain, encrypted.authority.trust()));
    assert!(error.contains("write its address with https://"), "{error}");
    let told = get(&plain, encrypted.authority.trust(), "/livez").unwrap();
    assert!(told.contains("write its address with https://"), "{told}");
}

#[test]
fn who_encrypts_to_a_server_that_does_not_is_told_so() {
    let encrypted = Encrypted::start();
    let plain = Served::start(Arc::new(MemoryLog::new(Env::os())));
    let url = format!("https://{}", plain.address);
    let error = refusal(open(&url, encrypted.authority.trust()));
    assert!(error.contains("without encryption"), "{error}");
}

#[test]
fn a_certificate_is_renewed_without_a_restart_and_what_is_connected_goes_on() {
    let encrypted = Encrypted::start();
    let before = encrypted.open().unwrap();
    append(&before);
    let next = Authority::new(&encrypted.dir.0, "next");
    refusal(open(&encrypted.url(), next.trust()));
    assert!(matches!(encrypted.certificate.look(now()), Looked::Same));
    next.certify(&encrypted.dir.0, A_YEAR);
    assert!(matches!(encrypted.certificate.look(now()), Looked::Renewed));
    append(&open(&encrypted.url(), next.trust()).unwrap());
    append(&before);
    refusal(encrypted.open());
}

#[test]
fn files_that_cannot_be_used_leave_the_certificate_from_before() {
    let encrypted = Encrypted::start();
    let other = TempDir::new();
    encrypted.authority.certify(&other.0, A_YEAR);
    let key = encrypted.dir.0.join("server.key");
    for broken in [
        "",
        "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n",
    ] {
        write(&key, broken);
        let looked = encrypted.certificate.look(now());
        let Looked::Failed(error) = looked else {
            panic!("{looked:?}");
        };
        let error = error.to_string();
        assert!(
            error.contains("server.key") && !error.contains("hunter2"),
            "{error}"
        );
        append(&encrypted.open().unwrap());
    }
    // One that has expired, with its own key.
    encrypted.authority.certify(&encrypted.dir.0, -60);
    assert!(matches!(
        encrypted.certificate.look(now()),
        Looked::Failed(CertificateError::Expired { .. })
    ));
    append(&encrypted.open().unwrap());
    encrypted.authority.certify(&encrypted.dir.0, A_YEAR);
    let swapped = Env::os().disk;
    swapped.remove(&key).unwrap();
    swapped.rename(&other.0.join("server.key"), &key).unwrap();
    // The key of another certificate.
    assert!(matches!(
        encrypted.certificate.look(now()),
        Looked::Failed(CertificateError::Mismatch { .. })
    ));
    append(&encrypted.open().unwrap());
}

#[test]
fn a_certificate_that_has_expired_is_refused_at_the_start_and_by_clients() {
    let encrypted = Encrypted::start_for(-60, Duration::from_secs(10));
    let refused = certificate(&encrypted.dir.0, now());
    assert!(matches!(refused, Err(CertificateError::Expired { .. })));
    let error = refusal(encrypted.open());
    assert!(error.contains("has expired"), "{error}");
}

#[test]
fn a_certificate_that_expires_while_connected_ends_nothing_and_lets_nobody_in_anew() {
    let encrypted = Encrypted::start_for(3, Duration::from_secs(10));
    let connected = encrypted.open().unwrap();
    let told = get(
        &encrypted.url(),
        encrypted.authority.trust(),
        "/readyz?verbose",
    )
    .unwrap();
    assert!(told.contains("[!]the certificate ends in 0 days"), "{told}");
    let told = get(&encrypted.url(), encrypted.authority.trust(), "/metrics").unwrap();
    let end = encrypted.certificate.not_after().unwrap();
    let figure = format!("anabranch_certificate_not_after_seconds{{}} {end}\n");
    assert!(told.contains(&figure), "{told}");
    while now() <= end {
        append(&connected);
    }
    append(&connected);
    let error = refusal(encrypted.open());
    assert!(error.contains("has expired"), "{error}");
    // Who does the renewing is told without a restart.
    encrypted.authority.certify(&encrypted.dir.0, A_YEAR);
    assert!(matches!(encrypted.certificate.look(now()), Looked::Renewed));
    append(&encrypted.open().unwrap());
}

/// Connects and says this, and gives what is answered until the end.
fn say(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answered = Vec::new();
    // A reset is an end too.
    drop(stream.read_to_end(&mut answered));
    answered
}

#[test]
fn who_does_not_finish_the_handshake_in_time_is_given_up() {
    let encrypted = Encrypted::start_for(A_YEAR, Duration::from_millis(50));
    for begun in [&b""[..], b"\x16\x03\x01\x02\x00\x01"] {
        // It ends; nothing else is expected of it.
        assert_eq!(say(encrypted.server.address, begun), b"");
    }
}

#[test]
fn however_many_connect_and_say_nothing_others_are_answered() {
    let encrypted = Encrypted::start_for(A_YEAR, Duration::from_secs(60));
    let silent: Vec<_> = (0..300)
        .map(|_| TcpStream::connect(encrypted.server.address).unwrap())
        .collect();
    append(&encrypted.open().unwrap());
    drop(silent);
}

#[test]
fn what_is_no_handshake_ends_the_connection_and_nothing_else() {
    let encrypted = Encrypted::start();
    for seed in 0..64_u8 {
        let mut garbage = vec![0x16, 3, 1, 0, 200];
        garbage.extend((0..200).map(|at: u8| at.wrapping_mul(seed).wrapping_add(seed)));
        say(encrypted.server.address, &garbage);
    }
    append(&encrypted.open().unwrap());
}

#[test]
fn a_server_listens_beyond_this_machine_with_encryption_only_if_it_asks_who_calls() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let bind = |auth, transport| {
        let doors = Doors {
            auth,
            insecure: false,
        };
        runtime.block_on(Server::bind_with("0.0.0.0:0", transport, doors))
    };
    let error = bind(false, Transport::Tls).unwrap_err().to_string();
    assert!(error.contains("it needs --auth beside TLS"), "{error}");
    let error = bind(true, Transport::Plain).unwrap_err().to_string();
    assert!(error.contains("--tls-cert"), "{error}");
    assert!(bind(true, Transport::Tls).is_ok());
}

#[test]
fn only_who_asks_for_it_speaks_what_is_older_than_tls_1_3() {
    let newest = Encrypted::start();
    assert!(newest.speaks(&TLS13));
    assert!(!newest.speaks(&TLS12));
    let both = Encrypted::start_that_speaks(Versions::Tls13And12);
    assert!(both.speaks(&TLS13));
    assert!(both.speaks(&TLS12));
}
