//! `POST /commands/{category}/{key}`.

use std::time::Duration;

use anabranch_domain::{CommandEnvelope, CommandId, Json, Role, StreamId};
use anabranch_log::Expect;
use anabranch_model::content_hash;
use anabranch_runtime::{Accepted, Delivered, SendError, Service};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::problem::Problem;
use crate::read::{Content, Parameters, Stream, duration};
use crate::server::Shared;
use crate::token::{TOKEN_HEADER, header_of, session_of};

/// The longest text that names a command.
const KEY_CHARS_MAX: usize = 1024;

/// The longest time that a command may take.
const TIMEOUT_MAX: Duration = Duration::from_secs(60);

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

pub fn routes() -> Router<Shared> {
    Router::new().route("/commands/{category}/{*key}", post(send))
}

async fn send(
    State(shared): State<Shared>,
    Stream(stream): Stream,
    mut parameters: Parameters,
    headers: HeaderMap,
    content: Content,
) -> Result<Response, Problem> {
    let timeout = parameters.take("timeout");
    let timeout = timeout.map(|text| duration("timeout", &text, TIMEOUT_MAX));
    let timeout = timeout.transpose()?;
    let (name, data) = named(parameters.take("type"), &content)?;
    parameters.finish()?;
    let expect = expected(&headers)?;
    let id = id_of(&shared, &headers)?;
    let mut session = session_of(&shared, &headers).await?;
    let owner = owner(&shared, stream.category())?;
    let envelope = CommandEnvelope {
        id,
        to: stream.clone(),
        name,
        data,
        role: Role::Plain,
        reply_to: None,
        correlation_id: None,
        causes: session.deps().clone(),
    };
    let Ok(entity) = owner.any_entity(stream.category()) else {
        return to_saga(&owner, envelope, expect).await;
    };
    let known = entity.commands();
    if !known.is_empty() && !known.contains(&envelope.name.as_str()) {
        return Err(Problem::bad_request(
            "unknown-command",
            format!(
                "category {} has no command {:?}; known: {}",
                stream.category(),
                envelope.name,
                known.join(", ")
            ),
        ));
    }
    let sent = entity.dispatch_expecting(envelope, timeout, expect).await;
    let accepted = sent.map_err(|error| Problem::from(error).with("command", id.to_string()))?;
    session.wrote(&accepted.token);
    let token = header_of(&shared, &session)?;
    let body = serde_json::to_string(&Done::of(&stream, id, &accepted)?)
        .map_err(|error| Problem::internal(error.to_string()))?;
    let mut response = ([(header::CONTENT_TYPE, "application/json")], body).into_response();
    response.headers_mut().insert(TOKEN_HEADER, token);
    if let Some(version) = accepted.version
        && let Ok(etag) = format!("\"{version}\"").parse()
    {
        response.headers_mut().insert(header::ETAG, etag);
    }
    Ok(response)
}

/// Commands to sagas are taken, and done later.
async fn to_saga(
    owner: &Service,
    envelope: CommandEnvelope,
    expect: Option<Expect>,
) -> Result<Response, Problem> {
    if expect.is_some() {
        return Err(Problem::bad_request(
            "bad-condition",
            "a saga takes no expected version",
        ));
    }
    let (id, stream) = (envelope.id, envelope.to.clone());
    match owner.deliver(envelope).await? {
        Delivered::Taken => {
            let body = json!({"stream": stream, "command": id, "taken": true}).to_string();
            let content_type = [(header::CONTENT_TYPE, "application/json")];
            Ok((StatusCode::ACCEPTED, content_type, body).into_response())
        }
        Delivered::Done(_) => Err(Problem::internal("an entity answered for a saga")),
    }
}

/// What has become of a command.
#[derive(Serialize)]
struct Done<'a> {
    stream: &'a StreamId,
    command: CommandId,
    version: Option<u64>,
    repeated: bool,
    events: Vec<Event<'a>>,
}

#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    name: &'a str,
    schema_version: u32,
    version: u64,
    position: anabranch_model::Position,
    data: Json,
}

impl<'a> Done<'a> {
    fn of(stream: &'a StreamId, id: CommandId, accepted: &'a Accepted) -> Result<Self, Problem> {
        let events = accepted.events.iter().map(|event| {
            Ok(Event {
                name: event.event_type.as_str(),
                schema_version: event.schema_version,
                version: event.place.version,
                position: event.place.position,
                data: Json::from_slice(&event.data)
                    .map_err(|error| Problem::internal(error.to_string()))?,
            })
        });
        Ok(Self {
            stream,
            command: id,
            version: accepted.version,
            repeated: accepted.repeated,
            events: events.collect::<Result<_, Problem>>()?,
        })
    }
}

/// The command's type and data: the type in the address and the data as the body, or both in
/// the body.
fn named(name: Option<String>, content: &Content) -> Result<(String, Json), Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Both {
        #[serde(rename = "type")]
        name: String,
        data: Option<Json>,
    }
    let body = content.json()?;
    let nothing = || Json::new("{}").map_err(|error| Problem::internal(error.to_string()));
    match (name, body) {
        (Some(name), Some(data)) => Ok((name, data)),
        (Some(name), None) => Ok((name, nothing()?)),
        (None, Some(both)) => {
            let both: Both = both.parse().map_err(|error| {
                Problem::bad_request(
                    "bad-command",
                    format!(
                        "without ?type=… the body is {{\"type\":…,\"data\":…}}; it is not: {error}"
                    ),
                )
            })?;
            Ok((both.name, both.data.map_or_else(nothing, Ok)?))
        }
        (None, None) => Err(Problem::bad_request(
            "bad-command",
            "there is no command: name its type with ?type=… and send its data as the body",
        )),
    }
}

/// `If-Match: "5"`, `If-Match: *` or `If-None-Match: *`.
fn expected(headers: &HeaderMap) -> Result<Option<Expect>, Problem> {
    let wrong = |name: &HeaderName, what: &str| {
        Err(Problem::bad_request(
            "bad-condition",
            format!("{name}: {what}"),
        ))
    };
    let (some, none) = (
        headers.get(header::IF_MATCH),
        headers.get(header::IF_NONE_MATCH),
    );
    match (some, none) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => wrong(&header::IF_MATCH, "give either If-Match or If-None-Match"),
        (None, Some(value)) => match value.as_bytes() {
            b"*" => Ok(Some(Expect::Empty)),
            _ => wrong(&header::IF_NONE_MATCH, "only * is known: no events yet"),
        },
        (Some(value), None) => {
            let text = value.to_str().unwrap_or_default().trim();
            let bare = text.trim_start_matches("W/").trim_matches('"');
            match (bare, bare.parse()) {
                ("*", _) => Ok(Some(Expect::Exists)),
                (_, Ok(version)) => Ok(Some(Expect::At(version))),
                _ => wrong(
                    &header::IF_MATCH,
                    "write the version of the entity's last event, as \"5\", or *",
                ),
            }
        }
    }
}

/// The id of the command: the UUID that the client gave, one that follows from the text that
/// it gave, or a new one.
fn id_of(shared: &Shared, headers: &HeaderMap) -> Result<CommandId, Problem> {
    let Some(key) = headers.get(IDEMPOTENCY_KEY) else {
        let now_ms = shared.time.now().micros() / 1000;
        return Ok(CommandId::v7(now_ms, shared.time.random()));
    };
    let bytes = key.as_bytes();
    if bytes.is_empty() || bytes.len() > KEY_CHARS_MAX {
        return Err(Problem::bad_request(
            "bad-idempotency-key",
            format!("Idempotency-Key: 1 to {KEY_CHARS_MAX} characters"),
        ));
    }
    // Quotes are how structured headers write a text; they are no part of it.
    let text = bytes
        .strip_prefix(b"\"")
        .and_then(|b| b.strip_suffix(b"\""));
    let text = text.unwrap_or(bytes);
    let uuid = std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok());
    Ok(uuid.unwrap_or_else(|| CommandId::from_u128(content_hash([&b"idempotency-key"[..], text]))))
}

/// The service that owns a category, if it is here.
pub fn owner(shared: &Shared, category: &str) -> Result<std::sync::Arc<Service>, Problem> {
    match (shared.fleet.owner(category), shared.fleet.home_of(category)) {
        (Ok(owner), _) => Ok(owner),
        (Err(error), Some(_)) => Err(error.into()),
        (Err(SendError::Unavailable { .. }), None) => {
            let services = shared.fleet.services();
            let mut known: Vec<_> = services
                .iter()
                .flat_map(|service| {
                    service
                        .categories()
                        .chain(service.flows().map(|(name, _)| name))
                })
                .collect();
            known.sort_unstable();
            Err(Problem::not_found(
                "unknown-category",
                format!(
                    "no service has category {category:?}; known: {}",
                    known.join(", ")
                ),
            ))
        }
        (Err(error), None) => Err(error.into()),
    }
}
