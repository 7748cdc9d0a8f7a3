//! How far each partition goes: what followers wait for.
//!
//! What this program appends is known at once; what others append is found by asking, as long as
//! somebody follows.

use std::sync::Arc;
use std::time::Duration;

use anabranch_log::ReadError;
use anabranch_model::{Cut, PartitionId};
use tokio::sync::{Notify, watch};

use crate::fault::Fault;
use crate::pool::Pool;

/// How often the database is asked while somebody follows.
const EVERY: Duration = Duration::from_millis(20);

/// See the module's text.
pub struct Heads {
    known: watch::Sender<Known>,
    /// Somebody has begun to follow.
    followed: Notify,
}

/// What is known of all partitions.
pub struct Known {
    /// How far each of them goes.
    pub ends: Vec<u64>,
    /// One that went further once, and how far it goes now: another database is there, most likely an
    /// older copy.
    pub changed: Option<(PartitionId, u64)>,
}

impl Known {
    /// Why nothing more can be read by who has read what there was before, if that is so.
    pub fn check(&self) -> Result<(), ReadError> {
        match self.changed {
            Some((partition, from)) => Err(ReadError::HistoryChanged { partition, from }),
            None => Ok(()),
        }
    }
}

impl Heads {
    /// Of so many partitions. [`Heads::run`] has to run.
    pub fn new(partitions: u32) -> Arc<Self> {
        Arc::new(Self {
            known: watch::Sender::new(Known {
                ends: vec![0; partitions as usize],
                changed: None,
            }),
            followed: Notify::new(),
        })
    }

    /// How many partitions there are.
    pub fn partitions(&self) -> usize {
        self.known.borrow().ends.len()
    }

    /// How far the partitions go, told again and again.
    pub fn follow(&self) -> watch::Receiver<Known> {
        let receiver = self.known.subscribe();
        self.followed.notify_one();
        receiver
    }

    /// See [`Known::check`].
    pub fn check(&self) -> Result<(), ReadError> {
        self.known.borrow().check()
    }

    /// The log goes so far at least.
    pub fn reach(&self, cut: &Cut) {
        self.known.send_if_modified(|known| {
            let mut is_news = false;
            for (partition, count) in cut.iter() {
                if let Some(end) = known.ends.get_mut(partition.0 as usize)
                    && *end < count
                {
                    *end = count;
                    is_news = true;
                }
            }
            is_news
        });
    }

    /// How far each partition goes by what is known now.
    pub fn ends(&self) -> Vec<u64> {
        self.known.borrow().ends.clone()
    }

    /// A partition was found to end there. `before` says how far it went for sure before it was asked.
    pub fn found(&self, partition: PartitionId, before: u64, end: u64) {
        if end < before {
            self.known.send_if_modified(|known| {
                let is_news = known.changed.is_none();
                known.changed.get_or_insert((partition, end));
                is_news
            });
        }
    }

    /// As [`ask`], and looks whether the log has become shorter.
    pub async fn ask(&self, pool: &Pool) -> Result<Cut, Fault> {
        let before = self.ends();
        let head = ask(pool).await?;
        for (partition, before) in (0..).map(PartitionId).zip(before) {
            self.found(partition, before, head.get(partition));
        }
        Ok(head)
    }

    /// Asks for as long as somebody follows, for ever.
    #[expect(
        clippy::disallowed_methods,
        reason = "other programs append in real time; nothing here is simulated"
    )]
    pub async fn run(self: Arc<Self>, pool: Arc<Pool>) {
        loop {
            if self.known.receiver_count() == 0 {
                self.followed.notified().await;
            }
            // Who is away is asked again; readers that ask for events tell when it is for long.
            if let Ok(head) = self.ask(&pool).await {
                self.reach(&head);
            }
            tokio::time::sleep(EVERY).await;
        }
    }
}

/// Every durable event there is now. One statement sees what had been committed at one time, so
/// it is a closed cut.
async fn ask(pool: &Pool) -> Result<Cut, Fault> {
    let schema = pool.schema();
    let sql = format!(
        r#"SELECT p.partition, (SELECT e."offset" + 1 FROM {schema}.events e
            WHERE e.partition = p.partition ORDER BY e."offset" DESC LIMIT 1)
        FROM {schema}.partitions p"#
    );
    let mut head = Cut::start();
    for row in pool.query(&sql, &[]).await? {
        let (partition, end) = (row.try_get::<_, i32>(0), row.try_get::<_, Option<i64>>(1));
        let partition = partition.map_err(|error| Fault::of(&error))?;
        let end = end.map_err(|error| Fault::of(&error))?.unwrap_or(0);
        head.set(PartitionId(partition as u32), end as u64);
    }
    Ok(head)
}
