//! A server before a log, and word of it in the log's directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anabranch::Address;
use anabranch::log::Log;
use anabranch::model::TokenSeal;
use anabranch::segment;
use anabranch_server::{
    Certificate, Doors, Issuer, Listening, LogFiles, Presence, ServeError, Server, Transport,
    Versions, first_key, shared_seal, token_key,
};
use clap::Args;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::context::Context;
use crate::database::{self, Use};
use crate::failure::{Exit, Failure};
use crate::output::note;

/// Who is let in.
#[derive(Debug, Clone, Args)]
pub struct DoorArgs {
    /// Let in only who shows a key, also on this machine. The first key is made with the log's first
    /// server, and `anabranch key` makes more
    #[arg(long)]
    auth: bool,
    /// Listen also where other machines reach it though it has not both keys and encryption
    #[arg(long)]
    insecure_i_understand: bool,
    /// How many requests of each caller are answered in a second, with --auth [default: 20000]
    #[arg(long, value_name = "NUMBER", requires = "auth", value_parser = clap::value_parser!(u32).range(1..))]
    requests_per_second: Option<u32>,
    /// Encrypt what is said, with the certificate in this file of PEM; it is looked at again while the
    /// server runs
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The private key of that certificate, in a file of PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Speak TLS 1.2 too, with clients that know nothing newer
    #[arg(long = "tls-1-2")]
    tls_1_2: bool,
    /// Beside keys, let in who shows a token (JWT) that is signed by a key in this file, a JSON Web Key
    /// Set: EdDSA, ES256 or RS256
    #[arg(long, value_name = "FILE", requires_all = ["auth", "jwt_issuer", "jwt_audience"])]
    jwt_keys: Option<PathBuf>,
    /// Who has to have made such tokens, as their claim `iss` says
    #[arg(long, value_name = "NAME", requires = "jwt_keys")]
    jwt_issuer: Option<String>,
    /// For whom they have to be, as their claim `aud` says
    #[arg(long, value_name = "NAME", requires = "jwt_keys")]
    jwt_audience: Option<String>,
    /// The claim that says what their holder may do, in words such as read:order
    #[arg(long, value_name = "NAME", default_value = "scope")]
    jwt_scopes: String,
}

impl DoorArgs {
    /// What they mean.
    pub fn doors(&self) -> Doors {
        Doors {
            auth: self.auth,
            insecure: self.insecure_i_understand,
        }
    }

    /// The same on another command line.
    pub fn arguments(&self, context: &Context) -> Result<Vec<String>, Failure> {
        let mut arguments = Vec::new();
        if self.auth {
            arguments.push("--auth".to_owned());
        }
        if self.insecure_i_understand {
            arguments.push("--insecure-i-understand".to_owned());
        }
        if let Some(max) = self.requests_per_second {
            arguments.extend(["--requests-per-second".to_owned(), max.to_string()]);
        }
        if self.tls_1_2 {
            arguments.push("--tls-1-2".to_owned());
        }
        if let Some((chain, key)) = self.tls_files(context)? {
            for (name, file) in [("--tls-cert", chain), ("--tls-key", key)] {
                arguments.extend([name.to_owned(), whole(file).display().to_string()]);
            }
        }
        if let Some(keys) = &self.jwt_keys {
            let issuer = self.jwt_issuer.as_deref().unwrap_or_default();
            let audience = self.jwt_audience.as_deref().unwrap_or_default();
            for (name, value) in [
                ("--jwt-keys", &*whole(keys).display().to_string()),
                ("--jwt-issuer", issuer),
                ("--jwt-audience", audience),
                ("--jwt-scopes", &self.jwt_scopes),
            ] {
                arguments.extend([name.to_owned(), value.to_owned()]);
            }
        }
        Ok(arguments)
    }

    fn issuer(&self, context: &Context) -> Result<Option<Arc<Issuer>>, Failure> {
        let Some(keys) = &self.jwt_keys else {
            return Ok(None);
        };
        let issuer = self.jwt_issuer.as_deref().unwrap_or_default();
        let audience = self.jwt_audience.as_deref().unwrap_or_default();
        let read = Issuer::read(&context.env, keys, issuer, audience, &self.jwt_scopes);
        let read = read.map_err(|error| {
            Failure::new(Exit::Failed, "bad-keys", error.to_string()).safe("nothing was opened")
        })?;
        Ok(Some(Arc::new(read)))
    }

    /// Whether what is said is encrypted.
    pub fn transport(&self, context: &Context) -> Result<Transport, Failure> {
        Ok(match self.tls_files(context)? {
            Some(_) => Transport::Tls,
            None => Transport::Plain,
        })
    }

    fn tls_files<'a>(
        &'a self,
        context: &'a Context,
    ) -> Result<Option<(&'a Path, &'a Path)>, Failure> {
        let settings = &context.settings;
        let chain = self.tls_cert.as_deref().or(settings.tls_cert.as_deref());
        let key = self.tls_key.as_deref().or(settings.tls_key.as_deref());
        match (chain, key) {
            (Some(chain), Some(key)) => Ok(Some((chain, key))),
            (None, None) => Ok(None),
            _ => Err(
                Failure::usage("of a certificate and its private key only one is named")
                    .remedy("name both, with --tls-cert and --tls-key"),
            ),
        }
    }

    fn certificate(&self, context: &Context) -> Result<Option<Arc<Certificate>>, Failure> {
        let Some((chain, key)) = self.tls_files(context)? else {
            return Ok(None);
        };
        let env = &context.env;
        let now = env.clock.wall_micros() / 1_000_000;
        let versions = match self.tls_1_2 {
            true => Versions::Tls13And12,
            false => Versions::Tls13,
        };
        let opened = Certificate::open(env.disk.clone(), chain, key, versions, now);
        let opened = opened.map_err(|error| {
            let failure = Failure::new(Exit::Failed, "bad-certificate", error.to_string());
            failure.safe("nothing was opened")
        })?;
        Ok(Some(Arc::new(opened)))
    }

    /// Refuses a place where such a server may not listen, before anything is opened.
    pub async fn check(&self, wanted: &str, context: &Context) -> Result<(), Failure> {
        self.issuer(context)?;
        let transport = match self.certificate(context)? {
            Some(_) => Transport::Tls,
            None => Transport::Plain,
        };
        let listening = Server::may_listen(wanted, transport, self.doors()).await;
        let listening = listening.map_err(failed)?;
        if listening == Listening::Insecure {
            let missing = match (self.auth, transport) {
                (true, _) => "encryption",
                (false, Transport::Tls) => "keys",
                (false, Transport::Plain) => "keys and encryption",
            };
            note(&format!(
                "WARNING: {wanted} can be reached from other machines, without {missing}: --insecure-i-understand"
            ));
        }
        if listening != Listening::Local && rustix::process::geteuid().is_root() {
            note(&format!(
                "WARNING: {wanted} can be reached from other machines, and this runs as root, who may do everything here: run it as a user of its own, as deploy/anabranch.service does"
            ));
        }
        Ok(())
    }

    /// Makes the first key of a log that has none, if keys are asked for.
    pub async fn first_key(&self, log: &Arc<dyn Log>, context: &Context) -> Result<(), Failure> {
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

/// The path as a program in another directory finds it.
pub fn whole(file: &Path) -> PathBuf {
    std::path::absolute(file).unwrap_or_else(|_| file.to_owned())
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
    doors: &DoorArgs,
    context: &Context,
) -> Result<(Serving, String), Failure> {
    let bound = bind(wanted, usual, doors, context).await?;
    if let Address::Database(address) = &context.settings.log {
        let key = database::open(address, Use::Read, None, context)?.token_key;
        let digits: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        let seal = shared_seal(&digits);
        let seal = seal.ok_or_else(|| Failure::usage("the log has no key for its tokens"))?;
        return bound.serve(server.seal(seal), None, context);
    }
    let Address::Directory(dir) = &context.settings.log else {
        return bound.serve(server, None, context);
    };
    let name = dir.display().to_string();
    let seal = token_key(&context.env, dir);
    let seal = seal.map_err(|error| Failure::file("keep a key in", &name, &error))?;
    let server = server.files(LogFiles {
        disk: context.env.disk.clone(),
        dir: dir.clone(),
        folders: segment::folder_names(&segment::layout_of(&context.env, dir)?),
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
    certificate: Option<Arc<Certificate>>,
    issuer: Option<Arc<Issuer>>,
    requests_per_second: Option<u32>,
}

/// Takes the place that is wanted; if that is the usual one and it is taken, any other.
pub async fn bind(
    wanted: &str,
    usual: &str,
    args: &DoorArgs,
    context: &Context,
) -> Result<Bound, Failure> {
    let doors = args.doors();
    let certificate = args.certificate(context)?;
    let issuer = args.issuer(context)?;
    let (transport, scheme) = match certificate {
        Some(_) => (Transport::Tls, "https"),
        None => (Transport::Plain, "http"),
    };
    let listener = match Server::bind_with(wanted, transport, doors).await {
        Err(ServeError::Io { .. }) if wanted == usual => {
            let anywhere = Server::bind_with("127.0.0.1:0", transport, doors);
            anywhere.await.map_err(failed)?
        }
        bound => bound.map_err(failed)?,
    };
    let address = listener.local_addr().map_err(|source| {
        let address = wanted.to_owned();
        failed(ServeError::Io { address, source })
    })?;
    let url = format!("{scheme}://{address}");
    Ok(Bound {
        listener,
        url,
        doors,
        certificate,
        issuer,
        requests_per_second: args.requests_per_second,
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
            certificate,
            issuer,
            requests_per_second,
        } = self;
        server = server.doors(doors).says(note);
        if let Some(certificate) = certificate {
            server = server.certificate(certificate);
        }
        if let Some(max) = requests_per_second {
            server = server.requests_a_second(max);
        }
        if let Some(issuer) = issuer {
            server = server.issuer(issuer);
        }
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
