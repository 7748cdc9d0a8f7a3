//! What comes to a server over a connection: requests of HTTP with all their headers and bodies, and what a
//! client says over a WebSocket. The server is the one that ships, before a log in memory.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, mpsc};
use std::thread;
use std::time::Duration;

use anabranch_env::Env;
use anabranch_log::{Append, Log, MemoryLog};
use anabranch_model::{TokenKey, TokenSeal};
use anabranch_runtime::{Fleet, Time};
use anabranch_server::Server;

use crate::corpus::{SEAL, an_event};

/// The name of the server's thread.
const THREAD: &str = "served";

/// Every request is answered, or its connection ended, long before that.
const WITHIN: Duration = Duration::from_secs(30);

/// Whether something has panicked in the server: it answers other requests then.
static PANICKED: AtomicBool = AtomicBool::new(false);

static SERVER: LazyLock<SocketAddr> = LazyLock::new(|| {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if thread::current().name() == Some(THREAD) {
            PANICKED.store(true, Ordering::SeqCst);
        }
        before(info);
    }));
    let (say, heard) = mpsc::channel();
    let serve = move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        runtime.block_on(async {
            let env = Env::os();
            let log = Arc::new(MemoryLog::new(env.clone()));
            for number in 1..4 {
                log.append(Append::event(an_event(number))).await.unwrap();
            }
            let (id, secret) = SEAL;
            let seal = TokenSeal::new(7, 0, TokenKey { id, secret });
            let listener = Server::bind("127.0.0.1:0").await.unwrap();
            say.send(listener.local_addr().unwrap()).unwrap();
            let server = Server::new(Arc::new(Fleet::new()), log, Time::of(&env)).seal(seal);
            server.serve(listener, std::future::pending()).await.unwrap();
        });
    };
    thread::Builder::new()
        .name(THREAD.to_owned())
        .spawn(serve)
        .unwrap();
    heard.recv().unwrap()
});

/// Says this to the server, and nothing more; what it answers until it ends the connection.
fn said(parts: &[&[u8]]) -> Vec<u8> {
    let mut stream = TcpStream::connect(*SERVER).unwrap();
    stream.set_read_timeout(Some(WITHIN)).unwrap();
    let mut is_heard = parts.iter().all(|part| stream.write_all(part).is_ok());
    // Who has said something wrong may have been hung up on.
    is_heard = stream.shutdown(Shutdown::Write).is_ok() && is_heard;
    let mut answered = Vec::new();
    let ended = stream.read_to_end(&mut answered);
    let is_late = |error: &std::io::Error| {
        [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind())
    };
    assert!(!ended.is_err_and(|error| is_late(&error)), "it still waits; heard: {is_heard}");
    assert!(!PANICKED.swap(false, Ordering::SeqCst), "the server has panicked");
    answered
}

/// A request of HTTP: its head, which says no length, and its body, whose length is put there.
pub fn http(data: &[u8]) {
    const END: &[u8] = b"\r\n\r\n";
    let Some(at) = data.windows(END.len()).position(|bytes| bytes == END) else {
        said(&[data]);
        return;
    };
    let (head, body) = (&data[..at], &data[at + END.len()..]);
    let length = format!("\r\ncontent-length: {}\r\n\r\n", body.len());
    let answered = said(&[head, length.as_bytes(), body]);
    let is_http = answered.is_empty() || answered.starts_with(b"HTTP/1.");
    // Or frames of HTTP/2, if it was taken for that.
    assert!(is_http || head.starts_with(b"PRI"), "{}", answered.escape_ascii());
}

/// What a client sends over a WebSocket that is open, as it comes: frames, with messages or without.
pub fn live(data: &[u8]) {
    const OPENS: &[u8] = b"GET /events?credits=2 HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: upgrade\r\n\
        upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let answered = said(&[OPENS, data]);
    assert!(
        answered.starts_with(b"HTTP/1.1 101 "),
        "{}",
        answered.escape_ascii()
    );
}
