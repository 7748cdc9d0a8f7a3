//! Whether clocks agree.

use std::time::Duration;

use super::check::Check;

/// Nobody has set a clock that says less: 2024-01-01, in microseconds.
const LEAST: u64 = 1_704_067_200_000_000;

/// By how much two clocks may differ without a word, and without a fault.
const APART: Duration = Duration::from_secs(2);
const FAR_APART: Duration = Duration::from_secs(60);

const SET: &str = "let the machine keep its clock right (chrony or systemd-timesyncd; `timedatectl` says how it is)";

/// Of a clock, beside the time that the newest event has, both in microseconds since 1970.
pub fn beside_newest(now: u64, newest: Option<u64>) -> Check {
    if now < LEAST {
        return Check::fault("clock", "this machine's clock was never set", SET);
    }
    let Some(newest) = newest else {
        return Check::ok("clock", "this machine's clock is set");
    };
    let ahead = Duration::from_micros(newest.saturating_sub(now));
    if ahead <= APART {
        return Check::ok("clock", "no event is newer than this machine's clock");
    }
    let what = format!(
        "the newest event is {} s ahead of this machine's clock: one of two clocks was wrong",
        ahead.as_secs()
    );
    match ahead > FAR_APART {
        true => Check::fault("clock", what, SET),
        false => Check::warning("clock", what, SET),
    }
}

/// Of a clock, beside that of another machine, which said so by HTTP.
pub fn beside_other(now: u64, said: &str, whose: &str) -> Option<Check> {
    let other = http_date(said)? * 1_000_000;
    // It has told whole seconds.
    let apart = Duration::from_micros(now.abs_diff(other)).saturating_sub(Duration::from_secs(1));
    if apart <= APART {
        let what = format!("the clock of {whose} says the same as this machine's");
        return Some(Check::ok("clock", what));
    }
    let what = format!(
        "the clock of {whose} and this machine's are {} s apart",
        apart.as_secs()
    );
    Some(match apart > FAR_APART {
        true => Check::fault("clock", what, SET),
        false => Check::warning("clock", what, SET),
    })
}

/// Seconds since 1970 of `Sun, 06 Nov 1994 08:49:37 GMT`. Source: RFC 9110, 5.6.7.
fn http_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let rest = text.split_once(", ")?.1.strip_suffix(" GMT")?;
    let mut words = rest.split(' ');
    let day: u64 = words.next()?.parse().ok()?;
    let month = words.next()?;
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let year: u64 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.split(':');
    let mut next = || clock.next()?.parse::<u64>().ok();
    let (hours, minutes, seconds) = (next()?, next()?, next()?);
    // Days since 1970 in the Gregorian calendar, in years that begin in March.
    let years = year.checked_sub(u64::from(month <= 2))?;
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days =
        (years * 365 + years / 4 - years / 100 + years / 400 + of_year).checked_sub(719_468)?;
    Some(days * 86_400 + hours * 3_600 + minutes * 60 + seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::check::State;

    const NOW: u64 = 1_800_000_000_000_000;

    #[test]
    fn dates_of_http_are_read() {
        assert_eq!(
            http_date("Sun, 06 Nov 1994 08:49:37 GMT"),
            Some(784_111_777)
        );
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(
            http_date("Tue, 29 Feb 2000 23:59:59 GMT"),
            Some(951_868_799)
        );
        for wrong in [
            "",
            "now",
            "Sun, 06 Foo 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994",
        ] {
            assert_eq!(http_date(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_event_from_the_future_says_that_a_clock_is_wrong() {
        let state = |newest| beside_newest(NOW, newest).state;
        assert_eq!(state(None), State::Ok);
        assert_eq!(state(Some(NOW - 1)), State::Ok);
        assert_eq!(state(Some(NOW + 10_000_000)), State::Warning);
        assert_eq!(state(Some(NOW + 3_600_000_000)), State::Fault);
        assert_eq!(beside_newest(5, None).state, State::Fault);
    }

    #[test]
    fn clocks_that_are_an_hour_apart_are_a_fault() {
        let state = |said: &str| beside_other(784_111_777_900_000, said, "x").map(|c| c.state);
        assert_eq!(state("Sun, 06 Nov 1994 08:49:37 GMT"), Some(State::Ok));
        assert_eq!(state("Sun, 06 Nov 1994 08:49:50 GMT"), Some(State::Warning));
        assert_eq!(state("Sun, 06 Nov 1994 07:49:37 GMT"), Some(State::Fault));
        assert_eq!(state("soon"), None);
    }
}
