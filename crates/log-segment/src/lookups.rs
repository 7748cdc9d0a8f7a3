//! What the writer asks of the past: which ids were written, which heads streams have, and
//! whether anything matches a query.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_log::{Append, AppendError, Condition, Placed, ReadError, Rejection};
use anabranch_model::{EventId, PartitionId, Position, Query};

use crate::group::{Prepared, SealedAnswers};
use crate::index::{Lookup, Term, term_key};
use crate::part::{Part, PartIndex};
use crate::store::Store;
use crate::sync::{lock, read};
use crate::writer::{RETRY_AFTER, Writer};

impl Store {
    /// Where the event with this id stands, of those before position `end`. The newest parts
    /// are asked first.
    pub fn find(&self, id: EventId, end: u64) -> Result<Option<Placed>, ReadError> {
        let wanted = id.as_u128();
        for part in self.parts().iter().rev() {
            let found: Vec<u32> = self.with_index(
                part,
                |active| active.find_id(wanted).into_iter().collect(),
                |sealed| sealed.find_id(wanted),
            )?;
            // A sealed index knows a part of the id's hash only.
            for position in found.into_iter().map(|rel| part.first + u64::from(rel)) {
                if position >= end {
                    continue;
                }
                let stored = self.event_at(position)?;
                if stored.id == id {
                    return Ok(Some(Placed {
                        position: stored.position,
                        version: stored.version,
                    }));
                }
            }
        }
        Ok(None)
    }
}

impl Writer {
    /// Where the event with this id stands; waits for appends of it that are under way.
    pub async fn find(&self, id: EventId) -> Result<Option<Placed>, ReadError> {
        let mut ticket = None;
        loop {
            let pending = self.sequencer().pending_id(id.as_u128());
            let Some(completion) = pending else {
                return self.store.find(id, self.store.published());
            };
            self.drive(1).await;
            let settled = self.in_time(&mut ticket, |cx| completion.poll_settled(cx));
            settled.await.map_err(|reason| ReadError::Io {
                what: format!("finding event {id}"),
                reason: format!("an append of it is under way: {reason}"),
            })?;
        }
    }

    /// Asks the sealed indexes what an append needs to know. Outside the sequencer's lock:
    /// sealed parts do not change.
    pub fn ask_sealed(&self, append: &Append, prepared: &mut Prepared) -> Result<(), AppendError> {
        let unavailable = |error: ReadError| AppendError::Unavailable {
            reason: format!("the index cannot be read: {error}"),
            retry_after: Some(RETRY_AFTER),
        };
        let (generation, unsealed) = lock(&self.sequencer).unsealed();
        let parts = self.store.parts();
        let before = unsealed.first().map_or(u64::MAX, |part| part.first);
        let mut answers = SealedAnswers {
            generation,
            ids: self.written_before(append, &parts, &unsealed)?,
            ..SealedAnswers::default()
        };
        let mut unknown = Vec::new();
        {
            let mut sequencer = lock(&self.sequencer);
            for key in prepared.all_keys(append) {
                match sequencer.heads.get(key) {
                    Some(next) => {
                        answers.heads.insert(key, next.unwrap_or(0));
                    }
                    None => unknown.push(key),
                }
            }
        }
        for &key in &unknown {
            let next = self.store.sealed_head(key, before).map_err(unavailable)?;
            answers.heads.insert(key, next.unwrap_or(0));
        }
        let published = self.store.published();
        for condition in &append.conditions {
            let Condition::NoMatch { query, after } = condition else {
                continue;
            };
            let from = prepared.unmatched_before.max(after.get(PartitionId(0)));
            prepared.matched = self
                .find_match(query, from, published)
                .map_err(unavailable)?;
            if prepared.matched.is_some() {
                break;
            }
        }
        prepared.unmatched_before = prepared.unmatched_before.max(published);
        let mut sequencer = lock(&self.sequencer);
        if sequencer.generation() == generation {
            for &key in &unknown {
                if let Some(&next) = answers.heads.get(&key).filter(|&&next| next > 0) {
                    sequencer.heads.insert(key, next);
                }
            }
            prepared.sealed = Some(answers);
        }
        Ok(())
    }

    /// Where events of the append stand in sealed parts, by their index in the batch.
    fn written_before(
        &self,
        append: &Append,
        parts: &[Arc<Part>],
        unsealed: &[Arc<Part>],
    ) -> Result<BTreeMap<usize, u64>, AppendError> {
        let before = unsealed.first().map_or(u64::MAX, |part| part.first);
        // The event may have been written before, by an append that this one repeats: that must
        // not be answered as "nothing was written".
        let perhaps_written = |error: ReadError| AppendError::Unknown {
            reason: format!("whether its events were written before cannot be read: {error}"),
        };
        // With the range of their ids. A sealed part whose index file cannot be read has
        // its index in memory again, and may hold any.
        let sealed: Vec<_> = parts
            .iter()
            // Not those that began since: what is in them may be taken back.
            .filter(|part| part.first < before)
            .filter(|part| !unsealed.iter().any(|p| Arc::ptr_eq(p, part)))
            .map(|part| match &*read(&part.index) {
                PartIndex::Sealed(index) => (part, index.header.id_min..=index.header.id_max),
                PartIndex::Active(_) => (part, 0..=u128::MAX),
            })
            .collect();
        #[cfg(feature = "sabotage")]
        let forget = self.bug(crate::Bug::ForgetIds);
        #[cfg(not(feature = "sabotage"))]
        let forget = false;
        // Where an index says that an id may be: an index knows a part of its hash only.
        let mut candidates: Vec<(u64, usize)> = Vec::new();
        for (i, event) in append.events.iter().enumerate() {
            let id = event.id.as_u128();
            for (part, range) in sealed.iter().rev() {
                if forget || !range.contains(&id) {
                    continue;
                }
                let found = self
                    .store
                    .with_index(
                        part,
                        |a| a.find_id(id).into_iter().collect(),
                        |s| s.find_id(id),
                    )
                    .map_err(perhaps_written)?;
                let positions = found.into_iter().map(|rel| part.first + u64::from(rel));
                candidates.extend(positions.map(|position| (position, i)));
            }
        }
        candidates.sort_unstable();
        let positions = candidates.iter().map(|&(position, _)| position);
        let mut ids = BTreeMap::new();
        let failed = self.store.look_at(positions, |index, stored| {
            let (position, i) = candidates[index];
            match stored {
                Ok(stored) if stored.id == append.events[i].id => {
                    ids.insert(i, position);
                    None
                }
                Ok(_) => None,
                Err(error) => Some(perhaps_written(error)),
            }
        });
        failed.map_or(Ok(ids), Err)
    }

    /// Position of the first durable event in `from..to` that matches.
    fn find_match(&self, query: &Query, from: u64, to: u64) -> Result<Option<u64>, ReadError> {
        let hash_key = self.store.identity.hash_key;
        for part in self.store.parts().iter() {
            let (low, high) = (part.first.max(from), part.end().min(to));
            if low >= high {
                continue;
            }
            let range =
                (low - part.first) as u32..u32::try_from(high - part.first).unwrap_or(u32::MAX);
            let mut candidates: Vec<u32> = Vec::new();
            for item in &query.items {
                let rels = if let Some(tag) = item.tags.first() {
                    let key = term_key(hash_key, Term::Tag(tag));
                    self.store
                        .lookup_in(part, &Lookup::Terms(vec![key]), &range)?
                } else if item.types.is_empty() {
                    return Ok(Some(low));
                } else {
                    let key =
                        |t: &anabranch_model::EventType| term_key(hash_key, Term::Type(t.as_str()));
                    let keys = item.types.iter().map(key).collect();
                    self.store.lookup_in(part, &Lookup::Terms(keys), &range)?
                };
                candidates.extend(rels);
            }
            candidates.sort_unstable();
            candidates.dedup();
            for rel in candidates {
                let position = part.first + u64::from(rel);
                if (low..high).contains(&position)
                    && query.matches(&self.store.event_at(position)?.as_ref())
                {
                    return Ok(Some(position));
                }
            }
        }
        Ok(None)
    }

    /// The places of events of a batch whose ids were written before, by index in the
    /// batch; refuses ids that were written with another event.
    pub fn confirm_written(
        &self,
        append: &Append,
        found: &[(usize, u64)],
    ) -> Result<Vec<Placed>, AppendError> {
        let mut places = Vec::with_capacity(found.len());
        let offsets = found.iter().map(|&(_, offset)| offset);
        let refused = self.store.look_at(offsets, |index, stored| {
            let (i, offset) = found[index];
            let (event, position) = (&append.events[i], Position::at(offset));
            let id = event.id;
            let stored = match stored {
                Ok(stored) => stored,
                Err(error) => {
                    // It did happen, so it must not be answered that it did not.
                    return Some(AppendError::Unknown {
                        reason: format!(
                            "an event with the id {id} was written before, at {position}, but cannot be read: {error}"
                        ),
                    });
                }
            };
            let same = stored.stream() == event.stream.as_str()
                && stored.event_type() == event.event_type.as_str()
                && stored.schema_version == event.schema_version
                && stored.data() == event.data;
            if !same {
                return Some(Rejection::IdTaken { id, position }.into());
            }
            places.push(Placed {
                position,
                version: stored.version,
            });
            None
        });
        refused.map_or(Ok(places), Err)
    }
}
