//! What the tests of the engine share.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use anabranch_log_segment::Options;

/// A directory of its own for one test; removed at the end.
pub struct TempDir(pub PathBuf);

impl TempDir {
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!(
            "anabranch-segment-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for TempDir {
    #[expect(clippy::disallowed_methods, reason = "a test cleans up after itself")]
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Small segments, so that a test sees many.
pub fn small() -> Options {
    Options {
        segment_bytes: 64 << 10,
        first_segment_bytes: Some(64 << 10),
        ..Options::default()
    }
}
