//! `anabranch debug bundle`.

#![expect(
    clippy::disallowed_methods,
    reason = "this is about a file that the user names, and files of the system"
)]

use std::fs;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anabranch::Address;
use anabranch::access::FIRST_KEY_FILE;
use anabranch::segment;
use clap::Args;
use serde_json::{Map, Value, json};

use super::archive::Archive;
use super::scrub::Scrub;
use crate::commands::doctor;
use crate::commands::log::info;
use crate::context::Context;
use crate::credential;
use crate::failure::{Failure, Outcome};
use crate::logs;
use crate::output::{Form, Output};
use crate::remote::Remote;
use crate::settings::KEYS;

/// Put what somebody needs who looks for a fault into one file, without secrets and without events
#[derive(Debug, Args)]
#[command(after_help = "\
A tar.gz with versions, health, metrics, what is registered, how views and processes are,
diagnostics, settings, limits, what the log holds (no events), and what `anabranch doctor` finds.
What cannot be had is left out, and the file `left-out.txt` says why.

Keys, tokens, passwords and the values of variables that are named so are taken out; look into the
file all the same before you hand it on: diagnostics have the words of your own services.

Examples:
  anabranch debug bundle
  anabranch debug bundle fault.tar.gz --log http://127.0.0.1:7400
  tar -xzOf fault.tar.gz anabranch-debug/doctor.json | jq .")]
pub struct BundleArgs {
    /// Write it to this new file [default: ./anabranch-debug-TIME.tar.gz]
    #[arg(value_name = "FILE")]
    to: Option<PathBuf>,
}

/// What is asked of the server: under which name it stands, and where.
const ASKED: [(&str, &str); 9] = [
    ("version.json", "/version"),
    ("readyz.txt", "/readyz?verbose"),
    ("metrics.txt", "/metrics"),
    ("services.json", "/operate/services"),
    ("registry.json", "/operate/registry"),
    ("views.json", "/operate/views"),
    ("processes.json", "/operate/processes"),
    ("circuits.json", "/operate/circuits"),
    ("diagnostics.json", "/operate/diagnostics"),
];

/// No file is larger; of a longer text the beginning stays.
const FILE_BYTES_MAX: usize = 4 << 20;

/// In which folder of the archive everything is.
const FOLDER: &str = "anabranch-debug";

struct Bundle {
    archive: Archive,
    scrub: Scrub,
    left_out: Vec<String>,
}

impl Bundle {
    fn add(&mut self, name: &str, text: &str) -> io::Result<()> {
        let mut clean = self.scrub.clean(text);
        if clean.len() > FILE_BYTES_MAX {
            clean.truncate(clean.floor_char_boundary(FILE_BYTES_MAX));
            self.left_out
                .push(format!("{name}: only its beginning is here"));
        }
        self.archive
            .add(&format!("{FOLDER}/{name}"), clean.as_bytes())
    }

    fn add_or_say<T: AsRef<str>>(
        &mut self,
        name: &str,
        text: Result<T, impl ToString>,
    ) -> io::Result<()> {
        match text {
            Ok(text) => self.add(name, text.as_ref()),
            Err(why) => {
                self.left_out.push(format!("{name}: {}", why.to_string()));
                Ok(())
            }
        }
    }
}

/// Runs the command.
pub async fn run(args: &BundleArgs, context: &Context) -> Outcome {
    let seconds = context.env.clock.wall_micros() / 1_000_000;
    let path = args.to.clone();
    let path = path.unwrap_or_else(|| format!("anabranch-debug-{seconds}.tar.gz").into());
    let name = path.display().to_string();
    let failed = |error: io::Error| Failure::file("write", &name, &error);
    let (bytes, files) = collect(context, seconds).await.map_err(failed)?;
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(&path);
    let mut file = file.map_err(failed)?;
    file.write_all(&bytes).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    let mut out = Output::stdout();
    match context.settings.form {
        Form::Text => {
            for file in &files {
                out.line(&format!("  {file}"))?;
            }
            out.line(&format!("{name}: {} files", files.len()))?;
        }
        Form::Json | Form::Jsonl => {
            out.line(&json!({"file": name, "files": files}).to_string())?;
        }
    }
    out.flush()
}

async fn collect(context: &Context, seconds: u64) -> io::Result<(Vec<u8>, Vec<String>)> {
    let mut bundle = Bundle {
        archive: Archive::new(seconds),
        scrub: secrets(context),
        left_out: Vec::new(),
    };
    bundle.add("program.json", &program().to_string())?;
    bundle.add("settings.json", &settings(context).to_string())?;
    let limits = fs::read_to_string("/proc/self/limits");
    bundle.add_or_say("limits.txt", limits)?;
    let info = log_info(context).await;
    bundle.add_or_say("log.json", info.map_err(|failure| failure.what))?;
    let checks = doctor::examine(None, context).await;
    let checks = checks
        .map_err(|failure| failure.what)
        .and_then(|checks| serde_json::to_string(&checks).map_err(|error| error.to_string()));
    bundle.add_or_say("doctor.json", checks)?;
    match remote(context) {
        Ok(remote) => {
            for (name, path) in ASKED {
                let reply = remote.reply(path).await.map_err(|error| error.to_string());
                let text = reply.and_then(|reply| match reply.status.as_u16() {
                    // Whoever is not ready says why.
                    200 | 503 => Ok(String::from_utf8_lossy(&reply.body).into_owned()),
                    status => Err(format!("{path}: status {status}")),
                });
                bundle.add_or_say(name, text)?;
            }
        }
        Err(failure) => bundle
            .left_out
            .push(format!("the server: {}", failure.what)),
    }
    let left_out = bundle.left_out.join("\n") + "\n";
    bundle.add("left-out.txt", &left_out)?;
    bundle.archive.finish()
}

/// The server of the log, and no other.
fn remote(context: &Context) -> Result<Remote, Failure> {
    Remote::find(&Default::default(), context)
}

async fn log_info(context: &Context) -> Result<String, Failure> {
    let (env, dir) = logs::files_of(context).await?;
    Ok(info::to_json(&segment::info(env, &dir)?).to_string())
}

fn program() -> Value {
    let read = |path: &str| {
        fs::read_to_string(path)
            .ok()
            .map(|text| text.trim().to_owned())
    };
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "system": std::env::consts::OS,
        "processor": std::env::consts::ARCH,
        "kernel": read("/proc/sys/kernel/osrelease"),
        "processors": std::thread::available_parallelism().ok().map(usize::from),
        "memory": read("/proc/meminfo").and_then(|text| text.lines().next().map(str::to_owned)),
    })
}

fn settings(context: &Context) -> Value {
    let settings = &context.settings;
    let of_key = |key: &crate::settings::Key| {
        let value = (key.show)(settings);
        let origin = settings.origin(key).to_string();
        (
            key.name.to_owned(),
            json!({"value": value, "origin": origin}),
        )
    };
    let all: Map<_, _> = KEYS.iter().map(of_key).collect();
    json!({"settings": all, "set_nothing": settings.unknown_variables})
}

/// What must not be in it, as far as it is known here.
fn secrets(context: &Context) -> Scrub {
    let mut scrub = Scrub::default();
    scrub.knows_variables(
        std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        }),
    );
    if let Ok(Some(key)) = credential::find(context) {
        scrub.knows(key.reveal());
    }
    for (name, file) in std::env::vars_os() {
        // The file that holds a secret is no secret; what it holds is.
        if name.to_string_lossy().ends_with("_FILE") {
            scrub.knows(&small(Path::new(&file)));
        }
    }
    if let Address::Directory(dir) = &context.settings.log {
        for file in [FIRST_KEY_FILE, anabranch_server::FILES[1]] {
            scrub.knows(&small(&dir.join(file)));
        }
    }
    scrub
}

/// The text of a file that is small and has one.
fn small(path: &Path) -> String {
    let is_small = fs::metadata(path).is_ok_and(|file| file.len() <= 16 << 10);
    match is_small {
        true => fs::read_to_string(path).unwrap_or_default(),
        false => String::new(),
    }
}
