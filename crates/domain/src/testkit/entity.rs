use anabranch_model::{CommandId, StreamId};

use super::diff::assert_same;
use super::{START, shown, stored};
use crate::command::Command;
use crate::entity::{Decide, Entity};
use crate::publish::Publishes;
use crate::rejection::Rejection;
use crate::schema::Reader;
use crate::time::Timestamp;

/// Tests an entity to which these events have happened.
///
/// The events go through their stored form, so that what cannot be read back is noticed; so do
/// commands, and the state goes through a snapshot.
///
/// ```
/// # use anabranch_domain::{Decide, Entity, Event, Rejection, testkit::given};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize, Event)]
/// # enum TillEvent { Paid { mills: u64 } }
/// # #[derive(Serialize, Deserialize)]
/// # enum TillCommand { Pay { mills: u64 } }
/// # #[derive(Default, Serialize, Deserialize)]
/// # struct Till { mills: u64 }
/// # impl Entity for Till {
/// #     const CATEGORY: &'static str = "till";
/// #     type Command = TillCommand;
/// #     type Event = TillEvent;
/// #     type Rejection = Rejection;
/// #     fn decide(&self, command: &TillCommand, _: &Decide) -> Result<Vec<TillEvent>, Rejection> {
/// #         let TillCommand::Pay { mills } = *command;
/// #         if mills == 0 { return Err(Rejection::new("nothing", "nothing to pay")); }
/// #         Ok(vec![TillEvent::Paid { mills }])
/// #     }
/// #     fn evolve(&mut self, event: &TillEvent) {
/// #         let TillEvent::Paid { mills } = event;
/// #         self.mills += mills;
/// #     }
/// # }
/// given::<Till>([TillEvent::Paid { mills: 5 }])
///     .when(TillCommand::Pay { mills: 7 })
///     .then([TillEvent::Paid { mills: 7 }])
///     .when(TillCommand::Pay { mills: 0 })
///     .then_rejected("nothing")
///     .then_state(|till| assert_eq!(till.mills, 12));
/// ```
#[track_caller]
pub fn given<E: Entity>(events: impl IntoIterator<Item = E::Event>) -> EntityTest<E> {
    entity("1").given(events)
}

/// Tests the entity of this key, to which nothing has happened.
#[track_caller]
pub fn entity<E: Entity>(key: &str) -> EntityTest<E> {
    EntityTest {
        stream: StreamId::of(E::CATEGORY, key).unwrap_or_else(|error| panic!("{error}")),
        state: E::default(),
        events: 0,
        commands: 0,
        now: START,
        sender: None,
        reader: Reader::new().unwrap_or_else(|error| panic!("{}: {error}", E::CATEGORY)),
    }
}

/// An entity under test.
pub struct EntityTest<E: Entity> {
    stream: StreamId,
    state: E,
    events: u64,
    commands: u64,
    now: Timestamp,
    sender: Option<StreamId>,
    reader: Reader<E::Event>,
}

/// What came of a command.
pub struct EntityThen<E: Entity> {
    test: EntityTest<E>,
    command: &'static str,
    outcome: Result<Vec<E::Event>, Rejection>,
}

impl<E: Entity> EntityTest<E> {
    /// These events happen.
    #[must_use]
    #[track_caller]
    pub fn given(mut self, events: impl IntoIterator<Item = E::Event>) -> Self {
        for event in events {
            self.happen(&event);
        }
        self
    }

    /// It is this time now.
    #[must_use]
    pub fn at(mut self, now: Timestamp) -> Self {
        self.now = now;
        self
    }

    /// From here on the commands come from this process or saga, `category/key`.
    #[must_use]
    #[track_caller]
    pub fn sent_by(mut self, sender: &str) -> Self {
        self.sender = Some(StreamId::new(sender).unwrap_or_else(|error| panic!("{error}")));
        self
    }

    /// This is asked. What comes of it has happened for the next command.
    #[must_use]
    #[track_caller]
    pub fn when(mut self, command: E::Command) -> EntityThen<E> {
        let (name, data) = command.to_wire().unwrap_or_else(|error| panic!("{error}"));
        let command = E::Command::from_wire(name, data.as_str().as_bytes())
            .unwrap_or_else(|error| panic!("it cannot be read back: {error}"));
        self.commands += 1;
        let id = CommandId::v7(self.now.micros() / 1000, u128::from(self.commands));
        let version = self.events.checked_sub(1);
        let cx =
            Decide::new(self.stream.clone(), version, id, self.now).sent_by(self.sender.clone());
        let outcome = self.state.decide(&command, &cx).map_err(Into::into);
        if let Ok(events) = &outcome {
            for event in events {
                self.happen(event);
            }
        }
        EntityThen {
            test: self,
            command: name,
            outcome,
        }
    }

    /// Looks at the state.
    #[track_caller]
    pub fn then_state(self, look: impl FnOnce(&E)) -> Self {
        look(&self.state);
        self
    }

    #[track_caller]
    fn happen(&mut self, event: &E::Event) {
        let stored = stored(self.stream.as_str(), event, self.events, self.now);
        let read = self
            .reader
            .read(stored.event_type(), stored.schema_version, stored.data());
        match read {
            Ok(Some(event)) => self.state.evolve(&event),
            Ok(None) => {}
            Err(error) => panic!("it cannot be read back: {error}"),
        }
        self.events += 1;
        self.through_snapshot();
    }

    #[track_caller]
    fn through_snapshot(&mut self) {
        let state = std::any::type_name::<E>();
        let snapshot = serde_json::to_string(&self.state)
            .unwrap_or_else(|error| panic!("{state} cannot be kept in a snapshot: {error}"));
        self.state = serde_json::from_str(&snapshot)
            .unwrap_or_else(|error| panic!("{state} cannot be read from its snapshot: {error}"));
        let again = serde_json::to_string(&self.state).unwrap_or_default();
        assert_eq!(
            snapshot, again,
            "{state} is not the same after it was read from its snapshot"
        );
    }
}

impl<E: Publishes> EntityTest<E> {
    /// In this state, this event has the others told just this.
    #[track_caller]
    pub fn then_publishes(self, event: &E::Event, expected: Option<E::Published>) -> Self {
        let told =
            |event: Option<E::Published>| -> Vec<String> { event.iter().map(shown).collect() };
        let (expected, actual) = (told(expected), told(self.state.publish(event)));
        assert_same("what is published", &expected, &actual);
        self
    }
}

impl<E: Entity> EntityThen<E> {
    /// Just these events happen.
    #[track_caller]
    pub fn then(self, events: impl IntoIterator<Item = E::Event>) -> EntityTest<E> {
        let expected: Vec<String> = events.into_iter().map(|e| shown(&e)).collect();
        match &self.outcome {
            Ok(events) => {
                let actual: Vec<String> = events.iter().map(shown).collect();
                assert_same(&format!("events of {}", self.command), &expected, &actual);
            }
            Err(rejection) => {
                let actual = [format!("rejected: {rejection}")];
                assert_same(&format!("events of {}", self.command), &expected, &actual);
            }
        }
        self.test
    }

    /// It is accepted, and nothing happens.
    #[track_caller]
    pub fn then_nothing(self) -> EntityTest<E> {
        self.then([])
    }

    /// It is rejected with this code.
    #[track_caller]
    pub fn then_rejected(self, code: &str) -> EntityTest<E> {
        match &self.outcome {
            Ok(events) => {
                let actual: Vec<String> = events.iter().map(shown).collect();
                let expected = [format!("rejected: {code}")];
                assert_same(&format!("events of {}", self.command), &expected, &actual);
                panic!(
                    "{} was accepted; expected the rejection {code}",
                    self.command
                );
            }
            Err(rejection) => assert_eq!(
                rejection.code, code,
                "{} was rejected for another reason: {rejection}",
                self.command
            ),
        }
        self.test
    }
}
