//! What is written and shown: items, each with a text.

use std::collections::BTreeMap;

use anabranch_domain::{
    Correlate, Decide, Entity, Event, EventRef, HandleError, Input, Process, Query, Reaction,
    Rejection, View,
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
pub enum ItemCommand {
    Write { text: String },
    Erase,
}

#[derive(Clone, Serialize, Deserialize, Event)]
pub enum ItemEvent {
    Written { text: String },
    Erased,
}

/// Items of one category.
macro_rules! items {
    ($($(#[$doc:meta])* $name:ident is $category:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Default, Serialize, Deserialize)]
        pub struct $name;

        impl Entity for $name {
            const CATEGORY: &'static str = $category;
            type Command = ItemCommand;
            type Event = ItemEvent;
            type Rejection = Rejection;

            fn decide(&self, command: &ItemCommand, _: &Decide) -> Result<Vec<ItemEvent>, Rejection> {
                Ok(vec![match command.clone() {
                    ItemCommand::Write { text } => ItemEvent::Written { text },
                    ItemCommand::Erase => ItemEvent::Erased,
                }])
            }

            fn evolve(&mut self, _: &ItemEvent) {}
        }
    )*};
}

items! {
    /// What [`Board`] shows.
    Note is "note";
    /// Shown too. What is paid is shipped by [`Shipper`].
    Payment is "payment";
    /// What [`Board`] does not show, in partitions where nothing else stands.
    Hop is "hop";
    /// What [`Board`] does not show, in partitions with what it shows.
    Aside is "aside";
    /// What another service has.
    Shelf is "shelf";
    /// What that service has, and depends on nothing.
    Remark is "remark";
}

/// What a board shows of an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub text: String,
    /// How often it was written.
    pub times: u64,
}

pub type Rows = BTreeMap<String, Row>;

fn take_in(rows: &mut Rows, event: &ItemEvent, about: &EventRef<'_>) {
    match event {
        ItemEvent::Written { text } => {
            let times = rows.get(about.key()).map_or(0, |row| row.times) + 1;
            let text = text.clone();
            rows.insert(about.key().to_owned(), Row { text, times });
        }
        ItemEvent::Erased => {
            rows.remove(about.key());
        }
    }
}

/// A view of some categories, with a query of all that it shows.
macro_rules! boards {
    ($($(#[$doc:meta])* $name:ident asked by $query:ident is $view:literal of $categories:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Default, Serialize, Deserialize)]
        pub struct $name(Rows);

        impl View for $name {
            const NAME: &'static str = $view;
            const VERSION: u32 = 1;
            const CATEGORIES: &'static [&'static str] = &$categories;
            type Event = ItemEvent;
            type Store = Self;

            fn handle(all: &mut Self, event: &ItemEvent, about: &EventRef) -> Result<(), HandleError> {
                take_in(&mut all.0, event, about);
                Ok(())
            }
        }

        /// All that it shows.
        #[derive(Serialize, Deserialize)]
        pub struct $query {}

        impl Query for $query {
            type View = $name;
            type Answer = Rows;
            const NAME: &'static str = "all";

            fn answer(&self, all: &$name) -> Result<Rows, HandleError> {
                Ok(all.0.clone())
            }
        }
    )*};
}

boards! {
    /// Notes and payments.
    Board asked by AllOfBoard is "board" of ["note", "payment"];
    /// Hops.
    Hops asked by AllOfHops is "hops" of ["hop"];
}

/// Writes the note that a payment names.
#[derive(Default, Serialize, Deserialize)]
pub struct Shipper;

impl Process for Shipper {
    const NAME: &'static str = "shipper";
    const CATEGORIES: &'static [&'static str] = &["payment"];
    type Event = ItemEvent;

    fn correlate(_: &ItemEvent, about: &EventRef<'_>) -> Correlate {
        Correlate::Start(about.key().to_owned())
    }

    fn decide(&self, input: &Input<ItemEvent>, _: &Decide) -> Reaction {
        match input {
            Input::Event(ItemEvent::Written { text }, ..) => Reaction::none().send::<Note>(
                text,
                &ItemCommand::Write {
                    text: "shipped".to_owned(),
                },
            ),
            _ => Reaction::none(),
        }
    }

    fn evolve(&mut self, _: &Input<ItemEvent>) {}
}
