//! What the log says of services and owners.
//!
//! | stream | event | says |
//! | --- | --- | --- |
//! | `$service/NAME` | `$Registered` | what the service is; its version is the number of the lease |
//! | | `$Released` | that the lease ended in order |
//! | | `$Replaced` | that another service claimed what it owned, after its lease had ended |
//! | `$owner/CATEGORY` | `$Owned` | whose it is, by which lease, and whether that keeps it to itself |
//! | | `$Freed` | that nobody owns it; what was kept stays so |
//!
//! The last event of `$owner/CATEGORY` fences: an append of the owner names its version.

use std::collections::{BTreeMap, BTreeSet};

use anabranch_log::ReadError;
use anabranch_model::{EventId, EventRef, EventType, NameError, NewEvent, StreamId, Version};
use serde::{Deserialize, Serialize};

/// The category of the streams of services.
pub const SERVICE: &str = "$service";
/// The category of the streams of owners.
pub const OWNER: &str = "$owner";

/// What a service says of itself. Its lists are in order, and name nothing twice.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct About {
    pub address: String,
    pub program: String,
    pub version: String,
    pub owns: BTreeSet<String>,
    pub views: BTreeSet<String>,
    pub reads: BTreeSet<String>,
    pub sends: BTreeSet<String>,
    /// What of that it owns it keeps to itself. With each, the types of events that others read all the same.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub private: BTreeMap<String, BTreeSet<String>>,
}

impl About {
    /// The categories that it writes for others to read.
    pub fn published(&self) -> Vec<String> {
        let owned = self.owns.iter();
        let published = owned.filter(|category| !self.private.contains_key(*category));
        published.cloned().collect()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    #[serde(flatten)]
    pub about: About,
    /// A hash of the lease's secret, in hexadecimal. The secret itself is nowhere.
    pub secret_hash: String,
    pub lease_ms: u64,
    /// The id of the key by which it has registered, if callers are asked who they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// Whether what the service owned has no owner any more.
    pub given_up: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    pub by: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owned {
    pub service: String,
    pub lease: Version,
    /// Set if the service keeps it to itself: the types of events that others read all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private: Option<BTreeSet<String>>,
}

/// Something that has become so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    pub stream: StreamId,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Registered(Registered),
    Released(Released),
    Replaced(Replaced),
    Owned(Owned),
    Freed,
}

impl Fact {
    /// Something about a service.
    pub fn of_service(name: &str, what: What) -> Result<Self, NameError> {
        let stream = StreamId::system(format!("{SERVICE}/{name}"))?;
        Ok(Self { stream, what })
    }

    /// Something about who owns a category.
    pub fn of_category(category: &str, what: What) -> Result<Self, NameError> {
        let stream = StreamId::system(format!("{OWNER}/{category}"))?;
        Ok(Self { stream, what })
    }

    /// The event that says it.
    pub fn event(&self, id: EventId) -> Result<NewEvent, String> {
        let (event_type, data) = match &self.what {
            What::Registered(what) => ("$Registered", serde_json::to_vec(what)),
            What::Released(what) => ("$Released", serde_json::to_vec(what)),
            What::Replaced(what) => ("$Replaced", serde_json::to_vec(what)),
            What::Owned(what) => ("$Owned", serde_json::to_vec(what)),
            What::Freed => ("$Freed", Ok(b"{}".to_vec())),
        };
        let event_type = EventType::new(event_type).map_err(|error| error.to_string())?;
        let data = data.map_err(|error| error.to_string())?;
        Ok(NewEvent::new(id, self.stream.clone(), event_type, data))
    }

    /// What a stored event says.
    pub fn said_by(event: &EventRef<'_>) -> Result<Self, ReadError> {
        let unreadable = |reason: String| ReadError::Io {
            what: "reading which services there are".to_owned(),
            reason: format!(
                "{} version {}: {reason}; was it written by a newer program?",
                event.stream, event.version
            ),
        };
        let data = event.data;
        let what = match event.event_type {
            "$Registered" => serde_json::from_slice(data).map(What::Registered),
            "$Released" => serde_json::from_slice(data).map(What::Released),
            "$Replaced" => serde_json::from_slice(data).map(What::Replaced),
            "$Owned" => serde_json::from_slice(data).map(What::Owned),
            "$Freed" => Ok(What::Freed),
            other => return Err(unreadable(format!("events of type {other} are not known"))),
        };
        Ok(Self {
            what: what.map_err(|error| unreadable(error.to_string()))?,
            stream: StreamId::system(event.stream).map_err(|e| unreadable(e.to_string()))?,
        })
    }
}
