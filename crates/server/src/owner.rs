//! Who owns what a request is for.

use std::sync::Arc;

use anabranch_runtime::port::Subject;
use anabranch_runtime::{Port, Service, Whereabouts};

use crate::refusal::Refusal;
use crate::shared::Shared;

/// The service that owns this, if it is here.
pub fn owner(shared: &Shared, subject: Subject<'_>) -> Result<Arc<Service>, Refusal> {
    let (code, what) = match subject {
        Subject::Category(name) => ("unknown-category", format!("category {name:?}")),
        Subject::Process(name) => ("not-found", format!("a process or saga {name:?}")),
        Subject::View(name) => ("unknown-view", format!("a view {name:?}")),
    };
    match shared.fleet.find(subject) {
        Whereabouts::Here(service) => Ok(service),
        Whereabouts::Away(service) => Err(Refusal::unavailable(format!(
            "service {service}, which has {what}, is away; try again"
        ))),
        Whereabouts::Nowhere { known } => Err(Refusal::not_found(
            code,
            format!("no service has {what}; known: {}", known.join(", ")),
        )),
    }
}

/// Who is asked for something that clients may ask for.
pub enum Reached {
    /// A service that is here.
    Here(Arc<Service>),
    /// Whoever has it is behind this port.
    Elsewhere(Arc<dyn Port>),
}

/// The service that owns this, or the way to where it may be.
pub fn reach(shared: &Shared, subject: Subject<'_>) -> Result<Reached, Refusal> {
    match (shared.fleet.find(subject), shared.fleet.elsewhere()) {
        (Whereabouts::Nowhere { .. }, Some(port)) => Ok(Reached::Elsewhere(port.clone())),
        _ => owner(shared, subject).map(Reached::Here),
    }
}
