//! How far each partition goes: what followers wait for.
//!
//! What this program appends is known at once; what others append is found by asking, as long as
//! somebody follows.

use std::sync::Arc;
use std::time::Duration;

use anabranch_model::{Cut, PartitionId};
use tokio::sync::{Notify, watch};

use crate::fault::Fault;
use crate::pool::Pool;

/// How often the database is asked while somebody follows.
const EVERY: Duration = Duration::from_millis(20);

/// See the module's text.
pub struct Heads {
    known: watch::Sender<Vec<u64>>,
    /// Somebody has begun to follow.
    followed: Notify,
}

impl Heads {
    /// Of so many partitions. [`Heads::run`] has to run.
    pub fn new(partitions: u32) -> Arc<Self> {
        Arc::new(Self {
            known: watch::Sender::new(vec![0; partitions as usize]),
            followed: Notify::new(),
        })
    }

    /// How many partitions there are.
    pub fn partitions(&self) -> usize {
        self.known.borrow().len()
    }

    /// How far the partitions go, told again and again.
    pub fn follow(&self) -> watch::Receiver<Vec<u64>> {
        let receiver = self.known.subscribe();
        self.followed.notify_one();
        receiver
    }

    /// The log goes so far at least.
    pub fn reach(&self, cut: &Cut) {
        self.known.send_if_modified(|known| {
            let mut is_news = false;
            for (partition, count) in cut.iter() {
                if let Some(end) = known.get_mut(partition.0 as usize)
                    && *end < count
                {
                    *end = count;
                    is_news = true;
                }
            }
            is_news
        });
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
            if let Ok(head) = ask(&pool).await {
                self.reach(&head);
            }
            tokio::time::sleep(EVERY).await;
        }
    }
}

/// Every durable event there is now. One statement sees what had been committed at one time, so
/// it is a closed cut.
pub async fn ask(pool: &Pool) -> Result<Cut, Fault> {
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
