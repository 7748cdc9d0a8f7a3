//! Taking secrets out of what others are to read: those that are known, and what looks like one.

use std::borrow::Cow;

/// What stands where a secret stood.
const REMOVED: &str = "[removed]";

/// With what a key of a server begins.
const KEY: &str = "ab_";

/// Behind these words, and `=` or `:`, stands what nobody else should know.
const WORDS: [&str; 10] = [
    "password",
    "passwd",
    "pwd",
    "secret",
    "token",
    "api_key",
    "apikey",
    "api-key",
    "credential",
    "private_key",
];

/// Shorter ones stand in other words too.
const SECRET_BYTES_LEAST: usize = 6;

/// Takes secrets out of texts.
#[derive(Default)]
pub struct Scrub {
    secrets: Vec<String>,
}

impl Scrub {
    /// Knows another secret.
    pub fn knows(&mut self, secret: &str) {
        let secret = secret.trim();
        if secret.len() >= SECRET_BYTES_LEAST {
            self.secrets.push(secret.to_owned());
            // The longest first: one may stand in another.
            self.secrets
                .sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        }
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
        text.split_inclusive('\n').map(line).collect()
    }
}

fn line(text: &str) -> String {
    if text.contains("PRIVATE KEY-----") {
        return format!("{REMOVED}\n");
    }
    after_words(&bearer(&keys(&user_of_urls(text))))
}

/// Without what stands between `://` and `@`.
fn user_of_urls(text: &str) -> String {
    let mut parts = text.split("://");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| matches!(c, '/' | '?' | '#' | '"') || c.is_whitespace());
        let (authority, rest) = part.split_at(end.unwrap_or(part.len()));
        out.push_str("://");
        match authority.rsplit_once('@') {
            Some((_, host)) => out.push_str(&format!("{REMOVED}@{host}")),
            None => out.push_str(authority),
        }
        out.push_str(rest);
    }
    out
}

/// Without keys of servers.
fn keys(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(KEY) {
        let (before, key) = rest.split_at(at);
        out.push_str(before);
        let is_of_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let end = key.find(|c| !is_of_key(c)).unwrap_or(key.len());
        let is_part = before.ends_with(is_of_key);
        out.push_str(if end > 20 && !is_part {
            REMOVED
        } else {
            &key[..end]
        });
        rest = &key[end..];
    }
    out + rest
}

/// Without what is shown to servers.
fn bearer(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = find_word(rest, "bearer ") {
        let (before, shown) = rest.split_at(at + "bearer ".len());
        let end = shown.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\''));
        out.push_str(before);
        out.push_str(REMOVED);
        rest = &shown[end.unwrap_or(shown.len())..];
    }
    out + rest
}

/// Without the values of names that say that they are secret.
fn after_words(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    loop {
        let found = WORDS
            .iter()
            .filter_map(|word| Some((find_word(rest, word)?, word.len())));
        let Some((at, length)) = found.min_by_key(|(at, _)| *at) else {
            return out + rest;
        };
        let (before, behind) = rest.split_at(at + length);
        out.push_str(before);
        let sign = behind.trim_start_matches(|c: char| {
            c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '"' | '\'' | '\\')
        });
        let sign = sign.trim_start_matches(' ');
        let Some(value) = sign.strip_prefix(['=', ':']) else {
            rest = behind;
            continue;
        };
        let value = value.trim_start_matches([' ', '"', '\'', '\\']);
        out.push_str(&behind[..behind.len() - value.len()]);
        let end = value.find(|c: char| {
            c.is_whitespace() || matches!(c, '"' | '\'' | ',' | '}' | '&' | ';' | '\\')
        });
        let end = end.unwrap_or(value.len());
        // A count or a word of JSON is no secret.
        let is_plain = value[..end].bytes().all(|b| b.is_ascii_digit())
            || ["null", "true", "false", "[", "{"].contains(&&value[..end]);
        out.push_str(if is_plain { &value[..end] } else { REMOVED });
        rest = &value[end..];
    }
}

/// Where a word of small letters stands, in whatever letters.
fn find_word(text: &str, word: &str) -> Option<usize> {
    let bytes = text.as_bytes().windows(word.len());
    bytes
        .map(|window| window.eq_ignore_ascii_case(word.as_bytes()))
        .position(|is_it| is_it)
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
            ("tokens: 12", "tokens: 12"),
            (
                "no word about a password here",
                "no word about a password here",
            ),
            ("-----BEGIN PRIVATE KEY-----\n", "[removed]\n"),
            ("größe € password=ü", "größe € password=[removed]"),
        ] {
            assert_eq!(scrub.clean(text), clean, "{text}");
        }
    }
}
