//! A server before a log, and word of it in the log's directory.

use std::path::Path;
use std::sync::Arc;

use anabranch::Address;
use anabranch::log::Log;
use anabranch::model::TokenSeal;
use anabranch::segment;
use anabranch_server::{
    Doors, Listening, LogFiles, Presence, ServeError, Server, first_key, token_key,
};
use clap::Args;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::note;

/// Who is let in.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct DoorArgs {
    /// Let in only who shows a key, also on this machine. The first key is made with the log's first
    /// server, and `anabranch key` makes more
    #[arg(long)]
    auth: bool,
    /// Listen also where other machines reach it though it has not both keys and encryption
    #[arg(long)]
    insecure_i_understand: bool,
}

impl DoorArgs {
    /// What they mean.
    pub fn doors(self) -> Doors {
        Doors {
            auth: self.auth,
            insecure: self.insecure_i_understand,
        }
    }

    /// The same on another command line.
    pub fn arguments<'a>(self) -> impl Iterator<Item = &'a str> {
        let auth = self.auth.then_some("--auth");
        let insecure = self
            .insecure_i_understand
            .then_some("--insecure-i-understand");
        auth.into_iter().chain(insecure)
    }

    /// Refuses a place where such a server may not listen, before anything is opened.
    pub async fn check(self, wanted: &str) -> Result<(), Failure> {
        let listening = Server::may_listen(wanted, self.doors()).await;
        if listening.map_err(failed)? == Listening::Insecure {
            note(&format!(
                "WARNING: {wanted} can be reached from other machines, without {}: --insecure-i-understand",
                if self.auth {
                    "encryption"
                } else {
                    "keys and encryption"
                }
            ));
        }
        Ok(())
    }

    /// Makes the first key of a log that has none, if keys are asked for.
    pub async fn first_key(self, log: &Arc<dyn Log>, context: &Context) -> Result<(), Failure> {
        if !self.auth {
            return Ok(());
        }
        let Address::Directory(dir) = &context.settings.log else {
            let what = format!(
                "{} has no directory for the first key",
                context.settings.log
            );
            return Err(
                Failure::usage(what).remedy("name a directory with --log, or leave --auth out")
            );
        };
        let made = first_key(&context.env, log, dir).await;
        let made =
            made.map_err(|error| Failure::new(Exit::Failed, "first-key", error.to_string()))?;
        if let Some(file) = made {
            note(&format!(
                "the first key, which may do everything, is in {}; this is said once",
                file.display()
            ));
        }
        Ok(())
    }
}

fn failed(error: ServeError) -> Failure {
    let failure = Failure::new(Exit::Failed, "serve", error.to_string());
    match error {
        ServeError::Exposed(_) => failure.safe("nothing was opened"),
        _ => failure.remedy("name another address with --listen"),
    }
}

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
    (wanted, usual): (&str, &str),
    doors: DoorArgs,
    context: &Context,
) -> Result<(Serving, String), Failure> {
    let bound = bind(wanted, usual, doors).await?;
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
    doors: Doors,
}

/// Takes the place that is wanted; if that is the usual one and it is taken, any other.
pub async fn bind(wanted: &str, usual: &str, doors: DoorArgs) -> Result<Bound, Failure> {
    let doors = doors.doors();
    let listener = match Server::bind_with(wanted, doors).await {
        Err(ServeError::Io { .. }) if wanted == usual => Server::bind_with("127.0.0.1:0", doors)
            .await
            .map_err(failed)?,
        bound => bound.map_err(failed)?,
    };
    let address = listener.local_addr().map_err(|source| {
        let address = wanted.to_owned();
        failed(ServeError::Io { address, source })
    })?;
    let url = format!("http://{address}");
    Ok(Bound {
        listener,
        url,
        doors,
    })
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
        let Self {
            listener,
            url,
            doors,
        } = self;
        server = server.doors(doors);
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
