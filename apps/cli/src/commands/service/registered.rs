//! The services that have registered at a log.

use anabranch_wire::Registration;

use crate::failure::Failure;
use crate::remote::Remote;

/// The services that have registered at the log; none at a server that knows of no registry yet.
pub async fn registered(remote: &Remote) -> Result<Vec<Registration>, Failure> {
    match remote.get::<Vec<Registration>>("/operate/registry").await {
        Ok(answer) => Ok(answer.value),
        Err(failure) if failure.code == "no-such-path" => Ok(Vec::new()),
        Err(failure) => Err(failure),
    }
}

/// How the lease of a service is, for people.
pub fn lease_of(service: &Registration) -> String {
    let state = service.state.name();
    match (&service.expires_in_ms, &service.taken_by) {
        (Some(ms), _) => format!("{state} for {} s", ms.div_ceil(1_000)),
        (None, Some(by)) => format!("{state} by {by}"),
        (None, None) => state.to_owned(),
    }
}
