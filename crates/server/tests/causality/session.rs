//! Clients, each with the token of what it has done.

use anabranch_model::{Position, StreamId};
use anabranch_server::client::{Method, Reply, path};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::items::Rows;
use crate::world::{Reader, World};

/// A client of the servers.
pub struct Session {
    token: Option<String>,
    forgets: bool,
}

/// An answer that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub status: u16,
    pub code: String,
}

impl Session {
    pub fn new(forgets: bool) -> Self {
        Self {
            token: None,
            forgets,
        }
    }

    /// A client with a token from elsewhere.
    pub fn with_token(token: &str) -> Self {
        Self {
            token: Some(token.to_owned()),
            forgets: false,
        }
    }

    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Writes an item; gives where that stands.
    pub async fn write(&mut self, world: &World, item: &StreamId, text: &str) -> Position {
        let body = json!({ "text": text }).to_string();
        let reply = self.command(world, item, "Write", &[], body).await;
        position(&reply)
    }

    /// Writes several items together; gives where they stand.
    pub async fn write_together(
        &mut self,
        world: &World,
        items: &[(&StreamId, &str)],
    ) -> Vec<Position> {
        let list = items.iter().map(
            |(item, text)| json!({"to": item.to_string(), "type": "Write", "data": {"text": text}}),
        );
        let reply = self.list(world, list.collect()).await;
        let told = reply.json();
        assert!(reply.status.is_success(), "{told}");
        let outcomes = told["outcomes"].as_array().unwrap().iter();
        let position = |told: &Value| {
            told["events"][0]["position"]
                .as_str()
                .unwrap()
                .parse()
                .unwrap()
        };
        outcomes.map(position).collect()
    }

    /// Sends commands together, whatever becomes of them.
    pub async fn list(&mut self, world: &World, list: Vec<Value>) -> Reply {
        let headers: Vec<_> = self
            .token
            .iter()
            .map(|token| ("anabranch-token", &**token))
            .collect();
        let client = &world.writers.client;
        let body = Bytes::from(json!(list).to_string());
        let sent = client.send(Method::Post, "/commands", &headers, body);
        let reply = sent.await.unwrap();
        self.hears(&reply);
        reply
    }

    /// Takes an item away; gives where that stands.
    pub async fn erase(&mut self, world: &World, item: &StreamId) -> Position {
        let reply = self
            .command(world, item, "Erase", &[], "null".to_owned())
            .await;
        position(&reply)
    }

    /// Sends a command, whatever becomes of it.
    pub async fn command(
        &mut self,
        world: &World,
        item: &StreamId,
        name: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Reply {
        let at = path(
            &["commands", item.category(), item.key()],
            &[("type", name)],
        );
        let mut all = headers.to_vec();
        all.extend(
            self.token
                .as_deref()
                .map(|token| ("anabranch-token", token)),
        );
        let client = &world.writers.client;
        let sent = client.send(Method::Post, &at, &all, Bytes::from(body));
        let reply = sent.await.unwrap();
        self.hears(&reply);
        reply
    }

    /// Asks a view for all that it shows, now.
    pub async fn ask(&mut self, reader: &Reader, view: &str) -> Result<Rows, Refused> {
        self.ask_by(reader, view, "fail").await
    }

    /// The same, and waits for as long as it takes.
    pub async fn ask_waiting(&mut self, reader: &Reader, view: &str) -> Result<Rows, Refused> {
        self.ask_by(reader, view, "wait=5s").await
    }

    pub async fn ask_by(
        &mut self,
        reader: &Reader,
        view: &str,
        policy: &str,
    ) -> Result<Rows, Refused> {
        let reply = self.reply_of(reader, view, policy).await;
        let json = reply.json();
        if !reply.status.is_success() {
            return Err(Refused {
                status: reply.status.as_u16(),
                code: json["code"].as_str().unwrap_or_default().to_owned(),
            });
        }
        Ok(serde_json::from_value(json["value"].clone()).unwrap())
    }

    /// Waits until a view of those who write shows what it has seen.
    pub async fn ask_here(&mut self, world: &World, view: &str) {
        let at = path(&["views", view, "all"], &[]);
        let headers: Vec<_> = self
            .token
            .iter()
            .map(|token| ("anabranch-token", &**token))
            .collect();
        let client = &world.writers.client;
        let sent = client.send(Method::Get, &at, &headers, Bytes::new());
        let reply = sent.await.unwrap();
        assert!(reply.status.is_success(), "{}", reply.json());
        self.hears(&reply);
    }

    pub async fn reply_of(&mut self, reader: &Reader, view: &str, policy: &str) -> Reply {
        let at = path(&["views", view, "all"], &[]);
        let mut headers = vec![("anabranch-policy", policy)];
        headers.extend(
            self.token
                .as_deref()
                .map(|token| ("anabranch-token", token)),
        );
        let client = &reader.site.client;
        let sent = client.send(Method::Get, &at, &headers, Bytes::new());
        let reply = sent.await.unwrap();
        self.hears(&reply);
        reply
    }

    fn hears(&mut self, reply: &Reply) {
        if let Some(token) = reply.header("anabranch-token")
            && !self.forgets
        {
            self.token = Some(token.to_owned());
        }
    }
}

/// Where the event stands that a command has recorded.
pub fn position(reply: &Reply) -> Position {
    let json = reply.json();
    assert!(reply.status.is_success(), "{json}");
    let position = json["events"][0]["position"].as_str();
    position
        .unwrap_or_else(|| panic!("{json}"))
        .parse()
        .unwrap()
}
