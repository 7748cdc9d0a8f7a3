//! How often each caller may ask, so that one who asks without end leaves room for others.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The most requests of one caller in a second, if nothing is said. More than one program sends that does
/// something with what is answered.
pub const REQUESTS_A_SECOND: u32 = 20_000;

/// Who was quiet for so long may ask for as much at once.
const BURST: Duration = Duration::from_secs(1);

/// The most callers that are remembered.
const CALLERS_MAX: usize = 10_000;

/// Requests of each caller, over time.
pub struct Rates<K> {
    /// How much time one request takes up.
    each: Duration,
    taken: Mutex<Taken<K>>,
}

struct Taken<K> {
    /// For each caller the moment up to which the time is taken up.
    until: BTreeMap<K, Duration>,
    /// When those were forgotten last that had been quiet.
    swept_at: Option<Duration>,
}

impl<K: Ord> Rates<K> {
    /// So many requests a second for each caller; at least one.
    pub fn new(requests_a_second: u32) -> Self {
        Self {
            each: Duration::from_secs(1) / requests_a_second.max(1),
            taken: Mutex::new(Taken {
                until: BTreeMap::new(),
                swept_at: None,
            }),
        }
    }

    /// Whether this caller may ask at this time of the monotonic clock; if not, how long to wait.
    pub fn take<Q>(&self, caller: &Q, now: Duration) -> Result<(), Duration>
    where
        K: Borrow<Q>,
        Q: Ord + ToOwned<Owned = K> + ?Sized,
    {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = taken.until.get_mut(caller) {
            let from = now.max(*until);
            if let Some(wait) = self.wait(from - now) {
                return Err(wait);
            }
            *until = from + self.each;
            return Ok(());
        }
        // To look through all of them takes longer than a request may.
        let is_due = |swept: Duration| now.saturating_sub(swept) >= BURST;
        if taken.until.len() >= CALLERS_MAX && taken.swept_at.is_none_or(is_due) {
            taken.until.retain(|_, until| *until > now);
            taken.swept_at = Some(now);
        }
        if taken.until.len() < CALLERS_MAX {
            taken.until.insert(caller.to_owned(), now + self.each);
        }
        Ok(())
    }

    /// How long this caller would have to wait, if it has asked too often. It counts for nothing.
    pub fn is_over<Q>(&self, caller: &Q, now: Duration) -> Option<Duration>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let until = taken.until.get(caller)?;
        self.wait(until.saturating_sub(now))
    }

    /// How long to wait who has taken up the time so far ahead.
    fn wait(&self, ahead: Duration) -> Option<Duration> {
        (ahead >= BURST).then(|| ahead - BURST + self.each)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(rates: &Rates<String>, caller: &str, count: usize, now: Duration) -> usize {
        let answers = (0..count).map(|_| rates.take(caller, now));
        answers.filter(Result::is_ok).count()
    }

    #[test]
    fn each_caller_may_ask_so_often_in_a_second_whatever_others_do() {
        let rates = Rates::new(10);
        let second = Duration::from_secs(1);
        assert_eq!(asked(&rates, "a", 100, second), 10);
        assert_eq!(asked(&rates, "b", 7, second), 7);
        assert_eq!(rates.is_over("b", second), None);
        let wait = rates.take("a", second).unwrap_err();
        assert_eq!(rates.is_over("a", second), Some(wait));
        assert_eq!(rates.take("a", second + wait), Ok(()));
        assert!(rates.take("a", second + wait).is_err());
        assert_eq!(asked(&rates, "a", 100, second * 10), 10);
        assert_eq!(asked(&rates, "b", 100, second * 10), 10);
    }

    #[test]
    fn callers_that_are_quiet_are_forgotten_and_their_number_is_bounded() {
        let rates = Rates::new(10);
        for number in 0..2 * CALLERS_MAX {
            assert_eq!(
                rates.take(number.to_string().as_str(), Duration::ZERO),
                Ok(())
            );
        }
        assert_eq!(rates.taken.lock().unwrap().until.len(), CALLERS_MAX);
        rates.take("late", Duration::from_secs(1)).unwrap();
        assert_eq!(rates.taken.lock().unwrap().until.len(), 1);
    }
}
