//! The program that runs the services: finding it, asking it, and what its refusals mean here.

use std::path::Path;

use anabranch::Address;
use anabranch_runtime::Time;
use anabranch_server::client::{Client, ClientError, Method, Reply};
use anabranch_server::{HOME, Present};
use anabranch_wire::{Happened, Problem, TOKEN_HEADER};
use bytes::Bytes;
use clap::Args;
use serde::de::DeserializeOwned;

use crate::context::Context;
use crate::credential;
use crate::failure::{Exit, Failure};

/// Which running program to ask.
#[derive(Debug, Clone, Default, Args)]
pub struct ServerArgs {
    /// Ask the program at this address [default: the one that serves the log of --log]
    #[arg(long, value_name = "URL")]
    server: Option<String>,
}

/// A program that runs services.
pub struct Remote {
    client: Client,
    /// How it was found, for people.
    found: Found,
}

enum Found {
    /// The user has said where.
    Told,
    /// By the file of this process in the log's directory.
    Left { dir: String, pid: u32 },
}

impl Remote {
    /// Finds the program; whether it answers shows when it is asked.
    pub fn find(args: &ServerArgs, context: &Context) -> Result<Self, Failure> {
        let time = Time::of(&context.env);
        let settings = &context.settings;
        let trust = credential::trust(context)?;
        if let Some(url) = args.server.as_ref().or(settings.server.as_ref()) {
            // The keys that are known are for the log; this may be anybody.
            let key = credential::given(context)?;
            let client = Client::new(url, time).map_err(|e| Failure::usage(e.to_string()))?;
            let (client, found) = (client.with_key(key).with_trust(trust), Found::Told);
            return Ok(Self { client, found });
        }
        let key = credential::find(context)?;
        if let Address::Server(url) = &settings.log {
            let client = Client::new(url, time).map_err(|e| Failure::usage(e.to_string()))?;
            let (client, found) = (client.with_key(key).with_trust(trust), Found::Told);
            return Ok(Self { client, found });
        }
        if let Address::Database(_) = &settings.log {
            return Err(
                Failure::usage("a log in a database does not say which program serves it")
                    .remedy("name the program with --server"),
            );
        }
        let Address::Directory(dir) = &settings.log else {
            return Err(Failure::usage(
                "a log in memory ends with its program, so no other can serve it",
            )
            .remedy("name the program with --server, or its log with --log"));
        };
        if let Some(remote) = Self::of_log(dir, context)? {
            return Ok(remote);
        }
        let name = dir.display().to_string();
        let nothing = || nobody(format!("nothing is running at {name}"), Some(&name));
        let demo = Self::of_log(Path::new(DEMO_LOG), context)?;
        match (settings.log_is_named(), demo) {
            (true, None) => Err(nothing()),
            (true, Some(_)) => {
                Err(nothing().remedy(format!("a demo is running: add --log {DEMO_LOG}")))
            }
            // Nobody has said where the log is: the demo of this directory is likely to be meant.
            (false, Some(demo)) => Ok(demo),
            // There is a log here, and what runs elsewhere has nothing to do with it.
            (false, None) if exists(dir, context)? => Err(nothing()),
            // Where programs are unless they are told otherwise.
            (false, None) => {
                let client = Client::new(&format!("http://{HOME}"), time)
                    .map_err(|error| Failure::new(Exit::Failed, "io", error.to_string()))?;
                let (client, found) = (client.with_key(key).with_trust(trust), Found::Told);
                Ok(Self { client, found })
            }
        }
    }

    /// The program that has said that it serves the log in this directory.
    pub fn of_log(dir: &Path, context: &Context) -> Result<Option<Self>, Failure> {
        let io = |error: String| Failure::new(Exit::Failed, "io", error);
        let present = Present::find(&context.env, dir).map_err(|error| io(error.to_string()))?;
        let Some(present) = present else {
            return Ok(None);
        };
        let client = Client::new(&present.url, Time::of(&context.env))
            .map_err(|error| io(error.to_string()))?
            .of_log(present.log)
            .with_key(credential::beside(Some(dir), context)?)
            .with_trust(credential::trust(context)?);
        let found = Found::Left {
            dir: dir.display().to_string(),
            pid: present.pid,
        };
        Ok(Some(Self { client, found }))
    }

    /// The program at this address.
    pub fn at(url: &str, context: &Context) -> Result<Self, Failure> {
        let client = Client::new(url, Time::of(&context.env));
        let client = client.map_err(|error| Failure::usage(error.to_string()))?;
        let client = client
            .with_key(credential::find(context)?)
            .with_trust(credential::trust(context)?);
        let found = Found::Told;
        Ok(Self { client, found })
    }

    /// The program at an address that others have named to the server of this log. The key is for that
    /// server: it is shown where the same machine answers by the same scheme, and nowhere else.
    pub fn named_by_others(&self, url: &str, context: &Context) -> Result<Self, Failure> {
        let named = Self::at(url, context)?;
        if named.client.is_beside(&self.client) {
            return Ok(named);
        }
        let client = named.client.with_key(None);
        Ok(Self { client, ..named })
    }

    /// Whether it is shown a key.
    pub fn is_shown_key(&self) -> bool {
        self.client.shows_key()
    }

    /// Where it is.
    pub fn address(&self) -> String {
        self.client.address()
    }

    /// What is answered at this path, whatever it is.
    pub async fn reply(&self, path: &str) -> Result<Reply, ClientError> {
        self.client.get(path).await
    }

    /// What stands at this path.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Answer<T>, Failure> {
        self.answer(self.client.get(path).await)
    }

    /// Asks with these headers.
    pub async fn get_with<T: DeserializeOwned>(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Answer<T>, Failure> {
        let reply = self.client.send(Method::Get, path, headers, Bytes::new());
        self.answer(reply.await)
    }

    /// Tells it to do something.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: String,
    ) -> Result<Answer<T>, Failure> {
        self.answer(self.client.post(path, body).await)
    }

    /// Sends a body with these headers.
    pub async fn post_with<T: DeserializeOwned>(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Result<Answer<T>, Failure> {
        let reply = self.client.send(Method::Post, path, headers, body.into());
        self.answer(reply.await)
    }

    fn answer<T: DeserializeOwned>(
        &self,
        reply: Result<Reply, ClientError>,
    ) -> Result<Answer<T>, Failure> {
        let reply = reply.map_err(|error| self.silent(error))?;
        if !reply.status.is_success() {
            return Err(self.refused(&reply));
        }
        let strange = |error: &dyn std::fmt::Display| {
            let address = self.client.address();
            Failure::new(
                Exit::Failed,
                "strange-answer",
                format!("{address} answered what this program does not understand: {error}"),
            )
            .remedy("use programs of one version on both sides")
        };
        let text = String::from_utf8(reply.body.to_vec()).map_err(|e| strange(&e))?;
        Ok(Answer {
            value: serde_json::from_str(&text).map_err(|e| strange(&e))?,
            token: reply.header(TOKEN_HEADER).map(str::to_owned),
            text,
        })
    }

    /// What a refusal means for whoever typed the command.
    fn refused(&self, reply: &Reply) -> Failure {
        let status = reply.status.as_u16();
        let exit = match status {
            404 => Exit::NotFound,
            409 | 412 | 422 => Exit::Conflict,
            408 | 421 | 429 | 503 | 504 => Exit::Unavailable,
            _ => Exit::Failed,
        };
        let Ok(problem) = serde_json::from_slice::<Problem>(&reply.body) else {
            // Nobody knows what it has done.
            return Failure::new(
                exit,
                "refused",
                format!("{} answered {status}", self.client.address()),
            )
            .happened(Happened::Maybe);
        };
        let mut what = problem.detail;
        if let Some(rejection) = problem.rejection {
            what = format!("{what} ({})", rejection.code);
        }
        if let ("other-log", Found::Left { dir, pid }) = (&*problem.code, &self.found) {
            what = format!(
                "nothing is running at {dir}: process {pid} served it at {}, where a program with another log answers now",
                self.client.address()
            );
            return nobody(what, Some(dir));
        }
        let mut failure = Failure::new(exit, problem.code, what).happened(problem.happened);
        failure.remedy = remedy(&failure.code).map(str::to_owned);
        failure
    }

    fn silent(&self, error: ClientError) -> Failure {
        let (what, dir) = match (&error, &self.found) {
            (ClientError::Address(_) | ClientError::Secret, _) => {
                return Failure::usage(error.to_string());
            }
            (ClientError::Broken { .. }, _) => {
                return Failure::new(Exit::Unavailable, "broken", error.to_string())
                    .happened(Happened::Maybe);
            }
            (ClientError::Nobody { address, reason }, Found::Told) => {
                (format!("nothing is running at {address}: {reason}"), None)
            }
            (ClientError::Nobody { address, .. }, Found::Left { dir, pid }) => (
                format!(
                    "nothing is running at {dir}: process {pid} served it at {address}, where nobody answers"
                ),
                Some(dir.as_str()),
            ),
        };
        nobody(what, dir)
    }
}

/// What the program answered.
pub struct Answer<T> {
    /// What it means.
    pub value: T,
    /// What it said, word for word.
    pub text: String,
    /// The token that came with it.
    pub token: Option<String>,
}

/// Where the demo is when nobody says where its log shall be.
pub const DEMO: &str = "./.anabranch/demo";

/// Where the log of that demo is, and with it the address at which it is served.
pub const DEMO_LOG: &str = "./.anabranch/demo/log";

fn exists(dir: &Path, context: &Context) -> Result<bool, Failure> {
    let found = context.env.disk.exists(dir);
    found.map_err(|error| Failure::file("look at", &dir.display().to_string(), &error))
}

/// The code of the failure that nothing is running.
pub const NOTHING_RUNS: &str = "nothing-runs";

fn nobody(what: String, dir: Option<&str>) -> Failure {
    let start = match dir {
        Some(dir) => format!(
            "start the program that has the services of {dir}, or name a running one with --log or --server"
        ),
        None => "start the program that has the services, or name a running one with --server; `anabranch demo --keep` starts a shop to try things on".to_owned(),
    };
    Failure::new(Exit::Unavailable, NOTHING_RUNS, what)
        .safe("nothing was changed")
        .remedy(start)
}

/// What to do about a refusal, where the command line has something for it.
fn remedy(code: &str) -> Option<&'static str> {
    Some(match code {
        "unauthenticated" => {
            "name the file of a key in ANABRANCH_TOKEN_FILE; whoever runs the server makes one with `anabranch key add`"
        }
        "forbidden" => {
            "ask whoever runs the server for a key with that scope; `anabranch key add` makes one"
        }
        "parked" => {
            "see `anabranch entity parked`; when the cause is mended, `anabranch entity unpark`"
        }
        "unknown-category" => "see what runs with `anabranch service ls`",
        "unknown-view" | "unknown-query" => "see views and their queries with `anabranch view ls`",
        "overloaded" | "unavailable" | "contended" | "expired" | "not-reached" | "building" => {
            "try again in a moment; `anabranch service diagnostics` says what went wrong"
        }
        "panicked" | "internal" | "query-failed" | "store" => {
            "see `anabranch service diagnostics`, and mend the service's code or its disk"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use anabranch::access::Key;
    use anabranch::env::Env;
    use anabranch_env::sim::{SimClock, SimDisk};

    use super::*;
    use crate::settings::Settings;

    /// Where a context says that the log is at a server, with a key.
    fn context() -> Context {
        let disk = SimDisk::new(1, Arc::new(SimClock::new()));
        let key = Key::generate(&*Env::os().rng);
        let file = Path::new("/key");
        disk.plant(file, key.reveal().as_bytes()).unwrap();
        let mut settings = Settings::default();
        settings.log = Address::Server("https://log.example:7400".to_owned());
        settings.key_file = Some(file.to_owned());
        Context {
            settings,
            env: disk.env(1),
        }
    }

    #[test]
    fn a_key_is_shown_to_the_machine_of_the_log_and_to_no_address_that_others_have_named() {
        let context = context();
        let log = Remote::find(&ServerArgs::default(), &context).unwrap();
        assert!(log.is_shown_key());
        for (url, expected) in [
            ("https://log.example:7401", true),
            ("http://log.example:7401", false),
            ("https://evil.example:7400", false),
        ] {
            let named = log.named_by_others(url, &context).unwrap();
            assert_eq!(named.is_shown_key(), expected, "{url}");
        }
    }

    #[test]
    fn a_program_that_is_named_by_its_address_is_not_shown_the_key_of_the_log() {
        let server = Some("https://other.example:7400".to_owned());
        let other = Remote::find(&ServerArgs { server }, &context()).unwrap();
        assert!(!other.is_shown_key());
    }
}
