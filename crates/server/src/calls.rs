//! Calls of RPC: what they are addressed to, and how one is refused before it has come to whoever answers
//! it.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use bytes::{BufMut as _, BytesMut};
use connectrpc::{ConnectError, ErrorCode};

/// What calls of the log are addressed to, and the beginning of their paths.
pub const LOG: &str = "anabranch.log.v1.LogService";
pub const LOG_PATH: &str = "/anabranch.log.v1.LogService/";

/// The same of the registry.
pub const REGISTRY: &str = "anabranch.registry.v1.RegistryService";
pub const REGISTRY_PATH: &str = "/anabranch.registry.v1.RegistryService/";

/// The largest message of the registry, in bytes.
pub const REGISTRY_BYTES_MAX: usize = 512 << 10;

/// The same of the health.
pub const HEALTH: &str = "grpc.health.v1.Health";
pub const HEALTH_PATH: &str = "/grpc.health.v1.Health/";

/// Whether a path is of a call, which is refused in the words of its own protocol.
pub fn is_call(path: &str) -> bool {
    [LOG_PATH, REGISTRY_PATH, HEALTH_PATH]
        .iter()
        .any(|calls| path.starts_with(calls))
}

/// Marks the answer to a call that was refused because of who sends it, however its protocol says so.
#[derive(Debug, Clone, Copy)]
pub struct Refused;

/// A refusal before the call has come to whoever answers calls. Sources: the Connect protocol, "Error
/// end-stream"; gRPC over HTTP/2, "Trailers-Only".
pub fn refuse_call(headers: &HeaderMap, error: &ConnectError) -> Response {
    let mut response = in_its_words(headers, error);
    if let ErrorCode::Unauthenticated | ErrorCode::PermissionDenied | ErrorCode::ResourceExhausted =
        error.code
    {
        response.extensions_mut().insert(Refused);
    }
    response
}

fn in_its_words(headers: &HeaderMap, error: &ConnectError) -> Response {
    let kind = headers.get(header::CONTENT_TYPE);
    let text = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let mut response = if text.starts_with("application/grpc") {
        let mut response = Response::new(Body::empty());
        let headers = response.headers_mut();
        headers.insert("grpc-status", error.code.grpc_code().into());
        let message = percent_encoded(error.message.as_deref().unwrap_or_default());
        if let Ok(message) = HeaderValue::from_str(&message) {
            headers.insert("grpc-message", message);
        }
        response
    } else if text.starts_with("application/connect+") {
        let said = error.to_json();
        let mut end = BytesMut::with_capacity(said.len() + 16);
        let length = said.len() + br#"{"error":}"#.len();
        end.put_u8(END_OF_STREAM);
        end.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        end.put_slice(br#"{"error":"#);
        end.put_slice(&said);
        end.put_slice(b"}");
        Response::new(Body::from(end.freeze()))
    } else {
        let headers = [(header::CONTENT_TYPE, anabranch_wire::JSON)];
        return (error.http_status(), headers, error.to_json()).into_response();
    };
    if let Some(kind) = kind {
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, kind.clone());
    }
    response
}

/// Marks the last message of a stream.
const END_OF_STREAM: u8 = 0b10;

fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
