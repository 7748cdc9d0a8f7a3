//! NATS JetStream: one stream of subjects, one acknowledged message for each event, those
//! of a batch sent together.

#![expect(
    clippy::disallowed_methods,
    reason = "the server is configured by a file"
)]

use std::path::Path;
use std::process::Command;

use anabranch_backends::find;
use anabranch_log_segment::Durability;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::served::{Served, failed};
use super::server::{Server, connect, free_address, version};
use crate::append::{Driven, ReadyPeer, sources};
use crate::drive::Client;
use crate::error::BenchError;
use crate::workload::{EventSource, Workload};

pub async fn start(dir: &Path, workload: &Workload) -> Result<ReadyPeer, BenchError> {
    let program = find("nats-server", &[]).ok_or_else(|| {
        failed(
            "nats",
            "nats-server was not found; install it \
             (go install github.com/nats-io/nats-server/v2@latest)",
        )
    })?;
    let version = version(&program).map_err(BenchError::io("asking nats-server its version"))?;
    if !can_sync(&version) {
        return Err(failed(
            "nats",
            &format!(
                "nats-server {version} cannot sync before it acknowledges; install 2.10 or later \
                 (go install github.com/nats-io/nats-server/v2@latest)"
            ),
        ));
    }
    let address = free_address()
        .await
        .map_err(BenchError::io("looking for a free port"))?;
    let sync = match workload.durability {
        Durability::Sync => "always",
        Durability::Interval(_) => "1s",
    };
    let config = format!(
        "listen: \"{address}\"\nmax_payload: 8MB\n\
         jetstream {{ store_dir: {:?}, sync_interval: {sync} }}\n",
        dir.join("jetstream").display().to_string()
    );
    let config_path = dir.join("server.conf");
    std::fs::write(&config_path, config).map_err(BenchError::io("configuring nats-server"))?;
    let mut command = Command::new(program);
    command.arg("-c").arg(config_path);
    let mut server = Server::start("nats", dir, command)?;
    let mut admin = server
        .ready(async || {
            let stream = connect(address).await.map_err(|e| e.to_string())?;
            Connection::open(stream, "admin").await
        })
        .await?;
    admin
        .create_stream()
        .await
        .map_err(|reason| failed("nats", &reason))?;
    let mut clients = Vec::new();
    for (n, source) in sources(workload).enumerate() {
        let stream = connect(address)
            .await
            .map_err(BenchError::io("connecting to NATS"))?;
        let connection = Connection::open(stream, &n.to_string())
            .await
            .map_err(|reason| failed("nats", &reason))?;
        clients.push(NatsClient {
            connection,
            source,
            batch: workload.batch,
            request: Vec::new(),
        });
    }
    Ok(ReadyPeer {
        contender: Box::new(Served::new(Driven::new(workload, clients, None), server)),
        version,
        setup: format!("JetStream, one message per event, sync_interval {sync}"),
    })
}

/// Whether this version has `sync_interval: always`.
fn can_sync(version: &str) -> bool {
    let mut parts = version
        .split('.')
        .map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next(), parts.next()) >= (Some(2), Some(10))
}

struct Connection {
    stream: BufReader<TcpStream>,
    inbox: String,
}

impl Connection {
    async fn open(stream: TcpStream, name: &str) -> Result<Self, String> {
        let inbox = format!("_INBOX.{name}");
        let hello = format!(
            "CONNECT {{\"verbose\":false,\"pedantic\":false}}\r\nSUB {inbox} 1\r\nPING\r\n"
        );
        let mut connection = Self {
            stream: BufReader::new(stream),
            inbox,
        };
        connection.send(hello.as_bytes()).await?;
        while connection.line().await? != "PONG" {}
        Ok(connection)
    }

    async fn create_stream(&mut self) -> Result<(), String> {
        let stream = r#"{"name":"LOAD","subjects":["load-0.>"],"storage":"file","num_replicas":1}"#;
        let request = format!(
            "PUB $JS.API.STREAM.CREATE.LOAD {} {}\r\n{stream}\r\n",
            self.inbox,
            stream.len()
        );
        self.send(request.as_bytes()).await?;
        self.reply().await
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        let sent = self.stream.get_mut().write_all(bytes).await;
        sent.map_err(|e| e.to_string())
    }

    async fn line(&mut self) -> Result<String, String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line).await {
            Ok(0) => return Err("the server closed the connection".to_owned()),
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
        line.truncate(line.trim_end().len());
        if line.starts_with("-ERR") {
            return Err(format!("it answered {line:?}"));
        }
        Ok(line)
    }

    /// Reads one message to the inbox; one that tells of an error is an error.
    async fn reply(&mut self) -> Result<(), String> {
        loop {
            let line = self.line().await?;
            if line == "PING" {
                self.send(b"PONG\r\n").await?;
            }
            if !line.starts_with("MSG ") {
                continue;
            }
            let len = line
                .rsplit(' ')
                .next()
                .and_then(|len| len.parse::<usize>().ok());
            let len = len.ok_or_else(|| format!("it answered {line:?}"))?;
            let mut body = vec![0; len + 2];
            let read = self.stream.read_exact(&mut body).await;
            read.map_err(|e| e.to_string())?;
            let body = String::from_utf8_lossy(&body);
            return if body.contains("\"error\"") {
                Err(format!("it answered {}", body.trim()))
            } else {
                Ok(())
            };
        }
    }
}

struct NatsClient {
    connection: Connection,
    source: EventSource,
    batch: usize,
    request: Vec<u8>,
}

impl Client for NatsClient {
    fn prepare(&mut self) {
        self.request.clear();
        for event in self.source.batch(self.batch) {
            let subject = event.stream.as_str().replace('/', ".");
            let head = format!(
                "PUB {subject} {} {}\r\n",
                self.connection.inbox,
                event.data.len()
            );
            self.request.extend_from_slice(head.as_bytes());
            self.request.extend_from_slice(&event.data);
            self.request.extend_from_slice(b"\r\n");
        }
    }

    async fn append(&mut self) -> Result<(), BenchError> {
        let sent = self.connection.send(&self.request).await;
        sent.map_err(|reason| failed("nats", &reason))?;
        for _ in 0..self.batch {
            let reply = self.connection.reply().await;
            reply.map_err(|reason| failed("nats", &reason))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake;
    use super::*;

    async fn connected(batch: usize) -> (NatsClient, fake::Server) {
        let (stream, mut server) = fake::pair().await;
        server.say("INFO {}\r\nPONG\r\n").await;
        let connection = Connection::open(stream, "7").await.unwrap();
        let workload = Workload {
            size: 5,
            streams: 1,
            ..Workload::default()
        };
        let mut client = NatsClient {
            connection,
            source: sources(&workload).next().unwrap(),
            batch,
            request: Vec::new(),
        };
        client.prepare();
        (client, server)
    }

    #[tokio::test]
    async fn each_event_is_published_to_the_subject_of_its_stream() {
        let (client, _server) = connected(3).await;
        let sent = String::from_utf8_lossy(&client.request);
        assert_eq!(sent.matches("PUB load-0.0 _INBOX.7 5\r\n\"").count(), 3);
    }

    #[tokio::test]
    async fn an_append_waits_for_the_acknowledgement_of_every_event() {
        let (mut client, mut server) = connected(2).await;
        server
            .say("MSG _INBOX.7 1 9\r\n{\"seq\":1}\r\nPING\r\n")
            .await;
        let mut append = std::pin::pin!(client.append());
        fake::pending(append.as_mut()).await;
        server.say("MSG _INBOX.7 1 9\r\n{\"seq\":2}\r\n").await;
        append.await.unwrap();
    }

    #[tokio::test]
    async fn a_refused_message_fails_the_append() {
        let (mut client, mut server) = connected(1).await;
        let body = r#"{"error":{"description":"no space"}}"#;
        server
            .say(&format!("MSG _INBOX.7 1 {}\r\n{body}\r\n", body.len()))
            .await;
        let error = client.append().await.unwrap_err().to_string();
        assert!(error.contains("no space"), "{error}");
    }

    #[test]
    fn versions_that_cannot_sync_are_known() {
        assert!(!can_sync("2.9.10") && !can_sync("of unknown version"));
        assert!(can_sync("2.10.0") && can_sync("2.15.1") && can_sync("3.0.0"));
    }
}
