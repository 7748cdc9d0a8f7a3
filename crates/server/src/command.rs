//! `POST /commands/{category}/{key}`.

use std::time::Duration;

use anabranch_access::Verb;
use anabranch_domain::{CommandEnvelope, CommandId, Json, Role, StreamId};
use anabranch_log::Expect;
use anabranch_model::{Cut, Session, content_hash};
use anabranch_runtime::port::{Dispatch, Port, Subject};
use anabranch_runtime::{Accepted, Causes, Delivered, SendError, Service};
use anabranch_wire::{CommandBody, CommandOutcome, IDEMPOTENCY_KEY as IDEMPOTENCY_KEY_NAME};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};

use crate::answer::{Answer, reply};
use crate::causes;
use crate::convert;
use crate::owner::{Reached, reach};
use crate::policy::{Needs, Routes};
use crate::prefer;
use crate::read::{Content, Parameters, Stream, duration, one};
use crate::refusal::{Refusal, TOKEN_HEADER};
use crate::saga_end;
use crate::session::{header_of, session_of, was_told};
use crate::shared::Shared;

/// The longest text that names a command.
const KEY_CHARS_MAX: usize = 1024;

/// The longest time that a command may take.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(60);

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static(IDEMPOTENCY_KEY_NAME);

pub fn routes() -> Routes {
    let needs = Needs::Path(Verb::Command, "category");
    Routes::default().post("/commands/{category}/{*key}", needs, send)
}

async fn send(
    State(shared): State<Shared>,
    Stream(stream): Stream,
    mut parameters: Parameters,
    headers: HeaderMap,
    content: Content,
) -> Answer {
    let timeout = parameters.take("timeout")?;
    let timeout = timeout.map(|text| duration("timeout", &text, TIMEOUT_MAX));
    let timeout = timeout.transpose()?;
    let (name, data) = named(parameters.take("type")?, &content)?;
    parameters.finish()?;
    let expect = expected(&headers)?;
    let id = id_of(&shared, &headers)?;
    let wait = prefer::wait(&headers);
    let session = session_of(&shared, &headers).await?;
    let named = causes::named(&shared, &headers).await?;
    let reached = reach(&shared, Subject::Category(stream.category()))?;
    let causes = depends(&reached, stream.category(), named, &session);
    let envelope = CommandEnvelope {
        id,
        to: stream.clone(),
        name,
        data,
        role: Role::Plain,
        reply_to: None,
        correlation_id: Some(id.to_string()),
        traceparent: traceparent(&headers),
        causes,
    };
    let owner = match reached {
        Reached::Here(owner) => owner,
        Reached::Elsewhere(port) => {
            let dispatch = Dispatch {
                command: envelope,
                timeout,
                expect,
            };
            return through(&shared, &*port, dispatch, session, wait).await;
        }
    };
    let Ok(entity) = owner.any_entity(stream.category()) else {
        return to_saga(&shared, &owner, envelope, expect, session, wait).await;
    };
    let known = entity.commands();
    if !known.is_empty() && !known.contains(&envelope.name.as_str()) {
        return Err(Refusal::bad_request(
            "unknown-command",
            format!(
                "category {} has no command {:?}; known: {}",
                stream.category(),
                envelope.name,
                known.join(", ")
            ),
        ));
    }
    let dispatch = Dispatch {
        command: envelope,
        timeout,
        expect,
    };
    let accepted = match owner.deliver(dispatch).await {
        Ok(Delivered::Done(accepted)) => accepted,
        Ok(Delivered::Taken) => return Err(Refusal::internal("a saga answered for an entity")),
        Err(error) => return Err(refused(&shared, id, error, session).await?),
    };
    done(&shared, &stream, id, &accepted, session)
}

/// What a command depends on: what it says itself, or else the entity's default. Who shows no token
/// has seen what the service has read.
pub fn depends(reached: &Reached, category: &str, named: Option<Causes>, session: &Session) -> Cut {
    let owner = match reached {
        Reached::Here(owner) => Some(owner),
        Reached::Elsewhere(_) => None,
    };
    let entity = owner.and_then(|owner| owner.any_entity(category).ok());
    let causes = named.or_else(|| Some(entity?.causes().clone()));
    causes.unwrap_or_default().cut(|| match owner {
        Some(owner) if *session.seen() == Cut::start() => owner.seen(),
        _ => session.deps().clone(),
    })
}

/// An entity has done it.
fn done(
    shared: &Shared,
    stream: &StreamId,
    id: CommandId,
    accepted: &Accepted,
    mut session: Session,
) -> Answer {
    session.wrote(&accepted.token);
    let mut response = reply(&CommandOutcome {
        stream: stream.to_string(),
        command: id.to_string(),
        taken: false,
        version: accepted.version,
        repeated: accepted.repeated,
        events: convert::events(accepted)?,
        ended: None,
    })?;
    response
        .headers_mut()
        .insert(TOKEN_HEADER, header_of(shared, &session)?);
    if let Some(version) = accepted.version
        && let Ok(etag) = format!("\"{version}\"").parse()
    {
        response.headers_mut().insert(header::ETAG, etag);
    }
    Ok(response)
}

/// Commands to what another process has. Whoever has it says what it knows.
async fn through(
    shared: &Shared,
    port: &dyn Port,
    dispatch: Dispatch,
    session: Session,
    wait: Option<Duration>,
) -> Answer {
    let (id, stream) = (dispatch.command.id, dispatch.command.to.clone());
    refuse_operators(&dispatch.command)?;
    match port.deliver(dispatch).await {
        Ok(Delivered::Done(accepted)) => done(shared, &stream, id, &accepted, session),
        Ok(Delivered::Taken) => taken(shared, &stream, id, session, wait).await,
        Err(error) => Err(refused(shared, id, error, session).await?),
    }
}

/// A refusal is an observation too: it says how the entity was.
pub async fn refused(
    shared: &Shared,
    id: CommandId,
    error: SendError,
    mut session: Session,
) -> Result<Refusal, Refusal> {
    let tells = matches!(
        error,
        SendError::Rejected(_) | SendError::VersionMismatch { .. } | SendError::IdTaken { .. }
    );
    let mut refusal = Refusal::from(error).of_command(id);
    if tells {
        was_told(shared, &mut session).await?;
        refusal.token = Some(header_of(shared, &session)?);
    }
    Ok(refusal)
}

/// Commands to sagas are taken, and done later. Clients start sagas; whatever else can be said
/// to one is an operator's, who may be kept apart from clients by the address.
async fn to_saga(
    shared: &Shared,
    owner: &Service,
    envelope: CommandEnvelope,
    expect: Option<Expect>,
    session: Session,
    wait: Option<Duration>,
) -> Answer {
    if expect.is_some() {
        return Err(Refusal::bad_request(
            "bad-condition",
            "a saga takes no expected version",
        ));
    }
    refuse_operators(&envelope)?;
    let (id, stream) = (envelope.id, envelope.to.clone());
    match owner.deliver(envelope).await {
        Ok(Delivered::Taken) => {}
        Ok(Delivered::Done(_)) => {
            return Err(Refusal::internal("an entity answered for a saga"));
        }
        Err(error) => return Err(refused(shared, id, error, session).await?),
    }
    taken(shared, &stream, id, session, wait).await
}

/// What only an operator may say.
fn refuse_operators(envelope: &CommandEnvelope) -> Result<(), Refusal> {
    match OPERATORS.iter().find(|(name, _)| *name == envelope.name) {
        None => Ok(()),
        Some((_, verb)) => Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "operators-only",
            format!(
                "{} is not for clients; an operator does it by POST /operate/{verb}/{}",
                envelope.name, envelope.to
            ),
        )),
    }
}

/// A saga has taken it. A client that wants to wait for the saga's end is answered then.
async fn taken(
    shared: &Shared,
    stream: &StreamId,
    id: CommandId,
    mut session: Session,
    wait: Option<Duration>,
) -> Answer {
    // The command is durable whatever becomes of the waiting: where the log cannot be followed, the
    // answer is that of who does not wait.
    let waited = match wait {
        Some(wait) => saga_end::within(shared, stream, wait).await.ok(),
        None => None,
    };
    let applied = wait.filter(|_| waited.is_some()).map(prefer::applied);
    let ended = waited.flatten();
    was_told(shared, &mut session).await?;
    let has_ended = ended.is_some();
    let mut response = reply(&CommandOutcome {
        stream: stream.to_string(),
        command: id.to_string(),
        taken: true,
        version: None,
        repeated: false,
        events: Vec::new(),
        ended,
    })?;
    if !has_ended {
        *response.status_mut() = StatusCode::ACCEPTED;
    }
    let headers = response.headers_mut();
    headers.insert(TOKEN_HEADER, header_of(shared, &session)?);
    if let Some(applied) = applied {
        headers.insert(prefer::PREFERENCE_APPLIED, applied);
    }
    Ok(response)
}

/// The trace that a request belongs to (W3C Trace Context). What is no such header is passed
/// over, as that standard says.
pub fn traceparent(headers: &HeaderMap) -> Option<String> {
    let mut all = headers.get_all("traceparent").iter();
    let text = all.next()?.to_str().ok()?.trim();
    let parts: Vec<_> = text.split('-').collect();
    let is_hex = |part: &&str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let lengths: Vec<_> = parts.iter().map(|part| part.len()).collect();
    let is_one = all.next().is_none()
        && lengths == [2, 32, 16, 2]
        && parts.iter().all(is_hex)
        && parts[0] != "ff"
        && [parts[1], parts[2]]
            .iter()
            .all(|id| id.contains(|c| c != '0'));
    is_one.then(|| text.to_owned())
}

/// What only an operator may say to a saga, and where.
const OPERATORS: [(&str, &str); 3] = [
    ("AbortSaga", "abort"),
    ("ResumeStep", "resume"),
    ("SettleStep", "settle"),
];

/// The command's type and data: the type in the address and the data as the body, or both in
/// the body.
fn named(name: Option<String>, content: &Content) -> Result<(String, Json), Refusal> {
    let body = content.json()?;
    let nothing = || Json::new("{}").map_err(|error| Refusal::internal(error.to_string()));
    match (name, body) {
        (Some(name), Some(data)) => Ok((name, data)),
        (Some(name), None) => Ok((name, nothing()?)),
        (None, Some(both)) => {
            let both: CommandBody = both.parse().map_err(|error| {
                Refusal::bad_request(
                    "bad-command",
                    format!(
                        "without ?type=… the body is {{\"type\":…,\"data\":…}}; it is not: {error}"
                    ),
                )
            })?;
            let data = both.data.as_ref().map(convert::json).transpose()?;
            Ok((both.name, data.map_or_else(nothing, Ok)?))
        }
        (None, None) => Err(Refusal::bad_request(
            "bad-command",
            "there is no command: name its type with ?type=… and send its data as the body",
        )),
    }
}

/// `If-Match: "5"`, `If-Match: *` or `If-None-Match: *`.
fn expected(headers: &HeaderMap) -> Result<Option<Expect>, Refusal> {
    let wrong = |name: &HeaderName, what: &str| {
        Err(Refusal::bad_request(
            "bad-condition",
            format!("{name}: {what}"),
        ))
    };
    let (some, none) = (
        one(headers, &header::IF_MATCH)?,
        one(headers, &header::IF_NONE_MATCH)?,
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
pub fn id_of(shared: &Shared, headers: &HeaderMap) -> Result<CommandId, Refusal> {
    let Some(key) = one(headers, &IDEMPOTENCY_KEY)? else {
        let now_ms = shared.time.now().micros() / 1000;
        return Ok(CommandId::v7(now_ms, shared.time.random()));
    };
    let bytes = key.as_bytes();
    if bytes.is_empty() || bytes.len() > KEY_CHARS_MAX {
        return Err(Refusal::bad_request(
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
