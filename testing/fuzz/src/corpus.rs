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
use anabranch_model::record::encode;
use anabranch_model::{
    Cut, EventId, EventType, Meta, NewEvent, PartitionId, Position, Session, StreamId, TokenKey, TokenSeal,
};
use serde_json::json;

use crate::kept;

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
