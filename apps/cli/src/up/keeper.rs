//! Keeps one service running.

use std::pin::pin;
use std::process::ExitStatus;
use std::time::Duration;

use anabranch::env::Env;
use anabranch::tls::Trust;
use anabranch_runtime::Time;
use anabranch_server::Present;
use anabranch_server::client::Client;
use tokio::sync::{mpsc, watch};

use super::build::Build;
use super::child::{self, Child, Lines};
use super::listener::stranger_at;
use super::plan::{Declared, Ready};

/// How long to wait before a service is started again that has ended: first, and at the most.
const AGAIN_FIRST: Duration = Duration::from_millis(100);
const AGAIN_MOST: Duration = Duration::from_secs(30);
/// Who was ready for so long has not failed again and again.
const SOUND: Duration = Duration::from_secs(5);

/// How often it is asked whether a service is ready.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// How long an answer to that may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// How a service stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// What it is doing.
    pub state: State,
    /// Its process.
    pub pid: Option<u32>,
    /// How often it was started again.
    pub restarts: u64,
    /// Why it has ended last.
    pub last_end: Option<String>,
}

/// What a service is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum State {
    /// What it needs is not ready.
    #[default]
    Waiting,
    /// It runs, and is not ready.
    Starting,
    /// It is ready.
    Ready,
    /// It has ended, and is started again in a moment.
    Failed,
    /// It has been asked to end.
    Stopping,
    /// It has ended, and is not started again by itself.
    Stopped,
}

impl State {
    /// In a word, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
        }
    }
}

/// What is wanted of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// That it runs, and is started again when it ends.
    Run,
    /// That it ends and does not run for now, though others may need it.
    Rest,
    /// That it ends for good, when nobody who needs it is left.
    End,
}

/// Keeps one service running as long as that is wanted.
pub struct Keeper {
    pub name: String,
    pub declared: Declared,
    /// The build that is started the next time.
    pub build: watch::Receiver<Build>,
    pub stop_within: Duration,
    pub needs: Vec<watch::Receiver<Status>>,
    pub needed_by: Vec<watch::Receiver<Status>>,
    pub say: watch::Sender<Status>,
    pub kills: mpsc::Receiver<()>,
    /// Whether it was killed on purpose, which is no failure of its own.
    pub was_struck: bool,
    pub wanted: watch::Receiver<Wanted>,
    pub time: Time,
    /// Whose certificates are believed.
    pub trust: Option<Trust>,
    pub lines: Lines,
}

/// How one life of a service has ended.
enum End {
    /// It has ended by itself, or was killed.
    Ended(String),
    /// It was not wanted any more.
    Unwanted,
}

impl Keeper {
    /// Starts it when it may, and again when it has ended.
    pub async fn keep(mut self) {
        let mut failures = 0;
        loop {
            if *self.wanted.borrow_and_update() == Wanted::Rest {
                self.set(State::Stopped, None);
                failures = 0;
            }
            // Its supervisor is gone when nobody can want anything any more.
            let wanted = self.wanted.wait_for(|wanted| *wanted != Wanted::Rest).await;
            if !wanted.is_ok_and(|wanted| *wanted == Wanted::Run) {
                break;
            }
            self.set(State::Waiting, None);
            if self.while_wanted(self.needs_are_ready()).await.is_none() {
                continue;
            }
            // What was killed before it ran is not killed now.
            while self.kills.try_recv().is_ok() {}
            let began = self.time.monotonic();
            let build = self.build.borrow_and_update().clone();
            let end = match Child::start(&self.name, &self.declared, &build, &self.lines) {
                Ok(child) => self.live(child).await,
                Err(error) => End::Ended(format!("cannot be started: {error}")),
            };
            let End::Ended(how) = end else { continue };
            let was_struck = std::mem::take(&mut self.was_struck);
            if was_struck || self.time.monotonic().saturating_sub(began) >= SOUND {
                failures = 0;
            }
            let wait = AGAIN_FIRST
                .saturating_mul(1 << u32::min(failures, 16))
                .min(AGAIN_MOST);
            failures += 1;
            self.tell(&format!("{how}; it is started again in {wait:?}"));
            self.say.send_modify(|status| {
                status.state = State::Failed;
                status.pid = None;
                status.restarts += 1;
                status.last_end = Some(how);
            });
            let rest = self.time.sleep(wait);
            self.while_wanted(rest).await;
        }
        self.set(State::Stopped, None);
    }

    /// From the start of a process to its end.
    async fn live(&mut self, child: Child) -> End {
        self.set(State::Starting, Some(child.pid()));
        let time = self.time.clone();
        let mut ended = pin!(child.ended(&time));
        let mut is_ready = false;
        let mut wanted = self.wanted.clone();
        let late = time.sleep(self.declared.ready_within);
        let mut late = pin!(late);
        let declared = self.declared.clone();
        let (name, lines) = (self.name.clone(), self.lines.clone());
        let tell = move |text: &str| lines(&name, &format!("[up] {text}"));
        let trust = self.trust.clone();
        let mut ready = pin!(ready(&declared, child.pid(), (&time, &trust), &tell));
        loop {
            tokio::select! {
                status = &mut ended => {
                    return End::Ended(how(status));
                }
                () = &mut ready, if !is_ready => {
                    is_ready = true;
                    self.set(State::Ready, Some(child.pid()));
                }
                () = &mut late, if !is_ready => {
                    self.tell(&format!(
                        "was not ready within {:?}, and is killed",
                        self.declared.ready_within
                    ));
                    self.kill(&child);
                    // From now on only its end is waited for.
                    is_ready = true;
                }
                Some(()) = self.kills.recv() => {
                    self.was_struck = true;
                    self.kill(&child);
                }
                _ = wanted.wait_for(|wanted| *wanted != Wanted::Run) => break,
            }
        }
        self.set(State::Stopping, Some(child.pid()));
        if *wanted.borrow() == Wanted::End {
            for other in &mut self.needed_by {
                // One whose keeper is gone is stopped.
                drop(
                    other
                        .wait_for(|status| status.state == State::Stopped)
                        .await,
                );
            }
        }
        if let Err(error) = child.terminate() {
            self.tell(&format!("cannot be asked to end: {error}"));
        }
        let how = tokio::select! {
            status = &mut ended => how(status),
            () = time.sleep(self.stop_within) => {
                let how = format!("has not ended within {:?}, and is killed", self.stop_within);
                self.tell(&how);
                self.kill(&child);
                how
            }
        };
        self.say.send_modify(|status| status.last_end = Some(how));
        End::Unwanted
    }

    fn kill(&self, child: &Child) {
        if let Err(error) = child.kill() {
            self.tell(&format!("cannot be killed: {error}"));
        }
    }

    async fn needs_are_ready(&self) {
        for need in &self.needs {
            let mut need = need.clone();
            // One whose keeper is gone is stopped, and so is this one.
            drop(need.wait_for(|status| status.state == State::Ready).await);
        }
    }

    /// What `work` gives, unless the service is not wanted any more before that.
    async fn while_wanted<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut wanted = self.wanted.clone();
        tokio::select! {
            _ = wanted.wait_for(|wanted| *wanted != Wanted::Run) => None,
            done = work => Some(done),
        }
    }

    fn set(&self, state: State, pid: Option<u32>) {
        self.say.send_modify(|status| {
            status.state = state;
            status.pid = pid;
        });
    }

    fn tell(&self, text: &str) {
        (self.lines)(&self.name, &format!("[up] {text}"));
    }
}

fn how(ended: std::io::Result<ExitStatus>) -> String {
    match ended {
        Ok(status) => child::words(status),
        Err(error) => format!("cannot be waited for: {error}"),
    }
}

/// Waits until a service is ready.
async fn ready(
    declared: &Declared,
    pid: u32,
    (time, trust): (&Time, &Option<Trust>),
    tell: &(impl Fn(&str) + Sync),
) {
    let mut is_told = false;
    loop {
        let is_ready = match &declared.ready {
            Ready::AtOnce => true,
            Ready::Url(url) if !answers(url, time, trust).await => false,
            Ready::Url(url) => match stranger_at(url, pid) {
                None => true,
                Some(stranger) => {
                    if !is_told {
                        tell(&format!(
                            "process {stranger}, which is none of this service, answers at {url}"
                        ));
                    }
                    is_told = true;
                    false
                }
            },
            Ready::Directory(dir) => match Present::find(&Env::os(), dir) {
                Ok(Some(present)) if present.pid == pid => answers(&present.url, time, trust).await,
                // Nobody yet, or one that served before.
                Ok(_) | Err(_) => false,
            },
        };
        if is_ready {
            return;
        }
        time.sleep(ASK_EVERY).await;
    }
}

/// Whether a server answers at this address, and not that it cannot do its work.
async fn answers(url: &str, time: &Time, trust: &Option<Trust>) -> bool {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let Ok(client) = Client::new(&format!("{scheme}://{authority}"), time.clone()) else {
        return false;
    };
    let client = client.with_trust(trust.clone());
    let path = format!("/{path}");
    tokio::select! {
        answer = client.get(&path) => answer.is_ok_and(|answer| answer.status.as_u16() < 500),
        () = time.sleep(ANSWER_WITHIN) => false,
    }
}
