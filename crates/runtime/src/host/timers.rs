//! What a shard does at a moment to come.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anabranch_domain::{StreamId, Timestamp};
use anabranch_log::BoxFuture;

use super::item::Input;
use crate::hash::HashMap;
use crate::time::Time;

/// The clock that timers wait for may be set: it is looked at this often at least.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(30);

/// The input that a machine gets when the moment has come; `None`: what it has not been answered is
/// sent again.
type Due = Option<Input>;

/// The timers of one shard.
#[derive(Default)]
pub struct Timers {
    by_time: BTreeMap<(Timestamp, u64), (StreamId, Due)>,
    of: HashMap<StreamId, BTreeSet<(Timestamp, u64)>>,
    count: u64,
    /// For which timer it is, and when it is over.
    pub sleep: Option<(Timestamp, BoxFuture<'static, ()>)>,
}

impl Timers {
    pub fn set(&mut self, stream: &StreamId, at: Timestamp, due: Due) {
        self.count += 1;
        let key = (at, self.count);
        self.by_time.insert(key, (stream.clone(), due));
        self.of.entry(stream.clone()).or_default().insert(key);
    }

    pub fn drop_all(&mut self, stream: &StreamId) {
        for key in self.of.remove(stream).into_iter().flatten() {
            self.by_time.remove(&key);
        }
    }

    /// Sleeps until the first timer.
    pub fn set_alarm(&mut self, time: &Time) {
        let Some((&(at, _), _)) = self.by_time.first_key_value() else {
            self.sleep = None;
            return;
        };
        if self.sleep.as_ref().is_none_or(|(for_, _)| *for_ != at) {
            let wait = at.since(time.now()).min(LOOK_AT_CLOCK);
            self.sleep = Some((at, time.sleep(wait)));
        }
    }

    /// Takes out the first timer whose moment has come.
    pub fn next_due(&mut self, now: Timestamp) -> Option<(StreamId, Due)> {
        let (&key, _) = self.by_time.first_key_value()?;
        if key.0 > now {
            return None;
        }
        let (stream, due) = self.by_time.remove(&key)?;
        if let Some(keys) = self.of.get_mut(&stream) {
            keys.remove(&key);
            if keys.is_empty() {
                self.of.remove(&stream);
            }
        }
        Some((stream, due))
    }
}
