//! Appends to several partitions, while a partition is late, or takes nothing any more.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use anabranch_env::Env;
use anabranch_log::{
    Append, AppendError, Appended, BoxFuture, Capabilities, EventStream, Layout, Log, MemoryLog,
    Order, PartitionedLog, Placed, ReadError, ReadMode, VersionRange,
};
use anabranch_model::{Cut, EventId, Filter, NewEvent, PartitionId, StreamId};
use futures_executor::block_on;

/// A partition whose appends wait: shut before they are written, `after` before they are answered.
struct Gate {
    inner: Arc<MemoryLog>,
    shut: Arc<AtomicBool>,
    dead: Arc<AtomicBool>,
    wakers: Mutex<Vec<Waker>>,
    after: Arc<AtomicBool>,
}
impl Gate {
    fn open(&self) {
        self.shut.store(false, SeqCst);
        self.after.store(false, SeqCst);
        self.wakers.lock().unwrap().drain(..).for_each(Waker::wake);
    }
}
impl Log for Gate {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, AppendError>> {
        Box::pin(async move {
            std::future::poll_fn(|cx: &mut Context<'_>| {
                if self.shut.load(SeqCst) {
                    self.wakers.lock().unwrap().push(cx.waker().clone());
                    Poll::Pending
                } else {
                    Poll::Ready(())
                }
            })
            .await;
            if self.dead.load(SeqCst) {
                return Err(AppendError::Unavailable {
                    reason: "disk is gone".into(),
                    retry_after: None,
                });
            }
            let done = self.inner.append(append).await;
            std::future::poll_fn(|cx: &mut Context<'_>| {
                if self.after.load(SeqCst) {
                    self.wakers.lock().unwrap().push(cx.waker().clone());
                    Poll::Pending
                } else {
                    Poll::Ready(())
                }
            })
            .await;
            done
        })
    }
    fn read_stream(&self, s: &StreamId, r: VersionRange, o: Order) -> EventStream {
        self.inner.read_stream(s, r, o)
    }
    fn read(&self, f: &Cut, filter: Filter, m: ReadMode) -> EventStream {
        self.inner.read(f, filter, m)
    }
    fn find(&self, id: EventId) -> BoxFuture<'_, Result<Option<Placed>, ReadError>> {
        self.inner.find(id)
    }
    fn head(&self) -> BoxFuture<'_, Result<Cut, ReadError>> {
        self.inner.head()
    }
    fn takes_appends(&self) -> Result<(), AppendError> {
        if self.dead.load(SeqCst) {
            return Err(AppendError::Unavailable {
                reason: "disk is gone".into(),
                retry_after: None,
            });
        }
        Ok(())
    }
}
fn layout() -> Layout {
    Layout::new(Vec::new(), 4).unwrap()
}
fn gates() -> Vec<Arc<Gate>> {
    layout()
        .ids()
        .map(|_| {
            Arc::new(Gate {
                inner: Arc::new(MemoryLog::new(Env::os())),
                shut: Arc::default(),
                dead: Arc::default(),
                wakers: Mutex::default(),
                after: Arc::default(),
            })
        })
        .collect()
}
fn log(g: &[Arc<Gate>]) -> PartitionedLog {
    PartitionedLog::open(
        layout(),
        g.iter().map(|g| g.clone() as Arc<dyn Log>).collect(),
    )
    .unwrap()
}
fn ev(id: u128, s: &StreamId) -> NewEvent {
    NewEvent::new(
        EventId::from_u128(id),
        s.clone(),
        "H".parse().unwrap(),
        "{}",
    )
}
/// Three streams in three partitions.
fn streams() -> Vec<StreamId> {
    let l = layout();
    let mut out: Vec<StreamId> = Vec::new();
    let mut ps = Vec::new();
    for n in 0.. {
        let s: StreamId = format!("order/{n}").parse().unwrap();
        let p = l.partition_of(&s);
        if !ps.contains(&p) {
            ps.push(p);
            out.push(s);
        }
        if out.len() == 3 {
            break;
        }
    }
    out.sort_by_key(|s| l.partition_of(s));
    out
}
fn poll<T>(f: &mut BoxFuture<'_, T>) -> Poll<T> {
    f.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}
fn seen(log: &dyn Log, s: &StreamId) -> usize {
    let mut e = log.read_stream(s, VersionRange::ALL, Order::Forward);
    let mut n = 0;
    while let Some(x) = block_on(e.next()) {
        x.unwrap();
        n += 1;
    }
    n
}

#[test]
fn an_append_that_a_part_refuses_is_refused_before_anything_is_decided() {
    let log = PartitionedLog::in_memory(&Env::os(), layout());
    let s = streams();
    let refused = block_on(log.append(Append::events(vec![
        ev(7, &s[0]),
        ev(7, &s[0]),
        ev(8, &s[1]),
    ])));
    assert!(
        matches!(refused, Err(AppendError::Rejected(_))),
        "{refused:?}"
    );
    let next = block_on(log.append(Append::event(ev(9, &s[1]))));
    assert!(next.is_ok(), "the partition takes nothing any more");
}

#[test]
fn nobody_reads_one_half_of_an_append_by_its_stream() {
    let g = gates();
    let log = log(&g);
    let s = streams();
    let p1 = layout().partition_of(&s[1]).0 as usize;
    g[p1].shut.store(true, SeqCst);
    let mut a = log.append(Append::events(vec![ev(1, &s[0]), ev(2, &s[1])]));
    assert!(poll(&mut a).is_pending());
    let (x, y) = (seen(&log, &s[0]), seen(&log, &s[1]));
    assert_eq!(x, y, "a half is read");
}

#[test]
fn who_finishes_an_append_late_does_not_end_the_next_one() {
    let g = gates();
    let log = log(&g);
    let s = streams();
    let (p0, p1) = (
        layout().partition_of(&s[0]).0 as usize,
        layout().partition_of(&s[1]).0 as usize,
    );
    g[p1].shut.store(true, SeqCst);
    let mut l = log.append(Append::events(vec![ev(1, &s[0]), ev(2, &s[1])]));
    assert!(poll(&mut l).is_pending());
    drop(l);
    g[p1].shut.store(false, SeqCst);
    g[p1].after.store(true, SeqCst);
    let mut t2 = log.head();
    assert!(poll(&mut t2).is_pending());
    g[p1].after.store(false, SeqCst);
    block_on(log.head()).unwrap();
    g[p1].shut.store(true, SeqCst);
    let mut n = log.append(Append::events(vec![ev(3, &s[0]), ev(4, &s[1])]));
    assert!(poll(&mut n).is_pending());
    assert!(poll(&mut t2).is_ready());
    let after = block_on(log.head()).unwrap();
    let (a, b) = (
        after.get(PartitionId(p0 as u32)),
        after.get(PartitionId(p1 as u32)),
    );
    assert_eq!((a, b), (1, 1), "the head has one half of N");
}

#[test]
fn a_partition_that_takes_nothing_does_not_take_the_head_of_the_others_away() {
    let g = gates();
    let log = log(&g);
    let s = streams();
    let p1 = layout().partition_of(&s[1]).0 as usize;
    g[p1].shut.store(true, SeqCst);
    let mut a = log.append(Append::events(vec![ev(1, &s[0]), ev(2, &s[1])]));
    assert!(poll(&mut a).is_pending());
    g[p1].dead.store(true, SeqCst);
    g[p1].open();
    drop(a);
    block_on(log.append(Append::event(ev(5, &s[2])))).unwrap();
    let head = block_on(log.head());
    assert!(
        head.is_ok(),
        "a partition that takes nothing has taken the head of all"
    );
}
