//! Keeps the catalogue of stream heads: which runs there are, and when to merge them.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use anabranch_env::OpenMode;
use anabranch_log::ReadError;

use crate::index::{IndexError, Merge, Run, SealedIndex, Source};
use crate::part::{Part, PartIndex};
use crate::store::Store;
use crate::sync::read;

/// How many parts make a run, and how many runs the next larger one.
const PARTS_PER_RUN: usize = 8;
const RUNS_PER_RUN: usize = 4;

/// How many entries are merged at a time, between other upkeep.
const STEP: usize = 50_000;

impl Store {
    fn run_path(&self, first: u64, end: u64) -> PathBuf {
        self.dir.join(format!("{first:020}-{end:020}.cat"))
    }

    /// Takes up the runs among `paths` that fit the parts, oldest first and without a
    /// hole; gives back the others, which are of no use.
    pub fn open_catalogue(&self, paths: &[PathBuf]) -> Vec<PathBuf> {
        let parts = self.parts();
        let is_sealed = |part: &&Arc<Part>| matches!(&*read(&part.index), PartIndex::Sealed(_));
        let ends: Vec<u64> = parts
            .iter()
            .take_while(is_sealed)
            .map(|p| p.end())
            .collect();
        let mut found: Vec<(PathBuf, Run)> = Vec::new();
        let mut useless = Vec::new();
        for path in paths {
            let file = self.env.disk.open(path, OpenMode::Read);
            let run = file
                .map_err(IndexError::from)
                .and_then(|file| Run::open(file, self.identity));
            match run {
                Ok(run) if ends.contains(&run.end) => found.push((path.clone(), run)),
                _ => useless.push(path.clone()),
            }
        }
        // Of runs that overlap, the one that covers more was merged from the others.
        found.sort_by_key(|(_, run)| (run.first, std::cmp::Reverse(run.end)));
        let mut runs: Vec<Arc<Run>> = Vec::new();
        for (path, run) in found {
            if run.first == runs.last().map_or(0, |r| r.end) {
                runs.push(Arc::new(run));
            } else {
                useless.push(path);
            }
        }
        self.set_runs(runs);
        useless
    }

    /// The version the next event of a stream gets, as far as the parts tell that begin
    /// before position `before`.
    pub fn sealed_head(&self, key: u128, before: u64) -> Result<Option<u64>, ReadError> {
        let runs = self.runs();
        let covered = runs.last().map_or(0, |run| run.end);
        for part in self.parts().iter().rev() {
            if part.first < covered {
                break;
            }
            if part.first >= before {
                continue;
            }
            if let Some(span) = self.stream_in(part, key)? {
                return Ok(Some(span.next_version));
            }
        }
        for run in runs.iter().rev() {
            match run.next_version(key) {
                Ok(Some(next)) => return Ok(Some(next)),
                Ok(None) => {}
                Err(error) => {
                    self.drop_runs(&format!("{error}"));
                    return self.sealed_head(key, before);
                }
            }
        }
        Ok(None)
    }

    /// Does without the catalogue until upkeep has made it again.
    fn drop_runs(&self, why: &str) {
        let runs = self.runs();
        self.set_runs(Vec::new());
        for run in runs.iter() {
            let path = self.run_path(run.first, run.end);
            self.note(format!("{}: {why}; it will be built again", path.display()));
            if !self.read_only
                && let Err(error) = self.env.disk.remove(&path)
            {
                self.note(format!("removing {}: {error}", path.display()));
            }
        }
    }
}

/// A merge on its way, and its file.
pub(crate) struct MergeJob {
    merge: Merge,
    path: PathBuf,
    /// Runs that the new one replaces.
    replaced: usize,
}

impl MergeJob {
    /// The merge that is due, if any.
    pub fn next(store: &Store) -> Result<Option<Self>, IndexError> {
        let runs = store.runs();
        let covered = runs.last().map_or(0, |run| run.end);
        let same_level = runs.last().map_or(0, |last| {
            runs.iter()
                .rev()
                .take_while(|r| r.level == last.level)
                .count()
        });
        let (sources, first, end, level, replaced) = if same_level >= RUNS_PER_RUN {
            let merged = &runs[runs.len() - same_level..];
            let sources = merged.iter().cloned().map(Source::Run).collect();
            let level = merged[0].level + 1;
            (sources, merged[0].first, covered, level, same_level)
        } else {
            let parts = store.parts();
            let sealed: Vec<(Arc<SealedIndex>, u64)> = parts
                .iter()
                .skip_while(|p| p.first < covered)
                .map_while(|p| match &*read(&p.index) {
                    PartIndex::Sealed(index) => Some((index.clone(), p.end())),
                    PartIndex::Active(_) => None,
                })
                .take(PARTS_PER_RUN)
                .collect();
            let Some(&(_, end)) = sealed.last().filter(|_| sealed.len() == PARTS_PER_RUN) else {
                return Ok(None);
            };
            let sources: Vec<_> = sealed.into_iter().map(|(i, _)| Source::Part(i)).collect();
            (sources, covered, end, 1, 0)
        };
        let path = store.run_path(first, end).with_extension("tmp");
        if store.env.disk.exists(&path)? {
            store.env.disk.remove(&path)?;
        }
        let file = store.env.disk.open(&path, OpenMode::Create)?;
        let merge = Merge::begin(&sources, file, store.identity, (first, end), level)?;
        Ok(Some(Self {
            merge,
            path,
            replaced,
        }))
    }

    /// Goes on for a while; true when all entries are merged.
    pub fn step(&mut self) -> Result<bool, IndexError> {
        self.merge.step(STEP)
    }

    /// Puts the new run into use.
    pub fn finish(self, store: &Store) -> io::Result<()> {
        let path = store.run_path(self.merge.first, self.merge.end);
        let (first, end) = (self.merge.first, self.merge.end);
        self.merge.finish()?;
        let disk = &store.env.disk;
        disk.rename(&self.path, &path)?;
        disk.sync_dir(&store.dir)?;
        let file = disk.open(&path, OpenMode::Read)?;
        let run = Run::open(file, store.identity).map_err(io::Error::other)?;
        let before = store.runs();
        if before.last().map_or(0, |r| r.end) != if self.replaced > 0 { end } else { first } {
            // The catalogue was dropped meanwhile; what it was merged from is in doubt.
            return disk.remove(&path);
        }
        let mut runs = Vec::clone(&before);
        let old = runs.split_off(runs.len() - self.replaced);
        runs.push(Arc::new(run));
        store.set_runs(runs);
        for run in old {
            disk.remove(&store.run_path(run.first, run.end))?;
        }
        Ok(())
    }
}
