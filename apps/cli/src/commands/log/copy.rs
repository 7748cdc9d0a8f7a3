//! `anabranch log copy`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anabranch::Address;
use anabranch::env::Env;
use anabranch::log::copy::{Clocked, Copy, CopyError, GivenClock, TimedLog, digests};
use anabranch::log::{Layout, Log, OpenError, PARTITIONS_MAX, ReadMode};
use anabranch::model::Cut;
use anabranch::segment::{self, Durability, EmbeddedLog, ForCopy, Moving, Options};
use anabranch_server::cuts_file;
use clap::Args;
use serde_json::json;

use super::backup::check_target;
use super::create::LayoutArgs;
use super::text::events;
use crate::commands::Context;
use crate::database::{self, Database, Use};
use crate::failure::{Exit, Failure, Outcome};
use crate::logs;
use crate::output::{Form, Output, Progress, note};
use crate::stop::StopSignal;

/// What one partition of what an event depends on counts, in bytes.
const CAUSE_BYTES: usize = 16;
/// What a log's server keeps beside its events: what seals its tokens, and its first key.
const BESIDE: [&str; 2] = [TOKEN_KEY, "admin.key"];
/// What seals the tokens.
pub(super) const TOKEN_KEY: &str = "token.key";

/// Copy the events of a log into another one, to the same places
#[derive(Debug, Args)]
#[command(after_help = "\
The copy has the layout, positions, ids, versions, times and causes of the log, and is a log of its
own: tokens of the one are none of the other. A program may write to the log meanwhile. Interrupted,
the same command goes on where it stopped; later it copies what is new. Nobody else may write to the
copy. At the end every event of both is read and compared, as `anabranch log export` prints it.

With --move the copy is the log itself, so tokens and views stay right. From then on the old one
refuses appends in words that name the new one; it can still be read. Both are directories. While a
program has the log, all is copied and the command says so: stop the program, run the command again,
and start the program on the new directory.

With --group or --rest the copy, a directory, has another layout, so other positions; all else stays,
and each event stands behind all that it depended on. With --keep-tokens it is for going over to: its
server takes tokens of the old log's, as far as the copy goes. For --move the log keeps its layout.

In PostgreSQL the role has to own the log. A server's log gives times of its own.

Examples:
  anabranch log copy ./orders ./copy
  anabranch log copy http://127.0.0.1:7400 ./mirror --follow
  anabranch log copy ./orders 'postgres://owner@db/shop?schema=orders'
  anabranch log copy ./orders ./wide --layout --group trade=order,payment:8 --rest 2
  anabranch log copy ./orders /mnt/new/orders --move")]
pub struct CopyArgs {
    /// The address of the log
    #[arg(value_name = "SRC")]
    source: Address,
    /// The address of the copy: a directory or a database, made if there is none, or a server
    #[arg(value_name = "DST")]
    target: Address,
    /// Copy what comes too, until stopped
    #[arg(long, conflicts_with = "moves")]
    follow: bool,
    /// Move the log: the old directory takes no appends any more
    #[arg(long = "move")]
    moves: bool,
    /// Give the copy another layout, as --group and --rest say, which also do so alone
    #[arg(long = "layout")]
    lays_out: bool,
    #[command(flatten)]
    layout: LayoutArgs,
    /// With another layout: take the tokens of the old log, a directory, too
    #[arg(long)]
    keep_tokens: bool,
}

/// Copies the log.
pub async fn run(args: CopyArgs, context: &Context) -> Outcome {
    let mut work = Work {
        context,
        stop: StopSignal::new()?,
        copied: 0,
    };
    let layout = args.layout.layout()?;
    if let Some(layout) = &layout {
        if args.moves || args.follow {
            return Err(Failure::usage(
                "a log gets another layout in a copy that ends, not with --follow or --move",
            )
            .remedy("leave that away, or leave --group and --rest away")
            .into());
        }
        let sealed_as = match (&args.source, args.keep_tokens) {
            (_, false) => None,
            (Address::Directory(from), true) => Some(from.as_path()),
            (_, true) => {
                return Err(Failure::usage(
                    "what seals the tokens of a log is copied from its directory",
                )
                .remedy("name the directory as SRC, or leave --keep-tokens away")
                .into());
            }
        };
        let (source, target) = (&args.source, &args.target);
        return work.run_layout(source, target, layout, sealed_as).await;
    }
    if args.lays_out {
        return Err(Failure::usage("--layout is for another layout")
            .remedy("say which one by --group and --rest")
            .into());
    }
    if args.keep_tokens {
        return Err(
            Failure::usage("--keep-tokens is for a copy of another layout")
                .remedy("add --group or --rest; --move keeps the tokens by itself")
                .into(),
        );
    }
    if args.moves {
        return work.run_move(&args.source, &args.target).await;
    }
    if let (Address::Directory(from), Address::Directory(to)) = (&args.source, &args.target) {
        check_target(from, to, "a log")?;
    }
    let source = open_source(&args.source, context)?;
    if let Address::Directory(to) = &args.target {
        logs::check_new(to)?;
        let there = segment::info(context.env.clone(), to);
        if let Err(OpenError::NotFound { .. }) = there {
            segment::create(&context.env, to, &source.layout())?;
        }
    }
    let target = Target::open(&args.target, &source.layout(), context)?;
    let mode = match args.follow {
        true => ReadMode::Follow,
        false => ReadMode::ToHead,
    };
    let at = work.copy(&*source, target, mode).await?;
    if args.follow {
        return print(
            &work,
            &args.target.to_string(),
            &at,
            "the next copy compares all events",
        );
    }
    let is_timed = !matches!(args.target, Address::Server(_));
    work.compare(&*source, &args.target, &at, is_timed).await?;
    let said = match is_timed {
        true => "both logs say the same",
        false => "both logs say the same, but for the times, which the server gave",
    };
    print(&work, &args.target.to_string(), &at, said)
}

/// The log that is copied, for reading.
pub(super) fn open_source(address: &Address, context: &Context) -> Result<Arc<dyn Log>, Failure> {
    match address {
        Address::Directory(dir) => {
            logs::check_directory(dir, "a log")?;
            logs::read_only_at(dir, context)
        }
        Address::Server(url) => Ok(logs::served(context, url, None)?.log),
        Address::Database(address) => Ok(database::open(address, Use::Read, None, context)?.log),
        other => Err(no_copy(other)),
    }
}

fn no_copy(address: &Address) -> Failure {
    Failure::usage(format!("{address} is a log that cannot be copied so"))
        .remedy("name a directory, or the address of a server")
}

/// The log that the events go to.
enum Target {
    /// In a directory, with the clock that tells when they were recorded.
    Directory(Arc<EmbeddedLog>, Arc<GivenClock>),
    Database(Database),
    /// Whose times are its own.
    Server(Arc<dyn Log>),
}

impl Target {
    /// Opens it; a database gets a log of this layout if it has none.
    fn open(address: &Address, layout: &Layout, context: &Context) -> Result<Self, Failure> {
        match address {
            Address::Directory(dir) => {
                let (log, clock) = open_directory(dir, ForCopy::SamePlaces, context)?;
                Ok(Self::Directory(log, clock))
            }
            Address::Database(address) => {
                let layout = Some(layout.clone());
                let opened = database::open(address, Use::Append, layout, context)?;
                Ok(Self::Database(opened))
            }
            Address::Server(url) => Ok(Self::Server(logs::served(context, url, None)?.log)),
            other => Err(no_copy(other)),
        }
    }
}

/// The log in this directory, for what is copied into it, with the clock that tells when that was
/// recorded.
pub(super) fn open_directory(
    dir: &Path,
    how: ForCopy,
    context: &Context,
) -> Result<(Arc<EmbeddedLog>, Arc<GivenClock>), Failure> {
    let clock = Arc::new(GivenClock::new(context.env.clock.clone()));
    let env = Env {
        clock: clock.clone(),
        ..context.env.clone()
    };
    let mut options = Options {
        // What a power cut takes away is copied again.
        durability: Durability::Interval(Duration::from_secs(1)),
        for_copy: Some(how),
        ..context.settings.options.clone()
    };
    if how == ForCopy::OtherPlaces {
        // What an event depends on may be longer to say than it was.
        let causes_bytes = CAUSE_BYTES * PARTITIONS_MAX as usize;
        options.limits.headers_bytes_max += causes_bytes;
        options.limits.batch_bytes_max += causes_bytes;
    }
    Ok((Arc::new(EmbeddedLog::open(env, dir, options)?), clock))
}

/// A command at work.
pub(super) struct Work<'a> {
    pub context: &'a Context,
    pub stop: StopSignal,
    /// Events, by this command.
    pub copied: u64,
}

impl Work<'_> {
    /// Copies what `target` lacks and closes it; gives how far it goes.
    async fn copy(
        &mut self,
        source: &dyn Log,
        target: Target,
        mode: ReadMode,
    ) -> Result<Cut, Failure> {
        let clocked = match &target {
            Target::Directory(log, clock) => Some(Clocked { log: &**log, clock }),
            Target::Database(_) | Target::Server(_) => None,
        };
        let (log, timed): (&dyn Log, Option<&dyn TimedLog>) = match &target {
            Target::Directory(log, _) => (&**log, clocked.as_ref().map(|it| it as &dyn TimedLog)),
            Target::Database(opened) => (&*opened.log, Some(&*opened.timed)),
            Target::Server(log) => (&**log, None),
        };
        let copied = match Copy::start(source, log, timed, mode).await {
            Ok(copy) => self.copy_from(source, copy, mode).await,
            Err(error) => Err(failure(error)),
        };
        let closed = match &target {
            Target::Directory(log, _) => log.close(),
            Target::Database(_) | Target::Server(_) => Ok(()),
        };
        let at = copied?;
        closed?;
        Ok(at)
    }

    async fn copy_from(
        &mut self,
        source: &dyn Log,
        mut copy: Copy<'_>,
        mode: ReadMode,
    ) -> Result<Cut, Failure> {
        let total = |cut: &Cut| cut.iter().map(|(_, count)| count).sum::<u64>();
        let progress = match mode {
            ReadMode::ToHead => {
                let head = source.head().await?;
                Progress::events(self.context.settings.form, "copying", total(&head))
            }
            ReadMode::Follow | ReadMode::Backward => Progress::none(),
        };
        loop {
            let Some(next) = self.stop.unless_asked(copy.next()).await else {
                return match mode {
                    ReadMode::Follow => Ok(copy.at().clone()),
                    ReadMode::ToHead | ReadMode::Backward => Err(interrupted()),
                };
            };
            match next.map_err(failure)? {
                None => return Ok(copy.at().clone()),
                Some(count) => self.copied += count,
            }
            progress.set(total(copy.at()));
        }
    }

    /// Reads all events of both logs and compares them.
    async fn compare(
        &mut self,
        source: &dyn Log,
        target: &Address,
        at: &Cut,
        is_timed: bool,
    ) -> Result<(), Failure> {
        let target = open_source(target, self.context)?;
        let both = async {
            let theirs = digests(source, at, is_timed).await?;
            Ok::<_, Failure>((theirs, digests(&*target, at, is_timed).await?))
        };
        let (theirs, ours) = self
            .stop
            .unless_asked(both)
            .await
            .ok_or_else(interrupted)??;
        let differs = theirs.iter().zip(&ours).find(|(a, b)| a != b);
        match differs {
            None => Ok(()),
            Some(((partition, ..), _)) => Err(Failure::new(
                Exit::Conflict,
                "differs",
                format!(
                    "the events of partition {} are not those of the log that was copied",
                    partition.0
                ),
            )
            .safe("the log is as it was")
            .remedy("look at both with `anabranch log verify`; copy again to where no log is yet")),
        }
    }

    /// Moves the log from one directory to another.
    async fn run_move(&mut self, source: &Address, target: &Address) -> Outcome {
        let (Address::Directory(from), Address::Directory(to)) = (source, target) else {
            return Err(
                Failure::usage("a log is moved from one directory to another")
                    .remedy("run the command where both are")
                    .into(),
            );
        };
        logs::check_directory(from, "a log")?;
        check_target(from, to, "a log")?;
        logs::check_new(to)?;
        // Whoever is told where the log went may stand elsewhere.
        let (from, to) = (logs::real(from), logs::real(to));
        let moving = Moving {
            from: &from,
            to: &to,
        };
        let (source, target) = (
            Address::Directory(from.clone()),
            Address::Directory(to.clone()),
        );
        let env = &self.context.env;
        if moving.begin(env)? {
            let log = open_source(&target, self.context)?;
            let head = log.head().await?;
            return print(
                self,
                &to.display().to_string(),
                &head,
                "the log was moved before",
            );
        }
        if segment::moved_to(env, &from)?.is_none() {
            self.move_most(&source, &target, &from).await?;
            segment::seal_moved(env, &moving)?;
        }
        let log = open_source(&source, self.context)?;
        let into = Target::open(&target, &log.layout(), self.context)?;
        let at = self.copy(&*log, into, ReadMode::ToHead).await?;
        self.compare(&*log, &target, &at, true).await?;
        keep_seal(&from, &to)?;
        segment::settle_moved(env, &to)?;
        let said = format!("{} refuses appends and names it", from.display());
        print(self, &to.display().to_string(), &at, &said)
    }

    /// Copies what there is while a program may still write, and makes sure that none does any more.
    async fn move_most(
        &mut self,
        source: &Address,
        target: &Address,
        from: &Path,
    ) -> Result<(), Failure> {
        let log = open_source(source, self.context)?;
        let into = Target::open(target, &log.layout(), self.context)?;
        self.copy(&*log, into, ReadMode::ToHead).await?;
        drop(log);
        let (env, options) = (
            self.context.env.clone(),
            self.context.settings.options.clone(),
        );
        // What a crash has left at its end is settled by this.
        match EmbeddedLog::open(env, from, options) {
            Ok(log) => Ok(log.close()?),
            Err(locked @ OpenError::Locked { .. }) => Err(Failure::from(locked)
                .safe(format!(
                    "the log is as it was and takes appends; {} copied so far",
                    events(self.copied)
                ))
                .remedy("stop that program and run the same command again: it goes on there")),
            Err(other) => Err(other.into()),
        }
    }
}

/// Copies what seals the tokens of a log, what reads those of its earlier layouts, and its first key.
pub(super) fn keep_seal(from: &Path, to: &Path) -> Result<(), Failure> {
    let cuts = (1..).map(cuts_file);
    let cuts = cuts.take_while(|name| from.join(name).exists());
    for name in BESIDE.map(str::to_owned).into_iter().chain(cuts) {
        keep_beside(&from.join(&name), &to.join(&name))
            .map_err(|error| Failure::file("copy", &name, &error))?;
    }
    Ok(())
}

/// Copies a file of a few bytes, if it is there: whole or not at all, for its owner alone as it is.
fn keep_beside(from: &PathBuf, to: &PathBuf) -> io::Result<()> {
    if !from.exists() {
        return Ok(());
    }
    let fresh = to.with_extension("new");
    fs::copy(from, &fresh)?;
    fs::File::open(&fresh)?.sync_all()?;
    fs::rename(&fresh, to)
}

pub(super) fn interrupted() -> Failure {
    Failure::new(Exit::Failed, "interrupted", "asked to stop before the end")
        .safe("what was copied stays")
        .remedy("run the same command again: it goes on where it stopped")
}

pub(super) fn failure(error: CopyError) -> Failure {
    let what = error.to_string();
    let failure = match error {
        CopyError::Layout { .. }
        | CopyError::SameLayout { .. }
        | CopyError::NamesPlace { .. }
        | CopyError::Differs { .. } => Failure::new(Exit::Conflict, "no-copy", what),
        CopyError::Hidden { .. } => Failure::new(Exit::Failed, "hidden", what),
        CopyError::Source(error) | CopyError::Target(error) => {
            let exit = Failure::from(error);
            Failure { what, ..exit }
        }
        CopyError::Append { error, .. } => Failure {
            what,
            ..Failure::from(error)
        },
    };
    failure.safe("the log is as it was, and what was copied before stays")
}

pub(super) fn print(work: &Work<'_>, place: &str, at: &Cut, said: &str) -> Outcome {
    let total = at.iter().map(|(_, count)| count).sum::<u64>();
    let text = match work.context.settings.form {
        Form::Text => format!(
            "{} in {place}; {} copied now",
            events(total),
            events(work.copied)
        ),
        Form::Json | Form::Jsonl => json!({ "events": total, "copied": work.copied }).to_string(),
    };
    let mut out = Output::stdout();
    out.line(&text)?;
    if work.context.settings.form == Form::Text {
        note(said);
    }
    out.flush()
}
