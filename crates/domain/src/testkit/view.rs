use anabranch_model::StreamId;

use super::diff::assert_same;
use super::{START, pretty, stored};
use crate::event::Event;
use crate::json::Json;
use crate::schema::Reader;
use crate::time::Timestamp;
use crate::view::{Query, View};

/// Tests a view that writes to a value in memory, and has seen nothing.
///
/// ```
/// # use anabranch_domain::{Event, EventRef, HandleError, View, testkit};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize, Event)]
/// # enum OrderEvent { OrderPlaced { total: u64 } }
/// # #[derive(Default, Serialize, Deserialize)]
/// # struct Totals { orders: u64, mills: u64 }
/// # impl View for Totals {
/// #     const NAME: &'static str = "totals";
/// #     const VERSION: u32 = 1;
/// #     const CATEGORIES: &'static [&'static str] = &["order"];
/// #     type Event = OrderEvent;
/// #     type Store = Self;
/// #     fn handle(totals: &mut Self, event: &OrderEvent, _: &EventRef) -> Result<(), HandleError> {
/// #         let OrderEvent::OrderPlaced { total } = event;
/// #         totals.orders += 1;
/// #         totals.mills += total;
/// #         Ok(())
/// #     }
/// # }
/// testkit::view::<Totals>()
///     .given("order/1", OrderEvent::OrderPlaced { total: 5 })
///     .given("order/2", OrderEvent::OrderPlaced { total: 7 })
///     .then(|totals| assert_eq!((totals.orders, totals.mills), (2, 12)));
/// ```
#[track_caller]
pub fn view<V: View<Store: Default>>() -> ViewTest<V> {
    let mut store = V::Store::default();
    V::set_up(&mut store).unwrap_or_else(|error| panic!("{} cannot be set up: {error}", V::NAME));
    ViewTest {
        store,
        events: 0,
        now: START,
        reader: Reader::new().unwrap_or_else(|error| panic!("view {}: {error}", V::NAME)),
    }
}

/// A view under test.
pub struct ViewTest<V: View> {
    store: V::Store,
    events: u64,
    now: Timestamp,
    reader: Reader<V::Event>,
}

impl<V: View> ViewTest<V> {
    /// It is this time now.
    #[must_use]
    pub fn at(mut self, now: Timestamp) -> Self {
        self.now = now;
        self
    }

    /// This event happens in this stream, and the view takes it in, if it wants it. The event
    /// may be of any type: what counts is its stored form.
    #[must_use]
    #[track_caller]
    pub fn given<E: Event>(mut self, stream: &str, event: E) -> Self {
        if let Err(error) = self.take(stream, &event) {
            panic!("view {} refuses {}: {error}", V::NAME, event.kind());
        }
        self
    }

    /// This event happens in this stream, and the view refuses it: a poison event.
    #[must_use]
    #[track_caller]
    pub fn given_poison<E: Event>(mut self, stream: &str, event: E) -> Self {
        assert!(
            self.take(stream, &event).is_err(),
            "view {} takes {} in; expected that it refuses it",
            V::NAME,
            event.kind()
        );
        self
    }

    fn take<E: Event>(&mut self, stream: &str, event: &E) -> Result<(), crate::HandleError> {
        let stored = stored(stream, event, self.events, self.now);
        self.events += 1;
        let category = StreamId::system(stream)?.category().to_owned();
        if !V::CATEGORIES.contains(&category.as_str()) || !self.reader.knows(stored.event_type()) {
            return Ok(());
        }
        let read = self
            .reader
            .read(stored.event_type(), stored.schema_version, stored.data())?;
        match read {
            Some(event) => V::handle(&mut self.store, &event, &stored.as_ref()),
            None => Ok(()),
        }
    }

    /// Looks at what the view has written.
    #[track_caller]
    pub fn then(self, look: impl FnOnce(&V::Store)) -> Self {
        look(&self.store);
        self
    }

    /// The query has this answer; compared in their JSON form.
    #[track_caller]
    pub fn then_answer<Q: Query<View = V>>(self, query: Q, expected: Q::Answer) -> Self {
        let answer = query
            .answer(&self.store)
            .unwrap_or_else(|error| panic!("query {} of view {}: {error}", Q::NAME, V::NAME));
        let shown = |answer: &Q::Answer| match Json::of(answer) {
            Ok(json) => vec![pretty(json.as_str())],
            Err(error) => panic!("{error}"),
        };
        let what = format!("answer to {} of view {}", Q::NAME, V::NAME);
        assert_same(&what, &shown(&expected), &shown(&answer));
        self
    }
}
