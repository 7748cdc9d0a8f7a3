//! A server before a log, and word of it in the log's directory.

use std::path::Path;

use anabranch::Address;
use anabranch::model::TokenSeal;
use anabranch::segment;
use anabranch_server::{LogFiles, Presence, ServeError, Server, token_key};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::note;

/// A server that runs.
pub struct Serving {
    /// Dropped, the server ends.
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), ServeError>>,
    /// Says in the log's directory where the server is, as long as it is there.
    presence: Option<Presence>,
}

/// Starts a server where it is wanted; if that is the usual place and it is taken, on a free
/// port. Gives its address too.
pub async fn start(
    server: Server,
    wanted: &str,
    usual: &str,
    context: &Context,
) -> Result<(Serving, String), Failure> {
    let bound = bind(wanted, usual).await?;
    let Address::Directory(dir) = &context.settings.log else {
        return bound.serve(server, None, context);
    };
    let name = dir.display().to_string();
    let seal = token_key(&context.env, dir);
    let seal = seal.map_err(|error| Failure::file("keep a key in", &name, &error))?;
    let server = server.files(LogFiles {
        disk: context.env.disk.clone(),
        dir: dir.clone(),
        lock: segment::LOCK_FILE,
        is_of_log: segment::is_file_of_log,
    });
    bound.serve(server, Some((dir, seal)), context)
}

/// A place at which nobody is answered yet.
pub struct Bound {
    listener: TcpListener,
    url: String,
}

/// Takes the place that is wanted; if that is the usual one and it is taken, any other.
pub async fn bind(wanted: &str, usual: &str) -> Result<Bound, Failure> {
    let failed = |error: ServeError| {
        Failure::new(Exit::Failed, "serve", error.to_string())
            .remedy("name another address with --listen")
    };
    let listener = match Server::bind(wanted).await {
        Err(ServeError::Io { .. }) if wanted == usual => {
            Server::bind("127.0.0.1:0").await.map_err(failed)?
        }
        bound => bound.map_err(failed)?,
    };
    let address = listener.local_addr().map_err(|source| {
        let address = wanted.to_owned();
        failed(ServeError::Io { address, source })
    })?;
    let url = format!("http://{address}");
    Ok(Bound { listener, url })
}

impl Bound {
    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Begins to answer. The server says in the directory that is given where it is, and seals tokens
    /// with what comes with that.
    pub fn serve(
        self,
        mut server: Server,
        place: Option<(&Path, TokenSeal)>,
        context: &Context,
    ) -> Result<(Serving, String), Failure> {
        let Self { listener, url } = self;
        let mut presence = None;
        if let Some((dir, seal)) = place {
            let announced = Presence::announce_sealed(&context.env, dir, &url, &seal);
            server = server.seal(seal);
            presence = Some(
                announced
                    .map_err(|error| Failure::new(Exit::Failed, "serve", error.to_string()))?,
            );
        }
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(server.serve(listener, async {
            // Nothing is ever sent: that it is dropped is the end.
            drop(stopped.await);
        }));
        let serving = Serving {
            stop,
            task,
            presence,
        };
        Ok((serving, url))
    }
}

impl Serving {
    /// Ends it in order.
    pub async fn end(self) {
        drop(self.presence);
        drop(self.stop);
        match self.task.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => note(&format!("note: the server: {error}")),
            Err(error) => note(&format!("note: the server: {error}")),
        }
    }
}
