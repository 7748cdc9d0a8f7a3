use serde::Serialize;
use serde::de::DeserializeOwned;

pub use crate::codec::{DecodeError, EncodeError, EventKind};
use crate::downcasts::Downcasts;
use crate::shape::Shape;
use crate::upcasts::Upcasts;

/// What can happen to an entity, or what a view or process wants to hear of: an enum with
/// one variant for each kind of event. Derive it.
///
/// Additive change needs nothing: a reader is tolerant, so fields that it does not know are
/// passed over, and a new field with `#[serde(default)]` reads old events. Any other change
/// raises `#[event(version = …)]` and adds an upcast; see [`Upcasts`].
///
/// ```
/// use anabranch_domain::Event;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, Event)]
/// enum OrderEvent {
///     OrderPlaced { total: u64 },
///     #[event(version = 2, rename = "OrderConfirmed")]
///     Confirmed,
/// }
///
/// let mut data = Vec::new();
/// OrderEvent::OrderPlaced { total: 5 }.encode(&mut data)?;
/// assert_eq!(data, br#"{"total":5}"#);
/// assert_eq!(OrderEvent::Confirmed.kind().to_string(), "OrderConfirmed v2");
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub trait Event: Sized + Send + 'static {
    /// Every kind of event that this type knows.
    fn kinds() -> Vec<EventKind>;

    /// The schema version of the kind of this name; `None` when the name is not known.
    fn version_of(name: &str) -> Option<u32>;

    /// Which kind this event is.
    fn kind(&self) -> EventKind;

    /// Appends the event's data, as JSON, to `out`.
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError>;

    /// Reads an event of just the version that this type has. [`Reader`](crate::Reader) also
    /// reads older ones.
    fn decode(name: &str, version: u32, data: &[u8]) -> Result<Self, DecodeError>;

    /// What the data of the kind of this name looks like, as far as anybody can tell.
    fn shape_of(name: &str) -> Shape {
        let _ = name;
        Shape::Unknown
    }

    /// How to read what older versions of the program have written.
    fn upcasts() -> Upcasts {
        Upcasts::none()
    }

    /// How older versions of programs read what this one writes.
    fn downcasts() -> Downcasts {
        Downcasts::none()
    }
}

/// The event type of one who listens to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoEvent {}

impl Event for NoEvent {
    fn kinds() -> Vec<EventKind> {
        Vec::new()
    }

    fn version_of(_: &str) -> Option<u32> {
        None
    }

    fn kind(&self) -> EventKind {
        match *self {}
    }

    fn encode(&self, _: &mut Vec<u8>) -> Result<(), EncodeError> {
        match *self {}
    }

    fn decode(name: &str, _: u32, _: &[u8]) -> Result<Self, DecodeError> {
        Err(crate::__derive::unknown::<Self>(name))
    }
}

/// What the derive macro calls.
pub(crate) mod derive_support {
    use super::*;

    /// Appends what the variant holds to `out`.
    pub fn encode<E: Event + Serialize>(event: &E, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = out.len();
        match crate::wire::encode(event, out) {
            Ok(_) => Ok(()),
            Err(error) => {
                out.truncate(start);
                Err(EncodeError {
                    what: event.kind().name,
                    reason: error.to_string(),
                })
            }
        }
    }

    /// What the variant that serde calls `serde_name` holds.
    pub fn shape<E: DeserializeOwned>(serde_name: &str) -> Shape {
        crate::shape::shape_of_variant::<E>(serde_name)
    }

    /// Reads the variant that serde calls `serde_name`.
    pub fn decode<E: DeserializeOwned>(
        kind: EventKind,
        serde_name: &str,
        version: u32,
        data: &[u8],
    ) -> Result<E, DecodeError> {
        if version != kind.version {
            return Err(other_version(kind, version));
        }
        crate::wire::decode(serde_name, data).map_err(|error| DecodeError::Data {
            name: kind.name.to_owned(),
            version,
            reason: error.to_string(),
        })
    }

    fn other_version(kind: EventKind, version: u32) -> DecodeError {
        let name = kind.name.to_owned();
        if version > kind.version {
            DecodeError::Newer {
                name,
                version,
                known: kind.version,
            }
        } else {
            DecodeError::Older {
                name,
                version,
                current: kind.version,
            }
        }
    }

    /// The error for a name that no variant has.
    pub fn unknown<E: Event>(name: &str) -> DecodeError {
        let known: Vec<&str> = E::kinds().iter().map(|kind| kind.name).collect();
        DecodeError::UnknownType {
            name: name.to_owned(),
            known: if known.is_empty() {
                "none".to_owned()
            } else {
                known.join(", ")
            },
        }
    }
}
