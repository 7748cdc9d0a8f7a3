//! Waiting before something is tried again.

use std::time::Duration;

use anabranch::env::Rng;

/// Waits `delay` and up to half as long again, so that those who failed together do not come
/// back together.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place where the program waits for time to pass"
)]
pub async fn pause(delay: Duration, rng: &dyn Rng) {
    let extra_us = rng.next_u64() % (1 + delay.as_micros() as u64 / 2);
    tokio::time::sleep(delay + Duration::from_micros(extra_us)).await;
}
