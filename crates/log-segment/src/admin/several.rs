//! Looking after a log, however many partitions it has: each is looked after by itself.

use std::path::Path;

use anabranch_env::Env;
use anabranch_log::OpenError;
use anabranch_model::{Cut, PartitionId};

use super::backup::{BackupReport, backup_one, restore_one};
use super::info::{Info, info_one};
use super::layout::Layout as Files;
use super::manifest::MANIFEST_FILE;
use super::repair::{RepairPlan, plan_one};
use super::report::{Damage, Progress, Remark, VerifyReport};
use super::verify::verify_layout;
use crate::format::Mark;
use crate::layout_file::{
    self, Kept, Problem, folder, folder_name, in_partition, moved, of_partition, read_text, seal,
    unseal,
};
use crate::open::make_dir;
use crate::part::write_file;
use crate::survey::{MARK_FILE, io_open};

/// What the first line of a backup's list begins with.
const BACKUP: &str = "anabranch-backup";
/// The version of a list of partitions. Version 1 is one of segments.
const BACKUP_VERSION: u32 = 2;

/// Looks at the log in `dir` without reading its events. Changes nothing; works beside a
/// writer.
pub fn info(env: Env, dir: impl AsRef<Path>) -> Result<Info, OpenError> {
    let dir = dir.as_ref();
    let Some(kept) = layout_file::read(&env, dir)? else {
        return info_one(&env, dir);
    };
    let of = |id| info_one(&env, &folder(dir, id)).map_err(|error| of_partition(id, error));
    let parts = kept.layout.ids().map(of).collect::<Result<_, _>>()?;
    Ok(Info::of_parts(kept.identity.log_id, kept.layout, parts))
}

/// Reads every byte of every file of the log in `dir`, but for files that are none of its
/// own, and says what is not as it was
/// written. Changes nothing.
///
/// Works beside a writer too: what it writes meanwhile, beyond the durable mark, is not
/// judged. Memory: the index of one segment, and 128 MiB for the versions of streams.
///
/// # Errors
///
/// There is no log, its files are of a newer format, its layout cannot be read, or the disk
/// refuses to list them. Other damage is no error: it is in the report.
pub fn verify(
    env: Env,
    dir: impl AsRef<Path>,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<VerifyReport, OpenError> {
    let dir = dir.as_ref();
    let one = |dir: &Path, on_progress: &mut dyn FnMut(Progress)| {
        let files = Files::take(&env, dir)?;
        Ok((
            files.identity,
            verify_layout(env.clone(), dir, &files, on_progress)?,
        ))
    };
    let Some(kept) = layout_file::read(&env, dir)? else {
        return Ok(one(dir, on_progress)?.1);
    };
    let mut whole = VerifyReport {
        files: 1,
        ..VerifyReport::default()
    };
    let mut sum = Sum::new(on_progress);
    for id in kept.layout.ids() {
        let done = one(&folder(dir, id), &mut |progress| sum.tell(id, progress));
        let (identity, mut report) = done.map_err(|error| of_partition(id, error))?;
        sum.next();
        if identity != kept.identity_of(id) {
            report.damages.push(Damage {
                file: MARK_FILE.to_owned(),
                offset: 0,
                events: None,
                what: "the folder has the files of another log or of another partition".to_owned(),
                heals: false,
            });
        }
        whole.take(id, report);
    }
    Ok(whole)
}

impl VerifyReport {
    /// Takes in what was found in one of several partitions.
    fn take(&mut self, id: PartitionId, part: Self) {
        self.events += part.events;
        self.frames += part.frames;
        self.bytes += part.bytes;
        self.files += part.files;
        self.end += part.end;
        self.durable += part.durable;
        self.beside_writer |= part.beside_writer;
        let damages = part.damages.into_iter().map(|damage| Damage {
            file: in_partition(id, &damage.file),
            events: damage
                .events
                .map(|(first, last)| (moved(id, first), moved(id, last))),
            ..damage
        });
        self.damages.extend(damages);
        let remarks = part.remarks.into_iter().map(|remark| Remark {
            file: in_partition(id, &remark.file),
            ..remark
        });
        self.remarks.extend(remarks);
    }
}

/// Finds out what is damaged in the log in `dir`, what of it is lost, and what mends the
/// rest. Changes nothing.
///
/// # Errors
///
/// There is no log, a writer has it, its files are of a newer format, its layout cannot be read, or
/// the disk refuses.
pub fn plan_repair(env: Env, dir: impl AsRef<Path>) -> Result<RepairPlan, OpenError> {
    let dir = dir.as_ref();
    let Some(kept) = layout_file::read(&env, dir)? else {
        return plan_one(&env, dir);
    };
    let (mut parts, mut told) = (Vec::new(), Vec::new());
    for id in kept.layout.ids() {
        let part = plan_one(&env, &folder(dir, id)).map_err(|error| of_partition(id, error))?;
        told.push(part.clone().told_of(id));
        parts.push(part);
    }
    Ok(RepairPlan::of_parts(dir, parts, told))
}

/// Copies the log in `from` into the directory `to`: every event that is durable when the
/// call begins, checked frame by frame.
///
/// A writer may be at work, where there is one partition. A second backup into the same directory
/// copies what is new: full segments that are there stay. The backup before stays valid until the
/// new one is complete; of several partitions until the new one begins.
///
/// # Errors
///
/// Events in `from` are damaged, `to` holds the backup of another log or a damaged
/// manifest, a writer is at work in several partitions, or the disk refuses.
pub fn backup(
    env: Env,
    from: impl AsRef<Path>,
    to: impl AsRef<Path>,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<BackupReport, OpenError> {
    backup_until(env, from, to, None, on_progress)
}

/// As [`backup`], of the events of a cut: one that was read from the log and is closed, as a log's
/// head is. So partitions that are written to meanwhile fit together.
pub fn backup_until(
    env: Env,
    from: impl AsRef<Path>,
    to: impl AsRef<Path>,
    until: Option<&Cut>,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<BackupReport, OpenError> {
    let (from, to) = (from.as_ref(), to.as_ref());
    let Some(kept) = layout_file::read(&env, from)? else {
        let until = until.map(|cut| cut.get(PartitionId(0)));
        return backup_one(env, from, to, until, on_progress);
    };
    make_dir(&env, to).map_err(|e| io_open(format!("making the directory {}", to.display()), e))?;
    refuse_other(&env, to, &kept)?;
    let mut whole = Whole {
        ends: Vec::new(),
        kept,
    };
    let mut report = BackupReport {
        log_id: whole.kept.identity.log_id,
        ..BackupReport::default()
    };
    let mut sum = Sum::new(on_progress);
    for id in whole.kept.layout.ids() {
        let folder_from = folder(from, id);
        let until = match until {
            Some(cut) => Some(cut.get(id)),
            None if info_one(&env, &folder_from)?.written => {
                return Err(OpenError::Invalid(
                    "a process writes to the log, and several partitions fit together only up to a \
                     cut"
                    .to_owned(),
                ));
            }
            None => None,
        };
        let done = backup_one(
            env.clone(),
            &folder_from,
            &folder(to, id),
            until,
            &mut |progress| sum.tell(id, progress),
        );
        let done = done.map_err(|error| of_partition(id, error))?;
        sum.next();
        whole.ends.push(done.events);
        add(&mut report, &done);
    }
    whole.write(&env, to)?;
    Ok(report)
}

/// Makes the log that a backup holds, in the directory `to`, which must be empty or not
/// there yet.
///
/// Every hash and every frame is checked before the log appears. It opens as the log that
/// it is a copy of: same id, same positions, the next epoch.
///
/// # Errors
///
/// There is no complete backup, something of it is damaged, `to` is not empty, or the disk
/// refuses.
pub fn restore(
    env: Env,
    backup: impl AsRef<Path>,
    to: impl AsRef<Path>,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<BackupReport, OpenError> {
    let (from, to) = (backup.as_ref(), to.as_ref());
    let Some(whole) = Whole::read(&env, from)? else {
        return restore_one(env, from, to, on_progress);
    };
    let failed = |e| io_open(format!("making {}", to.display()), e);
    if env.disk.exists(to).map_err(failed)? {
        layout_file::read(&env, to)?;
        if let Some(name) = env.disk.list(to).map_err(failed)?.first() {
            return Err(OpenError::Invalid(format!(
                "{} is not empty ({name}); restore into an empty directory",
                to.display()
            )));
        }
    }
    make_dir(&env, to).map_err(failed)?;
    let mut report = BackupReport {
        log_id: whole.kept.identity.log_id,
        ..BackupReport::default()
    };
    let mut sum = Sum::new(on_progress);
    for (id, end) in whole.kept.layout.ids().zip(&whole.ends) {
        let done = restore_one(
            env.clone(),
            &folder(from, id),
            &folder(to, id),
            &mut |progress| sum.tell(id, progress),
        );
        let done = done.map_err(|error| of_partition(id, error))?;
        sum.next();
        let is_right = done.events == *end && done.log_id == whole.kept.identity_of(id).log_id;
        if !is_right {
            return Err(OpenError::Invalid(format!(
                "{} in the backup has {} events and should have {end}: a later backup into the same \
                 directory was interrupted. Run that again, or use another; what was restored into {} \
                 is no log, remove it",
                folder_name(id),
                done.events,
                to.display()
            )));
        }
        add(&mut report, &done);
    }
    write_file(&env, &to.join(MARK_FILE), &Mark::guard(whole.kept.identity)).map_err(failed)?;
    // Last, so that what was interrupted is no log.
    whole.kept.write(&env, to)?;
    Ok(report)
}

fn add(report: &mut BackupReport, part: &BackupReport) {
    report.events += part.events;
    report.segments += part.segments;
    report.segments_copied += part.segments_copied;
    report.bytes += part.bytes;
    report.bytes_copied += part.bytes_copied;
}

/// Refuses a directory that has something else than the backup of this log, or what is left of it.
fn refuse_other(env: &Env, to: &Path, kept: &Kept) -> Result<(), OpenError> {
    let refuse = |what: &str| {
        let what = format!("{} {what}; choose another directory", to.display());
        Err(OpenError::Invalid(what))
    };
    match Whole::read(env, to)? {
        Some(before) if before.kept != *kept => refuse("holds the backup of another log"),
        Some(_) => Ok(()),
        None => {
            let names = env.disk.list(to);
            let names = names.map_err(|e| io_open(format!("listing {}", to.display()), e))?;
            match names.iter().find(|name| !name.ends_with(".tmp")) {
                Some(name) if name == MANIFEST_FILE => refuse("holds the backup of another log"),
                Some(name) => refuse(&format!("holds no backup and is not empty ({name})")),
                None => Ok(()),
            }
        }
    }
}

/// What the backup of several partitions says of itself, in a file that is written last. Each
/// partition is a backup in a folder of its own.
struct Whole {
    kept: Kept,
    /// How many events of each partition there are.
    ends: Vec<u64>,
}

impl Whole {
    /// What the backup in `dir` says; `None` if there is none, or one of a log with one partition.
    fn read(env: &Env, dir: &Path) -> Result<Option<Self>, OpenError> {
        let path = dir.join(MANIFEST_FILE);
        let failed = |e| io_open(format!("reading {}", path.display()), e);
        if !env.disk.exists(&path).map_err(failed)? {
            return Ok(None);
        }
        // What is no such text is told by whoever reads the list of segments.
        let Ok(text) = read_text(env, &path).map_err(failed)? else {
            return Ok(None);
        };
        match unseal(BACKUP, &text) {
            Ok((BACKUP_VERSION, lines)) => match Self::of_lines(lines) {
                Ok(whole) => Ok(Some(whole)),
                Err(_) => Err(OpenError::Invalid(format!(
                    "{}: this is no list of a backup: use another backup",
                    path.display()
                ))),
            },
            _ => Ok(None),
        }
    }

    fn of_lines(lines: &str) -> Result<Self, Problem> {
        let mut ends = Vec::new();
        let kept = Kept::of_lines(lines, |what, value| {
            let (partition, end) = value.split_once(' ').filter(|_| what == "end")?;
            let is_next = partition.parse() == Ok(ends.len());
            ends.push(end.parse().ok().filter(|_| is_next)?);
            Some(())
        })?;
        match ends.len() == kept.layout.partitions() as usize {
            true => Ok(Self { kept, ends }),
            false => Err(Problem::Damaged),
        }
    }

    fn write(&self, env: &Env, dir: &Path) -> Result<(), OpenError> {
        let mut lines = self.kept.lines();
        for (partition, end) in self.ends.iter().enumerate() {
            lines.push_str(&format!("end {partition} {end}\n"));
        }
        let text = seal(BACKUP, BACKUP_VERSION, &lines);
        write_file(env, &dir.join(MANIFEST_FILE), text.as_bytes())
            .map_err(|e| io_open("writing the list of the backup", e))
    }
}

/// The ends that such a list names, or why it is none; for the check of its description.
#[cfg(test)]
pub(crate) fn decode_whole(text: &str) -> Result<Vec<u64>, String> {
    let (_, lines) = unseal(BACKUP, text).map_err(|_| layout_file::seal_of(text))?;
    let whole = Whole::of_lines(lines).map_err(|problem| format!("{problem:?}"))?;
    Ok(whole.ends)
}

/// The progress over several partitions.
struct Sum<'a> {
    tell: &'a mut dyn FnMut(Progress),
    done: u64,
    /// Of the partition at hand.
    at: u64,
}

impl<'a> Sum<'a> {
    fn new(tell: &'a mut dyn FnMut(Progress)) -> Self {
        Self {
            tell,
            done: 0,
            at: 0,
        }
    }

    fn tell(&mut self, id: PartitionId, progress: Progress) {
        self.at = progress.bytes_done;
        (self.tell)(Progress {
            file: in_partition(id, &progress.file),
            bytes_done: self.done + progress.bytes_done,
            bytes_total: self.done + progress.bytes_total,
        });
    }

    fn next(&mut self) {
        self.done += std::mem::take(&mut self.at);
    }
}
