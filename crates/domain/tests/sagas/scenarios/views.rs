//! What a view shows of a saga while it runs.

use std::collections::BTreeMap;

use anabranch_domain::saga::{Rule, Rules};
use anabranch_domain::testkit::{Service, World};
use anabranch_domain::{Event, EventRef, HandleError, Query, View};
use anabranch_model::Session;
use serde::{Deserialize, Serialize};

use crate::ensure;
use crate::fixture::*;

/// For each trip: whether it has begun, what was done, and whether it has completed.
#[derive(Default, Serialize, Deserialize)]
struct Trips(BTreeMap<String, Shown>);

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Shown {
    pending: bool,
    done: u32,
    completed: bool,
}

/// Of the sagas' journals and the parts' events, what the view wants.
#[derive(Serialize, Deserialize, Event)]
enum Seen {
    SagaStarted {},
    SagaCompleted,
    Done { saga: String },
}

impl View for Trips {
    const NAME: &'static str = "trips";
    const VERSION: u32 = 1;
    const CATEGORIES: &'static [&'static str] = &["trip", "part"];
    type Event = Seen;
    type Store = Self;

    fn handle(trips: &mut Self, event: &Seen, about: &EventRef<'_>) -> Result<(), HandleError> {
        let key = match event {
            Seen::Done { saga } => saga.as_str(),
            _ => about.key(),
        };
        let shown = trips.0.entry(key.to_owned()).or_default();
        match event {
            Seen::SagaStarted {} => shown.pending = true,
            Seen::Done { .. } => shown.done += 1,
            Seen::SagaCompleted => {
                shown.completed = true;
                shown.pending = false;
            }
        }
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct TripOf {
    key: String,
}

impl Query for TripOf {
    type View = Trips;
    type Answer = Option<Shown>;
    const NAME: &'static str = "trip";

    fn answer(&self, trips: &Trips) -> Result<Option<Shown>, HandleError> {
        Ok(trips.0.get(&self.key).cloned())
    }
}

fn view_during_a_saga(rules: Rules) -> Verdict {
    for seed in 0..60 {
        let mut world = World::with_partitions(seed, 5)
            .under(rules)
            .with(parts())
            .with(sagas())
            .with(Service::new("trips").view::<Trips>());
        // The view gets nothing of one of the partitions for a while.
        world.slow_view("trips", (seed % 5) as u32);
        let saga = trip(&mut world);
        world.run_to_end();
        let check = |world: &World| -> Verdict {
            let shown = world.view::<Trips, _>(|trips| trips.0.get("1").cloned());
            match shown {
                Some(shown) if shown.completed && shown.done != 4 => Err(format!(
                    "seed {seed}: completion without effects: {shown:?}"
                )),
                Some(shown) if !shown.completed && !shown.pending => {
                    Err(format!("seed {seed}: not shown as pending: {shown:?}"))
                }
                _ => Ok(()),
            }
        };
        check(&world)?;
        completed(&world, &saga, &TRIP)?;
        world.resume_view("trips");
        world.run_to_end();
        check(&world)?;
        let shown = world.view::<Trips, _>(|trips| trips.0.get("1").cloned());
        let expected = Shown {
            pending: false,
            done: 4,
            completed: true,
        };
        ensure!(shown == Some(expected), "seed {seed}: in the end {shown:?}");
    }
    Ok(())
}

#[test]
fn scenario_27_a_view_never_shows_completion_without_every_effect() {
    holds(view_during_a_saga);
}

#[test]
fn scenario_27_needs_causal_views() {
    needs(Rule::CausalViews, view_during_a_saga);
}

/// A client with a token reads its own writes, or is told that the view is not there yet.
#[test]
fn scenario_27_with_a_token_a_client_reads_its_writes_or_consumes_that_it_has_to_wait() {
    let mut world = World::new(1)
        .with(parts())
        .with(sagas())
        .with(Service::new("trips").view::<Trips>());
    let mut session = Session::new();
    world.slow_view("trips", 0);
    let saga = "9".to_owned();
    let id = world.send_in::<Part>("x", &PartCommand::Do { saga }, &session);
    world.run();
    world.observe(id, &mut session);
    let query = TripOf { key: "9".into() };
    let stale = world.query(&query, &mut session).unwrap_err();
    assert!(stale.need.covers(&stale.have) && stale.need != stale.have);
    world.resume_view("trips");
    world.run();
    let fresh = world.query(&query, &mut session).unwrap();
    assert_eq!(fresh.unwrap().done, 1);
}
