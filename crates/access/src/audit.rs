//! What the audit says: records of which each holds the hash of the one before.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The stream of the audit.
pub const AUDIT_STREAM: &str = "$audit/log";

/// The type of its events.
pub const AUDIT_TYPE: &str = "$Acted";

/// What the hash of a record is made for, so that it is the hash of nothing else.
const HASH_CONTEXT: &str = "anabranch 2026-11 hash of a record of the audit";

/// Before the first record.
const NOTHING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Something that matters to the security of a server: who did what, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Act {
    /// Who, in words.
    pub who: String,
    /// What they did, for example `append` or `POST`.
    pub did: String,
    /// To what: a stream, a path.
    pub about: String,
    /// What came of it: `allowed`, `refused`, or a status.
    pub result: String,
}

/// One record of the audit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditRecord {
    /// Its number, from 1.
    pub number: u64,
    /// When, in microseconds since 1970, UTC.
    pub at: u64,
    /// Who.
    pub who: String,
    /// What they did.
    pub did: String,
    /// To what.
    pub about: String,
    /// What came of it.
    pub result: String,
    /// How many times, at about this time.
    pub times: u64,
    /// The hash of the record before.
    pub before: String,
    /// The hash of this one.
    pub hash: String,
}

/// How far an audit was followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditChain {
    number: u64,
    hash: String,
}

/// The first place where an audit is not as it was written.
#[derive(Clone, PartialEq, Eq, Error)]
#[error("the audit is broken at record {number}: {reason}")]
pub struct AuditBreak {
    /// The number that the record should have.
    pub number: u64,
    /// What is wrong with it.
    pub reason: &'static str,
}

anabranch_model::debug_is_words!(AuditBreak);

impl Default for AuditChain {
    /// Before the first record.
    fn default() -> Self {
        Self {
            number: 0,
            hash: NOTHING.to_owned(),
        }
    }
}

impl AuditChain {
    /// The next record: that this was done so many times, at this time. Nothing of it is known until it is
    /// [followed](Self::follow).
    pub fn next(&self, act: Act, times: u64, at: u64) -> AuditRecord {
        let mut record = AuditRecord {
            number: self.number + 1,
            at,
            who: act.who,
            did: act.did,
            about: act.about,
            result: act.result,
            times,
            before: self.hash.clone(),
            hash: String::new(),
        };
        record.hash = record.hash_of();
        record
    }

    /// Goes on to the next record.
    pub fn follow(&mut self, record: &AuditRecord) -> Result<(), AuditBreak> {
        let number = self.number + 1;
        let broken = |reason| Err(AuditBreak { number, reason });
        if record.hash != record.hash_of() {
            return broken("it was changed after it was written");
        }
        if record.number != number {
            return broken("another one stands there: one was taken out, put in or moved");
        }
        if record.before != self.hash {
            return broken("it was written behind another one than the one before it");
        }
        (self.number, self.hash) = (number, record.hash.clone());
        Ok(())
    }

    /// The same with the data of an event, as the log has it.
    pub fn follow_event(
        &mut self,
        event_type: &str,
        data: &[u8],
    ) -> Result<AuditRecord, AuditBreak> {
        let number = self.number + 1;
        let broken = |reason| AuditBreak { number, reason };
        if event_type != AUDIT_TYPE {
            return Err(broken("it is no record of an audit"));
        }
        let record: AuditRecord =
            serde_json::from_slice(data).map_err(|_| broken("it cannot be read"))?;
        self.follow(&record)?;
        Ok(record)
    }

    /// Where an audit goes on that was followed by others up to this record.
    pub fn behind(record: &AuditRecord) -> Self {
        Self {
            number: record.number,
            hash: record.hash.clone(),
        }
    }

    /// Where an audit goes on whose event of this number, from 1, is no record that could stand there. What
    /// is behind it is a chain of its own; the audit as a whole is broken at that number.
    pub fn behind_break(number: u64) -> Self {
        Self {
            number,
            hash: NOTHING.to_owned(),
        }
    }

    /// How many records were followed.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The hash of the last of them. Who keeps it elsewhere can tell later whether the audit still has that
    /// record, and with it all before.
    pub fn hash(&self) -> &str {
        &self.hash
    }
}

impl AuditRecord {
    fn hash_of(&self) -> String {
        let unsigned = Self {
            hash: String::new(),
            ..self.clone()
        };
        // Numbers and texts can be written as JSON always.
        let bytes = serde_json::to_vec(&unsigned).unwrap_or_default();
        let hash = blake3::derive_key(HASH_CONTEXT, &bytes);
        blake3::Hash::from_bytes(hash).to_hex().to_string()
    }

    /// As the data of an event.
    pub fn data(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(count: u64) -> Vec<AuditRecord> {
        let mut chain = AuditChain::default();
        (1..=count)
            .map(|number| {
                let act = Act {
                    who: format!("caller {number}"),
                    did: "append".to_owned(),
                    about: "$access/1".to_owned(),
                    result: "allowed".to_owned(),
                };
                let record = chain.next(act, 1, 1000 * number);
                chain.follow(&record).unwrap();
                record
            })
            .collect()
    }

    /// The number of the first record that is wrong.
    fn broken_at(records: &[AuditRecord]) -> Option<u64> {
        let mut chain = AuditChain::default();
        let mut all = records.iter();
        let followed = all.try_for_each(|record| {
            let data = record.data();
            chain.follow_event(AUDIT_TYPE, &data).map(|_| ())
        });
        followed.err().map(|broken| broken.number)
    }

    #[test]
    fn an_audit_as_it_was_written_is_whole_and_one_that_was_changed_is_broken_at_the_first_place() {
        let whole = written(9);
        assert_eq!(broken_at(&whole), None);
        for at in 0..whole.len() {
            let number = at as u64 + 1;
            let changes: [fn(&mut AuditRecord); 6] = [
                |record| record.who.push('x'),
                |record| record.at += 1,
                |record| record.times += 1,
                |record| record.result = "refused".to_owned(),
                |record| record.number += 1,
                |record| record.before.replace_range(..1, "x"),
            ];
            for change in changes {
                let mut changed = whole.clone();
                change(&mut changed[at]);
                assert_eq!(broken_at(&changed), Some(number));
                // Also if its own hash is made to fit.
                changed[at].hash = changed[at].hash_of();
                let found = broken_at(&changed);
                let is_last = at + 1 == whole.len();
                assert!(is_last || found == Some(number) || found == Some(number + 1));
            }
            let mut missing = whole.clone();
            missing.remove(at);
            let is_last = at + 1 == whole.len();
            assert_eq!(broken_at(&missing), (!is_last).then_some(number));
            let mut twice = whole.clone();
            twice.insert(at, whole[at].clone());
            assert_eq!(broken_at(&twice), Some(number + 1));
            if !is_last {
                let mut moved = whole.clone();
                moved.swap(at, at + 1);
                assert_eq!(broken_at(&moved), Some(number));
            }
        }
    }

    #[test]
    fn what_is_no_record_breaks_an_audit() {
        let record = written(1).remove(0);
        for (event_type, data) in [
            ("Placed", record.data()),
            (AUDIT_TYPE, b"{}".to_vec()),
            (AUDIT_TYPE, b"\xff".to_vec()),
        ] {
            let broken = AuditChain::default().follow_event(event_type, &data);
            assert_eq!(broken.unwrap_err().number, 1);
        }
        let text = String::from_utf8(record.data()).unwrap();
        let more = text.replacen('{', "{\"more\":1,", 1);
        let broken = AuditChain::default().follow_event(AUDIT_TYPE, more.as_bytes());
        assert_eq!(broken.unwrap_err().number, 1);
    }

    #[test]
    fn an_audit_goes_on_behind_its_last_record() {
        let all = written(3);
        let mut chain = AuditChain::behind(&all[1]);
        assert_eq!(chain.number(), 2);
        chain.follow(&all[2]).unwrap();
        assert_eq!(chain.hash(), all[2].hash);
    }
}
