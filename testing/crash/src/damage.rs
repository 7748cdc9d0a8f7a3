//! What a log says when its files were damaged, and when its disk lies.

use std::path::{Path, PathBuf};

use anabranch_env::SplitMix64;
use anabranch_env::sim::{Calls, Fault, FaultKind, SimDisk};
use anabranch_log::{OpenError, ReadError, ReadMode};
use anabranch_model::{Event, Filter};

use crate::engine::Machine;
use crate::life::Life;
use crate::violation::{Violation, Wrong};
use crate::world::World;

/// What became of the events of a log that may be damaged.
struct Findings {
    /// Positions that were not given, as ranges.
    missing: Vec<(u64, u64)>,
    /// Positions that the log said it cannot give, as ranges.
    told: Vec<(u64, u64)>,
    /// A read failed without naming positions.
    failed: bool,
    /// A read told of damage, but only of such as lies before its beginning.
    no_progress: bool,
}

impl World<'_> {
    /// Closes the log in good order and looks at damaged copies of it. Everything that it
    /// holds is behind its durable mark now: no loss may be taken for a torn end.
    pub(crate) fn damage(&mut self, machine: Box<dyn Machine>) -> Result<(), Violation> {
        let env = self.disk.env(0);
        if self.engine.open_damaged(env, 0).is_none() {
            return Ok(());
        }
        for _ in 0..self.settings.damages / 6 {
            self.in_fork("a lying disk", Self::check_lying_disk)?;
            self.in_fork("an older frame", Self::check_older_frame)?;
        }
        if let Err(error) = machine.close() {
            let text = format!("the log does not close: {error}");
            return Err(Violation::new(Wrong::Unavailable, text));
        }
        for _ in 0..self.settings.damages {
            self.in_fork("damage", Self::check_damage)?;
        }
        Ok(())
    }

    fn check_damage(&mut self) -> Result<(), Violation> {
        let Some(what) = damage_something(&self.disk, &mut self.rng) else {
            return Ok(());
        };
        self.survey_after(&what)
    }

    fn survey_after(&mut self, what: &str) -> Result<(), Violation> {
        self.say(|| what.to_owned());
        self.report.damaged += 1;
        let checked = self.open_and_survey();
        let told = checked.map_err(|violation| {
            let text = format!("after {what}: {}", violation.text);
            Violation::new(violation.wrong, text)
        })?;
        self.report.damage_told += u64::from(told);
        Ok(())
    }

    /// Opens a log that may be damaged and reads all it gives. Whether damage was told.
    fn open_and_survey(&mut self) -> Result<bool, Violation> {
        let env = self.disk.env(self.rng.next_u64());
        let tuning = self.rng.next_u64();
        let refused = match self.engine.open(env, tuning) {
            Ok(machine) => return self.survey(machine.as_ref()),
            Err(error) => error,
        };
        self.say(|| format!("refused: {refused}"));
        if let OpenError::Locked { .. } = refused {
            return Err(Violation::new(Wrong::Unavailable, refused.to_string()));
        }
        let env = self.disk.env(self.rng.next_u64());
        match self.engine.open_damaged(env, tuning) {
            Some(Ok(machine)) => self.survey(machine.as_ref()).map(|_| true),
            Some(Err(error)) => {
                self.say(|| format!("refused for reading, too: {error}"));
                Ok(true)
            }
            None => Ok(true),
        }
    }

    /// Reads all that the log gives: it must be right, and what is missing must be told.
    fn survey(&mut self, machine: &dyn Machine) -> Result<bool, Violation> {
        let findings = self.read_past_damage(machine)?;
        if findings.no_progress {
            let text = format!(
                "a read told of damage before its beginning: {:?}",
                findings.told
            );
            return Err(Violation::new(Wrong::Read, text));
        }
        let covered = |&(from, to): &(u64, u64)| {
            (from..to).all(|p| findings.told.iter().any(|&(a, b)| (a..b).contains(&p)))
        };
        if !findings.failed && !findings.missing.iter().all(covered) {
            let text = format!(
                "of {} events {:?} are missing, but the log told of {:?} only",
                self.model.head, findings.missing, findings.told
            );
            return Err(Violation::new(Wrong::Lost, text));
        }
        Ok(findings.failed || !findings.told.is_empty())
    }

    fn read_past_damage(&mut self, machine: &dyn Machine) -> Result<Findings, Violation> {
        let mut findings = Findings {
            missing: Vec::new(),
            told: Vec::new(),
            failed: false,
            no_progress: false,
        };
        let total = self.model.head;
        let mut from = 0;
        while from < total {
            let (events, error) = self.read_until_error(machine, from)?;
            self.model.check_given(&events, from)?;
            let next = from + events.len() as u64;
            let resume = match error {
                None => total,
                Some(ReadError::Damaged { first, last, .. }) => {
                    findings.told.push((first.offset, last.offset + 1));
                    (last.offset + 1).min(total)
                }
                Some(error) => {
                    self.say(|| format!("reading from {from} failed: {error}"));
                    findings.failed = true;
                    total
                }
            };
            if resume > next {
                findings.missing.push((next, resume));
            }
            if resume <= from {
                findings.no_progress = true;
                return Ok(findings);
            }
            from = resume;
        }
        Ok(findings)
    }

    /// The events from a position on, and the error that ended the read, if one did.
    fn read_until_error(
        &mut self,
        machine: &dyn Machine,
        from: u64,
    ) -> Result<(Vec<Event>, Option<ReadError>), Violation> {
        let mut events = Vec::new();
        let read = self.read_into(machine, from, Filter::all(), ReadMode::ToHead, &mut events)?;
        Ok((events, read.err()))
    }

    /// What a failed append left behind, put into the place of the append that followed it.
    fn check_older_frame(&mut self) -> Result<(), Violation> {
        self.end_process();
        let machine = self.recover()?;
        Life::new(self, machine).live_for_a_twin()?;
        self.model.process_ended();
        self.disk.kill();
        let machine = self.recover()?;
        if let Err(error) = machine.close() {
            let text = format!("the log does not close: {error}");
            return Err(Violation::new(Wrong::Unavailable, text));
        }
        self.disk.kill();
        let files = self.disk.files();
        let paths: Vec<&Path> = files.iter().map(|(path, _)| path.as_path()).collect();
        match put_look_alike(&self.disk, &paths, &mut self.rng) {
            Some(Ok(what)) => self.survey_after(&what),
            _ => Ok(()),
        }
    }

    /// A disk that says it synced and did not, or puts bytes into a wrong place: what it
    /// loses cannot always be known. What is given must be right all the same.
    fn check_lying_disk(&mut self) -> Result<(), Violation> {
        self.end_process();
        let env = self.disk.env(self.rng.next_u64());
        let Ok(machine) = self.engine.open(env, self.rng.next_u64()) else {
            return Ok(());
        };
        let calls = Calls::SYNC | Calls::DIRECT | Calls::SYNC_DIR;
        let fault = match self.rng.below(2) {
            0 => Fault::one_in(2, calls, FaultKind::Lying),
            _ => Fault::nth(1 + self.rng.below(6), calls, FaultKind::Misdirected),
        };
        Life::new(self, machine).live_with(fault)?;
        self.model.process_ended();
        self.disk.clear_faults();
        self.end_process();
        self.report.lying += 1;
        let env = self.disk.env(self.rng.next_u64());
        let tuning = self.rng.next_u64();
        match self.engine.open(env, tuning) {
            Err(error) => {
                self.say(|| format!("refused: {error}"));
                self.report.lying_told += 1;
                Ok(())
            }
            Ok(machine) => {
                let findings = self.read_past_damage(machine.as_ref())?;
                if findings.failed || !findings.told.is_empty() {
                    self.report.lying_told += 1;
                } else if !findings.missing.is_empty() {
                    self.report.lying_silent += 1;
                }
                Ok(())
            }
        }
    }
}

/// Damages one file, and says how. `None` if there was nothing to damage.
fn damage_something(disk: &SimDisk, rng: &mut SplitMix64) -> Option<String> {
    let files: Vec<(PathBuf, u64)> = disk
        .files()
        .into_iter()
        .filter(|(_, len)| *len > 0)
        .collect();
    let any = |rng: &mut SplitMix64| files.get(rng.below(files.len() as u64) as usize).cloned();
    let (path, len) = any(rng)?;
    let name = path.display();
    let at = place_in(disk, &path, len, rng);
    let done = match rng.below(16) {
        0..6 => {
            let bit = rng.below(8) as u32;
            disk.flip_bit(&path, at, bit)
                .map(|()| format!("a flip of bit {bit} of byte {at} of {name}"))
        }
        6..8 => {
            let page = at / 4096 * 4096;
            disk.zero(&path, page, 4096)
                .map(|()| format!("zeros at {page} of {name}"))
        }
        8 => disk
            .truncate(&path, at)
            .map(|()| format!("a cut of {name} at {at}")),
        9 => disk.delete(&path).map(|()| format!("the loss of {name}")),
        10 => {
            let (other, _) = any(rng)?;
            let what = format!("a copy of {name} over {}", other.display());
            disk.duplicate(&path, &other).map(|()| what)
        }
        11 => {
            let (other, _) = any(rng)?;
            disk.swap(&path, &other)
                .map(|()| format!("a swap of {name} and {}", other.display()))
        }
        12 => disk
            .make_unreadable(&path, at / 512 * 512, 512)
            .map(|()| format!("an unreadable sector at {at} of {name}")),
        13 | 14 => {
            let same_kind = files
                .iter()
                .filter(|(p, _)| p.extension() == path.extension());
            let paths: Vec<&Path> = same_kind.map(|(p, _)| p.as_path()).collect();
            put_look_alike(disk, &paths, rng)?
        }
        _ => {
            let (source, source_len) = any(rng)?;
            let from = place_in(disk, &source, source_len, rng);
            let bytes = disk.content(&source).ok()?;
            let count = 1 + rng.below(4096) as usize;
            let part = &bytes[from as usize..bytes.len().min(from as usize + count)];
            let what = format!(
                "{} bytes at {at} of {name} from {from} of {}",
                part.len(),
                source.display()
            );
            disk.overwrite(&path, at, part).map(|()| what)
        }
    };
    done.ok()
}

/// Something that a file consists of: where it begins, and how long it is.
struct Piece<'f> {
    path: &'f Path,
    start: usize,
    bytes: &'f [u8],
}

/// Puts a piece of one file into the place of a piece of another that looks much like it at
/// the beginning, and not in the rest: the right kind of bytes in the wrong place.
fn put_look_alike(
    disk: &SimDisk,
    paths: &[&Path],
    rng: &mut SplitMix64,
) -> Option<std::io::Result<String>> {
    /// How much of a piece is compared as its beginning, in bytes.
    const HEAD: usize = 32;
    let contents: Vec<_> = paths
        .iter()
        .filter_map(|path| Some((*path, disk.content(path).ok()?)))
        .collect();
    let pieces: Vec<Piece<'_>> = contents
        .iter()
        .flat_map(|(path, bytes)| pieces(disk, path, bytes))
        .collect();
    let differ = |a: &[u8], b: &[u8]| a.iter().zip(b).filter(|(a, b)| a != b).count();
    let mut pairs = Vec::new();
    for from in &pieces {
        for to in &pieces {
            if from.path == to.path
                || from.bytes.len() != to.bytes.len()
                || from.bytes.len() <= HEAD
            {
                continue;
            }
            let head = differ(&from.bytes[..HEAD], &to.bytes[..HEAD]);
            let rest = differ(&from.bytes[HEAD..], &to.bytes[HEAD..]);
            if head > 0 && rest > 12 {
                pairs.push((head, from, to));
            }
        }
    }
    pairs.sort_by_key(|(distance, ..)| *distance);
    // The likest most often.
    let best = pairs.len().min(4) as u64;
    let chosen = rng.below(best).min(rng.below(best));
    let (_, from, to) = pairs.get(chosen as usize)?;
    let what = format!(
        "{} bytes at {} of {} from {} of {}, which look alike",
        from.bytes.len(),
        to.start,
        to.path.display(),
        from.start,
        from.path.display()
    );
    let done = disk.overwrite(to.path, to.start as u64, from.bytes);
    Some(done.map(|()| what))
}

/// What was written to a file in one call each.
fn pieces<'f>(disk: &SimDisk, path: &'f Path, bytes: &'f [u8]) -> Vec<Piece<'f>> {
    let writes = disk.writes(path).unwrap_or_default();
    let piece = |(start, len): (u64, u64)| {
        let (start, end) = (start as usize, (start + len) as usize);
        let bytes = bytes.get(start..end)?;
        Some(Piece { path, start, bytes })
    };
    writes.into_iter().filter_map(piece).collect()
}

/// A place in a file: any, or one where a write began.
fn place_in(disk: &SimDisk, path: &Path, len: u64, rng: &mut SplitMix64) -> u64 {
    let writes = disk.writes(path).unwrap_or_default();
    if rng.one_in(3) || writes.is_empty() {
        return rng.below(len);
    }
    let chosen = match rng.below(3) {
        0 => writes.len() - 1,
        _ => rng.below(writes.len() as u64) as usize,
    };
    let (start, written) = writes[chosen];
    let inside = match rng.below(3) {
        0 => 0,
        1 => rng.below(64),
        _ => rng.below(written),
    };
    (start + inside).min(len - 1)
}
