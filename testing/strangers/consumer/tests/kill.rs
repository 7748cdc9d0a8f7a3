//! The consumer is killed twenty times, and counts each event once.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

const KILLS: usize = 20;

/// A directory, gone with the test.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn program(dir: &Directory) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_stranger-consumer"));
    program.arg(&dir.0).stdout(Stdio::piped());
    program
}

#[test]
fn each_event_counts_once_through_twenty_kills() {
    let name = format!("stranger-consumer-{}", std::process::id());
    let dir = Directory(std::env::temp_dir().join(name));
    for kill in 0..KILLS {
        let mut running = program(&dir).spawn().unwrap();
        let lines = BufReader::new(running.stdout.take().unwrap()).lines();
        // Later and later in its work, and at another step of it each time.
        let seen = lines.map_while(Result::ok).take(1 + kill * 7).count();
        assert_eq!(seen, 1 + kill * 7, "it ended by itself");
        running.kill().unwrap();
        running.wait().unwrap();
    }
    let finished = program(&dir).arg("finish").output().unwrap();
    assert!(finished.status.success());
    let said = String::from_utf8(finished.stdout).unwrap();
    let last = said.lines().last().unwrap();
    let words: Vec<_> = last.split(' ').collect();
    let ["events", events, "rows", rows, "different", different] = words[..] else {
        panic!("{last}");
    };
    assert!(events.parse::<usize>().unwrap() > KILLS, "{last}");
    assert_eq!(rows, events, "{last}");
    assert_eq!(different, events, "{last}");
}
