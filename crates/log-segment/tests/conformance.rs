//! The conformance suite on the embedded engine: with threads of its own, and with nobody
//! at work but the callers. Segments so small that most cases roll several times.

mod support;

use std::sync::{Arc, Mutex, PoisonError, Weak};

use anabranch_env::Env;
use anabranch_log::Log;
use anabranch_log::conformance::Subject;
use anabranch_log_segment::{Background, Options, SegmentLog};

use support::{TempDir, small};

/// A directory that holds one log.
struct Place {
    dir: TempDir,
    options: Options,
    opened: Mutex<Vec<Weak<SegmentLog>>>,
}

impl Place {
    fn new(background: Background) -> Self {
        Self {
            dir: TempDir::new(),
            options: Options {
                background,
                ..small()
            },
            opened: Mutex::default(),
        }
    }

    fn keep(&self, log: SegmentLog) -> Arc<dyn Log> {
        let log = Arc::new(log);
        self.opened
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::downgrade(&log));
        log
    }
}

impl Subject for Place {
    fn open(&self) -> Arc<dyn Log> {
        let log = SegmentLog::open(Env::os(), &self.dir.0, self.options.clone());
        self.keep(log.expect("the log opens"))
    }

    fn open_read_only(&self) -> Option<Arc<dyn Log>> {
        let log = SegmentLog::open_read_only(Env::os(), &self.dir.0, self.options.clone());
        Some(self.keep(log.expect("the log opens beside its writer")))
    }

    fn settle(&self) {
        if self.options.background == Background::Manual {
            let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
            let logs: Vec<_> = opened.iter().filter_map(Weak::upgrade).collect();
            drop(opened);
            for log in logs {
                while log.step() {}
            }
        }
    }
}

mod threads {
    use super::{Background, Place};

    fn place() -> Place {
        Place::new(Background::Threads)
    }

    anabranch_log::conformance_tests!(place);
}

mod manual {
    use super::{Background, Place};

    fn place() -> Place {
        Place::new(Background::Manual)
    }

    anabranch_log::conformance_tests!(place);
}
