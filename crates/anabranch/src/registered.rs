use anabranch_log::BoxFuture;
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
    fn key_of<'a>(&'a self, service: &'a str) -> BoxFuture<'a, Result<Option<String>, String>> {
        Box::pin(async move {
            let found = self.0.find(Sought::Service(service.to_owned())).await;
            let found = found.map_err(|error| error.to_string())?;
            Ok(found.and_then(|found| found.key))
        })
    }
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
