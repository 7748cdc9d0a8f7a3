//! Connections, each used by one at a time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, NoTls, Row};

use crate::address::{Address, Durability};
use crate::fault::Fault;

/// So many reads ask at the same time; who comes meanwhile waits.
const CONNECTIONS_MAX: usize = 8;
/// After a failure it is tried again after so long, and each time after twice as long.
const AGAIN_FIRST: Duration = Duration::from_millis(10);
const AGAIN_MOST: Duration = Duration::from_secs(1);

/// A value for a statement, and its type: so nothing has to be prepared, and any connection of a
/// pooler will do.
pub type Value<'a> = (&'a (dyn ToSql + Sync), Type);

/// The connections of one log. Only used on the thread of its input and output.
pub struct Pool {
    address: Address,
    patience: Duration,
    idle: Mutex<Vec<Client>>,
    room: Semaphore,
}

impl Pool {
    /// Connections to `address`; who asks does so for so long.
    pub fn new(address: Address, patience: Duration) -> Arc<Self> {
        Arc::new(Self {
            address,
            patience,
            idle: Mutex::default(),
            room: Semaphore::new(CONNECTIONS_MAX),
        })
    }

    /// How long to ask a server that does not answer.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// The schema of the log, in quotes.
    pub fn schema(&self) -> &str {
        &self.address.schema
    }

    /// Whether the server has to say that it keeps what it acknowledges.
    pub fn is_checked(&self) -> bool {
        self.address.durability == Durability::Sync
    }

    /// A new connection.
    pub async fn connect(&self) -> Result<Client, Fault> {
        let connected = self.address.config.connect(NoTls).await;
        let (client, connection) = connected.map_err(|error| Fault::of_connecting(&error))?;
        // Why it ends is told to who asks by it.
        tokio::spawn(async move { drop(connection.await) });
        Ok(client)
    }

    /// Asks once.
    async fn once(&self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>, Fault> {
        let _room = self.room.acquire().await;
        let idle = self.idle().pop().filter(|client| !client.is_closed());
        let client = match idle {
            Some(client) => client,
            None => self.connect().await?,
        };
        let rows = ask(&client, sql, values, self.patience).await?;
        self.idle().push(client);
        Ok(rows)
    }

    /// Asks what changes nothing, again and again while nobody answers.
    pub async fn query(&self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>, Fault> {
        let mut again = Again::new(self.patience);
        loop {
            match self.once(sql, values).await {
                Err(fault) if fault.may_pass() => {
                    // The others have been lost with it.
                    self.idle().retain(|client| !client.is_closed());
                    if !again.wait().await {
                        return Err(fault);
                    }
                }
                answered => return answered,
            }
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Client>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks by one connection.
#[expect(
    clippy::disallowed_methods,
    reason = "a server is silent in real time; nothing here is simulated"
)]
pub async fn ask(
    client: &Client,
    sql: &str,
    values: &[Value<'_>],
    patience: Duration,
) -> Result<Vec<Row>, Fault> {
    match tokio::time::timeout(patience, client.query_typed(sql, values)).await {
        Ok(Ok(rows)) => Ok(rows),
        Ok(Err(error)) => Err(Fault::of(&error)),
        Err(_) => Err(Fault::Lost(format!("no answer within {patience:?}"))),
    }
}

/// When something is tried again: soon at first, then more and more seldom, until the patience
/// is at its end.
pub struct Again {
    next: Duration,
    patience: Duration,
    since: tokio::time::Instant,
}

#[expect(
    clippy::disallowed_methods,
    reason = "a server is away in real time; nothing here is simulated"
)]
impl Again {
    /// It begins now.
    pub fn new(patience: Duration) -> Self {
        Self {
            next: AGAIN_FIRST,
            patience,
            since: tokio::time::Instant::now(),
        }
    }

    /// Waits for the next try; false if there is to be none.
    pub async fn wait(&mut self) -> bool {
        if self.since.elapsed() + self.next > self.patience {
            return false;
        }
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(AGAIN_MOST);
        true
    }
}
