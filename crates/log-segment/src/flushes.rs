//! How many groups of different partitions are written at a time: where the device takes flushes
//! side by side, many; where it takes them in turn, few, so that those which wait become larger.

use std::io;
use std::time::Duration;

use anabranch_env::Clock;

/// So many at the most, where the device takes them side by side.
pub(crate) const SIDE_BY_SIDE: usize = 16;
/// Where it takes them in turn: one is written, and one that the disk holds up stands aside.
pub(crate) const IN_TURN: usize = 2;
/// So many files are tried together.
pub(crate) const TRIED: usize = 4;
/// So many flushes of each.
const ROUNDS: u32 = 8;

/// How many groups to write at a time, by how long `flush` takes alone and for so many files at once.
/// It is given the number of a file, below `files`.
pub(crate) fn measure(
    clock: &dyn Clock,
    files: usize,
    flush: &(dyn Fn(usize) -> io::Result<()> + Sync),
) -> io::Result<usize> {
    let rounds = |file| (0..ROUNDS).try_for_each(|_| flush(file));
    // What is done first is slower on some devices.
    flush(0)?;
    let begun = clock.monotonic();
    rounds(0)?;
    let between = clock.monotonic();
    std::thread::scope(|scope| {
        let others = (1..files).map(|file| {
            let thread = std::thread::Builder::new();
            thread.spawn_scoped(scope, move || rounds(file))
        });
        let others = others.collect::<io::Result<Vec<_>>>()?;
        rounds(0)?;
        others.into_iter().try_for_each(|thread| {
            let ended = thread.join();
            ended.unwrap_or_else(|_| Err(io::Error::other("trying out the disk panicked")))
        })
    })?;
    let together = clock.monotonic().saturating_sub(between);
    Ok(allowed(between.saturating_sub(begun), together, files))
}

/// So many at a time, where as many flushes take `alone` for one file and `together` for each of
/// several at once.
fn allowed(alone: Duration, together: Duration, files: usize) -> usize {
    let in_turn = alone * u32::try_from(files).unwrap_or(u32::MAX);
    match together * 4 > in_turn * 3 {
        true => IN_TURN,
        false => SIDE_BY_SIDE,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn flushes_that_take_no_longer_together_are_made_side_by_side() {
        let ms = Duration::from_millis;
        assert_eq!(allowed(ms(10), ms(12), 4), SIDE_BY_SIDE);
        assert_eq!(allowed(ms(10), ms(25), 4), SIDE_BY_SIDE);
        assert_eq!(allowed(ms(10), ms(39), 4), IN_TURN);
        assert_eq!(allowed(ms(10), ms(41), 4), IN_TURN);
    }

    /// Goes on by what the flushes say.
    struct Told(AtomicU64);

    impl Clock for Told {
        fn wall_micros(&self) -> u64 {
            0
        }

        fn monotonic(&self) -> Duration {
            Duration::from_micros(self.0.load(Ordering::SeqCst))
        }
    }

    #[test]
    fn a_device_that_takes_one_flush_at_a_time_is_recognised() {
        let clock = Told(AtomicU64::new(0));
        let device = Mutex::new(());
        let flushed = measure(&clock, TRIED, &|_| {
            let _one = device.lock().expect("nobody panics");
            clock.0.fetch_add(100, Ordering::SeqCst);
            Ok(())
        });
        assert_eq!(flushed.expect("no flush fails"), IN_TURN);
    }
}
