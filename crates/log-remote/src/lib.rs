//! A log that another process has, over the network.
//!
//! [`RemoteLog`] is the same contract as any log, so nothing that uses one changes. It speaks to
//! a server (`anabranch serve`, or any program that serves its log) over one connection.
//!
//! * **Appends** of all callers share one call, many at a time. When the connection breaks they
//!   are sent again with their ids: what was written is found and answers its first places. Only
//!   when nothing answers for as long as the [patience](Options::patience) does an append fail,
//!   with `Unknown` if it may have been written.
//! * **Reads** go on where they were, without gap or duplicate. A server that is slow, or a
//!   reader that is, holds a bounded number of batches on either side.
//! * **Another log** at the same address is refused: each request names the log that the first
//!   answer came from.
//! * **Services** say by it what they own and where they are, and find each other: [`Registry`].
//!
//! Its input and output have a thread of their own, so it works on any async runtime, or none.

mod appends;
mod connection;
mod leases;
mod options;
mod read;
mod registry;

use std::thread;
use std::time::Duration;

use anabranch_log::{
    Append, AppendError, Appended, BoxFuture, Capabilities, EventStream, Layout, Log, OpenError,
    Order, Placed, ReadError, ReadMode, Rejection, VersionRange,
};
use anabranch_model::{Cut, EventId, Filter, StreamId};
use anabranch_rpc::{cut_of, message_bytes_max, parts_bytes, placed_of, protocol as p};
use connectrpc::ConnectError;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::appends::Appends;
use crate::connection::{Client, Connection, Lost};
use crate::leases::Leases;

pub use options::Options;
pub use registry::{
    Found, Lease, LeaseState, Presence, Registration, Registry, RegistryError, Sought,
};

/// A log behind a server.
pub struct RemoteLog {
    connection: Connection,
    capabilities: Capabilities,
    layout: Layout,
    appends: Appends,
    leases: Leases,
    handle: Handle,
    /// Dropped with the log, which ends the thread and all that runs on it.
    _stop: oneshot::Sender<()>,
}

/// How long the first answer may take.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

impl RemoteLog {
    /// Connects to the server at an address such as `http://127.0.0.1:7400`, and asks it which
    /// log it has. Waits for the answer, ten seconds at most.
    pub fn open(address: &str, options: Options) -> Result<Self, OpenError> {
        let uri = connection::parse(address)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| OpenError::Io {
                what: "making a thread for the network".to_owned(),
                source,
            })?;
        let handle = runtime.handle().clone();
        thread::Builder::new()
            .name("anabranch-remote".to_owned())
            .spawn(move || {
                // Ends when the log is dropped.
                runtime.block_on(async { drop(stopped.await) });
                // What is still under way ends here, and says so to whoever waits.
                runtime.shutdown_background();
            })
            .map_err(|source| OpenError::Io {
                what: "starting the thread for the network".to_owned(),
                source,
            })?;
        let (say, heard) = std::sync::mpsc::channel();
        let address = address.to_owned();
        let asked = {
            let _inside = handle.enter();
            Connection::new(&uri, &address, &options)
        };
        let first = asked.clone();
        handle.spawn(async move {
            // Whoever asked may have given up.
            drop(say.send(first.describe().await));
        });
        let described = heard.recv_timeout(FIRST_ANSWER);
        let described = described.map_err(|_| OpenError::Unreachable {
            address: address.clone(),
            reason: format!("no answer within {FIRST_ANSWER:?}"),
        })??;
        let connection = asked.of_log(&described.log);
        let leases = Leases::default();
        Ok(Self {
            appends: Appends::start(
                &handle,
                connection.clone(),
                leases.clone(),
                options.patience,
            ),
            leases,
            capabilities: described.capabilities,
            layout: described.layout,
            connection,
            handle,
            _stop: stop,
        })
    }

    /// The name of the log, as its server gives it.
    pub fn name(&self) -> &str {
        self.connection.log()
    }

    /// The services on the log. One that registers by it appends by this log from then on.
    pub fn registry(&self) -> Registry {
        let connection = self.connection.clone();
        Registry::new(connection, self.handle.clone(), self.leases.clone())
    }

    /// Carries out on the thread of the network what answers once, again and again while nobody
    /// answers: it changes nothing.
    async fn ask<T, F>(&self, call: impl Fn(Client) -> F + Send + 'static) -> Result<T, ReadError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ConnectError>> + Send + 'static,
    {
        let connection = self.connection.clone();
        let asked = self
            .handle
            .spawn(async move { connection.insist(call).await });
        match asked.await {
            Ok(answer) => answer.map_err(Lost::of_read),
            // The thread ends with the log.
            Err(_) => Err(ReadError::Closed),
        }
    }
}

impl Log for RemoteLog {
    fn capabilities(&self) -> Capabilities {
        self.capabilities.clone()
    }

    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, AppendError>> {
        Box::pin(async move {
            if let Err(error) = append.check(&self.capabilities.limits) {
                return Err(AppendError::Rejected(error.into()));
            }
            let (parts, max) = (
                parts_bytes(&append),
                message_bytes_max(&self.capabilities.limits),
            );
            if parts > max {
                return Err(AppendError::Rejected(Rejection::Other(format!(
                    "its headers, tags and causes would take {parts} bytes at the log's server, \
                     which has {max} for one append; split it, or give its events fewer headers"
                ))));
            }
            self.appends.append(append).await
        })
    }

    fn read_stream(&self, stream: &StreamId, range: VersionRange, order: Order) -> EventStream {
        read::stream(
            &self.handle,
            (self.connection.clone(), self.leases.clone()),
            stream.clone(),
            range,
            order,
        )
    }

    fn read(&self, from: &Cut, filter: Filter, mode: ReadMode) -> EventStream {
        read::all(
            &self.handle,
            (self.connection.clone(), self.leases.clone()),
            from.clone(),
            filter,
            mode,
        )
    }

    fn watch(&self, from: &Cut) -> EventStream {
        read::watch(
            &self.handle,
            (self.connection.clone(), self.leases.clone()),
            from.clone(),
        )
    }

    fn is_far(&self) -> bool {
        true
    }

    fn layout(&self) -> Layout {
        self.layout.clone()
    }

    fn find(&self, id: EventId) -> BoxFuture<'_, Result<Option<Placed>, ReadError>> {
        Box::pin(async move {
            let request = p::FindRequest {
                id: id.to_string(),
                ..Default::default()
            };
            let leases = self.leases.clone();
            let asked = self.ask(move |client| {
                let (request, shown) = (request.clone(), leases.options());
                async move { Ok(client.find_with_options(request, shown).await?.into_owned()) }
            });
            let placed = asked.await?.placed.as_option().map(placed_of).transpose();
            placed.map_err(|error| Lost::strange(&error).of_read())
        })
    }

    fn head(&self) -> BoxFuture<'_, Result<Cut, ReadError>> {
        Box::pin(async move {
            let asked = self.ask(|client| async move {
                let answer = client.head(p::HeadRequest::default()).await?;
                Ok(answer.into_owned())
            });
            Ok(asked
                .await?
                .head
                .as_option()
                .map(cut_of)
                .unwrap_or_default())
        })
    }
}
