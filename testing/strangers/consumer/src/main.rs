//! Follows a log with a consumer that counts into SQLite, while the same program appends.
//!
//! `stranger-consumer DIR` appends and consumes until it is killed, and prints a line for each
//! event that it consumes. `stranger-consumer DIR finish` appends nothing more, waits until
//! everything is consumed, and prints how many events the log has, how many rows there are, and
//! how many different events stand in them.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use anabranch::prelude::*;
use anabranch::runtime::consumer::{Consumer, ConsumerSpec};
use anabranch::sqlite::{ConsumeInSqlite as _, Sqlite};

/// A row for each event, whatever was there before: an event that comes twice has two.
fn count(rows: &mut Sqlite, event: &EventRef<'_>) -> Result<(), anabranch::domain::HandleError> {
    let insert = "INSERT INTO seen VALUES (?1)";
    rows.execute(insert, [event.position.to_string()])?;
    println!("{}", event.position);
    Ok(())
}

fn counter(env: &Env, dir: &Path) -> ConsumerSpec {
    let schema = "CREATE TABLE seen (event TEXT NOT NULL)";
    Consumer::named("counter")
        .categories(["tick"])
        .from_start()
        .in_sqlite(env.disk.clone(), dir.join("counts.sqlite"), schema, count)
}

async fn tick(env: &Env, log: &Arc<dyn Log>) -> Result<(), Box<dyn Error>> {
    let event = |category: &str| {
        Ok::<_, Box<dyn Error>>(NewEvent::new(
            EventId::from_u128(env.rng.next_u128()),
            StreamId::of(category, "1")?,
            EventType::new("Ticked")?,
            &b"{}"[..],
        ))
    };
    // Appends of several events, and events that the consumer does not want between them.
    let append = Append::events(vec![event("tick")?, event("other")?, event("tick")?]);
    log.append(append).await?;
    Ok(())
}

async fn finish(service: &Service, log: &Arc<dyn Log>, dir: &Path) -> Result<(), Box<dyn Error>> {
    let head = log.head().await?;
    service.consumer("counter")?.reached(&head).await;
    let mut events = 0;
    let mut ticks = log.read(&Cut::start(), Filter::category("tick"), ReadMode::ToHead);
    while let Some(event) = ticks.next().await {
        event?;
        events += 1;
    }
    let path = dir.join("counts.sqlite");
    let connection = anabranch::sqlite::rusqlite::Connection::open(path)?;
    let count = "SELECT count(*), count(DISTINCT event) FROM seen";
    let (rows, different): (i64, i64) =
        connection.query_row(count, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    println!("events {events} rows {rows} different {different}");
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().ok_or("stranger-consumer DIR [finish]")?;
    let (dir, env) = (Path::new(&dir), Env::os());
    let log = dir.join("log");
    let log = anabranch::open(log.to_str().ok_or("DIR is no text")?).await?;
    let service = Service::builder("stranger", log.clone(), Time::of(&env))
        .consumer(counter(&env, dir))
        .start()
        .await?;
    if arguments.next().is_some() {
        return finish(&service, &log, dir).await;
    }
    loop {
        tick(&env, &log).await?;
    }
}
