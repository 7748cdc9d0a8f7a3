//! A small service in a process of its own: its memory, and how long a command takes to a view
//! that shows it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anabranch_env::Env;
use anabranch_log::{Append, Log};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::TcpStream;

use crate::append::sources;
use crate::error::BenchError;
use crate::latency::Latencies;
use crate::machine::resident_bytes_of;
use crate::peers::{Server, free_address};
use crate::workload::Workload;

/// The service: it has an entity and a view of it.
const SERVICE: &str = "pricing";

/// Where an answer says how far its reader must have read.
const TOKEN: &str = "anabranch-token";

/// Medians of a command through a service's gateway until a view read with its token shows it, beside
/// durable appends through the same server that take turns with the commands. In microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct GatewayFigures {
    /// From the command to the view's answer.
    pub command_to_view_p50_us: f64,
    /// The command alone, until its events are durable.
    pub command_p50_us: f64,
    /// One event to the log's server, until it is durable.
    pub append_p50_us: f64,
    /// How many of each.
    pub commands: u64,
    /// Memory of the service before anything was asked of it, in bytes.
    pub idle_bytes: Option<u64>,
}

/// Starts a service on the log at `log_url`, which `log` leads to too.
pub async fn gateway(
    dir: &Path,
    log_url: &str,
    log: &Arc<dyn Log>,
    workload: &Workload,
    commands: u64,
) -> Result<GatewayFigures, BenchError> {
    let address = free_address()
        .await
        .map_err(BenchError::io("looking for a free port"))?;
    let program = std::env::current_exe().map_err(BenchError::io("finding this program"))?;
    let mut command = Command::new(program);
    command
        .args(["demo", "--service", SERVICE, "--dir", "./service"])
        .args(["--log", log_url, "--listen", &address.to_string()]);
    let mut server = Server::start(SERVICE, dir, command)?;
    let mut client = server
        .ready(async || {
            let mut client = Client::connect(address).await?;
            client
                .ask(Method::GET, "/readyz", None, Bytes::new())
                .await?;
            Ok::<_, BenchError>(client)
        })
        .await?;
    let idle_bytes = resident_bytes_of(&*Env::os().disk, server.pid());
    let clock = Env::os().clock;
    let mut source = sources(workload).next();
    let [mut shown, mut done, mut appended] = [(); 3].map(|()| Latencies::new());
    for mills in 1..=commands {
        let begun = clock.monotonic();
        let path = "/commands/price/bench?type=SetListPrice";
        let body = Bytes::from(format!(r#"{{"mills":{mills}}}"#));
        let (head, _) = client.ask(Method::POST, path, None, body).await?;
        done.record(clock.monotonic().saturating_sub(begun));
        let token = head.get(TOKEN).and_then(|token| token.to_str().ok());
        let query = "/views/prices/of?product=bench";
        let (_, answer) = client.ask(Method::GET, query, token, Bytes::new()).await?;
        shown.record(clock.monotonic().saturating_sub(begun));
        let told: Option<serde_json::Value> = serde_json::from_slice(&answer).ok();
        if told.is_none_or(|told| told["value"] != mills) {
            let answer = String::from_utf8_lossy(&answer);
            return Err(BenchError::Void(format!(
                "a view read with the token of price {mills} shows {answer}"
            )));
        }
        let events = source.as_mut().map_or(Vec::new(), |source| source.batch(1));
        let begun = clock.monotonic();
        log.append(Append::events(events)).await?;
        appended.record(clock.monotonic().saturating_sub(begun));
    }
    Ok(GatewayFigures {
        command_to_view_p50_us: shown.micros_at(0.5),
        command_p50_us: done.micros_at(0.5),
        append_p50_us: appended.micros_at(0.5),
        commands,
        idle_bytes,
    })
}

/// One connection to a service.
struct Client {
    send: SendRequest<Full<Bytes>>,
    address: SocketAddr,
}

impl Client {
    async fn connect(address: SocketAddr) -> Result<Self, BenchError> {
        let connect = async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            handshake(TokioIo::new(stream))
                .await
                .map_err(std::io::Error::other)
        };
        let (send, connection) = connect
            .await
            .map_err(BenchError::io("connecting to a service"))?;
        // Its end is seen by the next request.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self { send, address })
    }

    /// The head and the body of an answer that is a success.
    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Bytes,
    ) -> Result<(HeaderMap, Bytes), BenchError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.address.to_string())
            .header(CONTENT_TYPE, "application/json");
        if let Some(token) = token {
            request = request.header(TOKEN, token);
        }
        let failed = |why: String| BenchError::Child(format!("{path}: {why}"));
        let request = request
            .body(Full::new(body))
            .map_err(|error| failed(error.to_string()))?;
        let answer = async {
            // What was asked before may have been answered a moment ago.
            self.send.ready().await?;
            let (head, body) = self.send.send_request(request).await?.into_parts();
            Ok::<_, hyper::Error>((head, body.collect().await?.to_bytes()))
        };
        let (head, body) = answer.await.map_err(|error| failed(error.to_string()))?;
        if head.status != StatusCode::OK {
            let body = String::from_utf8_lossy(&body);
            return Err(failed(format!("{} {body}", head.status)));
        }
        Ok((head.headers, body))
    }
}
