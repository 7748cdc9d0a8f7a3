//! Whether bytes are JSON that every reader of the log can read.

use thiserror::Error;

/// The deepest nesting of JSON that common parsers read.
pub const JSON_DEPTH_MAX: usize = 127;

/// Why bytes are not JSON, or JSON that common parsers refuse.
#[derive(Clone, Copy, PartialEq, Eq, Error)]
#[error("{reason} at byte {at}")]
pub struct JsonTextError {
    /// Where, in bytes from 0.
    pub at: usize,
    /// What is wrong there.
    pub reason: &'static str,
}

crate::debug_is_words!(JsonTextError);

/// Checks that `data` is one JSON value, in UTF-8, that common parsers read: nested at most
/// [`JSON_DEPTH_MAX`] deep. White space may stand around it. Source: RFC 8259.
pub fn check_json(data: &[u8]) -> Result<(), JsonTextError> {
    if let Err(error) = std::str::from_utf8(data) {
        let at = error.valid_up_to();
        return Err(JsonTextError {
            at,
            reason: "bytes that are not UTF-8",
        });
    }
    Scan { data, at: 0 }.one_value()
}

struct Scan<'a> {
    data: &'a [u8],
    at: usize,
}

type Checked = Result<(), JsonTextError>;

impl Scan<'_> {
    fn wrong(&self, reason: &'static str) -> Checked {
        let at = self.at;
        Err(JsonTextError { at, reason })
    }

    /// What is wrong where no value, name or sign stands that could.
    fn unexpected(&self, reason: &'static str) -> Checked {
        match self.peek() {
            None => self.wrong("the JSON ends early"),
            Some(_) => self.wrong(reason),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.data.get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn one_value(&mut self) -> Checked {
        // One bit for each level: whether it is an object.
        let (mut objects, mut depth) = (0u128, 0usize);
        loop {
            self.space();
            match self.peek() {
                Some(open @ (b'{' | b'[')) => {
                    if depth == JSON_DEPTH_MAX {
                        return self
                            .wrong("nesting deeper than 127 levels, which most parsers refuse");
                    }
                    objects = objects << 1 | u128::from(open == b'{');
                    depth += 1;
                    self.at += 1;
                    self.space();
                    match (open, self.peek()) {
                        (b'{', Some(b'}')) | (b'[', Some(b']')) => {}
                        (b'{', _) => {
                            self.name()?;
                            continue;
                        }
                        _ => continue,
                    }
                }
                _ => self.simple_value()?,
            }
            // Behind a value, or before the end of an empty object or array.
            loop {
                self.space();
                if depth == 0 {
                    return match self.peek() {
                        None => Ok(()),
                        Some(_) => self.wrong("more than one JSON value"),
                    };
                }
                match (objects & 1 == 1, self.peek()) {
                    (true, Some(b'}')) | (false, Some(b']')) => {
                        self.at += 1;
                        objects >>= 1;
                        depth -= 1;
                    }
                    (is_object, Some(b',')) => {
                        self.at += 1;
                        if is_object {
                            self.space();
                            self.name()?;
                        }
                        break;
                    }
                    (true, _) => return self.unexpected("neither , nor }"),
                    (false, _) => return self.unexpected("neither , nor ]"),
                }
            }
        }
    }

    /// A name and the colon behind it.
    fn name(&mut self) -> Checked {
        if self.peek() != Some(b'"') {
            return self.unexpected("not a name in quotes");
        }
        self.text()?;
        self.space();
        if self.peek() != Some(b':') {
            return self.unexpected("no colon behind a name");
        }
        self.at += 1;
        Ok(())
    }

    fn simple_value(&mut self) -> Checked {
        match self.peek() {
            Some(b'"') => self.text(),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.unexpected("not a JSON value"),
        }
    }

    fn word(&mut self, word: &[u8]) -> Checked {
        if !self.data[self.at..].starts_with(word) {
            return self.wrong("not a JSON value");
        }
        self.at += word.len();
        Ok(())
    }

    fn text(&mut self) -> Checked {
        self.at += 1;
        loop {
            self.plain_run();
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                Some(0..0x20) => return self.wrong("a control character in a text"),
                Some(_) => self.at += 1,
                None => return self.wrong("the JSON ends early"),
            }
        }
    }

    /// Passes over what ends no text, many bytes at once: most of what is checked.
    fn plain_run(&mut self) {
        // Without a branch for each byte, so that the compiler compares many at once.
        while let Some(many) = self.data[self.at..].first_chunk::<32>() {
            let found = many.iter().fold(0, |found, &byte| {
                found | u8::from(byte == b'"') | u8::from(byte == b'\\') | u8::from(byte < 0x20)
            });
            if found != 0 {
                break;
            }
            self.at += many.len();
        }
        const ONES: u64 = u64::MAX / 255;
        const HIGH: u64 = ONES << 7;
        // The high bit of each byte that is zero; bits above the first may be wrong.
        let zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
        while let Some(&eight) = self.data[self.at..].first_chunk::<8>() {
            let word = u64::from_le_bytes(eight);
            let quotes = zero(word ^ (ONES * u64::from(b'"')));
            let backslashes = zero(word ^ (ONES * u64::from(b'\\')));
            let controls = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
            let found = quotes | backslashes | controls;
            self.at += (found.trailing_zeros() / 8) as usize;
            if found != 0 {
                return;
            }
        }
    }

    fn escape(&mut self) -> Checked {
        match self.data.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => {
                let digits = self.data.get(self.at + 2..self.at + 6);
                if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                    return self.wrong("no four hexadecimal digits");
                }
                self.at += 6;
            }
            _ => return self.wrong("an escape that JSON does not have"),
        }
        Ok(())
    }

    fn number(&mut self) -> Checked {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Checked {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start {
            return self.unexpected("not a digit");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_common_parsers_read_is_json() {
        let deep = [vec![b'['; 127], vec![b']'; 127]].concat();
        let good: [&[u8]; 16] = [
            b"{}",
            b"[]",
            b" null\n",
            b"true",
            b"false",
            b"0",
            b"-0.5e-400",
            b"1e308",
            br#""""#,
            br#"{"a":[1,{"b":null}],"a":2}"#,
            br#""\ud83d\ude00\u0000""#,
            "\"größe und mehr\"".as_bytes(),
            b"[1 , 2]",
            br#"{ "a" : 1 }"#,
            br#""0123456\"89abcdef""#,
            &deep,
        ];
        for text in good {
            assert_eq!(check_json(text), Ok(()), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn what_common_parsers_refuse_is_not() {
        let deep = [vec![b'['; 128], vec![b']'; 128]].concat();
        let bad: [(&[u8], usize); 21] = [
            (b"", 0),
            (b" ", 1),
            (b"nul", 0),
            (b"{", 1),
            (b"{}x", 2),
            (b"1 2", 2),
            (b"01", 1),
            (b"1.", 2),
            (b"-", 1),
            (b"1e", 2),
            (b"[1,]", 3),
            (br#"{"a":1,}"#, 7),
            (br#"{"a"}"#, 4),
            (br#"{1:2}"#, 1),
            (b"[1}", 2),
            (b"\"\xff\"", 1),
            (b"\"a\nb\"", 2),
            (br#""\x""#, 1),
            (br#""\u12g4""#, 1),
            (b"\xef\xbb\xbf{}", 0),
            (&deep, 127),
        ];
        for (text, at) in bad {
            let found = check_json(text).map_err(|error| error.at);
            assert_eq!(found, Err(at), "{}", text.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_serde_json(text in r#"[\[\]{}:,"\\u0-9a-fntrlse.+\- eE]{0,24}"#) {
            let ours = check_json(text.as_bytes());
            let theirs = serde_json::from_str::<serde_json::Value>(&text);
            let theirs = theirs.map_err(|error| error.to_string());
            // Values that are JSON, and that Rust has no type for.
            prop_assume!(!theirs.as_ref().is_err_and(|e| e.contains("out of range") || e.contains("surrogate") || e.contains("hex escape")));
            prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{:?}: {:?}, {:?}", text, ours, theirs);
        }

        #[test]
        fn every_value_that_serde_json_writes_is_json(texts in prop::collection::vec(".*", 0..8), number: f64) {
            let value = serde_json::json!({ "texts": texts, "number": number });
            prop_assert_eq!(check_json(value.to_string().as_bytes()), Ok(()));
        }
    }
}
