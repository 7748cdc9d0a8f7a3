//! What comes in calls of the log and of services, and what callers show.

use std::path::Path;
use std::sync::LazyLock;

use anabranch_access::{Key, KeyHash, Scope, bearer};
use anabranch_env::sim;
use anabranch_jwt::Issuer;
use anabranch_model::Meta;
use anabranch_peer::{convert, line};
use anabranch_rpc::{
    append_error_of, append_of, append_to, appended_of, check_json, filter_of, mode_of,
    pack_append, pack_appended, protocol as p, read_error_of, registry as r, step_of,
    unpack_appended, unpack_appends,
};
use anabranch_server::Present;
use anabranch_wire as wire;
use buffa::Message;
use bytes::{Bytes, BytesMut};
use serde::de::DeserializeOwned;

use crate::corpus::KEY_SET;

/// The memory that the appends of one message may take.
const ROOM: usize = 1 << 20;

/// Messages of calls, in each form that they come in.
pub fn call(data: &[u8]) {
    packed(&Bytes::copy_from_slice(data));
    let take = |message| {
        if let Ok(append) = append_of(message) {
            assert_eq!(append_of(append_to(&append)), Ok(append));
        }
    };
    of::<p::AppendRequest>(data, "Append", take);
    of::<p::ReadRequest>(data, "Read", |message| {
        drop(mode_of(message.mode));
        drop(message.filter.into_option().map(filter_of));
    });
    of::<p::AppendManyRequest>(data, "AppendMany", |message| {
        packed(&message.packed.into());
    });
    of::<r::RegisterRequest>(data, "RegisterService", drop);
    if let Ok(message) = p::ReadResponse::decode_from_slice(data)
        && let Ok(step) = step_of(message)
        && let Some(batch) = step.batch
    {
        for event in &batch {
            // What was looked at when it came.
            event.unwrap();
        }
    }
    if let Ok(message) = p::AppendResponse::decode_from_slice(data) {
        drop(appended_of(&message));
    }
    if let Ok(message) = p::AppendProblem::decode_from_slice(data) {
        drop(append_error_of(message));
    }
    if let Ok(message) = p::ReadProblem::decode_from_slice(data) {
        drop(read_error_of(message));
    }
}

/// A message as protobuf, and as the JSON of a call.
fn of<M: Message + DeserializeOwned>(data: &[u8], call: &str, take: impl Fn(M)) {
    if let Ok(message) = M::decode_from_slice(data) {
        take(message);
    }
    let service = match call {
        "RegisterService" => "registry.v1.RegistryService",
        _ => "log.v1.LogService",
    };
    let path = format!("/anabranch.{service}/{call}");
    if check_json(&path, data, 1000).is_ok()
        && let Ok(message) = serde_json::from_slice(data)
    {
        take(message);
    }
}

/// Many appends in one run of bytes, and what became of them.
fn packed(data: &Bytes) {
    for (number, append) in unpack_appends(data, ROOM).unwrap_or_default() {
        let Ok(mut append) = append else { continue };
        for event in &mut append.events {
            // None is said as none there is.
            event.meta = event.meta.take().filter(|meta| **meta != Meta::default());
        }
        let mut again = Vec::new();
        assert!(pack_append(&mut again, number, &append));
        let again = unpack_appends(&again.into(), 2 * ROOM);
        assert_eq!(again, Ok(vec![(number, Ok(append))]));
    }
    let each = |number, appended| {
        let mut again = Vec::new();
        assert!(pack_appended(&mut again, number, &appended));
        let mut read = Vec::new();
        let each = |number, appended| read.push((number, appended));
        assert_eq!(unpack_appended(&again, each), Ok(()));
        assert_eq!(read, [(number, appended)]);
    };
    drop(unpack_appended(data, each));
}

/// What services ask one another, one request behind another.
pub fn peer_line(data: &[u8]) {
    let mut came = BytesMut::from(data);
    while let Ok(Some((_, kind, body))) = line::take_request(&mut came, 1 << 16) {
        match kind {
            0 => drop(read(&body).map(|said| convert::dispatch_of(&said))),
            1 => drop(read(&body).map(|said| convert::reply_of(&said))),
            2 => drop(read(&body).map(|said| convert::forget_of(&said))),
            3 => drop(read(&body).map(convert::ask_of)),
            // What is answered.
            4 => drop(read(&body).map(|said| convert::delivered_of(&said))),
            5 => drop(read(&body).map(|said| convert::shown_of(&said))),
            _ => drop(read::<wire::Problem>(&body)),
        }
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    serde_json::from_slice(body).ok()
}

static ISSUER: LazyLock<Issuer> = LazyLock::new(|| {
    let (env, disk, _) = sim::env(1);
    let path = Path::new("/keys.json");
    disk.plant(path, KEY_SET.as_bytes()).unwrap();
    Issuer::read(&env, path, "https://id.example", "anabranch", "scope").unwrap()
});

/// What callers show of who they are: keys, tokens that somebody else has signed, scopes; and the file by which a
/// server is found.
pub fn shown(data: &[u8]) {
    drop(ISSUER.authenticate(data, 1_700_000_000_000_000));
    let text = str::from_utf8(data).unwrap_or_default();
    for text in [text, bearer(data).unwrap_or_default()] {
        if let Some(key) = Key::parse(text) {
            assert_eq!(key.reveal(), text);
        }
        if let Some(hash) = KeyHash::parse(text) {
            assert_eq!(KeyHash::parse(&hash.to_string()), Some(hash));
        }
    }
    if let Ok(scope) = text.parse::<Scope>() {
        assert_eq!(scope.to_string(), text);
    }
    let (env, disk, _) = sim::env(1);
    disk.plant(Path::new("/log/server.json"), data).unwrap();
    drop(Present::find(&env, Path::new("/log")));
}
