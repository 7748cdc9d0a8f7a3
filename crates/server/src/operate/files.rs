use std::io;
use std::sync::Arc;

use anabranch_access::Verb;
use anabranch_wire as wire;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::IntoResponse as _;

use crate::answer::{Answer, reply};
use crate::files::{Files, READ_BYTES_MAX};
use crate::policy::{Needs, Routes};
use crate::read::{Names, Parameters};
use crate::refusal::Refusal;
use crate::shared::Shared;

const FILE: HeaderName = HeaderName::from_static(wire::FILE_HEADER);
const FILE_BYTES: HeaderName = HeaderName::from_static(wire::FILE_BYTES_HEADER);

pub fn routes() -> Routes {
    Routes::default()
        .get("/log/files", Needs::Of(Verb::Admin, "log"), list)
        .get("/log/files/{name}", Needs::Of(Verb::Admin, "log"), read)
}

async fn list(State(shared): State<Shared>) -> Answer {
    reply(&apart(&shared, |files| files.list()).await?)
}

async fn read(
    State(shared): State<Shared>,
    Names(name): Names<String>,
    mut parameters: Parameters,
) -> Answer {
    let handle = parameters.take_number("handle")?;
    let from = parameters.take_number("from")?.unwrap_or(0);
    let length = parameters.take_number("length")?.unwrap_or(READ_BYTES_MAX);
    parameters.finish()?;
    let part = apart(&shared, move |files| {
        files.read(&name, handle, from, length)
    })
    .await?;
    let headers = [
        (header::CONTENT_TYPE, wire::BYTES.to_owned()),
        (header::CACHE_CONTROL, "no-store".to_owned()),
        (FILE, part.handle.to_string()),
        (FILE_BYTES, part.length.to_string()),
    ];
    Ok((headers, part.bytes).into_response())
}

/// Does something with the files on a thread that may wait for the disk.
async fn apart<T: Send + 'static>(
    shared: &Shared,
    what: impl FnOnce(Arc<Files>) -> io::Result<T> + Send + 'static,
) -> Result<T, Refusal> {
    let Some(files) = shared.files.clone() else {
        let what = "the log that is served here has no files in a directory";
        return Err(Refusal::not_found("no-files", what));
    };
    let done = tokio::task::spawn_blocking(move || what(files)).await;
    let done = done.map_err(|error| Refusal::internal(error.to_string()))?;
    done.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            Refusal::not_found("no-file", "the log has no file of this name")
        }
        io::ErrorKind::Other => Refusal::new(StatusCode::GONE, "file-closed", error.to_string()),
        _ => Refusal::internal(format!("the disk says: {error}")),
    })
}
