//! What a client would like (RFC 7240): so far, how long it waits for the end of a saga.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};

pub const PREFER: HeaderName = HeaderName::from_static("prefer");
pub const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// The longest that a client waits for the end of a saga. One that asks for more is answered then.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// `Prefer: wait=SECONDS`, if it stands there; zero seconds are none. Of several the first counts,
/// and what cannot be understood is passed over, as that standard says.
pub fn wait(headers: &HeaderMap) -> Option<Duration> {
    let all = headers.get_all(PREFER).iter();
    let all = all.filter_map(|value| value.to_str().ok());
    let mut waits = all.flat_map(|value| value.split(',')).filter_map(|one| {
        let (name, value) = one.split(';').next()?.split_once('=')?;
        let is_wait = name.trim().eq_ignore_ascii_case("wait");
        is_wait.then(|| value.trim().trim_matches('"').parse().ok())
    });
    let wait = Duration::from_secs(waits.next()??);
    (!wait.is_zero()).then_some(wait.min(WAIT_MAX))
}

/// Says that the client was answered when the saga had ended, or when this time was over.
pub fn applied(wait: Duration) -> HeaderValue {
    let text = format!("wait={}", wait.as_secs());
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("wait"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait_of(values: &[&'static str]) -> Option<u64> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(PREFER, HeaderValue::from_static(value));
        }
        wait(&headers).map(|wait| wait.as_secs())
    }

    #[test]
    fn a_time_to_wait_is_read_as_the_standard_writes_it() {
        assert_eq!(wait_of(&["wait=5"]), Some(5));
        assert_eq!(wait_of(&["respond-async, Wait = \"7\"; x=1"]), Some(7));
        assert_eq!(wait_of(&["return=minimal", "wait=2, wait=9"]), Some(2));
        assert_eq!(wait_of(&["wait=86400"]), Some(60));
        for none in ["wait", "wait=", "wait=-1", "wait=soon", "await=5", "wait=0"] {
            assert_eq!(wait_of(&[none]), None, "{none}");
        }
    }
}
