//! What a program's types look like, and which changes of them break whom.

use std::collections::BTreeMap;

use anabranch_domain::types::{
    CategoryTypes, EventTypes, FindingCode, Held, ProgramTypes, ReaderTypes, Registered,
    ServiceTypes, Shape, check,
};
use anabranch_domain::{Downcasts, Event, FieldChange, Json, StreamId, Timestamp, Upcasts};
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Serialize, Deserialize)]
struct Line {
    sku: String,
    units: u32,
    #[serde(default)]
    gift: bool,
}

#[derive(Serialize, Deserialize)]
enum Channel {
    Web,
    Shop { till: u8 },
}

/// Accepts nothing that a stranger would think of.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Picky(String);

impl TryFrom<String> for Picky {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, &'static str> {
        match text.as_str() {
            "xyzzy" => Ok(Self(text)),
            _ => Err("say the word"),
        }
    }
}

impl From<Picky> for String {
    fn from(picky: Picky) -> Self {
        picky.0
    }
}

#[derive(Serialize, Deserialize, Event)]
enum Everything {
    Placed {
        #[serde(alias = "client")]
        customer: String,
        lines: Vec<Line>,
        channel: Channel,
        note: Option<String>,
        by_day: BTreeMap<String, i64>,
        at: Timestamp,
        stream: StreamId,
        raw: Json,
        rate: (f64, u8),
    },
    #[event(version = 3, rename = "Renamed")]
    Inner(u64),
    Nothing,
    Odd {
        before: u8,
        word: Picky,
        after: u8,
    },
}

#[derive(Serialize, Deserialize, Event)]
enum Outer {
    #[event(nested)]
    Inner(Inner),
}

#[derive(Serialize, Deserialize, Event)]
enum Inner {
    Deep { n: i16 },
}

#[test]
fn the_shape_of_an_event_is_found_without_a_value_of_it() {
    let shape = serde_json::to_value(Everything::shape_of("Placed")).unwrap();
    let field = |shape, required: bool| json!({"shape": shape, "required": required});
    let line = json!({"fields": {
        "sku": field(json!("text"), true),
        "units": field(json!({"unsigned": 32}), true),
        "gift": field(json!("bool"), false),
    }});
    assert_eq!(
        shape,
        json!({"fields": {
            "customer": field(json!("text"), true),
            "lines": field(json!({"list": line}), true),
            "channel": field(json!({"one-of": ["Web", "Shop"]}), true),
            "note": field(json!({"optional": "text"}), false),
            "by_day": field(json!({"map": {"signed": 64}}), true),
            "at": field(json!({"unsigned": 64}), true),
            "stream": field(json!("text"), true),
            "raw": field(json!("any"), true),
            "rate": field(json!({"tuple": [{"float": 64}, {"unsigned": 8}]}), true),
        }})
    );
    assert_eq!(Everything::shape_of("Renamed"), Shape::Unsigned(64));
    assert_eq!(Everything::shape_of("Nothing"), Shape::Nothing);
    assert_eq!(Everything::shape_of("Missing"), Shape::Unknown);
}

#[test]
fn a_nested_event_has_the_shape_that_it_has_alone() {
    assert_eq!(Outer::shape_of("Deep"), Inner::shape_of("Deep"));
    assert_eq!(Outer::shape_of("Deep").to_string(), "{n: i16}");
}

#[test]
fn what_nobody_can_make_up_is_not_claimed() {
    let shape = serde_json::to_value(Everything::shape_of("Odd")).unwrap();
    let fields = &shape["fields"];
    assert_eq!(fields["before"]["required"], true);
    assert_eq!(fields["word"]["shape"], "text");
    assert_eq!(fields["word"]["required"], true);
    // What stands behind it cannot be told apart from it.
    assert_eq!(fields["after"]["required"], json!(null));
}

#[test]
fn types_that_hold_themselves_have_a_shape() {
    #[derive(Serialize, Deserialize)]
    enum Term {
        Sum(Box<Term>, Box<Term>),
        Product { of: Vec<Term> },
        Number(u64),
    }
    #[derive(Serialize, Deserialize)]
    struct Tree {
        name: String,
        left: Option<Box<Tree>>,
        right: Option<Box<Tree>>,
        others: Vec<Tree>,
    }
    #[derive(Serialize, Deserialize, Event)]
    enum Deep {
        Grown { term: Term, tree: Tree, after: bool },
    }
    let shape = serde_json::to_value(Deep::shape_of("Grown")).unwrap();
    let fields = &shape["fields"];
    let names = json!({"one-of": ["Sum", "Product", "Number"]});
    assert_eq!(fields["term"]["shape"], names);
    let tree = &fields["tree"]["shape"]["fields"];
    assert_eq!(tree["name"]["shape"], "text");
    let left = &tree["left"]["shape"]["optional"]["fields"];
    assert_eq!(left["name"]["required"], true);
    // What stands behind them is seen too.
    assert_eq!(fields["after"], json!({"shape": "bool", "required": true}));
}

#[test]
fn a_shape_reads_back_as_it_was_written() {
    for name in ["Placed", "Renamed", "Nothing", "Odd"] {
        let shape = Everything::shape_of(name);
        let text = serde_json::to_string(&shape).unwrap();
        assert_eq!(serde_json::from_str::<Shape>(&text).unwrap(), shape);
    }
}

/// What was written, by an older program.
#[derive(Serialize, Deserialize, Event)]
enum Before {
    Placed { total: u32, channel: Channel },
    Shipped { to: Option<String> },
}

fn held<E: Event>(events: &[(&str, u32)]) -> Held {
    let registered = Registered {
        service: "orders".to_owned(),
        kinds: EventTypes::of::<E>().kinds,
        downcasts: Downcasts::none(),
    };
    let mut held = Held {
        registered: [("order".to_owned(), vec![registered])].into(),
        ..Held::default()
    };
    for (name, version) in events {
        let types = held.events.entry("order".to_owned()).or_default();
        let versions = types.entry((*name).to_owned()).or_default();
        versions.insert(*version, 7);
    }
    held
}

fn program<E: Event>() -> ProgramTypes {
    ProgramTypes(vec![ServiceTypes {
        service: "orders".to_owned(),
        entities: vec![CategoryTypes {
            category: "order".to_owned(),
            events: EventTypes::of::<E>(),
        }],
        ..ServiceTypes::default()
    }])
}

fn with_view<E: Event, V: Event>() -> ProgramTypes {
    let mut program = program::<E>();
    program.0[0].readers.push(ReaderTypes {
        what: "view".to_owned(),
        name: "customers".to_owned(),
        categories: vec!["order".to_owned()],
        events: EventTypes::of::<V>(),
    });
    program
}

/// The one thing that breaks: its code, whom, and what.
#[track_caller]
fn one(program: &ProgramTypes, held: &Held) -> (FindingCode, String, String) {
    let report = check(program, held);
    let [finding] = &report.breaks[..] else {
        panic!("not one finding: {report:#?}");
    };
    assert!(!finding.remedy.is_empty());
    (finding.code, finding.whom.clone(), finding.what.clone())
}

const BOTH: &[(&str, u32)] = &[("Placed", 1), ("Shipped", 1)];

#[test]
fn the_same_types_break_nobody() {
    let report = check(&program::<Before>(), &held::<Before>(BOTH));
    assert_eq!(report.breaks, []);
    assert_eq!((report.kinds, report.events), (2, 14));
}

#[test]
fn compatible_changes_break_nobody() {
    #[derive(Serialize, Deserialize, Event)]
    enum After {
        Placed {
            // Wider, one field more with a default, one more value.
            total: u64,
            channel: MoreChannels,
            #[serde(default)]
            currency: String,
            note: Option<String>,
        },
        // A field less, and a new type.
        Shipped {},
        Returned {
            why: String,
        },
    }
    #[derive(Serialize, Deserialize)]
    enum MoreChannels {
        Web,
        Shop { till: u8 },
        Phone,
    }
    let report = check(&program::<After>(), &held::<Before>(BOTH));
    assert_eq!(report.breaks, []);
}

#[test]
fn a_new_version_with_its_upcast_breaks_nobody() {
    fn upcasts() -> Upcasts {
        Upcasts::none().change("Placed", 1, Ok).retire("Shipped")
    }
    #[derive(Serialize, Deserialize, Event)]
    #[event(upcasts = upcasts)]
    enum After {
        #[event(version = 2)]
        Placed { total: String },
    }
    let report = check(&program::<After>(), &held::<Before>(BOTH));
    assert_eq!(report.breaks, []);
}

#[derive(Serialize, Deserialize, Event)]
enum OnlyPlaced {
    Placed { total: u32, channel: Channel },
}

#[test]
fn a_type_that_was_removed_but_is_stored_is_found() {
    let (code, whom, what) = one(&program::<OnlyPlaced>(), &held::<Before>(BOTH));
    assert_eq!(code, FindingCode::RemovedType);
    assert_eq!(whom, "entity order");
    assert_eq!(what, "the program no longer knows Shipped v1");
    // Never stored, it is missed by nobody.
    let report = check(&program::<OnlyPlaced>(), &held::<Before>(&[("Placed", 1)]));
    assert_eq!(report.breaks, []);
}

#[test]
fn a_version_that_went_back_is_found() {
    let stored = [("Placed", 1), ("Placed", 2)];
    let (code, _, what) = one(&program::<OnlyPlaced>(), &held::<Before>(&stored));
    assert_eq!(code, FindingCode::LowerVersion);
    assert_eq!(
        what,
        "the program reads Placed up to v1, and the log holds v2"
    );
}

#[test]
fn a_missing_upcast_is_found() {
    #[derive(Serialize, Deserialize, Event)]
    enum After {
        #[event(version = 2)]
        Placed { total: String },
    }
    let (code, whom, what) = one(&program::<After>(), &held::<Before>(&[("Placed", 1)]));
    assert_eq!(code, FindingCode::MissingUpcast);
    assert_eq!(whom, "entity order");
    assert_eq!(what, "no upcast leads from Placed v1 to v2");
}

#[test]
fn a_field_that_became_required_is_found() {
    #[derive(Serialize, Deserialize, Event)]
    enum OneMore {
        Placed {
            total: u32,
            channel: Channel,
            currency: String,
        },
    }
    let stored = held::<Before>(&[("Placed", 1)]);
    let (code, _, what) = one(&program::<OneMore>(), &stored);
    assert_eq!(code, FindingCode::RequiredField);
    assert!(what.contains("`currency`"), "{what}");

    #[derive(Serialize, Deserialize, Event)]
    enum NoLongerOptional {
        Shipped { to: String },
    }
    let stored = held::<Before>(&[("Shipped", 1)]);
    let (code, _, what) = one(&program::<NoLongerOptional>(), &stored);
    assert_eq!(code, FindingCode::RequiredField);
    assert!(what.contains("`to`"), "{what}");
}

#[test]
fn downcasts_of_a_category_do_not_hide_what_its_older_events_lack() {
    #[derive(Serialize, Deserialize, Event)]
    enum OneMore {
        Placed { currency: String },
    }
    let mut stored = held::<Before>(&[("Placed", 1)]);
    let said = stored.registered.get_mut("order").unwrap();
    said[0].downcasts = Downcasts::none().change("Placed", 2, []);
    let (code, _, what) = one(&program::<OneMore>(), &stored);
    assert_eq!(code, FindingCode::RequiredField);
    assert!(what.contains("`currency`"), "{what}");
}

#[test]
fn stored_events_are_compared_as_downcasts_make_them() {
    #[derive(Serialize, Deserialize, Event)]
    enum Newer {
        #[event(version = 2)]
        Placed { sum: u32 },
    }
    #[derive(Serialize, Deserialize, Event)]
    enum Older {
        Placed { total: u32 },
    }
    let mut stored = held::<Newer>(&[("Placed", 2)]);
    let mut say = |change| {
        let said = stored.registered.get_mut("order").unwrap();
        said[0].downcasts = Downcasts::none().change("Placed", 2, [change]);
        stored.clone()
    };
    let fits = say(FieldChange::rename("sum", "total"));
    assert_eq!(check(&program::<Older>(), &fits).breaks, []);
    let lacks = say(FieldChange::drop("sum"));
    let (code, _, what) = one(&program::<Older>(), &lacks);
    assert_eq!(code, FindingCode::RequiredField);
    assert!(what.contains("`total`"), "{what}");
}

#[test]
fn a_value_of_another_type_is_found() {
    #[derive(Serialize, Deserialize, Event)]
    enum After {
        Placed { total: String, channel: Channel },
    }
    let stored = held::<Before>(&[("Placed", 1)]);
    let (code, _, what) = one(&program::<After>(), &stored);
    assert_eq!(code, FindingCode::ChangedType);
    assert!(what.contains("expects text in `total`"), "{what}");
    assert!(what.contains("u32"), "{what}");
}

#[test]
fn a_value_that_was_removed_is_found() {
    #[derive(Serialize, Deserialize)]
    enum FewerChannels {
        Web,
    }
    #[derive(Serialize, Deserialize, Event)]
    enum After {
        Placed { total: u32, channel: FewerChannels },
    }
    let stored = held::<Before>(&[("Placed", 1)]);
    let (code, _, what) = one(&program::<After>(), &stored);
    assert_eq!(code, FindingCode::RemovedValue);
    assert!(what.contains("\"Shop\""), "{what}");
}

#[test]
fn a_view_that_waits_for_what_nobody_writes_is_found() {
    #[derive(Serialize, Deserialize, Event)]
    enum Wants {
        Dispatched {},
    }
    let program = with_view::<Before, Wants>();
    let (code, whom, what) = one(&program, &held::<Before>(BOTH));
    assert_eq!(code, FindingCode::NobodyWrites);
    assert_eq!(whom, "view customers");
    assert!(what.contains("Dispatched"), "{what}");
    // Whether another program writes it, nobody can tell.
    let mut elsewhere = program;
    elsewhere.0[0].readers[0].categories = vec!["parcel".to_owned()];
    assert_eq!(check(&elsewhere, &held::<Before>(BOTH)).breaks, []);
}

#[test]
fn a_view_that_cannot_read_what_is_written_now_is_found() {
    fn upcasts() -> Upcasts {
        Upcasts::none().change("Placed", 1, Ok)
    }
    #[derive(Serialize, Deserialize, Event)]
    #[event(upcasts = upcasts)]
    enum Writes {
        #[event(version = 2)]
        Placed { total: String },
    }
    #[derive(Serialize, Deserialize, Event)]
    enum Reads {
        Placed { total: u32 },
    }
    let stored = held::<Before>(&[("Placed", 1)]);
    let (code, whom, what) = one(&with_view::<Writes, Reads>(), &stored);
    assert_eq!(code, FindingCode::ReaderBehind);
    assert_eq!(whom, "view customers");
    assert_eq!(what, "it reads Placed v1, and v2 is written");
}

#[test]
fn a_view_that_needs_what_its_events_do_not_have_is_found() {
    #[derive(Serialize, Deserialize, Event)]
    enum Reads {
        Placed { discount: u32 },
    }
    let report = check(
        &with_view::<Before, Reads>(),
        &held::<Before>(&[("Placed", 1)]),
    );
    assert!(!report.breaks.is_empty());
    for finding in &report.breaks {
        assert_eq!(finding.code, FindingCode::RequiredField);
        assert_eq!(finding.whom, "view customers");
    }
}

#[test]
fn what_others_own_and_what_the_platform_writes_is_left_alone() {
    let mut stored = held::<Before>(&[("Placed", 1), ("Shipped", 1), ("$Done", 1)]);
    let other = [("SagaStarted".to_owned(), [(1, 3)].into())];
    stored
        .events
        .insert("checkout".to_owned(), other.clone().into());
    stored.events.insert("parcel".to_owned(), other.into());
    let mut program = program::<Before>();
    program.0[0].journals.push("checkout".to_owned());
    let report = check(&program, &stored);
    assert_eq!(report.breaks, []);
    assert_eq!(report.others, ["parcel"]);
}
