//! Taking secrets out of what others are to read: those that are known, and what looks like one.
//!
//! Where it cannot be told how far a secret goes, more is taken out rather than less.

use std::borrow::Cow;
use std::ops::Range;

/// What stands where a secret stood.
const REMOVED: &str = "[removed]";

/// With what a key of a server begins.
const KEY: &str = "ab_";

/// Behind these words, and `=` or `:`, stands what nobody else should know.
const WORDS: [&str; 18] = [
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "api_key",
    "apikey",
    "api-key",
    "access_key",
    "accesskey",
    "credential",
    "anabranch-lease",
    "private_key",
    "privatekey",
    "private-key",
    "authorization",
    "cookie",
];

/// Ways of showing in a header who one is: the secret goes on behind a space.
const SCHEMES: [&str; 7] = [
    "basic",
    "bearer",
    "digest",
    "token",
    "apikey",
    "negotiate",
    "aws4-hmac-sha256",
];

/// Shorter ones stand in other words too.
const SECRET_BYTES_LEAST: usize = 6;

/// Of a secret of several lines each that is as long is one.
const SECRET_LINE_BYTES_LEAST: usize = 16;

/// Takes secrets out of texts.
#[derive(Default)]
pub struct Scrub {
    secrets: Vec<String>,
}

impl Scrub {
    /// Knows another secret.
    pub fn knows(&mut self, secret: &str) {
        let secret = secret.trim();
        if secret.len() < SECRET_BYTES_LEAST {
            return;
        }
        let mut all = vec![secret];
        if secret.contains('\n') {
            let lines = secret.lines().map(str::trim);
            all.extend(lines.filter(|line| line.len() >= SECRET_LINE_BYTES_LEAST));
        }
        for secret in all {
            // As JSON has it, and as JSON within JSON does.
            let escaped = escaped(secret);
            let twice = self::escaped(&escaped);
            for form in [secret.to_owned(), in_url(secret), escaped, twice] {
                if !self.secrets.contains(&form) {
                    self.secrets.push(form);
                }
            }
        }
        // The longest first: one may stand in another.
        self.secrets
            .sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    }

    /// Knows the values of those variables whose names say that they are secret.
    pub fn knows_variables(&mut self, variables: impl Iterator<Item = (String, String)>) {
        for (name, value) in variables {
            let name = name.to_ascii_lowercase();
            if name.ends_with("key") || WORDS.iter().any(|word| name.contains(word)) {
                self.knows(&value);
            }
        }
    }

    /// The text without them.
    pub fn clean(&self, text: &str) -> String {
        let mut text = Cow::Borrowed(text);
        for secret in &self.secrets {
            if text.contains(secret) {
                text = text.replace(secret, REMOVED).into();
            }
        }
        let text = private_keys(&text);
        text.split_inclusive('\n').map(line).collect()
    }
}

fn escaped(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

fn in_url(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(byte.into());
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Without private keys in PEM, which go over several lines.
fn private_keys(text: &str) -> String {
    const BEGIN: &str = "-----BEGIN ";
    const NAME: &str = "PRIVATE KEY-----";
    const END: &str = "-----END ";
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(BEGIN) {
        let (before, key) = rest.split_at(at);
        out.push_str(before);
        let label = &key[BEGIN.len()..];
        let name = label.find("-----").map(|end| &label[..end + 5]);
        if !name.is_some_and(|name| name.ends_with(NAME)) {
            out.push_str(BEGIN);
            rest = label;
            continue;
        }
        out.push_str(REMOVED);
        // Of one that does not end, as much as looks like one is taken.
        let end = key.find(END).and_then(|end| {
            let name = key[end..].find(NAME)?;
            Some(end + name + NAME.len())
        });
        rest = match end {
            Some(end) => &key[end..],
            None => "\n",
        };
    }
    out + rest
}

fn line(text: &str) -> String {
    after_words(&shown(&keys(&user_of_urls(text))))
}

/// Without what stands between `://` and `@`.
fn user_of_urls(text: &str) -> String {
    let mut parts = text.split("://");
    let mut before = parts.next().unwrap_or_default();
    let mut out = before.to_owned();
    for part in parts {
        let ends = |c: char| matches!(c, '"' | '<' | '>' | '\\') || c.is_whitespace();
        let (url, rest) = part.split_at(part.find(ends).unwrap_or(part.len()));
        out.push_str("://");
        let host = match user_end(url, before) {
            Some(at) => {
                out.push_str(REMOVED);
                &url[at..]
            }
            None => url,
        };
        out.push_str(host);
        out.push_str(rest);
        before = part;
    }
    out
}

/// Where in an address, from behind `://`, the `@` behind the user stands.
fn user_end(url: &str, before: &str) -> Option<usize> {
    let authority = url.split(['/', '?', '#']).next().unwrap_or_default();
    let is_http = before.ends_with("http") || before.ends_with("https");
    let behind_colon = authority.split_once(':').map(|(_, behind)| behind);
    let has_password = authority.contains('@')
        || behind_colon.is_some_and(|port| !port.bytes().all(|byte| byte.is_ascii_digit()));
    match (behind_colon, has_password) {
        // A password may have any sign, though it should not.
        (Some(_), true) => url.rfind('@'),
        // What looks like a port may be its beginning. Paths of pages have that sign too.
        (Some(_), false) if !is_http => url.rfind('@'),
        _ => authority.rfind('@'),
    }
}

/// Without keys of servers.
fn keys(text: &str) -> String {
    let is_of_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(KEY) {
        let (before, key) = rest.split_at(at);
        out.push_str(before);
        let end = key.find(|c| !is_of_key(c)).unwrap_or(key.len());
        let is_part = before.ends_with(is_of_key) && !ends_escaped(before);
        let is_key = is_whole_key(&key[..end]) || (end > 20 && !is_part);
        // Another may begin within what is none.
        let end = if is_key { end } else { KEY.len() };
        out.push_str(if is_key { REMOVED } else { KEY });
        rest = &key[end..];
    }
    out + rest
}

/// Whether it is a whole key, whatever stands before it.
fn is_whole_key(text: &str) -> bool {
    let parts = text[KEY.len()..].split_once('_');
    parts.is_some_and(|(id, secret)| !id.is_empty() && !id.contains('-') && secret.len() >= 32)
}

/// Whether the last letters stand for a sign, as `\n`, `\u0022` and `%3D` do.
fn ends_escaped(text: &str) -> bool {
    let behind = |sign: char| text.rsplit_once(sign).map(|(_, behind)| behind);
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    behind('\\').is_some_and(|it| {
        matches!(it, "n" | "r" | "t" | "b" | "f")
            || it
                .strip_prefix('u')
                .is_some_and(|it| it.len() == 4 && is_hex(it))
    }) || behind('%').is_some_and(|it| it.len() == 2 && is_hex(it))
}

/// Without what is shown to servers, behind `Bearer` and `Basic`.
fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((at, length)) = find_one(rest, &["bearer", "basic"]) {
        let (before, behind) = rest.split_at(at + length);
        out.push_str(before);
        let value = behind.replace("%20", "   ");
        let value = value.trim_start_matches([' ', '\t', '+']);
        let skipped = behind.len() - value.len();
        let value = &behind[skipped..];
        let value = value.trim_start_matches(['\\', '"', '\'']);
        let end = value.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '\\'));
        let end = end.unwrap_or(value.len());
        let is_shown = skipped > 0 && end > 0 && (length == 6 || is_basic(&value[..end]));
        out.push_str(&behind[..behind.len() - value.len()]);
        rest = value;
        if is_shown {
            out.push_str(REMOVED);
            rest = &value[end..];
        }
    }
    out + rest
}

/// Whether it is a name and a password with `:` between them, in base64.
fn is_basic(text: &str) -> bool {
    let text = text.split(['=', '%', ',']).next().unwrap_or_default();
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.bytes() {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return false,
        };
        bits = (bits << 6) | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            if (bits >> count) as u8 == b':' {
                return true;
            }
        }
    }
    false
}

/// Without the values of names that say that they are secret.
fn after_words(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((at, length)) = find_one(rest, &WORDS) {
        let (before, behind) = rest.split_at(at + length);
        let Some(value) = value_of(before, behind) else {
            out.push_str(before);
            rest = behind;
            continue;
        };
        let word = before[at..].to_ascii_lowercase();
        let secret = extent(value, &word);
        out.push_str(before);
        out.push_str(&behind[..behind.len() - value.len() + secret.start]);
        out.push_str(match is_plain(&value[secret.clone()]) {
            true => &value[secret.clone()],
            false => REMOVED,
        });
        rest = &value[secret.end..];
    }
    out + rest
}

/// The value that belongs to the name whose secret word has just ended, and all that follows it.
fn value_of<'a>(before: &str, behind: &'a str) -> Option<&'a str> {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let name_end = behind.trim_start_matches(|c| is_of_name(c) || "\"'\\]".contains(c));
    let sign = name_end.trim_start_matches([' ', '\t']);
    let signs = ["=", ":", "%3D", "%3d", "%3A", "%3a"];
    if let Some(value) = signs.iter().find_map(|one| sign.strip_prefix(one)) {
        return Some(value.trim_start_matches(['=', ':', '>', ' ', '\t']));
    }
    let name = before.rfind(|c| !is_of_name(c)).map_or(0, |at| at + 1);
    let is_option = before.get(name..).is_some_and(|it| it.starts_with("--"));
    let is_value = sign.len() < name_end.len() && !sign.starts_with('-');
    (is_option && is_value).then_some(sign)
}

/// Which part of a value, and of all that follows it, is secret.
fn extent(value: &str, word: &str) -> Range<usize> {
    // It may be nested as deep as a text is long.
    const SOME: &str = "Some(";
    let mut inner = value;
    while let Some(inside) = inner.strip_prefix(SOME) {
        inner = inside;
    }
    let before = value.len() - inner.len();
    let inside = extent_within(inner, word);
    inside.start + before..inside.end + before
}

/// The same of one that is in no `Some`.
fn extent_within(value: &str, word: &str) -> Range<usize> {
    let line_end = value.trim_end_matches(['\r', '\n']).len();
    let slashes = value.bytes().take_while(|byte| *byte == b'\\').count();
    if let Some(quote @ (b'"' | b'\'' | b'`')) = value.as_bytes().get(slashes) {
        let start = slashes + 1;
        let end = closing(&value[start..line_end.max(start)], *quote, slashes);
        return start..end.map_or(line_end.max(start), |end| start + end);
    }
    if value.starts_with('[') && !value.starts_with(REMOVED) {
        let inside = value[1..].trim_start_matches(['\\', '"']);
        let start = value.len() - inside.len();
        let end = match start {
            1 => value.find(']'),
            _ => value.find("\"]"),
        };
        let list = &value[start..end.unwrap_or(line_end).max(start)];
        // The names within a table are looked at by themselves.
        return match list.contains('{') {
            true => 1..1,
            false => start..start + list.trim_end_matches('\\').len(),
        };
    }
    let first = value.find(char::is_whitespace).unwrap_or(value.len());
    let scheme = &value[..first];
    let is_scheme = SCHEMES.iter().any(|one| scheme.eq_ignore_ascii_case(one));
    let is_header = word == "cookie" || (word == "authorization" && is_scheme);
    let start = match word == "authorization" && is_header {
        true => line_end.min(value.len() - value[first..].trim_start().len()),
        false => 0,
    };
    let ends = |at: usize, c: char| match c {
        '"' | '\'' => true,
        _ if is_header => false,
        ',' | ';' | '&' | '}' | ')' | ']' => ends_value(&value[at..]),
        _ => c.is_whitespace(),
    };
    let mut all = value[start..line_end].char_indices();
    let end = all.find(|(at, c)| ends(start + at, *c));
    let end = end.map_or(line_end, |(at, _)| start + at);
    // They belong to the quote behind them.
    let end = match value[end..].starts_with(['"', '\'']) {
        true => value[..end].trim_end_matches('\\').len(),
        false => end,
    };
    start..end.max(start)
}

/// Where a text ends that has begun with this quote behind so many backslashes: one that stands in it
/// has more.
fn closing(text: &str, quote: u8, slashes: usize) -> Option<usize> {
    let mut run = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte == quote && run % (2 * (slashes + 1)) == slashes {
            return Some(at - slashes);
        }
        run = if byte == b'\\' { run + 1 } else { 0 };
    }
    None
}

/// Whether a sign that a password may have too ends a value here: something else begins behind it, or
/// nothing does.
fn ends_value(text: &str) -> bool {
    let behind = text.trim_start_matches([',', ';', '&', '}', ')', ']', '.']);
    let name = behind.trim_start_matches(|c: char| c.is_alphanumeric() || "_-.".contains(c));
    behind.is_empty()
        || behind.starts_with(|c: char| c.is_whitespace() || "\"'\\{[".contains(c))
        || (name.len() < behind.len() && name.starts_with(['=', ':']))
}

/// A count or a word of JSON is no secret.
fn is_plain(value: &str) -> bool {
    let is_count = |c: char| c.is_ascii_digit() || matches!(c, ',' | ' ');
    value.chars().all(is_count) || ["null", "true", "false", "None", "{"].contains(&value)
}

/// Where the first of these words of small letters stands, in whatever letters, and its length.
fn find_one(text: &str, words: &[&str]) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    let at_place = |at: usize| {
        let found = words.iter().find(|word| {
            let here = bytes.get(at..at + word.len());
            here.is_some_and(|here| here.eq_ignore_ascii_case(word.as_bytes()))
        });
        found.map(|word| (at, word.len()))
    };
    (0..bytes.len()).find_map(at_place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_taken_out_and_the_rest_stays() {
        let mut scrub = Scrub::default();
        scrub.knows("tops3cret");
        scrub.knows("x");
        let variables = [("STRIPE_API_KEY", "sk_live_1"), ("PGPASSWORD", "elephant")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        scrub.knows_variables(variables.into_iter());
        for (text, clean) in [
            ("a tops3cret b", "a [removed] b"),
            ("sk_live_1 and elephant", "[removed] and [removed]"),
            (
                "postgres://app:hunter2@db/shop?x=1 http://a/b",
                "postgres://[removed]@db/shop?x=1 http://a/b",
            ),
            ("key ab_abcdefghijklmnopqrst_xyz.", "key [removed]."),
            (
                "grab_abcdefghijklmnopqrstuvwxyz",
                "grab_abcdefghijklmnopqrstuvwxyz",
            ),
            (
                "Authorization: Bearer eyJhbGciOi.x.y\n",
                "Authorization: Bearer [removed]\n",
            ),
            (
                r#"{"password":"hunter2","n":1}"#,
                r#"{"password":"[removed]","n":1}"#,
            ),
            (
                "user=app password=hunter2 host=db",
                "user=app password=[removed] host=db",
            ),
            ("client_secret: hunter2, x", "client_secret: [removed], x"),
            ("privateKey=abc x", "privateKey=[removed] x"),
            ("AccessKey: abc", "AccessKey: [removed]"),
            (
                "anabranch-lease: shop:3:0123456789\n",
                "anabranch-lease: [removed]\n",
            ),
            ("tokens: 12", "tokens: 12"),
            (
                "no word about a password here",
                "no word about a password here",
            ),
            ("-----BEGIN PRIVATE KEY-----\n", "[removed]\n"),
            (
                "x\n-----BEGIN EC PRIVATE KEY-----\nMHc\nCAQ\n-----END EC PRIVATE KEY-----\ny",
                "x\n[removed]\ny",
            ),
            (
                "-----BEGIN CERTIFICATE-----\nMHc\n-----END CERTIFICATE-----\n",
                "-----BEGIN CERTIFICATE-----\nMHc\n-----END CERTIFICATE-----\n",
            ),
            ("größe € password=ü", "größe € password=[removed]"),
        ] {
            assert_eq!(scrub.clean(text), clean, "{text}");
        }
    }

    #[test]
    fn a_value_in_quotes_is_taken_out_to_its_end() {
        for (text, clean) in [
            (
                r#"password="correct horse battery" host=db"#,
                r#"password="[removed]" host=db"#,
            ),
            ("pwd: 'a b', x", "pwd: '[removed]', x"),
            (
                r#"{"password":"a\"b c","n":1}"#,
                r#"{"password":"[removed]","n":1}"#,
            ),
            (
                r#"{"line":"{\"api_key\":\"a b\\\"c\",\"n\":1}"}"#,
                r#"{"line":"{\"api_key\":\"[removed]\",\"n\":1}"}"#,
            ),
            (
                r#"password: Some("a b"), x"#,
                r#"password: Some("[removed]"), x"#,
            ),
            (
                r#"{"tokens":["a b","c"],"n":1}"#,
                r#"{"tokens":["[removed]"],"n":1}"#,
            ),
            (r#"{"tokens":[1, 2],"n":1}"#, r#"{"tokens":[1, 2],"n":1}"#),
            (r#"{"token":null,"n":1}"#, r#"{"token":null,"n":1}"#),
            (r#"password="it does not end"#, r#"password="[removed]"#),
            ("password=a,b;c}d host=db", "password=[removed] host=db"),
            ("password=a;Host=db", "password=[removed];Host=db"),
            ("?token=abc&x=1", "?token=[removed]&x=1"),
            ("token%3Dabc x", "token%3D[removed] x"),
            (
                "run --password hunter2 --log x",
                "run --password [removed] --log x",
            ),
            (
                r#"{"says":"password=a b\"c"}"#,
                r#"{"says":"password=[removed] b\"c"}"#,
            ),
        ] {
            assert_eq!(Scrub::default().clean(text), clean, "{text}");
        }
    }

    #[test]
    fn what_is_shown_to_servers_is_taken_out_in_whatever_scheme() {
        for (text, clean) in [
            (
                "Authorization: Basic YXBwOmh1bnRlcjI=\n",
                "Authorization: Basic [removed]\n",
            ),
            (
                "sent Basic YXBwOmh1bnRlcjI= there",
                "sent Basic [removed] there",
            ),
            ("some basic words", "some basic words"),
            ("Bearer  eyJ.x.y z", "Bearer  [removed] z"),
            ("Bearer%20eyJ.x.y z", "Bearer%20[removed] z"),
            (
                "authorization: Digest username=app, response=1\nx",
                "authorization: Digest [removed]\nx",
            ),
            (
                r#"{"h":"{\"Authorization\":\"Basic YXBwOmh1bnRlcjI=\"}"}"#,
                r#"{"h":"{\"Authorization\":\"[removed]\"}"}"#,
            ),
            (
                "curl -H 'Cookie: a=b; c=d' x",
                "curl -H 'Cookie: [removed]' x",
            ),
        ] {
            assert_eq!(Scrub::default().clean(text), clean, "{text}");
        }
    }

    #[test]
    fn a_key_is_taken_out_whatever_stands_before_it() {
        let key = format!("ab_{:012x}_{:064x}", 7, 7);
        let scrub = Scrub::default();
        for before in ["", "\\n", "\\u0022", "%3D", "x", "_", "grab"] {
            let text = format!("{before}{key} z");
            assert_eq!(scrub.clean(&text), format!("{before}[removed] z"), "{text}");
        }
        let text = "says\\nab_abcdefghijklmnopqrst_xyz.";
        assert_eq!(scrub.clean(text), "says\\n[removed].");
    }

    #[test]
    fn a_password_of_an_address_may_have_any_sign() {
        for (text, clean) in [
            ("postgres://app:p/w@db/shop", "postgres://[removed]@db/shop"),
            ("postgres://app:p@w@db/shop", "postgres://[removed]@db/shop"),
            (
                "postgres://app:1/2?3#4@db/shop",
                "postgres://[removed]@db/shop",
            ),
            ("http://app:p/w@db/shop", "http://[removed]@db/shop"),
            ("http://127.0.0.1:7400/x@y", "http://127.0.0.1:7400/x@y"),
            ("https://a/b@c", "https://a/b@c"),
            (
                r#"{"at":"{\"url\":\"redis://:p'w@h\"}"}"#,
                r#"{"at":"{\"url\":\"redis://[removed]@h\"}"}"#,
            ),
        ] {
            assert_eq!(Scrub::default().clean(text), clean, "{text}");
        }
    }

    #[test]
    fn a_secret_that_is_known_is_found_as_json_and_addresses_write_it() {
        let mut scrub = Scrub::default();
        scrub.knows("pass\"wo rd\\");
        for form in [
            r#"pass"wo rd\"#,
            r#"pass\"wo rd\\"#,
            r#"pass\\\"wo rd\\\\"#,
            "pass%22wo%20rd%5C",
        ] {
            assert_eq!(scrub.clean(&format!("a {form} b")), "a [removed] b");
        }
    }

    #[test]
    fn a_value_may_be_nested_as_deep_as_a_text_is_long() {
        let deep = "Some(".repeat(200_000);
        let text = format!("password: {deep}\"a b\"");
        let clean = format!("password: {deep}\"[removed]\"");
        assert!(Scrub::default().clean(&text) == clean);
    }

    #[test]
    fn no_text_makes_it_panic() {
        let signs = [
            "password",
            "=",
            ":",
            "\"",
            "\\",
            "'",
            "ü",
            " ",
            "[",
            "]",
            "Some(",
            "://",
            "@",
            "ab_",
            "Basic ",
            "%20",
            "-----BEGIN ",
            "PRIVATE KEY-----",
            "\n",
            ",",
            "authorization",
        ];
        let mut seed = 7_u64;
        for _ in 0..20_000 {
            let mut text = String::new();
            for _ in 0..8 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                text += signs[(seed >> 33) as usize % signs.len()];
            }
            Scrub::default().clean(&text);
        }
    }
}
