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

/// A log of nine partitions in memory, one of which is for the streams of the platform.
mod partitioned {
    use std::sync::Arc;

    use anabranch_env::Env;
    use anabranch_log::conformance::Subject;
    use anabranch_log::{Layout, Log, PartitionedLog};

    struct Partitioned;

    impl Subject for Partitioned {
        fn open(&self) -> Arc<dyn Log> {
            let layout = Layout::new(Vec::new(), 8).expect("a layout");
            Arc::new(PartitionedLog::in_memory(&Env::os(), layout))
        }
    }

    fn partitioned() -> impl Subject {
        Partitioned
    }

    anabranch_log::conformance_tests!(
        partitioned,
        lacking: [
            TotalOrder,
            SurvivesRestart,
            ReadOnly,
        ]
    );
}

/// The same code with one partition is as any other log.
mod one_of_many {
    use std::sync::Arc;

    use anabranch_env::Env;
    use anabranch_log::conformance::Subject;
    use anabranch_log::{Layout, Log, PartitionedLog};

    struct One;

    impl Subject for One {
        fn open(&self) -> Arc<dyn Log> {
            Arc::new(PartitionedLog::in_memory(&Env::os(), Layout::one()))
        }
    }

    fn one() -> impl Subject {
        One
    }

    anabranch_log::conformance_tests!(one, lacking: [SurvivesRestart, ReadOnly]);
}

/// Several partitions that are opened again, on files that keep what is known of their causes.
mod reopened {
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use anabranch_env::sim::{SimClock, SimDisk};
    use anabranch_env::{Disk, File, OpenMode};
    use anabranch_log::conformance::Subject;
    use anabranch_log::{Layout, Log, PartitionedLog};

    use crate::engines::Kept;

    struct Reopened {
        parts: Vec<Kept>,
        decisions: Kept,
        disk: SimDisk,
    }

    impl Reopened {
        fn file(&self, partition: usize) -> Arc<dyn File> {
            let dir = Path::new("/causes");
            self.disk.create_dir(dir).expect("a directory");
            let path: PathBuf = dir.join(partition.to_string());
            let mode = match self.disk.exists(&path).expect("the disk answers") {
                true => OpenMode::Write,
                false => OpenMode::Create,
            };
            self.disk.open(&path, mode).expect("a file")
        }
    }

    impl Subject for Reopened {
        fn open(&self) -> Arc<dyn Log> {
            let parts = self
                .parts
                .iter()
                .map(|part| part.open_log() as Arc<dyn Log>);
            let files = (0..self.parts.len()).map(|partition| self.file(partition));
            let layout = Layout::new(Vec::new(), 4).expect("a layout");
            let decisions = self.decisions.open_log();
            let log = PartitionedLog::open_kept(
                layout,
                parts.collect(),
                files.collect(),
                Some(decisions),
            );
            Arc::new(log.expect("the partitions are whole"))
        }
    }

    fn reopened() -> impl Subject {
        Reopened {
            parts: (0..5).map(|_| Kept::default()).collect(),
            decisions: Kept::default(),
            disk: SimDisk::new(1, Arc::new(SimClock::new())),
        }
    }

    anabranch_log::conformance_tests!(
        reopened,
        lacking: [
            TotalOrder,
            ReadOnly,
        ]
    );
}
