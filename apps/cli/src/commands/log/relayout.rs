//! `anabranch log copy` with another layout.

use std::fs;
use std::io;
use std::path::Path;

use anabranch::Address;
use anabranch::log::copy::{Clocked, CopyError};
use anabranch::log::relayout::{Relayout, sum};
use anabranch::log::{Layout, Log, OpenError};
use anabranch::model::{Cut, CutMap};
use anabranch::segment::{self, ForCopy};
use anabranch_server::{cuts_file, read_cuts, write_cuts};

use super::backup::check_target;
use super::copy::{
    TOKEN_KEY, Work, failure, interrupted, keep_seal, open_directory, open_source, print,
};
use crate::failure::{Exit, Failure, Outcome};
use crate::logs;
use crate::output::Progress;

/// The number of the map of a copy, of which nothing older is known.
const FIRST: u32 = 1;

impl Work<'_> {
    /// Copies a log to where it has this layout, and the tokens of the log in `sealed_as`.
    pub(super) async fn run_layout(
        &mut self,
        source: &Address,
        target: &Address,
        layout: &Layout,
        sealed_as: Option<&Path>,
    ) -> Outcome {
        let Address::Directory(to) = target else {
            return Err(Failure::usage("a copy of another layout is a directory")
                .remedy("name a directory; `anabranch log export` and `import` fill other logs")
                .into());
        };
        if let Address::Directory(from) = source {
            check_target(from, to, "a log")?;
        }
        let log = open_source(source, self.context)?;
        if log.layout() == *layout {
            let layout = Box::new(layout.clone());
            return Err(failure(CopyError::SameLayout { layout }).into());
        }
        if let Some(from) = sealed_as {
            check_seal(from, to)?;
        }
        self.make(to, layout)?;
        let number = match sealed_as {
            Some(from) => FIRST + layouts_before(from),
            None => FIRST,
        };
        let (at, target_at) = self.copy_anew(&*log, to, number).await?;
        self.compare_sums(&*log, &at, to, &target_at).await?;
        if let Some(from) = sealed_as {
            keep_seal(from, to)?;
        }
        let said = "each stream has the same events in both logs; positions are others";
        print(self, &to.display().to_string(), &target_at, said)
    }

    /// Makes the log if there is none yet.
    fn make(&self, to: &Path, layout: &Layout) -> Result<(), Failure> {
        logs::check_new(to)?;
        let env = &self.context.env;
        match segment::info(env.clone(), to) {
            Err(OpenError::NotFound { .. }) => {
                segment::create(env, to, layout)?;
                Ok(())
            }
            Err(error) => Err(error.into()),
            Ok(_) if segment::layout_of(env, to)? == *layout => Ok(()),
            Ok(_) => Err(Failure::new(
                Exit::Conflict,
                "no-copy",
                format!("{} has a log of another layout", to.display()),
            )
            .safe("both logs are as they were")
            .remedy("copy to where no log is yet")),
        }
    }

    /// Copies what `to` lacks; gives how far both logs go.
    async fn copy_anew(
        &mut self,
        source: &dyn Log,
        to: &Path,
        number: u32,
    ) -> Result<(Cut, Cut), Failure> {
        let env = self.context.env.clone();
        let damaged = |error| Failure::file("read", &to.display().to_string(), &error);
        let kept = read_cuts(&env, to, number).map_err(damaged)?;
        let (log, clock) = open_directory(to, ForCopy::OtherPlaces, self.context)?;
        let timed = Clocked {
            log: &*log,
            clock: &clock,
        };
        let copied = match Relayout::start(source, &*log, &timed, kept).await {
            Ok(mut copy) => {
                let copied = self.copy_on(source, &mut copy).await;
                copied
                    .map(|()| copy.map().clone())
                    .map_err(|error| (error, copy.map().clone()))
            }
            Err(error) => Err((failure(error), CutMap::new(0))),
        };
        let head = log.head().await;
        log.close()?;
        // The next run goes on from here, also behind what failed.
        let map = match &copied {
            Ok(map) | Err((_, map)) => map,
        };
        if map.reached() != Cut::start() {
            write_cuts(&env, to, number, map)
                .map_err(|error| Failure::file("write", &to.display().to_string(), &error))?;
        }
        let map = copied.map_err(|(error, _)| error)?;
        Ok((map.reached(), head?))
    }

    async fn copy_on(&mut self, source: &dyn Log, copy: &mut Relayout<'_>) -> Result<(), Failure> {
        let total = |cut: &Cut| cut.iter().map(|(_, count)| count).sum::<u64>();
        let head = source.head().await?;
        let progress = Progress::events(self.context.settings.form, "copying", total(&head));
        loop {
            let next = self.stop.unless_asked(copy.next()).await;
            match next.ok_or_else(interrupted)?.map_err(failure)? {
                None => return Ok(()),
                Some(count) => self.copied += count,
            }
            progress.set(total(copy.at()));
        }
    }

    /// Reads all events of both logs and compares what is the same in each layout.
    async fn compare_sums(
        &mut self,
        source: &dyn Log,
        at: &Cut,
        to: &Path,
        target_at: &Cut,
    ) -> Result<(), Failure> {
        let target = logs::read_only_at(to, self.context)?;
        let both = async {
            let theirs = sum(source, at).await?;
            Ok::<_, Failure>(theirs == sum(&*target, target_at).await?)
        };
        let is_same = self.stop.unless_asked(both).await;
        match is_same.ok_or_else(interrupted)?? {
            true => Ok(()),
            false => Err(Failure::new(
                Exit::Conflict,
                "differs",
                "the events of the copy are not those of the log that was copied",
            )
            .safe("the log is as it was")
            .remedy("look at both with `anabranch log verify`; copy again to where no log is yet")),
        }
    }
}

/// How many layouts the log in this directory had before.
fn layouts_before(dir: &Path) -> u32 {
    let is_there = |number: &u32| dir.join(cuts_file(*number)).exists();
    (FIRST..).take_while(is_there).count() as u32
}

/// Refuses a copy that has given tokens of its own, or a log that has given none.
fn check_seal(from: &Path, to: &Path) -> Result<(), Failure> {
    let read = |dir: &Path| match fs::read(dir.join(TOKEN_KEY)) {
        Ok(key) => Ok(Some(key)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::file("read", TOKEN_KEY, &error)),
    };
    match (read(from)?, read(to)?) {
        (None, _) => Err(Failure::usage(format!(
            "no server has given tokens of the log in {}",
            from.display()
        ))
        .remedy("leave --keep-tokens away")),
        (Some(theirs), Some(ours)) if theirs != ours => Err(Failure::new(
            Exit::Conflict,
            "own-tokens",
            format!("a server has given tokens of the copy in {}", to.display()),
        )
        .safe("both logs are as they were")
        .remedy("copy to where no log is yet")),
        _ => Ok(()),
    }
}
