//! The OpenAPI document of the server, made from the wire types.
//!
//! [`ENDPOINTS`] lists every request that a server answers; a test of the server sends each.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::{
    CommandBody, CommandOutcome, Diagnostic, Edited, Entity, EventsAppended, History, Instance,
    LetterDone, LettersRetried, ListOutcome, ListedCommand, LogFiles, Parked, Problem, Process,
    ProcessDone, QueryAnswer, Raw, Registration, ResumeStep, Retried, RetryLetters, Service,
    ServiceCircuit, ServiceLetter, ServiceView, SettleStep, StreamDone, Unparked, Version,
    ViewDone, Why,
};

type Make = fn(&mut SchemaGenerator) -> Schema;

/// A request that the server answers.
#[derive(Debug, Clone, Copy)]
pub struct Endpoint {
    /// `get` or `post`.
    pub method: &'static str,
    /// The address, with its parts that vary in braces. A key may hold slashes.
    pub path: &'static str,
    /// The operation's name, for generated clients.
    pub id: &'static str,
    /// What it does.
    pub summary: &'static str,
    /// The parameters behind the `?`, each with what it means.
    pub parameters: &'static [(&'static str, &'static str)],
    /// The request's headers, each with what it means.
    pub headers: &'static [(&'static str, &'static str)],
    request: Option<Make>,
    /// The media types of the request.
    request_media: &'static [&'static str],
    answer: Make,
    /// The media type of the answer.
    media: &'static str,
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

const TOKEN: (&str, &str) = (
    "Anabranch-Token",
    "What the client has written and seen, as another answer gave it",
);
const TIMEOUT: (&str, &str) = (
    "timeout",
    "How long it may take, for example 5s; at most 60s",
);

const fn get(
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    answer: Make,
) -> Endpoint {
    Endpoint {
        method: "get",
        path,
        id,
        summary,
        parameters: &[],
        headers: &[],
        request: None,
        request_media: &[crate::JSON],
        answer,
        media: crate::JSON,
    }
}

const fn post(
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    answer: Make,
) -> Endpoint {
    Endpoint {
        method: "post",
        ..get(path, id, summary, answer)
    }
}

impl Endpoint {
    const fn parameters(self, parameters: &'static [(&'static str, &'static str)]) -> Self {
        Self { parameters, ..self }
    }

    const fn headers(self, headers: &'static [(&'static str, &'static str)]) -> Self {
        Self { headers, ..self }
    }

    const fn takes(self, request: Make) -> Self {
        Self {
            request: Some(request),
            ..self
        }
    }

    const fn takes_as(self, request: Make, request_media: &'static [&'static str]) -> Self {
        Self {
            request: Some(request),
            request_media,
            ..self
        }
    }

    const fn gives(self, media: &'static str) -> Self {
        Self { media, ..self }
    }

    /// The names in the address that vary.
    pub fn variables(&self) -> impl Iterator<Item = &'static str> {
        let parts = self.path.split('{').skip(1);
        parts.filter_map(|part| part.split('}').next())
    }
}

const LEASE_OF_READER: (&str, &str) = (
    "Anabranch-Lease",
    "The token of a lease: reads as its service, with what that keeps to itself and without what others do",
);

/// Every request that the server answers. Those who supervise it ask `/livez`, `/readyz` and `/metrics`
/// too, which answer in plain text.
pub const ENDPOINTS: &[Endpoint] = &[
    post(
        "/commands",
        "sendCommands",
        "Sends commands to several entities of one service, 64 at the most: all of them take effect, or none does, and nobody sees one without the others",
        of::<ListOutcome>,
    )
    .parameters(&[TIMEOUT])
    .headers(&[
        ("Idempotency-Key", "The id of the list: sending it again gives the first outcomes; one that was refused is decided again"),
        (
            "Anabranch-Causes",
            "What it depends on: positions of events and tokens, as 3:17, TOKEN; or root for nothing. Without it what the token says, and without one what the service has read",
        ),
        TOKEN,
    ])
    .takes(of::<Vec<ListedCommand>>),
    post(
        "/commands/{category}/{key}",
        "sendCommand",
        "Sends a command to an entity or a saga. With `type` the body is the command's data",
        of::<CommandOutcome>,
    )
    .parameters(&[
        ("type", "The command's type; the body is then its data alone"),
        TIMEOUT,
    ])
    .headers(&[
        ("Idempotency-Key", "The command's id: sending it again gives the first outcome"),
        ("If-Match", "The version that the entity is expected at, or *"),
        ("If-None-Match", "*: the entity is expected to have no events"),
        (
            "Anabranch-Causes",
            "What it depends on: positions of events and tokens, as 3:17, TOKEN; or root for nothing. Without it what the token says, and without one what the service has read",
        ),
        ("Prefer", "wait=5: answers when the saga has ended, after so many seconds at most"),
        TOKEN,
    ])
    .takes(of::<CommandBody>),
    get(
        "/views/{name}/{query}",
        "askView",
        "Asks a view. Every parameter but `q` and `policy` is a field of the query",
        of::<QueryAnswer>,
    )
    .parameters(&[
        ("q", "All fields of the query, as JSON"),
        ("policy", "What to do while the view is behind: wait=5s, fail or stale"),
    ])
    .headers(&[
        ("Anabranch-Policy", "As the parameter `policy`, for a query that has a field of this name"),
        TOKEN,
    ]),
    get(
        "/events",
        "followEvents",
        "The log's events from a place on, as they are appended: server-sent events, of which each is a CloudEvent, and its id the place behind it. Whoever accepts application/cloudevents-batch+json gets one page of what there is now, and in Anabranch-Token where the next begins. By WebSocket each is a message, LiveMessage",
        of::<String>,
    )
    .gives(crate::EVENT_STREAM)
    .parameters(&[
        ("category", "Only events of streams of this category; may stand there several times"),
        ("type", "Only events of this type; may stand there several times"),
        ("stream", "Only events of this stream; may stand there several times"),
        ("tag", "Only events with this tag; several times, with all of them"),
        ("header", "Only events with this header, as name=value; several times, with all of them"),
        ("correlation", "Only events with this correlation id: a story"),
        (
            "from",
            "Where to begin: the id of an event as it was sent, any token, a position such as 0:42, or head; at the first event if it is not given",
        ),
        ("until", "head: ends where the log ends now, with an event named head"),
        ("limit", "With Accept: application/cloudevents-batch+json, how many events a page has at most; 1000 if it is not given, at most 10000"),
        ("credits", "With Upgrade: websocket, how many events come before the reader asks for more; as many as it takes if it is not given"),
    ])
    .headers(&[
        ("Last-Event-ID", "The id of the event that was read last: goes on behind it, whatever from says"),
        LEASE_OF_READER,
    ]),
    get("/events/{event}", "showEvent", "One event, by its id or its position, as a CloudEvent", of::<Raw>)
        .gives(crate::CLOUD_EVENT)
        .parameters(&[(
            "mode",
            "structured: as JSON, if it is not given; binary: its attributes are headers (ce-id, ce-type …), its data is the body",
        )])
        .headers(&[LEASE_OF_READER]),
    post(
        "/events",
        "appendEvents",
        "Appends CloudEvents: one as its own JSON, several as an array, or one whose attributes are headers (ce-id, ce-source, ce-type, ce-subject …) and whose data is the body. The subject is the stream",
        of::<EventsAppended>,
    )
    .headers(&[
        ("Anabranch-Lease", "The token of a lease, for a category that a service owns"),
        TOKEN,
    ])
    .takes_as(of::<Raw>, &[crate::CLOUD_EVENT, crate::CLOUD_EVENT_BATCH]),
    get("/operate/services", "listServices", "The services, and what each owns", of::<Vec<Service>>),
    get(
        "/operate/registry",
        "listRegistrations",
        "The services that have registered at the log, what each owns, and how its lease is",
        of::<Vec<Registration>>,
    ),
    post(
        "/operate/registry/{name}/forget",
        "forgetService",
        "Lets what a service owned that is gone have no owner any more",
        of::<Registration>,
    ),
    get(
        "/operate/log/files",
        "listLogFiles",
        "The files of the log, which `log info`, `log verify` and `log backup` read from elsewhere",
        of::<LogFiles>,
    ),
    get(
        "/operate/log/files/{name}",
        "readLogFile",
        "Bytes of a file of the log. The answer's header `anabranch-file` has the handle, and \
         `anabranch-file-bytes` how long the file is",
        of::<Raw>,
    )
    .parameters(&[
        ("handle", "The file that was opened by an earlier answer, whatever has its name now"),
        ("from", "The first byte; if nothing is said, that of the file"),
        ("length", "How many bytes at most; no answer has more than 4194304"),
    ])
    .gives(crate::BYTES),
    get(
        "/operate/types",
        "listTypes",
        "The types of events that the services write and read, as `schema check` takes them",
        of::<Vec<Raw>>,
    ),
    get(
        "/operate/diagnostics",
        "listDiagnostics",
        "What went wrong and was worked around, the newest last",
        of::<Vec<Diagnostic>>,
    )
    .parameters(&[("service", "Only of this service")]),
    get(
        "/operate/circuits",
        "listCircuits",
        "How the third parties are doing that the services call",
        of::<Vec<ServiceCircuit>>,
    ),
    get(
        "/operate/entity/{category}/{key}",
        "showEntity",
        "An entity's state, now or after one of its events",
        of::<Entity>,
    )
    .parameters(&[("at", "The version of that event")]),
    get("/operate/history/{category}/{key}", "showHistory", "A stream's events", of::<History>)
        .parameters(&[
            ("from", "The version to begin at; 0 if not given"),
            ("limit", "The most events; 1000 if not given, at most 10000"),
        ]),
    get("/operate/parked", "listParked", "Entities that take no commands, and why", of::<Vec<Parked>>),
    post(
        "/operate/unpark/{category}/{key}",
        "unpark",
        "Lets a parked entity take commands again",
        of::<Unparked>,
    ),
    get("/operate/views", "listViews", "How far the views are", of::<Vec<ServiceView>>),
    get("/operate/views/{name}", "showView", "How far a view is", of::<ServiceView>),
    post(
        "/operate/views/{name}/{verb}",
        "mendView",
        "Mends a view; the verb is rebuild, back-out, skip or retry",
        of::<ViewDone>,
    )
    .parameters(&[("stream", "With skip and retry: a stream that was set aside")]),
    get("/operate/processes", "listProcesses", "Processes and sagas", of::<Vec<Process>>),
    get(
        "/operate/processes/{name}",
        "showProcess",
        "A process or saga, and its instances that have not ended, or that have",
        of::<Process>,
    )
    .parameters(&[(
        "ended",
        "How many of the instances that have ended to list instead, newest first; at most 1000",
    )]),
    post(
        "/operate/processes/{name}/{verb}",
        "mendProcess",
        "The verb is skip, to pass over the event that cannot be consumed, or retry",
        of::<ProcessDone>,
    ),
    get("/operate/instance/{name}/{key}", "showInstance", "One instance, ended or not", of::<Instance>),
    post(
        "/operate/retry/{name}/{key}",
        "retryInstance",
        "Tries a parked instance again",
        of::<StreamDone>,
    ),
    post("/operate/abort/{name}/{key}", "abortSaga", "Lets a saga go back", of::<StreamDone>)
        .takes(of::<Why>),
    post(
        "/operate/resume/{name}/{key}",
        "resumeStep",
        "Goes on with a parked step of a saga",
        of::<StreamDone>,
    )
    .takes(of::<ResumeStep>),
    post(
        "/operate/settle/{name}/{key}",
        "settleStep",
        "Says what became of a step of a saga",
        of::<StreamDone>,
    )
    .takes(of::<SettleStep>),
    get(
        "/operate/dead-letters",
        "listDeadLetters",
        "What processes have sent and nobody could take",
        of::<Vec<ServiceLetter>>,
    ),
    post(
        "/operate/dead-letters/retry",
        "retryDeadLetters",
        "Delivers many dead letters again, and says what became of each",
        of::<LettersRetried>,
    )
    .takes(of::<RetryLetters>),
    get("/operate/dead-letters/{id}", "showDeadLetter", "A dead letter", of::<ServiceLetter>),
    post(
        "/operate/dead-letters/{id}/retry",
        "retryDeadLetter",
        "Delivers a dead letter again, with other data if some is given, and says what became of it",
        of::<Retried>,
    )
    .takes(of::<Edited>),
    post(
        "/operate/dead-letters/{id}/discard",
        "discardDeadLetter",
        "Gives a dead letter up: its sender is told that it was refused",
        of::<LetterDone>,
    )
    .takes(of::<Why>),
    get("/version", "version", "What serves: its version, its protocol and its log", of::<Version>),
    get("/openapi.json", "describe", "This document", of::<Raw>),
    get("/asyncapi.json", "describeEvents", "The events that can be followed, in AsyncAPI 3", of::<Raw>),
];

/// The document, in OpenAPI 3.1.
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let problem = of::<Problem>(&mut generator);
    let mut paths = Map::new();
    for endpoint in ENDPOINTS {
        let operation = operation(endpoint, &problem, &mut generator);
        let path = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        path[endpoint.method] = operation;
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Anabranch",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Commands to running services, queries of their views, and what operators need.",
        },
        "servers": [{"url": "http://127.0.0.1:4077"}],
        "paths": paths,
        "components": {"schemas": generator.take_definitions(true)},
    })
}

fn operation(endpoint: &Endpoint, problem: &Schema, generator: &mut SchemaGenerator) -> Value {
    let parameter = |place: &str, name: &str, what: &str| {
        json!({
            "name": name,
            "in": place,
            "required": place == "path",
            "description": what,
            "schema": {"type": "string"},
        })
    };
    let mut parameters: Vec<_> = endpoint
        .variables()
        .map(|name| parameter("path", name, "Percent-encoded"))
        .collect();
    let sent = |place: &'static str, all: &'static [(&str, &str)]| {
        all.iter()
            .map(move |(name, what)| parameter(place, name, what))
    };
    parameters.extend(sent("query", endpoint.parameters));
    parameters.extend(sent("header", endpoint.headers));
    let answer = json!({endpoint.media: {"schema": (endpoint.answer)(generator)}});
    let mut operation = json!({
        "operationId": endpoint.id,
        "summary": endpoint.summary,
        "parameters": parameters,
        "responses": {
            "200": {"description": "Done", "content": answer},
            "default": {
                "description": "Why it was not done; `happened` says whether anything was",
                "content": {crate::PROBLEM_JSON: {"schema": problem}},
            },
        },
    });
    if endpoint.id == "followEvents" {
        // One page, for whoever accepts a batch.
        let page = json!({"type": "array", "items": {"type": "object"}});
        operation["responses"]["200"]["content"][crate::CLOUD_EVENT_BATCH] =
            json!({"schema": page});
    }
    if endpoint.id == "sendCommand" {
        operation["responses"]["202"] =
            json!({"description": "A saga has taken it, and goes on", "content": answer});
    }
    if let Some(request) = endpoint.request {
        let schema = request(generator);
        let media = endpoint.request_media.iter();
        let content: Map<_, _> = media
            .map(|&media| (media.to_owned(), json!({"schema": schema})))
            .collect();
        operation["requestBody"] = json!({"content": content});
    }
    operation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_of_the_document_leads_to_a_schema_of_it() {
        fn references(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(members) => {
                    if let Some(Value::String(reference)) = members.get("$ref") {
                        found.push(reference.clone());
                    }
                    members
                        .values()
                        .for_each(|member| references(member, found));
                }
                Value::Array(values) => values.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }
        let document = document();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > ENDPOINTS.len(), "{found:?}");
        for reference in found {
            let pointer = reference.trim_start_matches('#');
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn no_two_operations_have_one_name() {
        let mut names: Vec<_> = ENDPOINTS.iter().map(|endpoint| endpoint.id).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ENDPOINTS.len());
    }
}
