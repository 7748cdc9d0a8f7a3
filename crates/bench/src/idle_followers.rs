//! What a thousand followers to whom nothing happens cost.

use std::sync::Arc;
use std::time::Duration;

use anabranch_env::{Disk, Env};
use anabranch_log::{Append, EventStream, Log, ReadMode};
use anabranch_model::Filter;
use serde::Serialize;

use crate::append::sources;
use crate::error::BenchError;
use crate::machine::{Process, resident_bytes_of};
use crate::workload::Workload;

/// How many follow at the same time.
const FOLLOWERS: usize = 1_000;

/// How long one event may take to all of them.
const PATIENCE: Duration = Duration::from_secs(30);

/// Followers that wait for events, all of one client process.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct IdleFollowers {
    /// How many.
    pub followers: usize,
    /// What each takes at the server, in bytes of its memory.
    pub server_bytes_each: Option<f64>,
    /// What each takes at the client, in bytes of its memory.
    pub client_bytes_each: Option<f64>,
}

/// Begins a thousand live reads, lets each get one event, so that all are known to follow, and looks
/// at the memory of the server, process `server`, and of this process.
pub async fn idle_followers(
    log: &Arc<dyn Log>,
    workload: &Workload,
    server: u32,
) -> Result<IdleFollowers, BenchError> {
    let disk = Env::os().disk;
    let before = resident(&*disk, server);
    let head = log.head().await?;
    let mut followers: Vec<_> = (0..FOLLOWERS)
        .map(|_| log.read(&head, Filter::all(), ReadMode::Follow))
        .collect();
    let mut source = sources(workload).next();
    let events = source.as_mut().map_or(Vec::new(), |source| source.batch(1));
    log.append(Append::events(events)).await?;
    for follower in &mut followers {
        one(follower).await?;
    }
    let after = resident(&*disk, server);
    let each = |before: Option<u64>, after: Option<u64>| {
        Some(after?.saturating_sub(before?) as f64 / FOLLOWERS as f64)
    };
    Ok(IdleFollowers {
        followers: FOLLOWERS,
        server_bytes_each: each(before.0, after.0),
        client_bytes_each: each(before.1, after.1),
    })
}

/// The memory of process `server`, and of this one.
fn resident(disk: &dyn Disk, server: u32) -> (Option<u64>, Option<u64>) {
    (
        resident_bytes_of(disk, server),
        Process::now(disk).resident_bytes,
    )
}

#[expect(
    clippy::disallowed_methods,
    reason = "a measurement waits for real time to pass"
)]
async fn one(follower: &mut EventStream) -> Result<(), BenchError> {
    let next = tokio::time::timeout(PATIENCE, follower.next_batch()).await;
    match next {
        Ok(Some(batch)) => Ok(batch.map(drop)?),
        Ok(None) => Err(BenchError::Void("a follower has ended".to_owned())),
        Err(_) => Err(BenchError::Void(format!(
            "a follower got nothing within {} s",
            PATIENCE.as_secs()
        ))),
    }
}
