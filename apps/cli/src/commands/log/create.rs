//! `anabranch log create`.

use std::path::PathBuf;

use anabranch::log::{Group, Layout, OpenError};
use anabranch::segment;
use anabranch::{Address, DatabaseAddress};
use clap::Args;
use serde_json::json;

use super::info::layout_json;
use super::text::log_id;
use crate::commands::Context;
use crate::database::{self, Use};
use crate::failure::{Exit, Failure, Outcome};
use crate::logs;
use crate::output::{Form, Output};

/// Make a log with several partitions
#[derive(Debug, Args)]
#[command(after_help = "\
The events of a partition stand in one order; over partitions, each event stands behind its causes.
A hash of the key picks one of a group's partitions, so order/7 and payment/7 of one group stand
together. Partition 0 of several has the system's own streams and counts apart. A log keeps the
layout that it was made with. Without --group and --rest it has one partition, as a log that is made
by its first append; in PostgreSQL it has sixteen.

Examples:
  anabranch log create ./orders --group trade=order,payment:8 --group stock=stock:4 --rest 2
  anabranch log create 'postgres://app@db/shop?schema=orders' --rest 4
  anabranch log info --log ./orders")]
pub struct CreateArgs {
    /// Where the log is: a directory that is empty or not there yet, or postgres://…
    directory: Option<PathBuf>,
    #[command(flatten)]
    layout: LayoutArgs,
}

/// A layout of several partitions.
#[derive(Debug, Args)]
pub struct LayoutArgs {
    /// Categories that share partitions, and how many; may be given several times
    #[arg(long, value_name = "NAME=CATEGORY,…:COUNT")]
    group: Vec<Group>,
    /// How many partitions the streams of no group have [default: 1, with --group]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    rest: Option<u32>,
}

impl LayoutArgs {
    /// The layout; `None` if nothing says one.
    pub fn layout(self) -> Result<Option<Layout>, Failure> {
        match (self.group.is_empty(), self.rest) {
            (true, None) => Ok(None),
            (_, rest) => Layout::new(self.group, rest.unwrap_or(1))
                .map(Some)
                .map_err(|error| Failure::usage(error.to_string()).safe("nothing was made")),
        }
    }
}

/// Makes the log.
pub fn run(args: CreateArgs, context: &Context) -> Outcome {
    let layout = args.layout.layout()?;
    let address = args
        .directory
        .as_ref()
        .map(|it| it.to_string_lossy().parse());
    let in_database = match (&address, &context.settings.log) {
        (Some(Ok(Address::Database(address))), _) | (None, Address::Database(address)) => {
            Some(address)
        }
        _ => None,
    };
    if let Some(address) = in_database {
        return make_in_database(address, layout, context);
    }
    let dir = match &args.directory {
        Some(dir) => match dir.to_string_lossy().parse() {
            Ok(Address::Directory(dir)) => dir,
            Ok(other) => return Err(no_directory(&other).into()),
            Err(error) => return Err(Failure::usage(error.to_string()).into()),
        },
        None => logs::directory_of(context)?.to_owned(),
    };
    let layout = layout.unwrap_or_else(Layout::one);
    logs::check_new(&dir)?;
    let id = segment::create(&context.env, &dir, &layout).map_err(|error| match error {
        OpenError::Invalid(what) => Failure::new(Exit::Conflict, "log-exists", what)
            .remedy("name a directory that is not there yet"),
        other => other.into(),
    })?;
    say(&dir.display().to_string(), id, &layout, context)
}

/// Makes the log in a database.
fn make_in_database(
    address: &DatabaseAddress,
    layout: Option<Layout>,
    context: &Context,
) -> Outcome {
    let made = database::open(address, Use::Append, layout, context)?;
    if !made.is_new {
        let what = format!("there is a log at {address} already");
        return Err(Failure::new(Exit::Conflict, "log-exists", what)
            .safe("it is as it was")
            .remedy("name another schema: ?schema=NAME")
            .into());
    }
    say(&address.to_string(), made.id, &made.log.layout(), context)
}

/// Tells what was made.
fn say(place: &str, id: u128, layout: &Layout, context: &Context) -> Outcome {
    let text = match context.settings.form {
        Form::Text => format!("{place}: {layout}"),
        Form::Json | Form::Jsonl => json!({
            "log_id": log_id(id),
            "layout": layout_json(layout),
        })
        .to_string(),
    };
    let mut out = Output::stdout();
    out.line(&text)?;
    out.flush()
}

fn no_directory(address: &Address) -> Failure {
    let what = match address {
        Address::Memory => {
            "a log in memory is made by whoever opens it, with one partition".to_owned()
        }
        other => format!("{other} is no directory: a log is made where its files are"),
    };
    Failure::usage(what).remedy("name a directory, for example ./orders")
}
