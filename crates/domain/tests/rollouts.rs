//! How older programs read newer events, and what a new build of one service would break.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_domain::saga::DefinitionHash;
use anabranch_domain::types::{
    CategoryTypes, EventTypes, FindingCode, Held, ReaderTypes, Registered, Rollout, Running,
    ServiceTypes, check_rollout,
};
use anabranch_domain::{
    Downcasts, Event, FieldChange, Lowered, Newer, Reader, SchemaError, Upcasts,
};
use anabranch_model::{Event as Stored, EventId, NewEvent, Position, StreamId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Debug, PartialEq, Serialize, Deserialize, Event)]
enum Old {
    Placed { total: u64, note: String },
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Event)]
#[event(upcasts = upcasts, downcasts = downcasts)]
enum New {
    #[event(version = 3)]
    Placed {
        sum: Sum,
        gift: bool,
    },
    Wrapped {},
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Sum {
    pence: u64,
}

fn upcasts() -> Upcasts {
    Upcasts::none()
        .change("Placed", 1, Ok)
        .change("Placed", 2, Ok)
}

fn downcasts() -> Downcasts {
    Downcasts::none()
        .change(
            "Placed",
            3,
            [
                FieldChange::rename("sum.pence", "pence"),
                FieldChange::drop("sum"),
            ],
        )
        .change(
            "Placed",
            2,
            [
                FieldChange::rename("pence", "total"),
                FieldChange::drop("gift"),
                FieldChange::default("note", "none"),
            ],
        )
        .pass_over("Wrapped")
}

fn stored(name: &str, version: u32, data: Value) -> Stored {
    let stream = StreamId::new("order/1").unwrap();
    let id = EventId::from_u128(1);
    let mut new = NewEvent::new(id, stream, name.parse().unwrap(), data.to_string());
    new.schema_version = version;
    Stored::stored(&new, Position::at(0), 0, 0)
}

fn read(newer: Downcasts, event: &Stored) -> Result<Option<Old>, String> {
    let known = Arc::new(Newer::default());
    known.learn("order", newer);
    let reader = Reader::<Old>::taught(known).unwrap();
    let mut room = Lowered::default();
    let Some(known) = reader.known(&event.as_ref(), &mut room) else {
        return Ok(None);
    };
    let read = reader.read(known.event_type, known.schema_version, known.data);
    read.map_err(|error| error.to_string())
}

#[test]
fn a_newer_event_is_led_down_version_by_version_by_what_the_log_says() {
    let event = stored("Placed", 3, json!({ "sum": { "pence": 5 }, "gift": true }));
    let through_json: Downcasts =
        serde_json::from_str(&serde_json::to_string(&downcasts()).unwrap()).unwrap();
    let old = Old::Placed {
        total: 5,
        note: "none".to_owned(),
    };
    assert_eq!(read(through_json, &event), Ok(Some(old)));
    let wrapped = stored("Wrapped", 1, json!({}));
    assert_eq!(read(downcasts(), &wrapped), Ok(None));
}

#[test]
fn without_a_downcast_a_newer_event_is_refused_in_clear_words() {
    let event = stored("Placed", 3, json!({}));
    let error = read(Downcasts::none(), &event).unwrap_err();
    assert!(
        error.contains("it was written by a newer program"),
        "{error}"
    );
    let half = Downcasts::none().change("Placed", 3, []);
    let error = read(half, &event).unwrap_err();
    assert!(
        error.contains("it was written by a newer program"),
        "{error}"
    );
}

#[test]
fn a_default_is_given_where_a_field_is_missing_whatever_signs_its_name_has() {
    for (name, there) in [
        ("a/b", json!({ "a/b": "there" })),
        ("a~b", json!({ "a~b": "there" })),
        ("a~1b", json!({ "a~1b": "there" })),
        ("a.b/c", json!({ "a": { "b/c": "there" } })),
    ] {
        let old = |data: Value| {
            let change = FieldChange::default(name, "given");
            let casts = Downcasts::none().change("Placed", 2, [change]);
            read_plain(casts, &stored("Placed", 2, data)).unwrap()
        };
        assert_eq!(old(there.clone()), there, "{name}");
        let given = there.to_string().replace("there", "given");
        assert_eq!(old(json!({})).to_string(), given, "{name}");
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Event)]
enum Plain {
    Placed(Value),
}

/// What an older program sees of the data.
fn read_plain(newer: Downcasts, event: &Stored) -> Result<Value, String> {
    let known = Arc::new(Newer::default());
    known.learn("order", newer);
    let reader = Reader::<Plain>::taught(known).unwrap();
    let mut room = Lowered::default();
    let known = reader.known(&event.as_ref(), &mut room).unwrap();
    let read = reader.read(known.event_type, known.schema_version, known.data);
    match read.map_err(|error| error.to_string())? {
        Some(Plain::Placed(data)) => Ok(data),
        None => Err("it is passed over".to_owned()),
    }
}

#[test]
fn downcasts_that_begin_nowhere_or_twice_are_refused() {
    macro_rules! refused {
        ($name:ident, $downcasts:expr, $why:literal) => {{
            #[derive(Debug, Serialize, Deserialize, Event)]
            #[event(downcasts = $name)]
            enum Wrong {
                Placed {},
            }
            fn $name() -> Downcasts {
                $downcasts
            }
            let error = Reader::<Wrong>::new().unwrap_err();
            assert!(matches!(error, SchemaError::Downcast { .. }), "{error}");
            assert!(error.to_string().contains($why), "{error}");
        }};
    }
    refused!(
        newer,
        Downcasts::none().change("Placed", 2, []),
        "not written"
    );
    refused!(
        nobody,
        Downcasts::none().change("Plcaed", 1, []),
        "nobody writes"
    );
    refused!(
        first,
        Downcasts::none().change("Placed", 1, []),
        "no version before"
    );
    refused!(
        twice,
        Downcasts::none()
            .rename(("Placed", 1), ("Put", 1))
            .rename(("Placed", 1), ("Set", 1)),
        "two steps"
    );
}

#[test]
fn who_knows_a_name_does_not_pass_over_its_newer_versions() {
    let event = stored("Placed", 3, json!({ "sum": { "pence": 5 }, "gift": true }));
    // Said first, it does not win over the steps of versions.
    let both = Downcasts::none().pass_over("Placed").and(downcasts());
    let old = Old::Placed {
        total: 5,
        note: "none".to_owned(),
    };
    assert_eq!(read(both, &event), Ok(Some(old)));
    let alone = Downcasts::none().pass_over("Placed");
    let error = read(alone.clone(), &event).unwrap_err();
    assert!(
        error.contains("it was written by a newer program"),
        "{error}"
    );
    // Known at a version above the first, it is known.
    let knows =
        |name: &str, version: Option<u32>| name == "Placed" && version.is_none_or(|v| v == 2);
    assert!(!alone.leads("Placed", 3, &knows));
    assert!(alone.leads("Placed", 3, &|_, _| false));
}

fn service<E: Event>() -> ServiceTypes {
    ServiceTypes {
        service: "orders".to_owned(),
        entities: vec![CategoryTypes {
            category: "order".to_owned(),
            events: EventTypes::of::<E>(),
        }],
        ..ServiceTypes::default()
    }
}

/// Another service, whose view reads the old form.
fn reader() -> ServiceTypes {
    ServiceTypes {
        service: "desk".to_owned(),
        readers: vec![ReaderTypes {
            what: "view".to_owned(),
            name: "sales".to_owned(),
            categories: vec!["order".to_owned()],
            events: EventTypes::of::<Old>(),
        }],
        ..ServiceTypes::default()
    }
}

fn held() -> Held {
    let said = Registered {
        service: "orders".to_owned(),
        kinds: EventTypes::of::<Old>().kinds,
        downcasts: Downcasts::none(),
    };
    let placed = BTreeMap::from([("Placed".to_owned(), BTreeMap::from([(1, 7)]))]);
    Held {
        events: [("order".to_owned(), placed)].into(),
        registered: [("order".to_owned(), vec![said])].into(),
    }
}

fn rollout(next: &ServiceTypes, running: Vec<ServiceTypes>) -> Rollout {
    let running = Running {
        services: running,
        ..Running::default()
    };
    check_rollout(next, &held(), &running)
}

#[test]
fn a_reader_of_another_service_that_has_a_downcast_goes_on_and_is_named() {
    let found = rollout(&service::<New>(), vec![service::<Old>(), reader()]);
    assert_eq!(found.report.breaks, []);
    assert_eq!(found.readers[0].reader, "view sales");
    assert_eq!(found.readers[0].by_downcast, ["Placed v3"]);
}

#[test]
fn a_reader_of_another_service_that_has_none_is_named_with_its_service() {
    let mut next = service::<New>();
    next.entities[0].events.downcasts = Downcasts::none();
    let found = rollout(&next, vec![reader()]);
    let breaks = &found.report.breaks;
    assert_eq!(breaks.len(), 1, "{breaks:?}");
    assert_eq!(breaks[0].code, FindingCode::ReaderBehind);
    assert_eq!(breaks[0].whom, "view sales of service desk");
    assert!(found.readers[0].breaks);
}

#[test]
fn a_downcast_that_leaves_a_field_out_is_found_before_the_roll_out() {
    let mut next = service::<New>();
    next.entities[0].events.downcasts = Downcasts::none().change("Placed", 3, []).change(
        "Placed",
        2,
        [FieldChange::rename("sum", "total")],
    );
    let found = rollout(&next, vec![reader()]);
    let codes: Vec<_> = found.report.breaks.iter().map(|one| one.code).collect();
    assert!(codes.contains(&FindingCode::RequiredField), "{codes:?}");
}

#[test]
fn a_build_that_stops_publishing_is_named_with_who_waits_for_it() {
    let mut next = service::<Old>();
    next.entities[0].category = "order-private".to_owned();
    let mut view = reader();
    let found = rollout(&next, vec![service::<Old>(), view.clone()]);
    let breaks = &found.report.breaks;
    assert_eq!(breaks.len(), 1, "{breaks:?}");
    assert_eq!(breaks[0].code, FindingCode::NobodyWrites);
    assert_eq!(breaks[0].whom, "view sales of service desk");
    assert!(found.readers[0].breaks);
    // What it reads besides does not hide that, when nobody writes it there either.
    let mut held = held();
    let quiet = Registered {
        service: "other".to_owned(),
        kinds: Vec::new(),
        downcasts: Downcasts::none(),
    };
    held.registered.insert("a-foreign".to_owned(), vec![quiet]);
    view.readers[0].categories.insert(0, "a-foreign".to_owned());
    let mut running = Running {
        services: vec![service::<Old>(), view],
        ..Running::default()
    };
    let found = check_rollout(&next, &held, &running);
    assert_eq!(found.report.breaks.len(), 1, "{:?}", found.report.breaks);
    assert_eq!(found.report.breaks[0].event, "order/… Placed v1");
    // Another service that has the category now writes it.
    let mut heir = service::<Old>();
    heir.service = "heir".to_owned();
    running.services.push(heir);
    let found = check_rollout(&next, &held, &running);
    assert_eq!(found.report.breaks, []);
}

#[test]
fn instances_of_a_saga_on_a_definition_that_the_build_does_not_have_are_counted() {
    let hash = |n: u8| DefinitionHash::try_from(format!("{n:032x}")).unwrap();
    let mut next = service::<Old>();
    next.sagas = [("checkout".to_owned(), vec![hash(1)])].into();
    let running = Running {
        sagas: [("checkout".to_owned(), [(hash(1), 3), (hash(2), 4)].into())].into(),
        ..Running::default()
    };
    let found = check_rollout(&next, &held(), &running);
    assert_eq!(found.sagas, 7);
    let breaks = &found.report.breaks;
    assert_eq!(
        (breaks.len(), breaks[0].code),
        (1, FindingCode::RunningSagas)
    );
    assert_eq!(breaks[0].stored, 4);
}

#[test]
fn a_command_that_the_build_does_not_take_any_more_is_found() {
    let taking = |names: &[&str]| ServiceTypes {
        commands: [(
            "order".to_owned(),
            names.iter().map(|&name| name.to_owned()).collect(),
        )]
        .into(),
        ..service::<Old>()
    };
    let found = rollout(&taking(&["Place", "Place@2"]), vec![taking(&["Place"])]);
    assert_eq!(found.report.breaks, []);
    let found = rollout(&taking(&["Place@2"]), vec![taking(&["Place"])]);
    assert_eq!(found.report.breaks[0].code, FindingCode::RemovedCommand);
}
