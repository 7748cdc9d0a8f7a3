use anabranch_log::BoxFuture;
#[cfg(feature = "server")]
use anabranch_log_remote::{Found, Presence};
use anabranch_log_remote::{Registry, Sought};
use anabranch_peer::Directory;
use anabranch_runtime::port::Subject;

/// Finds services where they have registered: at the server of the log.
///
/// A service that is away keeps its address until it is back at another one.
#[derive(Clone)]
pub struct Registered(pub Registry);

impl Directory for Registered {
    fn find<'a>(&'a self, subject: Subject<'a>) -> BoxFuture<'a, Result<Option<String>, String>> {
        Box::pin(async move {
            let sought = match subject {
                Subject::Category(name) | Subject::Process(name) => {
                    Sought::Category(name.to_owned())
                }
                Subject::View(name) => Sought::View(name.to_owned()),
            };
            let found = self.0.find(sought).await;
            let found = found.map_err(|error| error.to_string())?;
            let address = found.map(|found| found.service.address);
            Ok(address.filter(|address| !address.is_empty()))
        })
    }
}

#[cfg(feature = "server")]
impl anabranch_server::Registrations for Registered {
    fn registered<'a>(
        &'a self,
        service: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<anabranch_server::RegisteredBy>, String>> {
        Box::pin(async move {
            let found = match service {
                Some(name) => {
                    let found = self.0.find(Sought::Service(name.to_owned())).await;
                    found.map(|found| found.into_iter().collect())
                }
                None => self.0.list().await,
            };
            let found = found.map_err(|error| error.to_string())?;
            Ok(found.into_iter().filter_map(by).collect())
        })
    }
}

/// By what a service has registered. One that runs beside the log has not: it needs no lease, and has no key.
#[cfg(feature = "server")]
fn by(found: Found) -> Option<anabranch_server::RegisteredBy> {
    use anabranch_server::RegisteredBy;
    let is_there = match found.presence {
        Presence::Here(within) => !within.is_zero(),
        Presence::Expired => true,
        Presence::Released | Presence::Taken(_) => false,
    };
    let key = found.key.map(RegisteredBy::Key);
    key.or(is_there.then_some(RegisteredBy::NoKey))
}

#[cfg(feature = "server")]
impl anabranch_server::Reports for Registered {
    fn report(&self, acts: Vec<(anabranch_access::Act, u64)>) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let told = self.0.report(acts).await;
            told.map_err(|error| error.to_string())
        })
    }
}
