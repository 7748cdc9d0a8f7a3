//! A log is opened on any executor, or none, and without holding it up.

use std::path::PathBuf;
use std::task::{Context, Poll, Waker};

use anabranch::log::OpenError;
use futures_executor::block_on;

struct TempDir(PathBuf);

impl TempDir {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("anabranch-{name}-{}", std::process::id())))
    }

    fn address(&self) -> String {
        self.0.display().to_string()
    }
}

impl Drop for TempDir {
    #[expect(
        clippy::disallowed_methods,
        reason = "the directory is of the real disk"
    )]
    fn drop(&mut self) {
        // The system clears what is left here.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

#[test]
fn a_directory_opens_without_an_executor() {
    let dir = TempDir::new("opens");
    let log = block_on(anabranch::open(&dir.address())).unwrap();
    assert!(log.takes_appends().is_ok());
}

#[test]
fn a_directory_that_is_held_says_who_has_it() {
    let dir = TempDir::new("held");
    let _held = block_on(anabranch::open(&dir.address())).unwrap();
    let second = block_on(anabranch::open(&dir.address()));
    assert!(matches!(second.err(), Some(OpenError::Locked { .. })));
}

#[test]
fn a_directory_without_a_log_opens_for_nobody_who_only_reads() {
    let dir = TempDir::new("nothing");
    let read = block_on(anabranch::open_read_only(&dir.address()));
    assert!(matches!(read.err(), Some(OpenError::NotFound { .. })));
    // Nor was one made there.
    let again = block_on(anabranch::open_read_only(&dir.address()));
    assert!(matches!(again.err(), Some(OpenError::NotFound { .. })));
}

#[test]
fn an_opening_that_is_given_up_leaves_the_directory_to_others() {
    let dir = TempDir::new("given-up");
    {
        let address = dir.address();
        let mut opening = std::pin::pin!(anabranch::open(&address));
        // Begun, and then dropped.
        let begun = opening
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(begun, Poll::Pending | Poll::Ready(Ok(_))));
    }
    loop {
        match block_on(anabranch::open(&dir.address())) {
            Ok(_) => break,
            // The thread of before still has it, and gives it back.
            Err(OpenError::Locked { .. }) => std::thread::yield_now(),
            Err(other) => panic!("{other}"),
        }
    }
}
