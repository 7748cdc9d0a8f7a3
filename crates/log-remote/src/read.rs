//! Reads that go on where they were when the connection breaks.

use std::task::{Context, Poll};

use anabranch_log::{BatchSource, EventStream, Order, ReadError, ReadMode, VersionRange};
use anabranch_model::{Cut, Event, EventBatch, Filter, StreamId};
use anabranch_rpc::{cut_to, filter_to, join_steps, mode_to, protocol as p, step_bytes, step_of};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::connection::{Again, Connection, Lost};
use crate::leases::Leases;

/// How many batches wait for a slow reader. What comes meanwhile is made one batch, of about so many
/// bytes; the rest waits in the network, and then at the server.
const BATCHES_MAX: usize = 1;
const BATCH_BYTES: usize = 64 << 10;

/// Reads events of all streams.
pub fn all(
    handle: &Handle,
    (connection, leases): (Connection, Leases),
    from: Cut,
    filter: Filter,
    mode: ReadMode,
) -> EventStream {
    let filter = filter_to(&filter);
    let place = Place::All {
        from,
        filter,
        mode,
        until: None,
        reach_only: false,
    };
    start(handle, connection, leases, place)
}

/// Follows how far the log goes.
pub fn watch(
    handle: &Handle,
    (connection, leases): (Connection, Leases),
    from: Cut,
) -> EventStream {
    let place = Place::All {
        from,
        filter: p::Filter::default(),
        mode: ReadMode::Follow,
        until: None,
        reach_only: true,
    };
    start(handle, connection, leases, place)
}

/// Reads events of one stream.
pub fn stream(
    handle: &Handle,
    (connection, leases): (Connection, Leases),
    stream: StreamId,
    range: VersionRange,
    order: Order,
) -> EventStream {
    let place = Place::Stream {
        stream,
        range,
        order,
        until: None,
    };
    start(handle, connection, leases, place)
}

fn start(handle: &Handle, connection: Connection, leases: Leases, place: Place) -> EventStream {
    let (to, given) = mpsc::channel(BATCHES_MAX);
    handle.spawn(run(connection, leases, place, to));
    EventStream::new(Given(given))
}

/// Where a read is.
enum Place {
    All {
        from: Cut,
        filter: p::Filter,
        mode: ReadMode,
        /// Where a read to the head ends, as the first call that got through has said. A later
        /// call gives what came since, too.
        until: Option<Cut>,
        /// Whether events need not come.
        reach_only: bool,
    },
    Stream {
        stream: StreamId,
        range: VersionRange,
        order: Order,
        /// The same: a stream ends where it ended at the first call that got through.
        until: Option<Cut>,
    },
}

enum Item {
    Batch(EventBatch),
    Failed(ReadError),
    End,
}

/// What the reader takes from.
struct Given(mpsc::Receiver<Item>);

impl BatchSource for Given {
    fn poll_next_batch(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<EventBatch, ReadError>>> {
        self.0.poll_recv(cx).map(|item| match item {
            Some(Item::Batch(batch)) => Some(Ok(batch)),
            Some(Item::Failed(error)) => Some(Err(error)),
            Some(Item::End) => None,
            // The thread ends with the log.
            None => Some(Err(ReadError::Closed)),
        })
    }
}

async fn run(connection: Connection, leases: Leases, mut place: Place, to: mpsc::Sender<Item>) {
    let mut again = Again::new(connection.patience());
    loop {
        let once = once(&connection, &leases, &mut place, &to, &mut again);
        let ended = tokio::select! {
            ended = once => ended,
            () = to.closed() => return,
        };
        let last = match ended {
            Ok(()) => Item::End,
            Err(Ended::Failed(error)) => Item::Failed(error),
            Err(Ended::Unheard) => return,
            Err(Ended::Lost(Lost::Connection(reason))) => {
                if again.wait().await {
                    continue;
                }
                let reason = connection.gone(&reason);
                Item::Failed(Lost::Connection(reason).of_read())
            }
            Err(Ended::Lost(refused)) => Item::Failed(refused.of_read()),
        };
        // Nobody may be there any more to hear it.
        drop(to.send(last).await);
        return;
    }
}

/// Why a call ended before the read did.
enum Ended {
    Lost(Lost),
    Failed(ReadError),
    /// The reader has gone.
    Unheard,
}

/// One call: gives what comes, and moves the place on.
async fn once(
    connection: &Connection,
    leases: &Leases,
    place: &mut Place,
    to: &mpsc::Sender<Item>,
    again: &mut Again,
) -> Result<(), Ended> {
    let lost = |error| Ended::Lost(Lost::of(&error));
    let client = connection.client();
    let shown = leases.options();
    let call = match &*place {
        Place::All {
            from,
            filter,
            mode,
            reach_only,
            ..
        } => {
            let request = p::ReadRequest {
                from: buffa::MessageField::some(cut_to(from)),
                filter: buffa::MessageField::some(filter.clone()),
                mode: mode_to(*mode),
                packed: true,
                reach_only: *reach_only,
                ..Default::default()
            };
            client.read_with_options(request, shown).await
        }
        Place::Stream {
            stream,
            range,
            order,
            ..
        } => {
            let request = p::ReadStreamRequest {
                stream: stream.as_str().to_owned(),
                from: range.0.start,
                to: Some(range.0.end),
                backward: *order == Order::Backward,
                packed: true,
                ..Default::default()
            };
            client.read_stream_with_options(request, shown).await
        }
    };
    let mut call = call.map_err(lost)?;
    let mut waiting: Option<p::ReadResponse> = None;
    loop {
        let has_room = waiting
            .as_ref()
            .is_none_or(|waiting| step_bytes(waiting) < BATCH_BYTES);
        let message = tokio::select! {
            biased;
            room = to.reserve(), if waiting.is_some() => {
                let room = room.map_err(|_| Ended::Unheard)?;
                if let Some(batch) = place.take(waiting.take())? {
                    room.send(Item::Batch(batch));
                }
                continue;
            }
            message = call.message(), if has_room => message,
        };
        let message = match message {
            Ok(Some(message)) => message,
            ended => {
                give(place, waiting, to).await?;
                return ended.map(drop).map_err(lost);
            }
        };
        again.reset();
        let mut next = Some(message.to_owned_message());
        if let Some(before) = &mut waiting {
            next = next.and_then(|next| join_steps(before, next));
        }
        if next.is_some() {
            give(place, std::mem::replace(&mut waiting, next), to).await?;
        }
    }
}

/// Gives a batch to the reader once there is room.
async fn give(
    place: &mut Place,
    message: Option<p::ReadResponse>,
    to: &mpsc::Sender<Item>,
) -> Result<(), Ended> {
    if let Some(batch) = place.take(message)? {
        let given = to.send(Item::Batch(batch)).await;
        given.map_err(|_| Ended::Unheard)?;
    }
    Ok(())
}

fn undecodable(error: anabranch_model::record::RecordError) -> Ended {
    Ended::Failed(ReadError::Io {
        what: "decoding events of the server".to_owned(),
        reason: error.to_string(),
    })
}

impl Place {
    /// What a message gives to the reader; moves behind it.
    fn take(&mut self, message: Option<p::ReadResponse>) -> Result<Option<EventBatch>, Ended> {
        let Some(message) = message else {
            return Ok(None);
        };
        let step = step_of(message);
        let step = step.map_err(|error| Ended::Lost(Lost::strange(&error)))?;
        if let Some(error) = step.problem {
            return Err(Ended::Failed(error));
        }
        self.ends_at(step.until);
        let batch = step.batch.map(|batch| self.before_the_end(batch));
        let batch = batch.transpose()?.flatten();
        if let Some(batch) = &batch {
            self.pass(batch)?;
        }
        Ok(batch)
    }

    /// Takes in where the read ends, when that is said for the first time.
    fn ends_at(&mut self, said: Option<Cut>) {
        let (Self::All { until, .. } | Self::Stream { until, .. }) = self;
        if until.is_none() {
            *until = said;
        }
    }

    /// What of a batch comes before the end of the read.
    fn before_the_end(&self, batch: EventBatch) -> Result<Option<EventBatch>, Ended> {
        let (Self::All { until, .. } | Self::Stream { until, .. }) = self;
        let Some(until) = until else {
            return Ok(Some(batch));
        };
        let is_whole = match batch.reach() {
            Some(reach) => {
                let mut parts = reach.parts();
                parts.all(|(partition, offsets)| offsets.end <= until.get(partition))
            }
            None => false,
        };
        if is_whole {
            return Ok(Some(batch));
        }
        // An end is one of whole appends, so none is cut in two.
        let wanted = |event: &Result<Event, _>| {
            event
                .as_ref()
                .map_or(true, |event| until.includes(event.position))
        };
        let events: Result<Vec<_>, _> = batch.into_iter().filter(wanted).collect();
        let events = events.map_err(undecodable)?;
        Ok((!events.is_empty()).then(|| events.into()))
    }

    /// Moves behind what was given.
    fn pass(&mut self, batch: &EventBatch) -> Result<(), Ended> {
        match self {
            Self::All { from, mode, .. } => {
                if *mode != ReadMode::Backward
                    && let Some(reach) = batch.reach()
                {
                    reach.pass(from);
                    return Ok(());
                }
                for event in batch {
                    let position = event.map_err(undecodable)?.position;
                    if *mode == ReadMode::Backward {
                        from.set(position.partition, position.offset);
                    } else {
                        from.join(&Cut::including(position));
                    }
                }
            }
            Self::Stream { range, order, .. } => {
                for event in batch {
                    let version = event.map_err(undecodable)?.version;
                    match order {
                        Order::Forward => range.0.start = version.saturating_add(1),
                        Order::Backward => range.0.end = version,
                    }
                }
            }
        }
        Ok(())
    }
}
