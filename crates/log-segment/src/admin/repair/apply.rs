use std::io;
use std::path::{Path, PathBuf};

use anabranch_env::{Env, OpenMode};
use anabranch_log::OpenError;
use anabranch_model::record::{encode, encoded_len_max};
use anabranch_model::{EventId, EventType, NameError, NewEvent, StreamId};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::loss::LostEvent;
use super::names::name_of;
use super::plan::{RepairPlan, Step, plan};
use super::survivors::Piece;
use crate::admin::verify::decode;
use crate::admin::walk::{Frames, Look};
use crate::format::{
    DATA_START, FRAME_HEADER, FrameHeader, Mark, PAGE, SegmentHeader, Spot, seal_frame,
};
use crate::index::{ActiveIndex, stream_key, write_index};
use crate::lost::{LOST_CATEGORY, LOST_KEY_HEADER, LOST_TYPE, LOST_VERSION_HEADER};
use crate::open::MARK_FILE_BYTES;
use crate::part::write_file;
use crate::reading::read_readable;
use crate::survey::{LOCK_FILE, MARK_FILE, io_open};

/// How many lost events one frame tells of.
const FRAME_EVENTS: u64 = 1_000;

pub(super) fn apply(plan_made: &RepairPlan, env: Env) -> Result<(), OpenError> {
    let dir = plan_made.dir.as_path();
    let path = dir.display().to_string();
    let holder = format!("pid {}, a repair", std::process::id());
    let _held = env
        .disk
        .lock(&dir.join(LOCK_FILE), &holder)
        .map_err(|e| io_open("taking the lock", e))?
        .map_err(|holder| OpenError::Locked {
            path: path.clone(),
            holder,
        })?;
    let now = plan(&env, dir)?;
    if now.losses != plan_made.losses || now.actions != plan_made.actions {
        return Err(OpenError::Invalid(format!(
            "{path} has changed since the repair was planned; plan it again"
        )));
    }
    for step in &now.steps {
        take(&env, dir, step).map_err(|e| io_open(step.name(), e))?;
    }
    env.disk
        .sync_dir(dir)
        .map_err(|e| io_open("making the repair durable", e))
}

impl Step {
    fn name(&self) -> String {
        match self {
            Self::Rename { from, to } => {
                format!("renaming {} to {}", name_of(from), name_of(to))
            }
            Self::WriteHeader { path, .. } => format!("writing the header of {}", name_of(path)),
            Self::WriteSegment { path, .. } => format!("writing {}", name_of(path)),
            Self::Index { path, .. } => format!("making the index of {}", name_of(path)),
            Self::Remove(path) => format!("removing {}", name_of(path)),
            Self::Mark(_) => "writing the mark".to_owned(),
        }
    }
}

fn take(env: &Env, dir: &Path, step: &Step) -> io::Result<()> {
    match step {
        Step::Rename { from, to } => {
            env.disk.rename(from, to)?;
            env.disk.sync_dir(dir)
        }
        Step::WriteHeader { path, header } => {
            let file = env.disk.open(path, OpenMode::Write)?;
            let bytes = header.encode();
            // The second copy first: at every moment one of them is whole if one was.
            for at in [PAGE, 0] {
                file.write_all_at(&bytes[at..at + PAGE], at as u64)?;
                file.sync_data()?;
            }
            Ok(())
        }
        Step::WriteSegment {
            path,
            kept,
            indexes,
            header,
            pieces,
        } => {
            let bytes = write_pieces(env, kept.as_ref().map(|_| path), *header, pieces)?;
            if let Some(kept) = kept {
                keep_copy(env, path, kept)?;
            }
            // An index of the old bytes must not be taken for one of the new.
            for index in indexes {
                env.disk.remove(index)?;
            }
            env.disk.sync_dir(dir)?;
            write_file(env, path, &bytes)
        }
        Step::Index {
            old,
            path,
            header,
            end,
        } => {
            for index in old {
                if env.disk.exists(index)? {
                    env.disk.remove(index)?;
                }
            }
            env.disk.sync_dir(dir)?;
            match end {
                Some(end) if *end > header.first => build_index(env, dir, path, *header, *end),
                _ => Ok(()),
            }
        }
        Step::Remove(path) => {
            env.disk.remove(path)?;
            env.disk.sync_dir(dir)
        }
        Step::Mark(mark) => {
            let before = Mark {
                sequence: mark.sequence - 1,
                ..*mark
            };
            let mut bytes = vec![0; MARK_FILE_BYTES];
            for mark in [before, *mark] {
                let at = mark.slot_offset() as usize;
                bytes[at..at + PAGE].copy_from_slice(&mark.encode());
            }
            write_file(env, &dir.join(MARK_FILE), &bytes)
        }
    }
}

/// Copies a damaged file. What cannot be read of it is zeros in the copy.
fn keep_copy(env: &Env, path: &Path, kept: &Path) -> io::Result<()> {
    let file = env.disk.open(path, OpenMode::Read)?;
    let mut bytes = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
    let mut at = 0;
    while at < bytes.len() {
        let (len, refused) = read_readable(&*file, &mut bytes[at..], at as u64);
        at += len;
        if len == 0 && refused.is_none() {
            break;
        }
        if refused.is_some() {
            at = (at + 1).next_multiple_of(PAGE);
        }
    }
    write_file(env, kept, &bytes)
}

/// The bytes of a segment that holds these pieces.
fn write_pieces(
    env: &Env,
    source: Option<&PathBuf>,
    header: SegmentHeader,
    pieces: &[Piece],
) -> io::Result<Vec<u8>> {
    let file = source
        .map(|path| env.disk.open(path, OpenMode::Read))
        .transpose()?;
    let mut bytes = vec![0; DATA_START as usize];
    for piece in pieces {
        match (piece, &file) {
            (Piece::Frames { start, stop }, Some(file)) => {
                let mut frames = Frames::new(
                    &**file,
                    header.segment_id,
                    header.identity.hash_key,
                    file.len()?,
                );
                let mut at = *start;
                while at < *stop {
                    let Look::Frame(frame, good, _) = frames.look(at) else {
                        return Err(io::Error::other(
                            "a frame that was good when the repair was planned is not now",
                        ));
                    };
                    let begin = bytes.len();
                    bytes.extend_from_slice(good);
                    // Its place may be another one now.
                    seal_frame(&mut bytes[begin..], &frame, spot(header, begin));
                    bytes.resize(begin + frame.frame_len(), 0);
                    at += frame.frame_len() as u64;
                }
            }
            (Piece::Frames { .. }, None) => {
                return Err(io::Error::other("a new segment has no frames to copy"));
            }
            (Piece::Lost { first, end, .. }, _) => {
                let mut from = *first;
                while from < *end {
                    let to = (*end).min(from + FRAME_EVENTS);
                    write_lost(env, &mut bytes, header, piece, from, to)?;
                    from = to;
                }
            }
        }
    }
    let capacity = header.capacity.max(bytes.len() as u64);
    let capacity = capacity.next_multiple_of(PAGE as u64);
    bytes.resize(capacity as usize, 0);
    // Made anew, and told apart from the damaged one by when.
    let header = SegmentHeader {
        capacity,
        created_at: env.clock.wall_micros().max(header.created_at + 1),
        ..header
    };
    bytes[..DATA_START as usize].copy_from_slice(&header.encode());
    Ok(bytes)
}

fn spot(segment: SegmentHeader, offset: usize) -> Spot {
    Spot {
        segment_id: segment.segment_id,
        offset: offset as u64,
        hash_key: segment.identity.hash_key,
    }
}

/// Appends a frame whose events say that those at `from..to` are lost.
fn write_lost(
    env: &Env,
    bytes: &mut Vec<u8>,
    segment: SegmentHeader,
    piece: &Piece,
    from: u64,
    to: u64,
) -> io::Result<()> {
    let Piece::Lost { known, what, .. } = piece else {
        return Ok(());
    };
    let mut events = Vec::new();
    for position in from..to {
        let told = known
            .binary_search_by_key(&position, |event| event.position.offset)
            .ok()
            .map(|at| &known[at]);
        let event = lost_event(segment, position, what, told);
        events.push(event.map_err(io::Error::other)?);
    }
    let versions = vec![0; events.len()];
    let mut frame = Vec::with_capacity(FRAME_HEADER + encoded_len_max(&events));
    frame.resize(FRAME_HEADER, 0);
    encode(&mut frame, &events, &versions);
    let header = FrameHeader {
        segment_id: segment.segment_id,
        first: from,
        count: (to - from) as u16,
        body_len: (frame.len() - FRAME_HEADER) as u32,
        durable: segment.first,
        recorded_at: env.clock.wall_micros(),
        fields_len: 0,
    };
    seal_frame(&mut frame, &header, spot(segment, bytes.len()));
    frame.resize(header.frame_len(), 0);
    bytes.extend_from_slice(&frame);
    Ok(())
}

fn lost_event(
    segment: SegmentHeader,
    position: u64,
    what: &str,
    told: Option<&LostEvent>,
) -> Result<NewEvent, NameError> {
    // The same loss gives the same id; the time 0 keeps it below the ids of other events.
    let seed = segment.identity.hash_key;
    let id = EventId::v7(0, xxh3_128_with_seed(&position.to_le_bytes(), seed));
    let stream = StreamId::system(format!("{LOST_CATEGORY}/{position}"))?;
    let escaped: String = what
        .chars()
        .filter(|c| !c.is_control() && !['"', '\\'].contains(c))
        .collect();
    let data = format!("{{\"what\":\"{escaped}\"}}");
    let mut event = NewEvent::new(id, stream, EventType::new(LOST_TYPE)?, data);
    if let Some(told) = told {
        event = event
            .with_header(LOST_KEY_HEADER, format!("{:032x}", told.key))
            .with_header(LOST_VERSION_HEADER, told.version.to_string());
        if let Some(stream) = &told.stream {
            event = event.with_header("lost-stream", stream.clone());
        }
    }
    Ok(event)
}

/// Makes the index of a whole segment from its frames.
fn build_index(
    env: &Env,
    dir: &Path,
    path: &Path,
    header: SegmentHeader,
    end: u64,
) -> io::Result<()> {
    let file = env.disk.open(path, OpenMode::Read)?;
    let mut frames = Frames::new(
        &*file,
        header.segment_id,
        header.identity.hash_key,
        file.len()?,
    );
    let mut index = ActiveIndex::new(header.first, header.identity.hash_key, DATA_START);
    let mut at = DATA_START;
    while index.end() < end {
        let Look::Frame(frame, bytes, _) = frames.look(at) else {
            return Err(io::Error::other("a frame of the segment cannot be read"));
        };
        let events = decode(&frame, frame.body(bytes)).map_err(io::Error::other)?;
        let stop = at + frame.frame_len() as u64;
        let key = |stream: &str| stream_key(header.identity.hash_key, stream);
        index.push_frame(at, stop, key, events.into_iter());
        at = stop;
    }
    let bytes = write_index(&index, header.identity, header.segment_id, DATA_START);
    let name = format!("{:010}-{:020}.idx", header.segment_id, header.first);
    write_file(env, &dir.join(name), &bytes)
}
