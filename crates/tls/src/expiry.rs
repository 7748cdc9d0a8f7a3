//! Until when a certificate is good. Only the dates are read; whether a certificate is to be believed is
//! for the library to say.

/// Tags of DER.
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// When a certificate, as DER, ends: seconds since 1970, UTC. `None` if it says so in no known form.
pub fn not_after(certificate: &[u8]) -> Option<u64> {
    let (whole, _) = inside(certificate, SEQUENCE)?;
    let (signed, _) = inside(whole, SEQUENCE)?;
    let rest = match any(signed)? {
        (VERSION, _, rest) => rest,
        _ => signed,
    };
    // The serial number, the algorithm of the signature, and who has signed.
    let (_, _, rest) = any(rest)?;
    let (_, _, rest) = any(rest)?;
    let (_, _, rest) = any(rest)?;
    let (validity, _) = inside(rest, SEQUENCE)?;
    let (_, _, last) = any(validity)?;
    let (tag, text, _) = any(last)?;
    let text = str::from_utf8(text).ok()?.strip_suffix('Z')?;
    match tag {
        UTC_TIME => {
            let year = number(text.get(..2)?)?;
            // Two digits of a year before 2050, or after 1949.
            seconds(
                if year < 50 { 2000 + year } else { 1900 + year },
                text.get(2..)?,
            )
        }
        GENERALIZED_TIME => seconds(number(text.get(..4)?)?, text.get(4..)?),
        _ => None,
    }
}

/// The first value: its tag, what is in it, and what is behind it.
fn any(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        ..=0x7f => (usize::from(first), rest),
        // So many bytes say how long it is.
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = digits
                .iter()
                .fold(0, |length, digit| length << 8 | usize::from(*digit));
            (length, rest)
        }
        _ => return None,
    };
    let (inside, rest) = rest.split_at_checked(length)?;
    Some((tag, inside, rest))
}

/// What is in the first value, which has this tag, and what is behind it.
fn inside(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, inside, rest) = any(bytes)?;
    (found == tag).then_some((inside, rest))
}

fn number(digits: &str) -> Option<u64> {
    let is_number = digits.bytes().all(|digit| digit.is_ascii_digit());
    is_number.then(|| digits.parse().ok())?
}

/// The seconds since 1970 of a year and `MMDDHHMMSS`.
fn seconds(year: u64, rest: &str) -> Option<u64> {
    let part = |at: usize| number(rest.get(at..at + 2)?);
    let (month, day) = (part(0)?, part(2)?);
    let (hour, minute, second) = (part(4)?, part(6)?, part(8)?);
    let is_date = rest.len() == 10 && (1970..10_000).contains(&year);
    let is_date = is_date && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !is_date {
        return None;
    }
    // Years begin in March here, so that the day that not all have is their last.
    let (year, month) = match month {
        1 | 2 => (year - 1, month + 9),
        _ => (year, month - 3),
    };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    // From March of the year 0 to 1970.
    let days = days.checked_sub(719_468)?;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_since_1970_are_those_of_the_calendar() {
        for (year, rest, expected) in [
            (1970, "0101000000", 0),
            (2000, "0229235959", 951_868_799),
            (2026, "1130165129", 1_796_057_489),
            (2100, "0301000000", 4_107_542_400),
        ] {
            assert_eq!(seconds(year, rest), Some(expected), "{year} {rest}");
        }
        for wrong in ["", "1301000000", "0100000000", "01010000", "0101000000Z"] {
            assert_eq!(seconds(2026, wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_end_of_a_certificate_is_read_from_it_and_what_is_none_has_no_end() {
        for (year, expected) in [(2031, 1_930_435_200), (2051, 2_561_587_200)] {
            let mut parameters = rcgen::CertificateParams::new(["a".to_owned()]).unwrap();
            parameters.not_after = rcgen::date_time_ymd(year, 3, 5);
            let key = rcgen::KeyPair::generate().unwrap();
            let made = parameters.self_signed(&key).unwrap();
            assert_eq!(not_after(made.der()), Some(expected), "{year}");
            for cut in 0..made.der().len() {
                // Neither a panic nor another date.
                assert!(not_after(&made.der()[..cut]).is_none());
            }
        }
    }
}
