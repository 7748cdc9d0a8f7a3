//! What a repair would do: found out by reading only.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use anabranch_env::Env;
use anabranch_log::OpenError;
use anabranch_model::Position;

use super::loss::{Loss, LostEvent};
use super::lost;
use super::names::{aside_name, moving, name_of};
use super::survivors::{self, Piece, Survivor};
use crate::admin::layout::Layout;
use crate::admin::report::Damage;
use crate::admin::verify::verify_layout;
use crate::format::{Mark, SegmentHeader};
use crate::survey::{LIVE_FILE, MARK_FILE};

/// The most events that a repair writes as lost. More than that is better restored.
const LOST_MAX: u64 = 50_000_000;

/// One thing that a repair does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Gives a file the name that it says it has.
    Rename {
        /// Its name now.
        from: String,
        /// Its right name.
        to: String,
    },
    /// Keeps a file that is no part of the log under another name.
    SetAside {
        /// Its name now.
        file: String,
        /// Its name then.
        to: String,
    },
    /// Writes the two copies of a segment's header again.
    RewriteHeader {
        /// The segment.
        file: String,
    },
    /// Keeps a copy of a damaged segment, and puts one in its place that has what is left
    /// of it and says what is lost.
    ReplaceSegment {
        /// The segment.
        file: String,
        /// The copy.
        kept: String,
    },
    /// Makes a segment that says what is lost.
    MakeSegment {
        /// The segment.
        file: String,
    },
    /// Makes the index of a segment again.
    RebuildIndex {
        /// The segment.
        file: String,
    },
    /// Removes a file that the log makes again by itself.
    Drop {
        /// The file.
        file: String,
    },
    /// Writes the mark file again.
    RewriteMark {
        /// The file.
        file: String,
    },
}

impl Action {
    /// The same with each file named by `inside`.
    pub(crate) fn named(self, inside: &dyn Fn(&str) -> String) -> Self {
        match self {
            Self::Rename { from, to } => Self::Rename {
                from: inside(&from),
                to: inside(&to),
            },
            Self::SetAside { file, to } => Self::SetAside {
                file: inside(&file),
                to: inside(&to),
            },
            Self::RewriteHeader { file } => Self::RewriteHeader {
                file: inside(&file),
            },
            Self::ReplaceSegment { file, kept } => Self::ReplaceSegment {
                file: inside(&file),
                kept: inside(&kept),
            },
            Self::MakeSegment { file } => Self::MakeSegment {
                file: inside(&file),
            },
            Self::RebuildIndex { file } => Self::RebuildIndex {
                file: inside(&file),
            },
            Self::Drop { file } => Self::Drop {
                file: inside(&file),
            },
            Self::RewriteMark { file } => Self::RewriteMark {
                file: inside(&file),
            },
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rename { from, to } => write!(f, "rename {from} to {to}, as its header says"),
            Self::SetAside { file, to } => write!(f, "set {file} aside as {to}"),
            Self::RewriteHeader { file } => write!(f, "write the header of {file} again"),
            Self::ReplaceSegment { file, kept } => write!(
                f,
                "keep a copy of {file} as {kept}, and write {file} again with what is left"
            ),
            Self::MakeSegment { file } => write!(f, "make {file}, which says what is lost"),
            Self::RebuildIndex { file } => write!(f, "make the index of {file} again"),
            Self::Drop { file } => {
                write!(f, "remove {file}, which the log makes again by itself")
            }
            Self::RewriteMark { file } if file == MARK_FILE => f.write_str("write the mark again"),
            Self::RewriteMark { file } => write!(f, "write {file} again"),
        }
    }
}

/// What a repair would do.
///
/// Lost events are replaced, one for one, by events of type `$EventLost` in streams
/// `$lost/<position>`, so that positions stay dense and every reader sees the loss. All
/// other events keep their bytes, positions, versions and ids. A stream that lost events
/// has a hole in its versions; its next event follows the last version known, of lost
/// events too where an index still tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairPlan {
    /// Every event that is lost, ascending.
    pub losses: Vec<Loss>,
    /// What would be done, in order. Empty: the log is whole.
    pub actions: Vec<Action>,
    pub(super) dir: PathBuf,
    pub(super) steps: Vec<Step>,
    /// Of a log with several partitions: what is done in each. Then there are no steps.
    pub(super) parts: Vec<RepairPlan>,
}

/// What an action needs to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    WriteHeader {
        path: PathBuf,
        header: SegmentHeader,
    },
    /// `kept`: the copy of the file that is there already, if one is. `indexes` are of its
    /// old bytes.
    WriteSegment {
        path: PathBuf,
        kept: Option<PathBuf>,
        indexes: Vec<PathBuf>,
        header: SegmentHeader,
        pieces: Vec<Piece>,
    },
    /// Removes these index files; makes one for the whole segment, up to this position.
    Index {
        old: Vec<PathBuf>,
        path: PathBuf,
        header: SegmentHeader,
        end: Option<u64>,
    },
    Remove(PathBuf),
    Mark(Mark),
}

impl RepairPlan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }

    /// How many events are lost.
    pub fn lost(&self) -> u64 {
        let count = |loss: &Loss| loss.last.offset - loss.first.offset + 1;
        self.losses.iter().map(count).sum()
    }
}

/// As `plan_repair`, for one who holds the lock or knows that nobody does.
pub(super) fn plan(env: &Env, dir: &Path) -> Result<RepairPlan, OpenError> {
    let layout = Layout::take_alone(env, dir)?;
    let report = verify_layout(env.clone(), dir, &layout, &mut |_| {})?;
    let mut plan = RepairPlan {
        losses: Vec::new(),
        actions: Vec::new(),
        dir: dir.to_owned(),
        steps: Vec::new(),
        parts: Vec::new(),
    };
    if report.is_clean() {
        return Ok(plan);
    }
    let mut found = survivors::find(env, dir, &layout)?;
    plan.put_names_right(dir, &mut found);
    let durable = survivors::walk(env, &layout, dir, &mut found)?;
    plan.note_losses(env, &layout, &found)?;
    plan.rewrite_segments(dir, &layout, &mut found);
    plan.rebuild_indexes(env, dir, &layout, &report.damages, &found);
    plan.rewrite_mark(env, &layout, &report.damages, durable, &found);
    Ok(plan)
}

impl RepairPlan {
    fn put_names_right(&mut self, dir: &Path, found: &mut survivors::Found) {
        for path in &found.aside {
            let to = aside_name(dir, path, &found.names);
            found.names.insert(name_of(&to));
            self.actions.push(Action::SetAside {
                file: name_of(path),
                to: name_of(&to),
            });
            self.steps.push(Step::Rename {
                from: path.clone(),
                to,
            });
        }
        // By way of names of their own: files may have changed places.
        let misnamed: Vec<_> = found
            .survivors
            .iter()
            .filter(|s| s.is_misnamed(dir))
            .collect();
        for survivor in &misnamed {
            self.actions.push(Action::Rename {
                from: name_of(&survivor.path),
                to: name_of(&survivor.right_path(dir)),
            });
            self.steps.push(Step::Rename {
                from: survivor.path.clone(),
                to: moving(&survivor.right_path(dir)),
            });
        }
        for survivor in &misnamed {
            let to = survivor.right_path(dir);
            self.steps.push(Step::Rename {
                from: moving(&to),
                to,
            });
        }
    }

    fn note_losses(
        &mut self,
        env: &Env,
        layout: &Layout,
        found: &survivors::Found,
    ) -> Result<(), OpenError> {
        for survivor in &found.survivors {
            for piece in &survivor.pieces {
                if let Piece::Lost {
                    first,
                    end,
                    offset,
                    what,
                    ..
                } = piece
                {
                    self.losses.push(Loss {
                        first: Position::at(*first),
                        last: Position::at(end - 1),
                        file: name_of(&survivor.path),
                        offset: *offset,
                        what: what.clone(),
                        known: Vec::new(),
                    });
                }
            }
        }
        if self.lost() > LOST_MAX {
            return Err(OpenError::Invalid(format!(
                "{} events are lost; a repair goes up to {LOST_MAX}: restore a backup instead",
                self.lost()
            )));
        }
        lost::tell(env, layout, found, &mut self.losses)
    }

    fn rewrite_segments(&mut self, dir: &Path, layout: &Layout, found: &mut survivors::Found) {
        let known: BTreeMap<u64, LostEvent> = self
            .losses
            .iter()
            .flat_map(|loss| &loss.known)
            .map(|event| (event.position.offset, event.clone()))
            .collect();
        let ids: Vec<u64> = found
            .survivors
            .iter()
            .map(|s| s.header.segment_id)
            .collect();
        let mut made = Vec::new();
        for (at, survivor) in found.survivors.iter_mut().enumerate() {
            for piece in &mut survivor.pieces {
                if let Piece::Lost {
                    first,
                    end,
                    known: told,
                    ..
                } = piece
                {
                    *told = known.range(*first..*end).map(|(_, e)| e.clone()).collect();
                }
            }
            let path = survivor.right_path(dir);
            let next_id = survivor.header.segment_id + 1;
            let is_free = ids.get(at + 1).is_none_or(|&id| id > next_id);
            let tail = match survivor.pieces.last() {
                // The next segment's first position ends this one, whatever follows.
                Some(Piece::Lost { .. }) if survivor.is_gone || is_free => survivor.pieces.pop(),
                _ => None,
            };
            let first_lost = match tail {
                Some(Piece::Lost { first, .. }) => Some(first),
                _ => None,
            };
            let has_loss = survivor
                .pieces
                .iter()
                .any(|p| matches!(p, Piece::Lost { .. }));
            if survivor.is_gone {
                // Nothing but the tail, made below.
            } else if has_loss || survivor.is_shifted {
                let kept = aside_name(dir, &path, &found.names);
                found.names.insert(name_of(&kept));
                self.actions.push(Action::ReplaceSegment {
                    file: name_of(&path),
                    kept: name_of(&kept),
                });
                survivor.is_rewritten = true;
                let id = survivor.header.segment_id;
                let indexes = layout.survey.indexes.range((id, 0)..=(id, u64::MAX));
                self.steps.push(Step::WriteSegment {
                    path: path.clone(),
                    kept: Some(kept),
                    indexes: indexes.map(|(_, path)| path.clone()).collect(),
                    header: survivor.header,
                    pieces: survivor.pieces.clone(),
                });
            } else if survivor.is_header_damaged {
                self.actions.push(Action::RewriteHeader {
                    file: name_of(&path),
                });
                self.steps.push(Step::WriteHeader {
                    path: path.clone(),
                    header: survivor.header,
                });
            }
            if let (Some(piece), Some(first)) = (tail, first_lost) {
                let segment_id = if survivor.is_gone {
                    next_id - 1
                } else {
                    next_id
                };
                let header = SegmentHeader {
                    identity: layout.identity,
                    segment_id,
                    first,
                    capacity: 0,
                    created_at: survivor.header.created_at,
                    previous: 0,
                };
                survivor.end = first;
                made.push((header, piece));
            }
        }
        self.make_segments(dir, made, found);
        found.survivors.retain(|s| !s.is_gone);
        found.survivors.sort_by_key(|s| s.header.segment_id);
    }

    /// Makes the segments of which nothing is left but what is lost.
    fn make_segments(
        &mut self,
        dir: &Path,
        made: Vec<(SegmentHeader, Piece)>,
        found: &mut survivors::Found,
    ) {
        for (header, piece) in made {
            let mut new = Survivor::made(dir, header);
            new.end = match &piece {
                Piece::Lost { end, .. } => *end,
                Piece::Frames { .. } => header.first,
            };
            new.pieces.push(piece);
            self.actions.push(Action::MakeSegment {
                file: name_of(&new.path),
            });
            self.steps.push(Step::WriteSegment {
                path: new.path.clone(),
                kept: None,
                indexes: Vec::new(),
                header,
                pieces: new.pieces.clone(),
            });
            found.survivors.push(new);
        }
    }

    fn rebuild_indexes(
        &mut self,
        env: &Env,
        dir: &Path,
        layout: &Layout,
        damages: &[Damage],
        found: &survivors::Found,
    ) {
        let last = found.survivors.last().map(|s| s.header.segment_id);
        let mut indexes = layout.survey.indexes.clone();
        let bad = |path: &Path| damages.iter().any(|d| d.file == name_of(path));
        for survivor in &found.survivors {
            let (id, first) = (survivor.header.segment_id, survivor.header.first);
            let keys: Vec<_> = indexes.range((id, 0)..=(id, u64::MAX)).collect();
            let keys: Vec<_> = keys.into_iter().map(|(&key, _)| key).collect();
            let old: Vec<_> = keys.iter().filter_map(|key| indexes.remove(key)).collect();
            let covered = Survivor::covered(env, &old);
            let is_last = Some(id) == last;
            let is_off = if is_last {
                covered > Some(survivor.end)
            } else {
                covered != Some(survivor.end) && survivor.end > first
            };
            if is_off || survivor.is_rewritten || old.iter().any(|path| bad(path)) {
                let path = survivor.right_path(dir);
                self.actions.push(Action::RebuildIndex {
                    file: name_of(&path),
                });
                self.steps.push(Step::Index {
                    old,
                    path,
                    header: survivor.header,
                    end: (!is_last).then_some(survivor.end),
                });
            }
        }
        let live = dir.join(LIVE_FILE);
        let droppable = layout.survey.runs.iter().chain([&live]);
        for path in droppable.filter(|path| bad(path)) {
            self.actions.push(Action::Drop {
                file: name_of(path),
            });
            self.steps.push(Step::Remove(path.clone()));
        }
        // What is left belongs to segments that are gone.
        for path in indexes.into_values() {
            let to = aside_name(dir, &path, &found.names);
            self.actions.push(Action::SetAside {
                file: name_of(&path),
                to: name_of(&to),
            });
            self.steps.push(Step::Rename { from: path, to });
        }
    }

    fn rewrite_mark(
        &mut self,
        env: &Env,
        layout: &Layout,
        damages: &[Damage],
        durable: u64,
        found: &survivors::Found,
    ) {
        let is_damaged = damages
            .iter()
            .any(|d| d.file == MARK_FILE && d.events.is_none());
        let known = layout.survey.mark;
        let last = found.survivors.last();
        // Or it tells of a segment that is gone for good.
        let is_beyond = known
            .zip(last)
            .is_some_and(|(mark, last)| mark.segment_id > last.header.segment_id);
        if !is_damaged && !is_beyond {
            return;
        }
        self.actions.push(Action::RewriteMark {
            file: MARK_FILE.to_owned(),
        });
        self.steps.push(Step::Mark(Mark {
            identity: layout.identity,
            sequence: known.map_or(2, |mark| mark.sequence + 2),
            // An epoch must never come again: seconds since 1970 are beyond any count of
            // openings.
            epoch: known.map_or_else(|| env.clock.wall_micros() / 1_000_000, |mark| mark.epoch),
            durable,
            segment_id: last.map_or(0, |s| s.header.segment_id),
            offset: 0,
            clean: false,
        }));
    }
}
