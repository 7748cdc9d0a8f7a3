//! The conformance suite on the log in memory.

mod engines;

mod memory {
    use std::sync::Arc;

    use anabranch_env::Env;
    use anabranch_log::conformance::Subject;
    use anabranch_log::{Log, MemoryLog};

    struct Memory;

    impl Subject for Memory {
        fn open(&self) -> Arc<dyn Log> {
            Arc::new(MemoryLog::new(Env::os()))
        }
    }

    fn memory() -> impl Subject {
        Memory
    }

    anabranch_log::conformance_tests!(memory, lacking: [SurvivesRestart, ReadOnly]);
}

/// The cases about restarts and readers, on an engine that has both.
mod kept {
    use crate::engines::Kept;

    fn kept() -> Kept {
        Kept::default()
    }

    anabranch_log::conformance_tests!(kept);
}
