//! What an entity decides over in memory is what it reads again, bit by bit.

use anabranch_domain::{Decide, Entity, Event, Rejection};
use anabranch_runtime::{SendError, Service};
use serde::{Deserialize, Serialize};

use crate::support::Bench;

/// A number of each type, as events hold them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Numbers {
    small: f32,
    large: f64,
    some: Option<f64>,
    many: Vec<f64>,
    signed: (i8, i16, i32, i64),
    unsigned: (u8, u16, u32, u64),
    huge: (i128, u128),
}

impl Numbers {
    /// Every bit of them.
    fn bits(&self) -> String {
        let bits: Vec<_> = self
            .many
            .iter()
            .chain(&self.some)
            .map(|n| n.to_bits())
            .collect();
        let (small, large) = (self.small.to_bits(), self.large.to_bits());
        let (signed, unsigned, huge) = (self.signed, self.unsigned, self.huge);
        format!("{small:x} {large:x} {bits:x?} {signed:?} {unsigned:?} {huge:?}")
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Numbered {
    numbers: Numbers,
    /// In events alone: nobody reads it back.
    hidden: u64,
}
#[derive(Debug, Clone, Serialize, Deserialize)]
enum NumberedCommand {
    Set(Numbers),
    /// Makes a number that is none.
    Divide {
        by: f64,
    },
    Hide,
    /// Says no, and every bit.
    Show,
}
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
enum NumberedEvent {
    NumbersSet(Numbers),
    Divided {
        n: f64,
    },
    Hidden {
        #[serde(skip)]
        secret: u64,
    },
    Broken {
        #[serde(skip_serializing)]
        needed: u64,
    },
}
impl Entity for Numbered {
    const CATEGORY: &'static str = "numbered";
    type Command = NumberedCommand;
    type Event = NumberedEvent;
    type Rejection = Rejection;
    fn decide(
        &self,
        command: &NumberedCommand,
        _: &Decide,
    ) -> Result<Vec<NumberedEvent>, Rejection> {
        Ok(vec![match command {
            NumberedCommand::Set(numbers) => NumberedEvent::NumbersSet(numbers.clone()),
            NumberedCommand::Divide { by } => NumberedEvent::Divided { n: 0.0 / by },
            NumberedCommand::Hide if self.hidden == 0 => NumberedEvent::Hidden { secret: 7 },
            NumberedCommand::Hide => NumberedEvent::Broken { needed: 7 },
            NumberedCommand::Show => {
                let bits = format!("{} {}", self.numbers.bits(), self.hidden);
                return Err(Rejection::new("shown", bits));
            }
        }])
    }
    fn evolve(&mut self, event: &NumberedEvent) {
        match event {
            NumberedEvent::NumbersSet(numbers) => self.numbers = numbers.clone(),
            NumberedEvent::Divided { n } => self.numbers.large = *n,
            NumberedEvent::Hidden { secret } => self.hidden = 1 + secret,
            NumberedEvent::Broken { needed } => self.hidden = *needed,
        }
    }
}

/// What the entity shows while it is in memory, and what it shows after a restart.
fn live_and_replayed(commands: Vec<NumberedCommand>) -> [String; 2] {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let bench = Bench::new();
        let start = || {
            Service::builder("test", bench.log(), bench.time.clone())
                .entity::<Numbered>()
                .start()
        };
        let mut service = start().await.unwrap();
        for command in commands {
            let sent = service.entity::<Numbered>("a").send(command).await;
            assert!(!matches!(sent, Err(SendError::Unknown { .. })), "{sent:?}");
        }
        let mut shown = Vec::new();
        for _ in 0..2 {
            let shows = service
                .entity::<Numbered>("a")
                .send(NumberedCommand::Show)
                .await;
            shown.push(shows.unwrap_err().to_string());
            service = start().await.unwrap();
        }
        shown.try_into().unwrap()
    })
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig {
        failure_persistence: None,
        ..proptest::prelude::ProptestConfig::with_cases(256)
    })]

    #[test]
    fn the_state_in_memory_is_the_state_that_its_events_make(
        floats in proptest::prelude::any::<(f32, f64, Option<f64>, Vec<f64>)>(),
        signed in proptest::prelude::any::<(i8, i16, i32, i64)>(),
        unsigned in proptest::prelude::any::<(u8, u16, u32, u64)>(),
        huge in proptest::prelude::any::<(i128, u128)>(),
    ) {
        let (small, large, some, many) = floats;
        let numbers = Numbers { small, large, some, many, signed, unsigned, huge };
        let [live, replayed] = live_and_replayed(vec![NumberedCommand::Set(numbers)]);
        proptest::prop_assert_eq!(live, replayed);
    }
}

#[test]
fn a_field_that_no_event_keeps_changes_no_state() {
    let [live, replayed] = live_and_replayed(vec![NumberedCommand::Hide]);
    assert_eq!(live, replayed);
}

#[tokio::test]
async fn an_event_that_cannot_be_read_back_is_refused_before_it_is_written() {
    let bench = Bench::new();
    let service = Service::builder("test", bench.log(), bench.time.clone())
        .entity::<Numbered>()
        .start()
        .await
        .unwrap();
    let entity = service.entity::<Numbered>("a");
    entity.send(NumberedCommand::Hide).await.unwrap();
    for command in [NumberedCommand::Divide { by: 0.0 }, NumberedCommand::Hide] {
        let refused = entity.send(command).await.unwrap_err();
        assert_eq!(refused.code(), "invalid", "{refused}");
        assert!(
            refused.to_string().contains("cannot be read back"),
            "{refused}"
        );
    }
    assert_eq!(bench.types("numbered/a").await, ["Hidden"]);
    let one = NumberedCommand::Divide { by: 1.0 };
    entity.send(one).await.unwrap();
}
