//! Events of a read as one batch of CloudEvents, for whoever wants them by the page.
//! Source: CloudEvents 1.0.2, "JSON event format" 4.

use anabranch_log::EventStream;
use anabranch_model::{Cut, write_cloud_event};

use crate::reading::{Reader, Sight};
use crate::refusal::Refusal;
use crate::story::is_of;

/// The most events of a page, if nothing is said, and at all.
pub const EVENTS: u64 = 1_000;
pub const EVENTS_MAX: u64 = 10_000;

/// A page ends behind the event with which it has so many bytes.
const BYTES_MAX: usize = 8 << 20;

/// After so many events others are let in between.
const SCANNED: u64 = 1_000;

/// A batch, and the place behind everything that was looked at for it.
pub struct Page {
    pub json: Vec<u8>,
    pub place: Cut,
}

/// The first `count` of the events, or as many as there are.
pub async fn read(
    mut events: EventStream,
    (reader, sight): (&Reader, &Sight),
    (from, until): (Cut, Cut),
    story: Option<&str>,
    count: u64,
) -> Result<Page, Refusal> {
    let damaged =
        |error: anabranch_model::record::RecordError| Refusal::internal(error.to_string());
    let (mut json, mut place) = (b"[".to_vec(), from);
    let (mut given, mut scanned) = (0, 0);
    while given < count && json.len() < BYTES_MAX {
        let Some(event) = events.next().await else {
            place.join(&until);
            break;
        };
        let event = event?;
        place.join(&Cut::including(event.position));
        scanned += 1;
        if scanned % SCANNED == 0 {
            tokio::task::yield_now().await;
        }
        let event = event.as_ref();
        if !reader.sees(sight, &event)? || !is_of(&event, story).map_err(damaged)? {
            continue;
        }
        if given > 0 {
            json.push(b',');
        }
        write_cloud_event(&event, &mut json).map_err(damaged)?;
        given += 1;
    }
    json.push(b']');
    Ok(Page { json, place })
}
