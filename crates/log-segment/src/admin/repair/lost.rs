//! What indexes still tell of lost events.

use std::collections::{BTreeMap, BTreeSet};

use anabranch_env::{Env, OpenMode};
use anabranch_log::OpenError;
use anabranch_model::Position;

use super::loss::{Loss, LostEvent};
use super::survivors::{Found, Piece, length, open};
use crate::admin::layout::Layout;
use crate::admin::verify::decode;
use crate::admin::walk::{Frames, Look};
use crate::index::{SealedIndex, stream_key};

/// Adds to each loss what is known of its events: streams and versions by the indexes that
/// are whole, names of streams by the events that are left.
pub(super) fn tell(
    env: &Env,
    layout: &Layout,
    found: &Found,
    losses: &mut [Loss],
) -> Result<(), OpenError> {
    for path in layout.survey.indexes.values() {
        let Ok(file) = env.disk.open(path, OpenMode::Read) else {
            continue;
        };
        let Ok(index) = SealedIndex::open(file.clone()) else {
            continue;
        };
        let (first, end) = (index.header.first, index.header.end);
        let is_sound = index.header.identity == layout.identity
            && file
                .len()
                .is_ok_and(|bytes| index.check_pages(bytes).is_ok());
        let touched = |loss: &Loss| loss.first.offset < end && first <= loss.last.offset;
        if !is_sound || !losses.iter().any(touched) {
            continue;
        }
        let Ok(versions) = index.versions() else {
            continue;
        };
        for (rel, key, version) in versions {
            let position = Position::at(first + u64::from(rel));
            let loss = losses
                .iter_mut()
                .find(|loss| (loss.first..=loss.last).contains(&position));
            if let Some(loss) = loss {
                loss.known.push(LostEvent {
                    position,
                    stream: None,
                    version,
                    key,
                });
            }
        }
    }
    for loss in losses.iter_mut() {
        loss.known.sort_by_key(|event| event.position);
        loss.known.dedup_by_key(|event| event.position);
    }
    let keys: BTreeSet<u128> = losses
        .iter()
        .flat_map(|l| &l.known)
        .map(|e| e.key)
        .collect();
    if keys.is_empty() {
        return Ok(());
    }
    let names = names(env, layout, found, &keys)?;
    for event in losses.iter_mut().flat_map(|loss| &mut loss.known) {
        event.stream = names.get(&event.key).cloned();
    }
    Ok(())
}

/// The names of these streams, from the events that are left.
fn names(
    env: &Env,
    layout: &Layout,
    found: &Found,
    keys: &BTreeSet<u128>,
) -> Result<BTreeMap<u128, String>, OpenError> {
    let mut names = BTreeMap::new();
    for survivor in found.survivors.iter().filter(|s| !s.is_gone) {
        let file = open(env, &survivor.path)?;
        let length = length(&*file, &survivor.path)?;
        let mut frames = Frames::new(
            &*file,
            survivor.header.segment_id,
            survivor.header.identity.hash_key,
            length,
        );
        for piece in &survivor.pieces {
            let Piece::Frames { start, stop } = piece else {
                continue;
            };
            let mut at = *start;
            while at < *stop
                && names.len() < keys.len()
                && let Look::Frame(header, bytes, _) = frames.look(at)
            {
                at += header.frame_len() as u64;
                for event in decode(&header, header.body(bytes)).unwrap_or_default() {
                    let key = stream_key(layout.identity.hash_key, event.stream);
                    if keys.contains(&key) {
                        names.entry(key).or_insert_with(|| event.stream.to_owned());
                    }
                }
            }
        }
    }
    Ok(names)
}
