//! Good answers.

use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use crate::refusal::Refusal;

/// What a handler answers.
pub type Answer = Result<Response, Refusal>;

/// The JSON form of a wire type.
pub fn reply<T: Serialize + ?Sized>(value: &T) -> Answer {
    reply_with(serde_json::to_vec(value).map_err(|error| Refusal::internal(error.to_string()))?)
}

/// The same of a value that is JSON already.
pub fn reply_with(body: Vec<u8>) -> Answer {
    let headers = [
        (header::CONTENT_TYPE, anabranch_wire::JSON),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, body).into_response())
}
