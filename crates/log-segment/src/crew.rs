//! The threads that work for the partitions of a directory: as many for a thousand partitions as
//! for a few.
//!
//! | thread | what it does |
//! | --- | --- |
//! | commit, up to as many as the device takes flushes side by side | writes what a member has rung for, one group; then the member stands at the end of the queue |
//! | mark | syncs at intervals and keeps the marks. One of its own: other upkeep may take seconds |
//! | time | keeps the time limits: the disk cannot hold it up |
//! | upkeep | what no append waits for, a piece of each member in turn |
//! | refresh | for those who only read: looks for what a writer elsewhere has made |
//!
//! A member that the disk holds up keeps one thread; the others take turns at the rest. A member
//! that panics is told so, and keeps nobody else from going on.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::sync::{Signal, lock};

/// So many appends go by way of a thread after two of them have met.
const LOOK_BACK: usize = 64;

/// For whom the threads work. All of it may be called at any time, by several threads at once.
pub(crate) trait Member: Send + Sync {
    /// Writes one group, if one waits; whether another one does.
    fn commit(&self) -> bool;
    fn keep_marks(&self);
    fn keep_time(&self);
    /// Does one piece of upkeep; false if there was none to do.
    fn keep_up(&self) -> bool;
    /// One of these has panicked.
    fn panicked(&self);
}

/// What a thread does again and again.
#[derive(Clone, Copy)]
pub(crate) struct Round {
    pub name: &'static str,
    pub every: Duration,
    pub work: fn(&dyn Member) -> bool,
}

/// See the module's text.
pub(crate) struct Crew {
    state: Mutex<State>,
    /// Somebody has rung, or the crew ends.
    work: Condvar,
    /// A thread is done with a member.
    left: Condvar,
    rounds: Vec<(Round, Signal)>,
    /// Whether it works for more than one member.
    several: bool,
    committers_max: AtomicUsize,
    /// So many members stand in the queue.
    queued: AtomicUsize,
    /// So many commits are under way.
    flushing: AtomicUsize,
    /// So many of the next appends are not believed to be alone.
    crowded: AtomicUsize,
    ending: AtomicBool,
}

#[derive(Default)]
struct State {
    seats: Vec<Seat>,
    /// Who has rung, in the order in which they did.
    queue: VecDeque<usize>,
    idle: usize,
    committers: usize,
    threads: Vec<JoinHandle<()>>,
}

struct Seat {
    /// `None`: it was dismissed.
    member: Option<Arc<dyn Member>>,
    rung: Arc<AtomicBool>,
    /// So many threads are at work for it.
    busy: usize,
    committing: bool,
}

/// A member's way to ring.
#[derive(Clone)]
pub(crate) struct Post {
    crew: Arc<Crew>,
    at: usize,
    rung: Arc<AtomicBool>,
}

/// A commit that its caller makes.
pub(crate) struct InPlace<'a>(&'a Crew);

impl Crew {
    /// A crew of threads that go these rounds, and of up to `committers_max` which commit. The
    /// threads begin with the first member and end with the last.
    pub fn new(rounds: &[Round], committers_max: usize, several: bool) -> Arc<Self> {
        let rounds = rounds.iter().map(|&round| (round, Signal::default()));
        Arc::new(Self {
            state: Mutex::default(),
            work: Condvar::new(),
            left: Condvar::new(),
            rounds: rounds.collect(),
            several,
            committers_max: AtomicUsize::new(committers_max),
            queued: AtomicUsize::new(0),
            flushing: AtomicUsize::new(0),
            crowded: AtomicUsize::new(0),
            ending: AtomicBool::new(false),
        })
    }

    /// Works for `member` from now on.
    pub fn enlist(self: &Arc<Self>, member: Arc<dyn Member>) -> io::Result<Post> {
        let rung = Arc::new(AtomicBool::new(false));
        let mut state = lock(&self.state);
        let at = state.seats.len();
        state.seats.push(Seat {
            member: Some(member),
            rung: rung.clone(),
            busy: 0,
            committing: false,
        });
        let post = Post {
            crew: self.clone(),
            at,
            rung,
        };
        if state.threads.is_empty() {
            let started = self.start(&mut state);
            drop(state);
            if let Err(error) = started {
                post.dismiss();
                return Err(error);
            }
        }
        Ok(post)
    }

    fn start(self: &Arc<Self>, state: &mut State) -> io::Result<()> {
        for at in 0..self.rounds.len() {
            let crew = self.clone();
            let name = self.rounds[at].0.name;
            state.threads.push(spawn(name, move || crew.go_rounds(at))?);
        }
        match self.committers_max.load(Ordering::Relaxed) {
            0 => Ok(()),
            _ => self.start_committer(state),
        }
    }

    fn start_committer(self: &Arc<Self>, state: &mut State) -> io::Result<()> {
        let crew = self.clone();
        let thread = spawn("anabranch-commit", move || crew.commit_until_ended())?;
        state.threads.push(thread);
        state.committers += 1;
        Ok(())
    }

    /// Lets so many commit side by side, once it is known how many the device takes.
    pub fn allow_committers(&self, max: usize) {
        self.committers_max.store(max.max(1), Ordering::Relaxed);
    }

    fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    fn ring_all(&self) {
        for (_, bell) in &self.rounds {
            bell.ring();
        }
    }

    fn ring(self: &Arc<Self>, at: usize) {
        let mut state = lock(&self.state);
        state.queue.push_back(at);
        self.queued.store(state.queue.len(), Ordering::Relaxed);
        if state.idle > 0 {
            self.work.notify_one();
        } else if state.committers < self.committers_max.load(Ordering::Relaxed)
            && !self.is_ending()
        {
            // Where the system has no thread left, those that there are do it a little later.
            drop(self.start_committer(&mut state));
        }
    }

    /// Does something for a member, unless it was dismissed; then gives `None`.
    fn work_for<T>(&self, at: usize, work: impl FnOnce(&dyn Member) -> T) -> Option<T> {
        let member = {
            let mut state = lock(&self.state);
            let seat = &mut state.seats[at];
            let member = seat.member.clone()?;
            seat.busy += 1;
            member
        };
        let done = guarded(&*member, work);
        drop(member);
        self.leave(&mut lock(&self.state), at);
        done
    }

    fn leave(&self, state: &mut State, at: usize) {
        state.seats[at].busy -= 1;
        if state.seats[at].member.is_none() {
            self.left.notify_all();
        }
    }

    /// The life of a thread that goes rounds.
    fn go_rounds(&self, at: usize) {
        let (round, bell) = &self.rounds[at];
        while !self.is_ending() {
            bell.wait(round.every);
            let mut again = true;
            while again && !self.is_ending() {
                let members = lock(&self.state).seats.len();
                let work = |member| self.work_for(member, round.work) == Some(true);
                again = (0..members).fold(false, |any, member| work(member) | any);
            }
        }
    }

    /// The life of a thread that commits.
    fn commit_until_ended(&self) {
        let mut state = lock(&self.state);
        while !self.is_ending() {
            let Some((at, member, rung)) = self.next_to_commit(&mut state) else {
                state.idle += 1;
                let waited = self.work.wait(state);
                state = waited.unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
                continue;
            };
            drop(state);
            rung.store(false, Ordering::SeqCst);
            self.flushing.fetch_add(1, Ordering::Relaxed);
            let commit = |member: &dyn Member| {
                let mut more = member.commit();
                while more && self.queued.load(Ordering::Relaxed) == 0 {
                    more = member.commit();
                }
                more
            };
            let more = guarded(&*member, commit) == Some(true);
            drop(member);
            self.flushing.fetch_sub(1, Ordering::Relaxed);
            state = lock(&self.state);
            state.seats[at].committing = false;
            self.leave(&mut state, at);
            if more && !rung.swap(true, Ordering::SeqCst) {
                state.queue.push_back(at);
                self.queued.store(state.queue.len(), Ordering::Relaxed);
            }
        }
    }

    /// Takes the first of the queue for whom nobody is committing yet.
    fn next_to_commit(
        &self,
        state: &mut MutexGuard<'_, State>,
    ) -> Option<(usize, Arc<dyn Member>, Arc<AtomicBool>)> {
        let State { seats, queue, .. } = &mut **state;
        queue.retain(|&at| seats[at].member.is_some());
        let free = queue.iter().position(|&at| !seats[at].committing);
        let at = free.and_then(|free| queue.remove(free));
        self.queued.store(queue.len(), Ordering::Relaxed);
        let seat = &mut seats[at?];
        seat.committing = true;
        seat.busy += 1;
        Some((at?, seat.member.clone()?, seat.rung.clone()))
    }

    /// Ends the threads; nobody is a member any more.
    fn end(&self) {
        self.ending.store(true, Ordering::Release);
        let threads = std::mem::take(&mut lock(&self.state).threads);
        self.work.notify_all();
        self.ring_all();
        for thread in threads {
            // What panics in a member is caught there.
            drop(thread.join());
        }
    }
}

impl Post {
    /// Asks for a commit.
    pub fn ring_for_commit(&self) {
        if !self.rung.swap(true, Ordering::SeqCst) {
            self.crew.ring(self.at);
        }
    }

    /// How many members there are, and were.
    pub fn members(&self) -> usize {
        lock(&self.crew.state).seats.len()
    }

    /// Asks for the last of the rounds.
    pub fn ring_for_upkeep(&self) {
        if let Some((_, bell)) = self.crew.rounds.last() {
            bell.ring();
        }
    }

    /// Whether the member's caller may commit by itself. Of several members only where no other
    /// one is being written, nor was lately: the callers would each wait for the disk, and where they are few
    /// threads that others need too, everybody would.
    pub fn in_place(&self) -> Option<InPlace<'_>> {
        let crew = &*self.crew;
        if crew.flushing.fetch_add(1, Ordering::Relaxed) > 0 && crew.several {
            crew.crowded.store(LOOK_BACK, Ordering::Relaxed);
            crew.flushing.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let place = InPlace(crew);
        let crowded = crew.crowded.load(Ordering::Relaxed);
        if crowded > 0 {
            crew.crowded.store(crowded - 1, Ordering::Relaxed);
            return None;
        }
        Some(place)
    }

    /// Works for the member no longer: on return nobody does. The last one ends the crew.
    pub fn dismiss(&self) {
        let crew = &*self.crew;
        let mut state = lock(&crew.state);
        let member = state.seats[self.at].member.take();
        while state.seats[self.at].busy > 0 {
            let waited = crew.left.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        let last = state.seats.iter().all(|seat| seat.member.is_none());
        drop(state);
        drop(member);
        if last {
            crew.end();
        }
    }
}

impl Drop for InPlace<'_> {
    fn drop(&mut self) {
        self.0.flushing.fetch_sub(1, Ordering::Relaxed);
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
}

/// What `work` gives; `None` if it panics, which the member is told.
fn guarded<T>(member: &dyn Member, work: impl FnOnce(&dyn Member) -> T) -> Option<T> {
    let done = catch_unwind(AssertUnwindSafe(|| work(member)));
    if done.is_err() {
        member.panicked();
    }
    done.ok()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// A member whose commits a test sees, and holds up.
    struct Seen {
        number: usize,
        begun: Sender<usize>,
        /// A commit waits for a word from here.
        word: Option<Mutex<Receiver<()>>>,
        panics: bool,
    }

    impl Member for Seen {
        fn commit(&self) -> bool {
            self.begun.send(self.number).expect("the test listens");
            assert!(!self.panics, "as the test wants it");
            if let Some(word) = &self.word {
                lock(word).recv().expect("the test says a word");
            }
            false
        }

        fn keep_marks(&self) {}

        fn keep_time(&self) {}

        fn keep_up(&self) -> bool {
            false
        }

        fn panicked(&self) {
            self.begun.send(usize::MAX).expect("the test listens");
        }
    }

    fn crew(committers: usize) -> Arc<Crew> {
        let round = Round {
            name: "round",
            every: Duration::from_secs(60),
            work: |member| member.keep_up(),
        };
        Crew::new(&[round], committers, true)
    }

    fn member(number: usize, begun: &Sender<usize>) -> Seen {
        Seen {
            number,
            begun: begun.clone(),
            word: None,
            panics: false,
        }
    }

    #[test]
    fn a_hundred_members_have_no_more_threads_than_a_few() {
        let crew = crew(2);
        let (begun, commits) = channel();
        let members = (0..100).map(|number| crew.enlist(Arc::new(member(number, &begun))));
        let posts: Vec<Post> = members.map(|post| post.expect("threads begin")).collect();
        posts.iter().for_each(Post::ring_for_commit);
        let mut committed: Vec<usize> = commits.iter().take(100).collect();
        committed.sort_unstable();
        assert_eq!(committed, (0..100).collect::<Vec<_>>());
        assert!(lock(&crew.state).threads.len() <= 3);
        posts.iter().for_each(Post::dismiss);
        assert!(lock(&crew.state).threads.is_empty());
    }

    #[test]
    fn a_member_that_the_disk_holds_up_keeps_the_others_from_nothing() {
        let crew = crew(2);
        let (begun, commits) = channel();
        let (say, word) = channel();
        let slow = Seen {
            word: Some(Mutex::new(word)),
            ..member(0, &begun)
        };
        let slow = crew.enlist(Arc::new(slow)).expect("threads begin");
        slow.ring_for_commit();
        assert_eq!(commits.recv(), Ok(0));
        let quick = crew.enlist(Arc::new(member(1, &begun)));
        let quick = quick.expect("threads begin");
        for _ in 0..10 {
            // It rings again, and must not take the second thread too.
            slow.ring_for_commit();
            quick.ring_for_commit();
            assert_eq!(commits.recv(), Ok(1));
        }
        assert!(quick.in_place().is_none(), "somebody else is writing");
        say.send(()).expect("it waits");
        assert_eq!(commits.recv(), Ok(0), "it has rung meanwhile");
        say.send(()).expect("it waits");
        quick.dismiss();
        slow.dismiss();
    }

    #[test]
    fn a_member_that_panics_is_told_so_and_the_others_go_on() {
        let crew = crew(1);
        let (begun, commits) = channel();
        let bad = Seen {
            panics: true,
            ..member(0, &begun)
        };
        let bad = crew.enlist(Arc::new(bad)).expect("threads begin");
        let good = crew.enlist(Arc::new(member(1, &begun)));
        let good = good.expect("threads begin");
        bad.ring_for_commit();
        good.ring_for_commit();
        let seen: Vec<usize> = commits.iter().take(3).collect();
        assert_eq!(seen, [0, usize::MAX, 1]);
        bad.dismiss();
        good.dismiss();
    }

    #[test]
    fn who_is_alone_commits_in_place_until_it_meets_another() {
        let crew = crew(1);
        let (begun, _commits) = channel();
        let posts = [0, 1].map(|number| crew.enlist(Arc::new(member(number, &begun))));
        let [one, other] = posts.map(|post| post.expect("threads begin"));
        let place = one.in_place();
        assert!(place.is_some() && other.in_place().is_none());
        drop(place);
        let tries = (0..2 * LOOK_BACK).filter(|_| one.in_place().is_some());
        assert_eq!(tries.count(), LOOK_BACK, "it looks back for so long");
        one.dismiss();
        other.dismiss();
    }
}
