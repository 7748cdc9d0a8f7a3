//! The whole shop in one program.

use std::sync::Arc;
use std::time::Duration;

use anabranch::runtime::snapshot::{DiskSnapshots, MemorySnapshots, SnapshotStore};
use anabranch::runtime::{Fleet, Time};
use anabranch_server::{HOME, Server};
use anabranch_shop::demo::{Demo, DemoError};
use anabranch_shop::provider::ProviderClient;
use anabranch_shop::shop::{Build, Shop};
use anabranch_shop::storefront;

use super::args::DemoArgs;
use super::ending::{failure, read_work, stay_open, told};
use super::place::Place;
use super::provider;
use crate::alerts;
use crate::context::Context;
use crate::demo_text::Display;
use crate::export::{self, Export};
use crate::failure::{Failure, Outcome};
use crate::logs;
use crate::output::{Form, note};
use crate::serving::{self, Serving};
use crate::stop::StopSignal;

/// Runs the command.
pub async fn run(args: DemoArgs, mut context: Context) -> Outcome {
    let form = context.settings.form;
    let work = read_work(args.orders.as_deref())?;
    let place = Place::choose(&mut context)?;
    let opened = logs::open_here(&context)?;
    args.doors.first_key(&opened.log, &context).await?;
    let time = Time::of(&context.env);
    let snapshots: Arc<dyn SnapshotStore> = match &place {
        Place::Directory(dir) => {
            let dir = dir.join("snapshots");
            let disk = context.env.disk.clone();
            Arc::new(
                DiskSnapshots::open(disk, &dir)
                    .map_err(|error| Failure::file("make", &dir.display().to_string(), &error))?,
            )
        }
        Place::Memory(_) => Arc::new(MemorySnapshots::new()),
    };
    let provider = provider::address(args.provider, &time).await?;
    let shop = Arc::new(Shop {
        env: context.env.clone(),
        time: time.clone(),
        log: opened.log.clone(),
        snapshots,
        views: place.dir().join("views"),
        provider: ProviderClient::new(provider),
        fleet: Arc::new(Fleet::new()),
        alerts: alerts::of(&context),
        pricing: Build::First,
    });
    shop.open()
        .await
        .map_err(DemoError::from)
        .map_err(failure)?;
    let (serving, url) = serve(&args, &shop, &context).await?;
    if form == Form::Text {
        note(&format!("the shop's page: {url}"));
    }
    let export = export::begin(&url, &context)?;
    let options = args.options();
    let mut stop = StopSignal::new()?;
    let demo = Demo::new(shop.clone(), work, options)
        .await
        .map_err(failure)?;
    let summary = {
        let display = Display::new(form, demo.clone(), time.clone());
        let watched = stop.unless_asked(demo.run()).await;
        display.end();
        watched.unwrap_or(Err(DemoError::Stopped))
    };
    let was_stopped = matches!(summary, Err(DemoError::Stopped));
    let printed = told(summary, args.keep, &context);
    // Also when something is wrong: what has stopped can be looked at and mended only while it
    // runs.
    if args.keep && !was_stopped {
        stay_open(&printed, form, &mut stop).await;
    }
    Export::end(export).await;
    serving.end().await;
    let in_order = shop.fleet.shutdown(Duration::from_secs(10)).await;
    if !in_order {
        note("note: the services did not end within 10 s, and were ended as a crash would");
    }
    drop(shop);
    opened.close()?;
    printed
}

/// Serves the shop's page, its commands and its views.
async fn serve(
    args: &DemoArgs,
    shop: &Shop,
    context: &Context,
) -> Result<(Serving, String), Failure> {
    let server = Server::new(shop.fleet.clone(), shop.log.clone(), shop.time.clone())
        .without_peers()
        .page("/", storefront::PAGE);
    serving::start(server, (&args.listen, HOME), &args.doors, context).await
}
