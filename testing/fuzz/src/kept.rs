//! What the runtime keeps: snapshots, checkpoints, the registry of schemas, journals.

use std::path::Path;

use anabranch_domain::process::{ProcessEvent, ProcessInstance, ProcessType};
use anabranch_domain::saga::{SagaEvent, SagaState};
use anabranch_domain::{Correlate, Decide, EventRef, Input, Process, Reaction};
use anabranch_env::sim;
use anabranch_log::{Append, Log, MemoryLog};
use anabranch_model::{EventId, EventType, NewEvent, StreamId};
use anabranch_runtime::checkpoint::{Checkpoint, Checkpoints, DiskCheckpoints};
use anabranch_runtime::registry::registered;
use anabranch_runtime::snapshot::{DiskSnapshots, Snapshot, SnapshotStore};

use serde::{Deserialize, Serialize};

use crate::texts::same_again;

fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(future)
}

pub(crate) fn stream() -> StreamId {
    StreamId::new("order/1").unwrap()
}

pub(crate) fn a_snapshot() -> Snapshot {
    Snapshot {
        fingerprint: 7 << 100,
        version: 3,
        last_event: EventId::from_u128(9),
        state: b"{\"sum\":\n5}".to_vec(),
    }
}

pub(crate) fn a_checkpoint() -> Checkpoint {
    Checkpoint {
        fingerprint: 7 << 100,
        data: b"{\"place\":5}".to_vec(),
    }
}

/// The bytes of a snapshot's file, or of a checkpoint's.
pub(crate) fn file(save: impl AsyncFnOnce(&anabranch_env::Env)) -> (sim::SimDisk, Vec<u8>) {
    let (env, disk, _) = sim::env(1);
    wait(save(&env));
    let (path, _) = disk.files().remove(0);
    let bytes = disk.content(&path).unwrap().to_vec();
    (disk, bytes)
}

pub(crate) async fn save_snapshot(env: &anabranch_env::Env) {
    let store = DiskSnapshots::open(env.disk.clone(), "/kept").unwrap();
    store.save(&stream(), a_snapshot()).await.unwrap();
}

pub(crate) async fn save_checkpoint(env: &anabranch_env::Env) {
    let store = DiskCheckpoints::open(env.disk.clone(), "/kept").unwrap();
    store.save("mailer", a_checkpoint()).await.unwrap();
}

fn plant(disk: &sim::SimDisk, data: &[u8]) {
    let (path, _) = disk.files().remove(0);
    disk.plant(Path::new(&path), data).unwrap();
}

/// The file of a snapshot: the one that was written, or none.
pub fn snapshot(data: &[u8]) {
    let (disk, _) = file(save_snapshot);
    plant(&disk, data);
    let store = DiskSnapshots::open(disk.env(1).disk, "/kept").unwrap();
    if let Ok(Some(found)) = wait(store.load(&stream())) {
        assert_eq!(found, a_snapshot());
    }
}

/// The file of a checkpoint: the one that was written, or an error.
pub fn checkpoint(data: &[u8]) {
    let (disk, _) = file(save_checkpoint);
    plant(&disk, data);
    let store = DiskCheckpoints::open(disk.env(1).disk, "/kept").unwrap();
    if let Ok(found) = wait(store.load("mailer")) {
        assert_eq!(found, Some(a_checkpoint()));
    }
}

/// An entry of the registry of schemas, as anything may have written it.
pub fn registry(data: &[u8]) {
    let (env, _, _) = sim::env(1);
    let log = MemoryLog::new(env);
    let stream = StreamId::system("$schema/order").unwrap();
    let kind = EventType::new("Registered").unwrap();
    let mut event = NewEvent::new(EventId::from_u128(1), stream, kind, data.to_vec());
    event.meta_mut().content_type = Some("application/octet-stream".to_owned());
    if wait(log.append(Append::event(event))).is_ok() {
        drop(wait(registered(&log)));
    }
}

/// What happens in the shop, as a process hears it.
#[derive(Debug, Clone, Serialize, Deserialize, anabranch_domain::Event)]
#[event(crate = "anabranch_domain")]
pub(crate) enum Heard {
    Placed { total: u64 },
    Shipped,
}

/// Counts what it hears.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Counting {
    heard: u64,
    answers: u64,
}

impl Process for Counting {
    const NAME: &'static str = "counting";
    const CATEGORIES: &'static [&'static str] = &["order"];
    type Event = Heard;

    fn correlate(_: &Heard, about: &EventRef<'_>) -> Correlate {
        Correlate::Start(about.key().to_owned())
    }

    fn decide(&self, _: &Input<Heard>, _: &Decide) -> Reaction {
        Reaction::none()
    }

    fn evolve(&mut self, input: &Input<Heard>) {
        match input {
            Input::Reply(_) => self.answers += 1,
            Input::Event(..) | Input::Timer(_) => self.heard += 1,
        }
    }
}

/// The journal of a process, one event on each line: read, written again, and taken in; then what
/// it has made is written as a snapshot has it, and asked what is still to be sent.
pub fn process_journal(data: &[u8]) {
    let process = ProcessType::<Counting>::new().unwrap();
    let mut instance = ProcessInstance::<Counting>::new(StreamId::new("counting/1").unwrap());
    for line in data.split(|&byte| byte == b'\n') {
        if let Ok(event) = serde_json::from_slice::<ProcessEvent>(line) {
            // What cannot be read parks the instance.
            drop(instance.evolve(&process, &event));
        }
        same_again::<ProcessEvent>(line);
    }
    same_again::<ProcessInstance<Counting>>(&serde_json::to_vec(&instance).unwrap());
    drop(instance.outstanding());
}

/// The journal of a saga, one event on each line: read, written again, and taken in.
pub fn saga_journal(data: &[u8]) {
    let mut state = SagaState::new(StreamId::system("$saga-order/1").unwrap());
    for line in data.split(|&byte| byte == b'\n') {
        if let Ok(event) = serde_json::from_slice::<SagaEvent>(line) {
            state.evolve(&event);
        }
        same_again::<SagaEvent>(line);
    }
    same_again::<SagaState>(&serde_json::to_vec(&state).unwrap());
}
