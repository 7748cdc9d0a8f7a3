//! Numbers on the command line.

use std::str::FromStr;

/// A whole number that is not negative.
pub fn whole<N: FromStr>(text: &str) -> Result<N, String> {
    let read = || format!("{text:?} is not a whole number such as 0, 1 or 250");
    if text.starts_with('-') {
        return Err(format!("{}; less than 0 there is nothing", read()));
    }
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return text
            .parse()
            .map_err(|_| format!("{text} is too large a number"));
    }
    Err(read())
}

/// A number that is not negative, with a fraction or without.
#[cfg(feature = "bench")]
pub fn number(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Ok(number),
        _ => Err(format!(
            "{text:?} is not a number of 0 or more, such as 2.5"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_whole_number_is_refused_in_words() {
        assert_eq!(whole::<u64>("250"), Ok(250));
        for (text, part) in [
            ("-1", "less than 0"),
            ("ten", "whole number"),
            ("", "whole number"),
            ("1.5", "whole number"),
            ("99999999999999999999999", "too large"),
        ] {
            let error = whole::<u64>(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(
            whole::<u32>("4294967296")
                .unwrap_err()
                .contains("too large")
        );
    }

    #[cfg(feature = "bench")]
    #[test]
    fn what_is_no_number_is_refused_in_words() {
        assert_eq!(number("2.5"), Ok(2.5));
        for text in ["-1", "x", "NaN", "inf", ""] {
            assert!(number(text).is_err(), "{text}");
        }
    }
}
