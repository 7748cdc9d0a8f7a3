//! Numbers for people.

use anabranch::model::EventId;

/// A count, in groups of three digits.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.char_indices() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count of bytes, with the largest unit that leaves at least one digit before the point.
pub fn bytes(number: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = number as f64;
    let mut name = "B";
    for unit in units {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        name = unit;
    }
    if name == "B" {
        return format!("{number} B");
    }
    format!("{value:.1} {name}")
}

/// The id of a log, as a UUID.
pub fn log_id(id: u128) -> String {
    EventId::from_u128(id).to_string()
}

/// `1 event`, `2 events`.
pub fn events(number: u64) -> String {
    counted(number, "event")
}

/// A count of things whose name takes an s: `1 segment`, `2 segments`.
pub fn counted(number: u64, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {thing}{plural}", count(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_easy_to_read() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(209_029), "209,029");
        assert_eq!(count(1_000_000), "1,000,000");
        assert_eq!(bytes(1_023), "1023 B");
        assert_eq!(bytes(1_024), "1.0 KiB");
        assert_eq!(bytes(144_703_488), "138.0 MiB");
        assert_eq!(events(1), "1 event");
        assert_eq!(events(2_000), "2,000 events");
    }
}
