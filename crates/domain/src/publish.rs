use crate::entity::Entity;
use crate::event::Event;

/// An entity whose events are its service's own business, and which tells the others what concerns
/// them. What it tells stands in a category of its own, is written in the same append as the events that
/// it follows from, and is a contract: others read that, and nothing else of it.
///
/// ```
/// use anabranch_domain::{Decide, Entity, Event, Publishes, Rejection, testkit};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, Default, Serialize, Deserialize)]
/// struct Account {
///     pence: i64,
/// }
///
/// #[derive(Debug, Clone, Serialize, Deserialize, Event)]
/// enum AccountEvent {
///     Booked { pence: i64, clerk: String },
/// }
///
/// /// What others are told.
/// #[derive(Debug, PartialEq, Serialize, Deserialize, Event)]
/// enum AccountNews {
///     BecameOverdrawn { by_pence: i64 },
/// }
/// # impl Entity for Account {
/// #     const CATEGORY: &'static str = "account";
/// #     type Command = AccountEvent;
/// #     type Event = AccountEvent;
/// #     type Rejection = Rejection;
/// #     fn decide(&self, c: &AccountEvent, _: &Decide) -> Result<Vec<AccountEvent>, Rejection> {
/// #         Ok(vec![c.clone()])
/// #     }
/// #     fn evolve(&mut self, event: &AccountEvent) {
/// #         let AccountEvent::Booked { pence, .. } = event;
/// #         self.pence += pence;
/// #     }
/// # }
///
/// impl Publishes for Account {
///     const PUBLISHED: &'static str = "account-news";
///     type Published = AccountNews;
///
///     fn publish(&self, _: &AccountEvent) -> Option<AccountNews> {
///         (self.pence < 0).then(|| AccountNews::BecameOverdrawn { by_pence: -self.pence })
///     }
/// }
///
/// let booked = |pence| AccountEvent::Booked { pence, clerk: "ada".to_owned() };
/// testkit::given::<Account>([booked(5)])
///     .then_publishes(&booked(5), None)
///     .given([booked(-7)])
///     .then_publishes(&booked(-7), Some(AccountNews::BecameOverdrawn { by_pence: 2 }));
/// ```
pub trait Publishes: Entity {
    /// The category of what is published; its keys are the entity's.
    const PUBLISHED: &'static str;

    /// What others are told. It has versions, upcasts and downcasts as every event.
    type Published: Event;

    /// What others are told of this event; `None` if it is not their business. Pure. The state is
    /// that after everything that the command has led to.
    fn publish(&self, event: &Self::Event) -> Option<Self::Published>;
}
