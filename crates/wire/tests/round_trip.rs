//! What a type's schema allows, the type reads, and what it has read it writes so that it reads
//! as the same: for every type of the document, over values drawn at random.

use std::collections::BTreeSet;
use std::fmt::Debug;

use anabranch_wire::{
    AppendedEvent, CallLetter, Category, Circuit, CommandBody, CommandLetter, CommandOutcome,
    CopyId, CopyStatus, DeadLetter, Delivery, Diagnostic, Edited, Entity, EventsAppended, Expected,
    HeldEvent, History, Instance, LetterDone, LettersRetried, ListOutcome, ListedCommand,
    LiveMessage, LiveRequest, LogFiles, OperatorName, Parked, ParkedStream, PeerAnswer,
    PeerCommand, PeerDelivered, PeerField, PeerForget, PeerHeard, PeerOutcome, PeerPolicy,
    PeerQuery, PeerQuestion, PeerRole, PoisonEvent, Problem, ProblemParts, Process, ProcessDone,
    QueryAnswer, RecordedEvent, Registration, Rejection, ResumeStep, Retried, RetryLetters,
    SagaEnded, SagaOutcome, SagaState, SagaStep, Service, ServiceCircuit, ServiceLetter,
    ServiceView, SettleStep, StreamDone, Undo, Unparked, Version, View, ViewDone, Why, openapi,
};
use proptest::prelude::*;
use schemars::{JsonSchema, schema_for};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// A type by its name, and whether values of its schema survive it.
type Tried = (&'static str, fn(&mut Choices));

/// Numbers that decide what is drawn. Where they end all are zero, which is the least.
struct Choices(std::vec::IntoIter<u64>);

impl Choices {
    fn below(&mut self, n: usize) -> usize {
        (self.0.next().unwrap_or_default() % n.max(1) as u64) as usize
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// A value that `schema` allows; `root` has the definitions.
fn draw(schema: &Value, root: &Value, choices: &mut Choices) -> Value {
    let Some(schema) = schema.as_object().filter(|schema| {
        let says = ["$ref", "const", "enum", "anyOf", "oneOf", "type"];
        says.iter().any(|keyword| schema.contains_key(*keyword))
    }) else {
        return anything(choices);
    };
    let mut drawn = Value::Null;
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        let there = root.pointer(name.trim_start_matches('#'));
        return draw(there.expect(name), root, choices);
    }
    if let Some(value) = schema.get("const") {
        return value.clone();
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return choices.one(values).clone();
    }
    for one_of in ["anyOf", "oneOf"] {
        if let Some(branches) = schema.get(one_of).and_then(Value::as_array) {
            drawn = draw(choices.one(branches), root, choices);
        }
    }
    let kind = match schema.get("type") {
        Some(Value::Array(kinds)) => choices.one(kinds).as_str(),
        Some(kind) => kind.as_str(),
        None => return drawn,
    };
    match kind {
        Some("object") => {
            let mut object = object(schema, root, choices);
            if let Value::Object(of_branch) = drawn {
                object.extend(of_branch);
            }
            Value::Object(object)
        }
        Some("array") => {
            let items = schema.get("items").unwrap_or(&Value::Null);
            let count = choices.below(3);
            (0..count).map(|_| draw(items, root, choices)).collect()
        }
        Some("string") => {
            let texts = ["", "a", "order/536365", "0:42", "ä \"\\\n\u{0}"];
            (*choices.one(&texts)).into()
        }
        Some("integer") => {
            let format = schema.get("format").and_then(Value::as_str);
            let max = match format {
                Some("uint8") => u64::from(u8::MAX),
                Some("uint16") => u64::from(u16::MAX),
                Some("uint32") => u64::from(u32::MAX),
                Some("int32") => i32::MAX as u64,
                Some("int64") => i64::MAX as u64,
                _ => u64::MAX,
            };
            (*choices.one(&[0, 1, max])).into()
        }
        Some("number") => json!(*choices.one(&[0.0, 0.1, -2.5e-7, 1e300])),
        Some("boolean") => json!(choices.below(2) == 1),
        Some("null") => Value::Null,
        other => panic!("no value is drawn for {other:?}"),
    }
}

fn anything(choices: &mut Choices) -> Value {
    let values = [
        json!(null),
        json!({"a": [1, {"b": "ä"}]}),
        json!("x"),
        json!(-1.5),
        json!(u64::MAX),
        json!([]),
    ];
    choices.one(&values).clone()
}

fn object(schema: &Map<String, Value>, root: &Value, choices: &mut Choices) -> Map<String, Value> {
    let empty = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object);
    let required = schema.get("required").and_then(Value::as_array);
    let is_required = |name: &str| required.is_some_and(|r| r.iter().any(|n| n == name));
    let mut object = Map::new();
    for (name, property) in properties.unwrap_or(&empty) {
        if is_required(name) || choices.below(2) == 1 {
            object.insert(name.clone(), draw(property, root, choices));
        }
    }
    match schema.get("additionalProperties") {
        Some(Value::Bool(false)) => {}
        Some(values) => {
            for n in 0..choices.below(3) {
                object.insert(format!("key/{n}"), draw(values, root, choices));
            }
        }
        // A reader passes over what it does not know.
        None if choices.below(4) == 3 => {
            object.insert("a-field-of-tomorrow".to_owned(), anything(choices));
        }
        None => {}
    }
    object
}

fn survives<T>(choices: &mut Choices)
where
    T: JsonSchema + Serialize + DeserializeOwned + PartialEq + Debug,
{
    let schema = serde_json::to_value(schema_for!(T)).unwrap();
    let text = draw(&schema, &schema, choices).to_string();
    let read: T = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("the schema allows {text}, but: {error}"));
    let written = serde_json::to_string(&read).unwrap();
    let again: T = serde_json::from_str(&written)
        .unwrap_or_else(|error| panic!("{text} was written as {written}: {error}"));
    assert_eq!(again, read, "{text} was written as {written}");
}

macro_rules! tried {
    ($($name:ident)+) => { [$((stringify!($name), survives::<$name> as fn(&mut Choices))),+] };
}

const TRIED: &[Tried] = &tried![
    AppendedEvent CallLetter Category Circuit CommandBody CommandLetter CommandOutcome CopyId CopyStatus
    DeadLetter Delivery Diagnostic Edited Entity EventsAppended HeldEvent History Instance LetterDone LettersRetried ListOutcome ListedCommand LogFiles
    OperatorName Parked ParkedStream PoisonEvent Problem Process ProcessDone QueryAnswer
    RecordedEvent Registration Rejection ResumeStep Retried RetryLetters SagaEnded SagaOutcome SagaState SagaStep Service
    ServiceCircuit ServiceLetter ServiceView SettleStep StreamDone Undo Unparked Version View ViewDone Why
    PeerAnswer PeerCommand PeerDelivered PeerField PeerForget PeerHeard PeerOutcome PeerPolicy
    PeerQuery PeerQuestion PeerRole ProblemParts Expected LiveMessage LiveRequest
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_a_schema_allows_is_read_and_written_again_as_the_same(
        numbers in prop::collection::vec(any::<u64>(), 0..80)
    ) {
        for (_, survives) in TRIED {
            survives(&mut Choices(numbers.clone().into_iter()));
        }
    }

    #[test]
    fn no_bytes_make_a_reader_of_requests_panic(bytes: Vec<u8>, text in r#"[{}\[\]",:0-9a-z]{0,40}"#) {
        for bytes in [bytes.as_slice(), text.as_bytes()] {
            drop(serde_json::from_slice::<CommandBody>(bytes));
            drop(serde_json::from_slice::<Edited>(bytes));
            drop(serde_json::from_slice::<RetryLetters>(bytes));
            drop(serde_json::from_slice::<SettleStep>(bytes));
            drop(serde_json::from_slice::<PeerCommand>(bytes));
            drop(serde_json::from_slice::<PeerAnswer>(bytes));
            drop(serde_json::from_slice::<PeerForget>(bytes));
            drop(serde_json::from_slice::<PeerQuery>(bytes));
        }
    }
}

#[test]
fn every_type_of_the_document_that_has_fields_is_tried() {
    let document = openapi::document();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let has_fields = |schema: &Value| schema.get("properties").is_some();
    let named = schemas.iter().filter(|(_, schema)| has_fields(schema));
    let named: BTreeSet<&str> = named.map(|(name, _)| name.as_str()).collect();
    let tried: BTreeSet<&str> = TRIED.iter().map(|(name, _)| *name).collect();
    assert!(named.len() > 20, "{named:?}");
    let missing: Vec<_> = named.difference(&tried).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
