//! The conformance suite on the stranger's store.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anabranch::domain::HandleError;
use anabranch::runtime::view::conformance::Subject;
use anabranch::runtime::view::{ViewContext, ViewStore, ViewStoreFactory};
use stranger_view_store::{JsonFiles, Numbers};

/// A directory, gone with the subject.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

impl Subject for Directory {
    type Rows = Numbers;

    fn store(&self, context: &ViewContext) -> Arc<dyn ViewStore<Numbers>> {
        JsonFiles(self.0.clone()).store(context)
    }

    fn set_up(_: &mut Numbers) -> Result<(), HandleError> {
        Ok(())
    }

    fn add(rows: &mut Numbers, key: &str, n: i64) -> Result<(), HandleError> {
        *rows.entry(key.to_owned()).or_default() += n;
        Ok(())
    }

    fn sums(rows: &Numbers) -> Result<BTreeMap<String, i64>, HandleError> {
        Ok(rows.clone())
    }
}

fn directory() -> Directory {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("stranger-view-store-{}-{n}", std::process::id());
    Directory(std::env::temp_dir().join(name))
}

anabranch_runtime::view_conformance_tests!(directory);
