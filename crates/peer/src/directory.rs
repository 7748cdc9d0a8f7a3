//! Where what is not here is served.

use std::collections::BTreeMap;

use anabranch_log::BoxFuture;
use anabranch_runtime::port::Subject;

/// Says at which address something is served.
pub trait Directory: Send + Sync + 'static {
    /// The address of the server that has this, for example `http://127.0.0.1:41231`; `None` if
    /// nobody has said that it has it. It need not be right: who is told an old address comes again.
    ///
    /// The error is in words: why the directory cannot tell now.
    fn find<'a>(&'a self, subject: Subject<'a>) -> BoxFuture<'a, Result<Option<String>, String>>;
}

/// A directory that is written down once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FixedDirectory {
    /// The address of each category of entities, and of each process and saga.
    pub categories: BTreeMap<String, String>,
    /// The address of each view.
    pub views: BTreeMap<String, String>,
}

impl Directory for FixedDirectory {
    fn find<'a>(&'a self, subject: Subject<'a>) -> BoxFuture<'a, Result<Option<String>, String>> {
        let found = match subject {
            Subject::Category(name) | Subject::Process(name) => self.categories.get(name),
            Subject::View(name) => self.views.get(name),
        };
        Box::pin(async move { Ok(found.cloned()) })
    }
}
