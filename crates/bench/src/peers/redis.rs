//! Redis streams: one `XADD` for each event, those of a batch sent together. The
//! append-only file is synced before replies go out.

use std::path::Path;
use std::process::Command;

use anabranch_backends::find;
use anabranch_log_segment::Durability;
use anabranch_model::NewEvent;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::served::{Served, failed};
use super::server::{Server, connect, free_address, version};
use crate::append::{Driven, ReadyPeer, sources};
use crate::drive::Client;
use crate::error::BenchError;
use crate::workload::{EventSource, Workload};

pub async fn start(dir: &Path, workload: &Workload) -> Result<ReadyPeer, BenchError> {
    let program = find("redis-server", &[]).ok_or_else(|| {
        failed(
            "redis",
            "redis-server was not found; install it (Debian: apt-get install redis-server)",
        )
    })?;
    let version = version(&program).map_err(BenchError::io("asking redis-server its version"))?;
    let address = free_address()
        .await
        .map_err(BenchError::io("looking for a free port"))?;
    let sync = match workload.durability {
        Durability::Sync => "always",
        Durability::Interval(_) => "everysec",
    };
    let mut command = Command::new(program);
    command
        .args(["--bind", &address.ip().to_string()])
        .args(["--port", &address.port().to_string()])
        .arg("--dir")
        .arg(dir)
        .args(["--appendonly", "yes", "--appendfsync", sync])
        .args(["--auto-aof-rewrite-percentage", "0", "--save", ""])
        .args(["--daemonize", "no"]);
    let mut server = Server::start("redis", dir, command)?;
    server
        .ready(async || RedisClient::ping(connect(address).await.map_err(|e| e.to_string())?).await)
        .await?;
    let mut clients = Vec::new();
    for source in sources(workload) {
        let stream = connect(address)
            .await
            .map_err(BenchError::io("connecting to Redis"))?;
        clients.push(RedisClient::new(stream, source, workload.batch));
    }
    Ok(ReadyPeer {
        contender: Box::new(Served::new(Driven::new(workload, clients, None), server)),
        version,
        setup: format!("XADD, batches pipelined, appendfsync {sync}"),
    })
}

struct RedisClient {
    stream: BufReader<TcpStream>,
    source: EventSource,
    batch: usize,
    request: Vec<u8>,
}

impl RedisClient {
    fn new(stream: TcpStream, source: EventSource, batch: usize) -> Self {
        Self {
            stream: BufReader::new(stream),
            source,
            batch,
            request: Vec::new(),
        }
    }

    /// Fails while the server still loads its data.
    async fn ping(stream: TcpStream) -> Result<(), String> {
        let mut stream = BufReader::new(stream);
        let sent = stream.get_mut().write_all(b"PING\r\n").await;
        sent.map_err(|e| e.to_string())?;
        read_reply(&mut stream).await
    }
}

impl Client for RedisClient {
    fn prepare(&mut self) {
        self.request.clear();
        for event in self.source.batch(self.batch) {
            put_add(&mut self.request, &event);
        }
    }

    async fn append(&mut self) -> Result<(), BenchError> {
        let sent = self.stream.get_mut().write_all(&self.request).await;
        sent.map_err(BenchError::io("writing to Redis"))?;
        for _ in 0..self.batch {
            let reply = read_reply(&mut self.stream).await;
            reply.map_err(|reason| failed("redis", &reason))?;
        }
        Ok(())
    }
}

/// `XADD stream * id … type … data …`, as an array of byte strings.
fn put_add(out: &mut Vec<u8>, event: &NewEvent) {
    let id = event.id.as_u128().to_be_bytes();
    let parts: [&[u8]; 9] = [
        b"XADD",
        event.stream.as_str().as_bytes(),
        b"*",
        b"id",
        &id,
        b"type",
        event.event_type.as_str().as_bytes(),
        b"data",
        &event.data,
    ];
    out.extend_from_slice(format!("*{}\r\n", parts.len()).as_bytes());
    for part in parts {
        out.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
}

/// Reads one simple reply to its end; an error reply is an error.
async fn read_reply(stream: &mut BufReader<TcpStream>) -> Result<(), String> {
    let mut line = String::new();
    match stream.read_line(&mut line).await {
        Ok(0) => return Err("the server closed the connection".to_owned()),
        Ok(_) => {}
        Err(error) => return Err(error.to_string()),
    }
    let line = line.trim_end();
    match line.split_at_checked(1) {
        Some(("+" | ":", _)) => Ok(()),
        Some(("$", len)) => {
            let len: usize = len.parse().map_err(|_| format!("it answered {line:?}"))?;
            let mut body = vec![0; len + 2];
            let read = stream.read_exact(&mut body).await;
            read.map(drop).map_err(|e| e.to_string())
        }
        _ => Err(format!("it answered {line:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake;
    use super::*;

    fn client(stream: TcpStream, batch: usize) -> RedisClient {
        let workload = Workload {
            size: 5,
            streams: 1,
            ..Workload::default()
        };
        let source = sources(&workload).next().unwrap();
        RedisClient::new(stream, source, batch)
    }

    #[tokio::test]
    async fn each_event_is_added_to_its_stream_with_its_data() {
        let (stream, _) = fake::pair().await;
        let mut client = client(stream, 2);
        client.prepare();
        let sent = String::from_utf8_lossy(&client.request);
        assert_eq!(
            sent.matches("*9\r\n$4\r\nXADD\r\n$8\r\nload-0/0\r\n$1\r\n*\r\n")
                .count(),
            2
        );
        assert_eq!(sent.matches("$4\r\ndata\r\n$5\r\n\"").count(), 2);
    }

    #[tokio::test]
    async fn an_append_waits_for_the_reply_to_every_event() {
        let (stream, mut server) = fake::pair().await;
        let mut client = client(stream, 2);
        client.prepare();
        server.say("$3\r\n1-0\r\n").await;
        let mut append = std::pin::pin!(client.append());
        fake::pending(append.as_mut()).await;
        server.say("$3\r\n1-1\r\n").await;
        append.await.unwrap();
    }

    #[tokio::test]
    async fn an_error_reply_fails_the_append() {
        let (stream, mut server) = fake::pair().await;
        let mut client = client(stream, 1);
        client.prepare();
        server.say("-MISCONF disk full\r\n").await;
        let error = client.append().await.unwrap_err().to_string();
        assert!(error.contains("MISCONF disk full"), "{error}");
    }
}
