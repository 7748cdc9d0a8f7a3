//! A client of server-sent events.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{HeaderMap, Request};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// A request whose answer goes on.
pub struct Reader {
    pub status: u16,
    pub headers: HeaderMap,
    body: Incoming,
    text: String,
}

/// What stands between two blank lines.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sent {
    pub id: Option<String>,
    /// `message` if nothing is said.
    pub name: String,
    pub data: Option<String>,
    pub retry: Option<String>,
    pub comment: Option<String>,
}

impl Sent {
    /// The event as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(self.data.as_deref().unwrap_or_default()).unwrap()
    }

    pub fn id(&self) -> &str {
        self.id.as_deref().unwrap()
    }
}

impl Reader {
    pub async fn open(url: &str, path: &str, headers: &[(&str, &str)]) -> Self {
        Self::try_open(url, path, headers).await.unwrap()
    }

    /// The same, where the connection may break.
    pub async fn try_open(
        url: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, hyper::Error> {
        let address = url.trim_start_matches("http://");
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let mut request = Request::get(path).header("host", address);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let (parts, body) = sender.send_request(request).await?.into_parts();
        Ok(Self {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body,
            text: String::new(),
        })
    }

    /// What comes next; `None` when the answer has ended in order.
    pub async fn any(&mut self) -> Option<Sent> {
        self.whole().await.unwrap()
    }

    /// The same, where the connection may break.
    pub async fn whole(&mut self) -> Result<Option<Sent>, hyper::Error> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let sent = parsed(block);
                self.text = rest.to_owned();
                return Ok(Some(sent));
            }
            let Some(frame) = self.body.frame().await.transpose()? else {
                return Ok(None);
            };
            let bytes = frame.into_data().unwrap();
            self.text += std::str::from_utf8(&bytes).unwrap();
        }
    }

    /// The next event.
    pub async fn event(&mut self) -> Option<Sent> {
        while let Some(sent) = self.any().await {
            if sent.data.is_some() {
                return Some(sent);
            }
        }
        None
    }

    /// All events to the end, as their positions.
    pub async fn positions(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(event) = self.event().await {
            if event.name == "message" {
                all.push(event.json()["position"].as_str().unwrap().to_owned());
            }
        }
        all
    }
}

fn parsed(block: &str) -> Sent {
    let mut sent = Sent {
        name: "message".to_owned(),
        ..Sent::default()
    };
    for line in block.lines() {
        let (field, value) = line.split_once(':').unwrap();
        let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
        match field {
            "" => sent.comment = Some(value),
            "id" => sent.id = Some(value),
            "event" => sent.name = value,
            "data" => sent.data = Some(value),
            "retry" => sent.retry = Some(value),
            other => panic!("no field is called {other:?}"),
        }
    }
    sent
}
