//! The inputs that a search begins with, made by the code that writes what is decoded.

use std::sync::Arc;

use anabranch_domain::process::{ConsumedEvent, Planned, ProcessEvent, Received};
use anabranch_domain::saga::{
    Operator, Request, SagaEvent, StepDeclared, StepId, StepKind, Undo,
};
use anabranch_domain::{
    Call, CallEnvelope, CommandEnvelope, CommandId, Json, Origin, Outcome, Outgoing, Rejection,
    ReplyEnvelope, Role, Source, Timer, Timestamp,
};
use anabranch_access::Key;
use anabranch_env::sim;
use anabranch_log::{Append, AppendError, Appended, Expect, Placed, ReadMode};
use anabranch_model::record::encode;
use anabranch_model::{
    Cut, EventId, EventType, Filter, Meta, NewEvent, PartitionId, Position, Session, StreamId,
    TokenKey, TokenSeal,
};
use anabranch_rpc::{
    append_error_to, append_to, appended_to, filter_to, mode_to, pack_append, pack_appended,
    protocol, step_to,
};
use buffa::Message;
use serde_json::json;

use crate::kept;

/// With what the server of the targets seals its tokens: an id and a secret.
pub(crate) const SEAL: (u8, [u8; 32]) = (1, [1; 32]);

/// The keys of whoever signs tokens. Source: RFC 8037, appendix A.2.
pub(crate) const KEY_SET: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"ed","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

/// An event with data.
pub(crate) fn an_event(number: u128) -> NewEvent {
    let stream = StreamId::new("order/1").unwrap();
    let kind = EventType::new("Placed").unwrap();
    NewEvent::new(EventId::from_u128(number), stream, kind, "{\"a\":1}")
}

/// The inputs of a target.
pub fn corpus(target: &str) -> Vec<Vec<u8>> {
    let texts = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    match target {
        "record" => vec![records(false), records(true)],
        "token" => vec![token().into_bytes()],
        "json_text" => texts(&[
            r#"{"a":[1,-2.5e-7,"\ud83d\ude00ä\n",true,null],"b":{"c":{}}}"#,
            "[[[[[[[[]]]]]]]]",
            "1e308",
        ]),
        "names" => texts(&[
            "order/536365",
            "OrderPlaced",
            "0:42",
            "018f0000-0000-7000-8000-000000000001",
            r#"{"0":5,"3":7}"#,
        ]),
        // Which file, where in it, and what stands there then.
        "log_files" | "backup_files" => (0..12u8)
            .flat_map(|file| [vec![file, 20, 0, 0, 0, 1, 2, 3], vec![file, 9, 1, 0, 0]])
            .collect(),
        "snapshot" => vec![kept::file(kept::save_snapshot).1],
        "checkpoint" => vec![kept::file(kept::save_checkpoint).1],
        "registry" => texts(&[
            r#"{"service":"shop","kinds":[{"name":"Placed","version":1,"shape":{"kind":"unknown"}}]}"#,
        ]),
        "saga_journal" => vec![journal(), saga_journal()],
        "process_journal" => vec![process_journal()],
        "wire" => wire(),
        "import_line" => texts(&[
            r#"{"stream":"order/1","type":"Placed","data":{"total":1550},"id":"018f0000-0000-7000-8000-000000000001","headers":{"shop":"x"},"tags":["sku:1"],"expect":"empty"}"#,
            r#"{"specversion":"1.0","id":"A-1","source":"/erp","type":"T","subject":"a/b","time":"2010-12-01T08:26:00Z","dataschema":"https://x/y","flag":true,"count":42,"gone":null,"tags":"a:1\\,2,b:2","causes":"1:4,2:9","correlationid":"c","data":"x"}"#,
            r#"{"specversion":"1.0","id":"018f0000-0000-7000-8000-000000000001","source":"/shop","type":"Read","subject":"clock/1","datacontenttype":"image/x","data_base64":"/wAK"}"#,
            r#"{"specversion":"1.0","id":"7","source":"/s","type":"T","subject":"a/b","headers":"{\"X-Request-Id\":\"1\"}","sequence":"9","data":[1,  2]}"#,
        ]),
        "http" => http(),
        "live" => live(),
        "call" => call(),
        "peer_line" => peer_line(),
        "shown" => shown(),
        other => panic!("there is no target {other}"),
    }
}

fn records(full: bool) -> Vec<u8> {
    let events: Vec<_> = (0..3u128)
        .map(|n| {
            let stream = StreamId::new(format!("order/{}", n / 2)).unwrap();
            let kind = EventType::new("Placed").unwrap();
            let mut event = NewEvent::new(EventId::from_u128(n << 60), stream, kind, "{\"a\":1}");
            if full {
                let mut causes = Cut::at(7);
                causes.set(PartitionId(3), 300);
                event.meta = Some(Arc::new(Meta {
                    content_type: Some("application/json".to_owned()),
                    source: Some("/shop".to_owned()),
                    causation_id: Some("a".to_owned()),
                    correlation_id: Some("b".to_owned()),
                    traceparent: Some("00-1-2-01".to_owned()),
                    tags: vec!["sku:1".to_owned()],
                    headers: [("k".to_owned(), "v".to_owned())].into(),
                    causes,
                }));
            }
            event
        })
        .collect();
    let mut body = Vec::new();
    encode(&mut body, &events, &[0, 1, 9]);
    body
}

fn token() -> String {
    let mut session = Session::new();
    session.wrote(&Cut::at(300));
    let key = TokenKey {
        id: 1,
        secret: [1; 32],
    };
    TokenSeal::new(7, 3, key).seal(&session)
}

fn journal() -> Vec<u8> {
    let step = "reserve".to_owned();
    let events = [
        json!({ "StepStarted": { "step": step } }),
        json!({ "StepOk": { "step": step, "result": { "a": 1 } } }),
        json!({ "StepTimedOut": { "step": step } }),
        json!({ "AbortRequested": { "why": "x", "by": "an operator" } }),
    ];
    // Those that read, as this version writes them; the others still have the right words.
    let lines = events.map(
        |event| match serde_json::from_value::<SagaEvent>(event.clone()) {
            Ok(event) => serde_json::to_string(&event).unwrap(),
            Err(_) => event.to_string(),
        },
    );
    lines.join("\n").into_bytes()
}

fn lines(events: &[impl serde::Serialize]) -> Vec<u8> {
    let lines = events.iter().map(|event| serde_json::to_string(event));
    let lines: Result<Vec<_>, _> = lines.collect();
    lines.unwrap().join("\n").into_bytes()
}

/// A step that is refused, its fallback, and the way back.
fn saga_journal() -> Vec<u8> {
    let command = Outgoing {
        to: StreamId::new("stock/mug").unwrap(),
        name: "Reserve".to_owned(),
        data: Json::new(r#"{"units":2}"#).unwrap(),
    };
    let step = StepId::new("reserve", 1);
    let at = Timestamp::from_seconds(1_700_000_000);
    let id = CommandId::from_u128(7);
    let started = |request, fallback| SagaEvent::StepStarted {
        step: step.clone(),
        request,
        wake: Some(at),
        deadline: Some(at),
        command: Some(id),
        fallback,
    };
    let call = Call {
        effect: "order-in".to_owned(),
        request: Json::null(),
    };
    let operator = Operator {
        who: "ada".to_owned(),
        why: "by phone".to_owned(),
    };
    lines(&[
        SagaEvent::SagaStarted {
            id,
            definition: "0".repeat(32).try_into().unwrap(),
            steps: vec![StepDeclared {
                name: "reserve".to_owned(),
                kind: StepKind::Compensatable,
                branches: 2,
            }],
            input: Json::new("{}").unwrap(),
            parent: None,
            origin: origin(),
            at,
        },
        started(Request::Command(command.clone()), None),
        SagaEvent::AttemptFailed {
            step: step.clone(),
            undo: false,
            why: "away".to_owned(),
        },
        SagaEvent::StepRefused {
            step: step.clone(),
            why: Rejection::new("out-of-stock", "none left"),
            by: None,
        },
        started(Request::Call(call), Some("none left".to_owned())),
        SagaEvent::StepTimedOut { step: step.clone() },
        SagaEvent::AbortRequested {
            why: "no answer".to_owned(),
            by: None,
        },
        SagaEvent::CompStarted {
            step: step.clone(),
            request: Undo::Ask(Request::Command(command)),
            wake: Some(at),
            command: Some(id),
        },
        SagaEvent::Parked {
            step: step.clone(),
            why: "refused".to_owned(),
            going_on: false,
        },
        SagaEvent::CompOk {
            step,
            by: Some(operator),
        },
        SagaEvent::SagaCompensated,
    ])
}

fn origin() -> Origin {
    Origin {
        event: Some(EventId::from_u128(5)),
        correlation_id: Some("monday".to_owned()),
        traceparent: Some("00-1-2-01".to_owned()),
    }
}

/// Everything that a process can take in and do.
fn process_journal() -> Vec<u8> {
    let (at, id) = (Timestamp::from_seconds(1_700_000_000), CommandId::from_u128(7));
    let stream = StreamId::new("counting/1").unwrap();
    let consumed = |version, name: &str, data: &str| ConsumedEvent {
        source: Source {
            id: EventId::from_u128(5),
            stream: kept::stream(),
            version,
            position: Position::at(9 + version),
            recorded_at: at,
        },
        name: name.to_owned(),
        schema_version: 1,
        data: Json::new(data).unwrap(),
        closure: Cut::at(10),
        origin: origin(),
    };
    let command = CommandEnvelope {
        id,
        to: StreamId::new("stock/mug").unwrap(),
        name: "Reserve".to_owned(),
        data: Json::new(r#"{"units":2}"#).unwrap(),
        role: Role::Plain,
        reply_to: Some(stream.clone()),
        correlation_id: Some("monday".to_owned()),
        traceparent: None,
        causes: Cut::at(10),
    };
    let call = CallEnvelope {
        key: CommandId::from_u128(8),
        call: Call {
            effect: "mail".to_owned(),
            request: Json::null(),
        },
        reply_to: stream.clone(),
        correlation_id: Some("monday".to_owned()),
        traceparent: Some("00-1-2-01".to_owned()),
    };
    let timer = Timer {
        name: "late".to_owned(),
        at,
        data: Json::null(),
    };
    let received = |input, actions| ProcessEvent::Received {
        input,
        actions,
        settled: vec![id],
        at,
    };
    let reply = ReplyEnvelope {
        to: stream,
        from: command.to.clone(),
        id,
        name: "Reserve".to_owned(),
        role: Role::Plain,
        outcome: Outcome::Refused(Rejection::new("no", "none left").for_now()),
        causes: Cut::start(),
    };
    lines(&[
        ProcessEvent::Held {
            event: consumed(0, "Shipped", "null"),
        },
        received(
            Received::Event(consumed(1, "Placed", r#"{"total":5}"#)),
            vec![
                Planned::Command(command),
                Planned::Call(call),
                Planned::Timer(timer.clone()),
            ],
        ),
        received(Received::Reply(reply), Vec::new()),
        received(
            Received::Timer(timer),
            vec![
                Planned::Cancel {
                    timer: "late".to_owned(),
                },
                Planned::Complete,
            ],
        ),
        ProcessEvent::Settled { settled: vec![id] },
        ProcessEvent::Ended {
            settled: Vec::new(),
        },
    ])
}

fn wire() -> Vec<Vec<u8>> {
    let answer = |value: serde_json::Value| value.to_string().into_bytes();
    let data = Json::from_slice(b"{\"quantity\":1}").unwrap();
    vec![
        answer(json!({ "type": "PlaceOrder", "data": data })),
        answer(json!({
            "outcome": "accepted", "token": "abc", "version": 3, "stream": "order/1",
            "events": [{ "type": "Placed", "position": "0:7", "version": 3, "data": {} }],
        })),
        answer(json!({
            "type": "urn:anabranch:problem:conflict", "title": "conflict", "status": 409,
            "code": "conflict", "detail": "x", "happened": "no", "retry_after_ms": 50,
        })),
        answer(json!({ "data": [1, 2], "token": "abc", "position": "0:7", "stale": false })),
    ]
}

/// Requests of HTTP. None says how long its body is.
fn http() -> Vec<Vec<u8>> {
    let (id, secret) = SEAL;
    let mut session = Session::new();
    session.wrote(&Cut::at(2));
    let token = TokenSeal::new(7, 0, TokenKey { id, secret }).seal(&session);
    let get = |path: &str, headers: &[&str]| request("GET", path, headers, b"");
    let json = "content-type: application/json";
    let event = r#"{"specversion":"1.0","id":"A-1","source":"/erp","type":"T","subject":"a/b","data":{"a":1}}"#;
    let log = "/anabranch.log.v1.LogService";
    let append = r#"{"events":[{"id":"018f0000-0000-7000-8000-000000000001","stream":"order/2","type":"T","text":"{}"}],"conditions":[{"stream":{"stream":"order/2","expect":{"empty":true}}}]}"#;
    let register = r#"{"service":{"name":"shop","owns":["cart"],"private":[{"category":"cart","openTypes":["T"]}]},"leaseMs":"1000"}"#;
    let read = br#"{"from":{"counts":{"0":"1"}},"mode":"READ_MODE_TO_HEAD","filter":{"categories":["order"],"tags":["a:1"]}}"#;
    let mut framed = vec![0];
    framed.extend_from_slice(&(read.len() as u32).to_be_bytes());
    framed.extend_from_slice(read);
    vec![
        request(
            "POST",
            "/commands/order/1%2F2?type=PlaceOrder&timeout=250ms",
            &[
                json,
                &format!("anabranch-token: {token}"),
                "idempotency-key: \"a-1\"",
                "if-match: W/\"5\"",
                "prefer: respond-async, wait=1; x",
                "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            ],
            b"{\"lines\":[]}",
        ),
        get(
            "/events?category=order&type=Placed&header=a%3Db&from=0:0&until=head",
            &[
                &format!("last-event-id: {token}"),
                "anabranch-lease: shop:0:00000000000000000000000000000000, other:1:x",
            ],
        ),
        get(
            "/events?limit=2&correlation=a",
            &["accept: text/html, application/cloudevents-batch+json;q=1"],
        ),
        get("/events/0:1?mode=binary", &[]),
        get("/views/prices/list?q=%7B%7D&sku=1", &["anabranch-policy: wait=5s"]),
        get("/operate/history/order/1?from=0&limit=2", &["anabranch-log: 7"]),
        request(
            "POST",
            "/events",
            &[
                "content-type: text/plain",
                "ce-specversion: 1.0",
                "ce-id: \"A \\\"1\\\"\"",
                "ce-source: /erp%20x",
                "ce-type: T",
                "ce-subject: a/b",
                "ce-time: 2010-12-01T08:26:00Z",
            ],
            b"hello",
        ),
        request(
            "POST",
            "/events",
            &["content-type: application/cloudevents+json; charset=utf-8"],
            event.as_bytes(),
        ),
        request(
            "POST",
            "/events",
            &["content-type: application/cloudevents-batch+json"],
            format!("[{event},{event}]").as_bytes(),
        ),
        request("POST", &format!("{log}/Append"), &[json], append.as_bytes()),
        request(
            "POST",
            &format!("{log}/Read"),
            &["content-type: application/connect+json", "connect-timeout-ms: 1000"],
            &framed,
        ),
        request(
            "POST",
            &format!("{log}/Head"),
            &["content-type: application/grpc-web+proto", "grpc-timeout: 1S"],
            &[0; 5],
        ),
        request(
            "POST",
            "/anabranch.registry.v1.RegistryService/RegisterService",
            &[json],
            register.as_bytes(),
        ),
        request("POST", "/peer/many", &["anabranch-service: shop"], &peer_line()[0]),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(),
    ]
}

fn request(method: &str, path: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{}\r\n\r\n",
        headers.join("\r\n")
    );
    // Without headers of its own there is one end of a line too many.
    let head = head.replace("\r\n\r\n\r\n", "\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// What a client says over a WebSocket, masked with nothing.
fn live() -> Vec<Vec<u8>> {
    let frame = |first: u8, payload: &[u8]| {
        let mut frame = vec![first, 0x80 | payload.len() as u8, 0, 0, 0, 0];
        frame.extend_from_slice(payload);
        frame
    };
    let text = frame(0x81, br#"{"credits":10}"#);
    vec![
        text.clone(),
        [frame(0x01, br#"{"cred"#), frame(0x89, b"there?"), frame(0x80, br#"its":1}"#)].concat(),
        [text, frame(0x8a, b"there!"), frame(0x88, &[3, 232])].concat(),
        frame(0x82, &[1, 2, 3]),
        // A frame with a long length.
        [&[0x81, 0xfe, 0, 126, 1, 2, 3, 4][..], &[b'x'; 126]].concat(),
    ]
}

fn call() -> Vec<Vec<u8>> {
    let stream = || StreamId::new("order/1").unwrap();
    let mut event = an_event(9);
    event.meta_mut().tags = vec!["sku:1".to_owned()];
    let append = Append::events([event, an_event(10)])
        .expect(stream(), Expect::At(300))
        .expect(stream(), Expect::Exists);
    let mut packed = Vec::new();
    for number in [1, 300] {
        pack_append(&mut packed, number, &append);
    }
    let place = |offset| Placed {
        position: Position::at(offset),
        version: offset / 2,
    };
    let appended = Appended::new(vec![place(300), place(301), place(700)], true);
    let mut done = Vec::new();
    pack_appended(&mut done, 300, &appended);
    let conflict = AppendError::Conflict {
        stream: stream(),
        expected: Expect::Empty,
        actual: Some(3),
    };
    let stored = anabranch_model::Event::stored(&an_event(9), Position::at(7), 3, 5);
    let filter = Filter {
        types: vec![EventType::new("Placed").unwrap()],
        tags: vec!["sku:1".to_owned()],
        ..Filter::category("order")
    };
    let read = protocol::ReadRequest {
        filter: buffa::MessageField::some(filter_to(&filter)),
        mode: mode_to(ReadMode::Follow),
        ..Default::default()
    };
    let many = protocol::AppendManyRequest {
        packed: packed.clone(),
        ..Default::default()
    };
    vec![
        append_to(&append).encode_to_vec(),
        serde_json::to_vec(&append_to(&append)).unwrap(),
        packed,
        many.encode_to_vec(),
        done,
        appended_to(&appended).encode_to_vec(),
        append_error_to(&conflict).encode_to_vec(),
        step_to(&vec![stored.clone()].into(), true).unwrap().encode_to_vec(),
        step_to(&vec![stored].into(), false).unwrap().encode_to_vec(),
        read.encode_to_vec(),
        serde_json::to_vec(&read).unwrap(),
        br#"{"service":{"name":"shop","owns":["cart"],"private":[{"category":"cart"}]},"leaseMs":"1000"}"#.to_vec(),
    ]
}

fn peer_line() -> Vec<Vec<u8>> {
    let command = json!({
        "id": "018f0000-0000-7000-8000-000000000001", "to": "stock/1", "type": "Reserve",
        "data": { "quantity": 1 }, "role": "plain", "causes": { "0": 5 },
    });
    let query = json!({
        "view": "prices", "query": "list", "question": { "json": {} }, "policy": { "wait_ms": 5 },
    });
    let bodies = [
        command.to_string(),
        r#"{"to":"checkout/1","from":"stock/1","id":"018f0000-0000-7000-8000-000000000001","type":"Reserve","outcome":{"refused":{"code":"no","message":"none"}}}"#.to_owned(),
        r#"{"at":"stock/1","saga":"$saga-order/1"}"#.to_owned(),
        query.to_string(),
        r#"{"version":3,"repeated":false,"events":[]}"#.to_owned(),
        r#"{"value":[1],"cut":{"0":5},"stale":false}"#.to_owned(),
        r#"{"status":409,"code":"conflict","happened":"no"}"#.to_owned(),
    ];
    let mut all = Vec::new();
    for (kind, body) in (0..).zip(bodies) {
        all.extend_from_slice(&(9 + body.len() as u32).to_be_bytes());
        all.extend_from_slice(&u64::from(kind).to_be_bytes());
        all.push(kind);
        all.extend_from_slice(body.as_bytes());
    }
    vec![all]
}

fn shown() -> Vec<Vec<u8>> {
    let texts = [
        // {"alg":"EdDSA","kid":"ed"} and {"iss":"https://id.example","aud":"anabranch","sub":"a","exp":4000000000,"scope":"read:*"}
        "Bearer eyJhbGciOiJFZERTQSIsImtpZCI6ImVkIn0.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUiLCJhdWQiOiJhbmFicmFuY2giLCJzdWIiOiJhIiwiZXhwIjo0MDAwMDAwMDAwLCJzY29wZSI6InJlYWQ6KiJ9.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "deny:append:order-*",
        r#"{"url":"http://127.0.0.1:4077","pid":7,"log":"a"}"#,
    ];
    let key = Key::generate(&*sim::env(1).0.rng);
    let texts = texts.map(str::to_owned).into_iter().chain([key.bearer()]);
    texts.map(String::into_bytes).collect()
}
