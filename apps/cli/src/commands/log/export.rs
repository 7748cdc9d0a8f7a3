//! `anabranch log export`.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use anabranch::log::{ReadMode, in_order_of_time};
use anabranch::model::{Cut, Filter};
use clap::Args;

use crate::commands::Context;
use crate::commands::read::{Places, check_reached};
use crate::failure::{Exit, Failure, Outcome};
use crate::logs::{self, Opened};
use crate::output::{Form, Output, Progress, note};
use crate::printer::Printer;

/// Write all events to a file, as JSON lines
#[derive(Debug, Args)]
#[command(after_help = "\
Each line is an event as a CloudEvent, with the data byte for byte. `anabranch import` reads it into
another log, which gives positions and recorded times of its own; `anabranch log backup` keeps
those too. The file appears when it is whole.

Examples:
  anabranch log export events.jsonl
  anabranch log export events.jsonl --until 0:1000
  anabranch log export - | gzip > events.jsonl.gz")]
pub struct ExportArgs {
    /// The file, which must not exist yet, or - for standard output
    file: String,
    /// Only events of this cut: end in each partition before the offset that it names, as
    /// partition:offset, parted by commas, or just the offset
    #[arg(long, value_name = "CUT", allow_negative_numbers = true)]
    until: Option<Places>,
}

/// Writes the events.
pub async fn run(args: ExportArgs, context: &Context) -> Outcome {
    let opened = logs::open_read_only(context)?;
    let head = opened.log.head().await?;
    let until = args.until.as_ref().map(Places::cut);
    if let (Some(places), Some(until)) = (&args.until, &until) {
        places.check("--until", opened.log.capabilities().partitions)?;
        check_reached(until, &head)?;
    }
    let until = until.unwrap_or(head);
    if args.file == "-" {
        export(&opened, until, Output::stdout(), Progress::none()).await?;
        return Ok(opened.close()?);
    }
    let form = context.settings.form;
    let count = until.iter().map(|(_, count)| count);
    let progress = Progress::events(form, "exporting", count.sum());
    let file = WholeFile::create(Path::new(&args.file))?;
    let out = Output::to(Box::new(file.handle()?), &args.file);
    let events = export(&opened, until, out, progress).await?;
    file.finish()?;
    if form == Form::Text {
        note(&format!("{events} events in {}", args.file));
    }
    Ok(opened.close()?)
}

/// Writes what there is of `until`. Several partitions are written in one order for all copies of the log.
async fn export(opened: &Opened, until: Cut, out: Output, progress: Progress) -> Outcome<u64> {
    let log = &opened.log;
    let events = match log.layout().is_one() {
        true => log.read(&Cut::start(), Filter::all(), ReadMode::ToHead),
        false => in_order_of_time(&**log, &until),
    };
    let mut printer = Printer::new(out, Form::Jsonl, None)
        .until(&Cut::start(), Some(until))
        .with_progress(progress);
    printer.print_all(events).await?;
    Ok(printer.printed())
}

/// A file that gets its name when it is whole and on the disk.
struct WholeFile {
    path: PathBuf,
    partial: PathBuf,
    file: File,
}

impl WholeFile {
    fn create(path: &Path) -> Result<Self, Failure> {
        let shown = path.display().to_string();
        if path.exists() {
            return Err(Failure::new(
                Exit::Failed,
                "file-exists",
                format!("{shown} exists already"),
            )
            .safe("the file is as it was")
            .remedy("remove it, or export to another file"));
        }
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&partial)
            .map_err(|error| Failure::file("write", &shown, &error))?;
        Ok(Self {
            path: path.to_owned(),
            partial,
            file,
        })
    }

    fn handle(&self) -> Result<File, Failure> {
        self.file.try_clone().map_err(|error| self.fail(&error))
    }

    fn finish(self) -> Result<(), Failure> {
        let directory = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        self.file
            .sync_all()
            .and_then(|()| fs::rename(&self.partial, &self.path))
            .and_then(|()| File::open(directory)?.sync_all())
            .map_err(|error| self.fail(&error))
    }

    fn fail(&self, error: &io::Error) -> Failure {
        Failure::file("write", &self.path.display().to_string(), error)
    }
}
