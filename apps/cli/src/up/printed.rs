//! What a build prints of its types.

use std::io::Read as _;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use anabranch::access::{KEY_FILE_VARIABLE, KEY_VARIABLE};
use anabranch_runtime::Time;
use tokio::sync::oneshot;

use super::below;
use super::build::Build;
use super::plan::Declared;

/// How long it may take.
const WITHIN: Duration = Duration::from_secs(30);
/// How often it is looked whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// No types are longer.
const BYTES_MAX: u64 = 64 << 20;

/// What this build of a service prints of its types. The error says why there is nothing.
pub async fn types(declared: &Declared, build: &Build, time: &Time) -> Result<String, String> {
    let words = |error: std::io::Error| error.to_string();
    let mut command = below::command(&build.program, &declared.dir).map_err(words)?;
    command
        .args(&build.args)
        .args(&declared.print_types)
        .env_remove(KEY_VARIABLE)
        .env_remove(KEY_FILE_VARIABLE)
        .envs(&declared.env)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut process = below::start(command).map_err(words)?;
    let stdout = process.stdout.take();
    let (done, read) = oneshot::channel();
    let work = move || {
        let mut text = String::new();
        let all = stdout.map(|stdout| stdout.take(BYTES_MAX).read_to_string(&mut text));
        // Who has asked may have given up.
        drop(done.send(all.unwrap_or(Ok(0)).map(|_| text)));
    };
    let reader = thread::Builder::new().name("types".to_owned());
    reader.spawn(work).map_err(words)?;
    let ended = async {
        let status = loop {
            if let Some(status) = process.try_wait()? {
                break status;
            }
            time.sleep(LOOK_EVERY).await;
        };
        Ok((status, read.await))
    };
    let ended: std::io::Result<_> = tokio::select! {
        ended = ended => ended,
        () = time.sleep(WITHIN) => {
            process.kill().and_then(|()| process.wait()).map_err(words)?;
            return Err(format!("it has not ended within {WITHIN:?}"));
        }
    };
    match ended.map_err(words)? {
        (status, Ok(Ok(text))) if status.success() => Ok(text),
        (status, _) => Err(super::child::words(status)),
    }
}
