//! Work that needs a process of its own: one that can be killed, one with fresh memory.

use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

use anabranch_env::Env;
use anabranch_log::Log;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use crate::engine::Engine;
use crate::error::BenchError;
use crate::fill::{fill, fill_streams};
use crate::machine::Process;
use crate::measure::on_runtime;
use crate::workload::{Streams, Workload};

/// What a child process shall do. Travels as JSON, as one argument.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChildJob {
    /// Append this many events, say so, and append on until killed.
    FillUntilKilled {
        /// Where the log is.
        dir: PathBuf,
        /// How many before it says so.
        events: u64,
    },
    /// Append one event to each of a growing number of streams, and tell the memory in use
    /// at each of these numbers.
    Memory {
        /// Where the log is.
        dir: PathBuf,
        /// Numbers of streams, ascending.
        streams: Vec<u64>,
    },
}

/// What a child tells, one line of JSON each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChildNote {
    /// The log has all events that it should have, and gets more.
    Filled,
    /// The memory in use with this many streams.
    Memory {
        /// How many.
        streams: u64,
        /// In RAM, in bytes.
        resident_bytes: u64,
    },
}

/// How the events of a child's work are batched: filling is not what is measured.
pub fn filling() -> Workload {
    Workload {
        clients: 16,
        batch: 100,
        ..Workload::default()
    }
}

/// Does `job` in this process: what the program does that [`Tools::child`] starts.
///
/// [`Tools::child`]: crate::Tools
pub fn run_child(engine: &dyn Engine, job: &str) -> Result<(), BenchError> {
    let job: ChildJob = serde_json::from_str(job)
        .map_err(|e| BenchError::Invalid(format!("not a job for a child process: {e}")))?;
    on_runtime(|runtime| do_job(engine, runtime, job, &mut io::stdout().lock()))
}

fn do_job(
    engine: &dyn Engine,
    runtime: &Runtime,
    job: ChildJob,
    out: &mut dyn Write,
) -> Result<(), BenchError> {
    let workload = filling();
    match job {
        ChildJob::FillUntilKilled { dir, events } => {
            let log: Arc<dyn Log> = engine.open(Env::os(), &dir, workload.durability)?;
            crate::block_on(runtime, fill(&log, &workload, events))?;
            tell(out, ChildNote::Filled)?;
            crate::block_on(runtime, fill(&log, &workload, u64::MAX / 2))
        }
        ChildJob::Memory { dir, streams } => {
            let log = engine.open(Env::os(), &dir, workload.durability)?;
            let appended: Arc<dyn Log> = log.clone();
            crate::block_on(runtime, memory(&appended, &workload, &streams, out))?;
            log.close()?;
            Ok(())
        }
    }
}

async fn memory(
    log: &Arc<dyn Log>,
    workload: &Workload,
    steps: &[u64],
    out: &mut dyn Write,
) -> Result<(), BenchError> {
    let streams = Arc::new(Streams::unkept(steps.last().copied().unwrap_or(0)));
    let mut from = 0;
    for &to in steps {
        fill_streams(log, workload, &streams, from, to).await?;
        from = to;
        let resident_bytes = Process::now(&*Env::os().disk).resident_bytes;
        let resident_bytes = resident_bytes.ok_or_else(|| {
            BenchError::Child("the system does not say how much memory is in use".to_owned())
        })?;
        tell(
            out,
            ChildNote::Memory {
                streams: to,
                resident_bytes,
            },
        )?;
    }
    Ok(())
}

fn tell(out: &mut dyn Write, note: ChildNote) -> Result<(), BenchError> {
    let line = serde_json::to_string(&note).map_err(|e| BenchError::Child(e.to_string()))?;
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(BenchError::io("telling the parent process"))
}

/// A child process at work. Killed with this value, without warning.
pub struct RunningChild {
    child: Child,
    notes: BufReader<ChildStdout>,
}

impl RunningChild {
    /// Starts one; `command` makes the program that calls [`run_child`] with its argument.
    pub fn start(
        command: &dyn Fn(&str) -> io::Result<Command>,
        job: &ChildJob,
    ) -> Result<Self, BenchError> {
        let job = serde_json::to_string(job).map_err(|e| BenchError::Child(e.to_string()))?;
        let mut child = command(&job)
            .and_then(|mut command| command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn())
            .map_err(BenchError::io("starting a child process"))?;
        let notes = child.stdout.take().map(BufReader::new);
        let notes = notes.ok_or_else(|| BenchError::Child("it has no output".to_owned()))?;
        Ok(Self { child, notes })
    }

    /// The next thing it tells; `None` once it has ended well.
    pub fn note(&mut self) -> Result<Option<ChildNote>, BenchError> {
        let mut line = String::new();
        let read = self.notes.read_line(&mut line);
        if read.map_err(BenchError::io("reading from a child process"))? > 0 {
            let note = serde_json::from_str(&line);
            return note
                .map(Some)
                .map_err(|e| BenchError::Child(format!("it said {line:?}: {e}")));
        }
        let status = self
            .child
            .wait()
            .map_err(BenchError::io("waiting for a child process"))?;
        if status.success() {
            return Ok(None);
        }
        Err(BenchError::Child(format!(
            "it ended with {status}; what it said is above"
        )))
    }

    /// Ends it at once, as a crash would (SIGKILL).
    pub fn kill(mut self) -> Result<(), BenchError> {
        self.kill_now()
            .map_err(BenchError::io("killing a child process"))
    }

    fn kill_now(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }
}

impl Drop for RunningChild {
    fn drop(&mut self) {
        // A child that cannot be killed has ended before.
        let _ = self.kill_now();
    }
}

#[cfg(test)]
mod tests {
    use anabranch_env::Env;

    use super::*;
    use crate::dir::BenchDir;
    use crate::engine::Segments;

    /// A child whose program is this text for the shell.
    fn shell(text: &str) -> RunningChild {
        let command = |_: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", text]);
            Ok(command)
        };
        let job = ChildJob::Memory {
            dir: PathBuf::new(),
            streams: Vec::new(),
        };
        RunningChild::start(&command, &job).unwrap()
    }

    #[test]
    fn the_memory_of_each_step_is_told() {
        let dir = BenchDir::below(&std::env::temp_dir(), false).unwrap();
        let job = ChildJob::Memory {
            dir: dir.sub("log").unwrap(),
            streams: vec![1_500, 4_000],
        };
        let mut out = Vec::new();
        let runtime = crate::runtime().unwrap();
        do_job(&Segments, &runtime, job.clone(), &mut out).unwrap();
        let told: Vec<u64> = String::from_utf8(out)
            .unwrap()
            .lines()
            .map(|line| match serde_json::from_str(line).unwrap() {
                ChildNote::Memory {
                    streams,
                    resident_bytes,
                } if resident_bytes > 0 => streams,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(told, [1_500, 4_000]);
        let ChildJob::Memory { dir, .. } = job else {
            unreachable!()
        };
        let log = Segments
            .open(Env::os(), &dir, filling().durability)
            .unwrap();
        let head = runtime.block_on(log.head()).unwrap();
        assert_eq!(head.to_string(), "0:4000", "each stream has one event");
    }

    #[test]
    fn a_job_travels_as_one_argument() {
        let job = ChildJob::FillUntilKilled {
            dir: "a b/\"c\"".into(),
            events: 7,
        };
        let text = serde_json::to_string(&job).unwrap();
        assert_eq!(serde_json::from_str::<ChildJob>(&text).unwrap(), job);
        assert!(matches!(
            run_child(&Segments, "nonsense"),
            Err(BenchError::Invalid(_))
        ));
    }

    #[test]
    fn notes_come_until_the_child_has_ended_well() {
        let mut child = shell("echo '\"filled\"'");
        assert_eq!(child.note().unwrap(), Some(ChildNote::Filled));
        assert_eq!(child.note().unwrap(), None);
    }

    #[test]
    fn a_child_that_fails_is_an_error() {
        let error = shell("exit 3").note().unwrap_err().to_string();
        assert!(error.contains("exit status: 3"), "{error}");
        let error = shell("echo nonsense").note().unwrap_err().to_string();
        assert!(error.contains("nonsense"), "{error}");
    }

    #[test]
    fn a_child_can_be_killed_at_any_time() {
        let mut child = shell("echo '\"filled\"'; exec tail -f /dev/null");
        assert_eq!(child.note().unwrap(), Some(ChildNote::Filled));
        child.kill().unwrap();
    }
}
