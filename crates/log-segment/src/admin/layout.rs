//! How the files of a directory make up one log, as far as they do.

use std::path::Path;
use std::sync::Arc;

use anabranch_env::Env;
use anabranch_log::OpenError;

use super::report::Damage;
use crate::format::{LogIdentity, SegmentHeader};
use crate::part::Segment;
use crate::survey::{LOCK_FILE, MARK_FILE, Survey, io_open};

/// A directory as it was found.
pub(super) struct Layout {
    pub survey: Survey,
    pub identity: LogIdentity,
    /// Whether a writer is at work.
    pub written: bool,
    /// Every event before this position is said to have been on the disk.
    pub durable: u64,
    /// The segments that are part of the log, in order.
    pub places: Vec<Place>,
    /// What is wrong with files as such.
    pub damages: Vec<Damage>,
}

/// A segment, and which positions count in it.
pub(super) struct Place {
    pub segment: Arc<Segment>,
    pub header: SegmentHeader,
    /// The position of the next segment's first event: frames from there on do not count.
    /// `None`: the last segment.
    pub limit: Option<u64>,
}

impl Layout {
    /// Looks at the directory, in which a writer may be at work.
    pub fn take(env: &Env, dir: &Path) -> Result<Self, OpenError> {
        let written = env
            .disk
            .is_locked(&dir.join(LOCK_FILE))
            .map_err(|e| io_open("looking at the lock", e))?;
        Self::of(env, dir, written)
    }

    /// Looks at the directory when nobody writes: the caller has the lock or knows.
    pub fn take_alone(env: &Env, dir: &Path) -> Result<Self, OpenError> {
        Self::of(env, dir, false)
    }

    fn of(env: &Env, dir: &Path, written: bool) -> Result<Self, OpenError> {
        let not_found = || OpenError::NotFound {
            path: dir.display().to_string(),
        };
        let exists = env.disk.exists(dir);
        if !exists.map_err(|e| io_open("looking for the log", e))? {
            return Err(not_found());
        }
        let mut survey = Survey::take(env, dir)?;
        if survey.is_empty() {
            return Err(not_found());
        }
        let identity = survey.identity().ok_or_else(|| OpenError::Damaged {
            file: MARK_FILE.to_owned(),
            what: "neither the mark nor any segment can be read: nothing tells which log this is"
                .to_owned(),
        })?;
        survey.keep_own(identity);
        let mut layout = Self {
            identity,
            written,
            durable: survey.mark.map_or(0, |mark| mark.durable),
            places: Vec::new(),
            damages: Vec::new(),
            survey,
        };
        layout.judge_mark();
        layout.place_segments();
        Ok(layout)
    }

    /// Leaves out what stands at `end` or behind it.
    pub fn end_at(&mut self, end: u64) -> Result<(), OpenError> {
        if self.written && self.durable < end {
            return Err(OpenError::Invalid(format!(
                "{} events are not to be seen yet; try again",
                end - self.durable
            )));
        }
        self.durable = end;
        self.places.retain(|place| place.header.first < end);
        if let Some(last) = self.places.last_mut() {
            last.limit = Some(end);
        }
        Ok(())
    }

    fn damage(&mut self, file: &str, offset: u64, what: impl Into<String>, heals: bool) {
        self.damages.push(Damage {
            file: file.to_owned(),
            offset,
            events: None,
            what: what.into(),
            heals,
        });
    }

    fn judge_mark(&mut self) {
        if self.survey.mark.is_none() && self.survey.mark_problems.is_empty() {
            self.damage(MARK_FILE, 0, "the file is missing", false);
        }
        let heals = self.survey.mark.is_some();
        for (offset, what) in self.survey.mark_problems.clone() {
            // Beside a writer a slot may be half written.
            if !self.written {
                self.damage(MARK_FILE, offset, what, heals);
            }
        }
    }

    fn place_segments(&mut self) {
        for (file, offset, what) in self.survey.header_problems.clone() {
            self.damage(&file, offset, what, true);
        }
        for (file, what) in self.survey.segment_problems.clone() {
            self.damage(&file, 0, what, false);
        }
        for (segment, header) in self.survey.segments.clone() {
            if let Some(last) = self.places.last_mut() {
                last.limit = Some(header.first);
            }
            self.places.push(Place {
                segment,
                header,
                limit: None,
            });
        }
    }
}
