//! The conformance suite of view stores on views in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_domain::HandleError;
use anabranch_runtime::view::conformance::Subject;
use anabranch_runtime::view::{MemoryViews, ViewContext, ViewStore, ViewStoreFactory};

struct Memory;

impl Subject for Memory {
    type Rows = BTreeMap<String, i64>;

    fn store(&self, context: &ViewContext) -> Arc<dyn ViewStore<Self::Rows>> {
        MemoryViews.store(context)
    }

    fn set_up(_: &mut Self::Rows) -> Result<(), HandleError> {
        Ok(())
    }

    fn add(rows: &mut Self::Rows, key: &str, n: i64) -> Result<(), HandleError> {
        *rows.entry(key.to_owned()).or_default() += n;
        Ok(())
    }

    fn sums(rows: &Self::Rows) -> Result<BTreeMap<String, i64>, HandleError> {
        Ok(rows.clone())
    }
}

fn memory() -> Memory {
    Memory
}

anabranch_runtime::view_conformance_tests!(memory);
