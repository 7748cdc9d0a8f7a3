//! The conformance suite on the embedded engine.

mod support;

mod threads {
    use std::sync::Arc;

    use anabranch_env::Env;
    use anabranch_log::Log;
    use anabranch_log::conformance::Subject;
    use anabranch_log_segment::SegmentLog;

    use crate::support::{TempDir, small};

    struct Segments(TempDir);

    impl Subject for Segments {
        fn open(&self) -> Arc<dyn Log> {
            Arc::new(SegmentLog::open(Env::os(), &self.0.0, small()).expect("the log opens"))
        }

        fn open_read_only(&self) -> Option<Arc<dyn Log>> {
            let log = SegmentLog::open_read_only(Env::os(), &self.0.0, small());
            Some(Arc::new(log.expect("the log opens beside its writer")))
        }
    }

    fn segments() -> impl Subject {
        Segments(TempDir::new())
    }

    anabranch_log::conformance_tests!(segments);
}
