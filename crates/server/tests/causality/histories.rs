//! What sessions write and are shown, judged by a program that knows nothing of the platform.
//!
//! Sessions write items and ask boards for all of them, in a random order, each time another copy
//! of another store, while now this and now that partition is held back from a copy. What each
//! session did is a line for each of its transactions: a write, or all that one answer shows.

use std::fmt::Write as _;
use std::path::Path;

use anabranch_causal_check::{History, Summary, Violation, check};
use anabranch_env::{Env, SplitMix64};
use anabranch_model::StreamId;

use crate::embedded::Embedded;
use crate::items::Rows;
use crate::minimal::{Minimal, Protections};
use crate::scenarios::not_reached;
use crate::session::Session;
use crate::stores::Stores;
use crate::world::{Reader, World};

const SESSIONS: usize = 5;
const STEPS: u64 = 160;

/// A session, and what it has done.
struct Told {
    session: Session,
    lines: String,
}

/// A copy of the boards.
struct Copy {
    reader: Reader,
    is_held: bool,
}

struct Run<'a> {
    world: &'a World,
    items: Vec<StreamId>,
    views: Vec<&'static str>,
    copies: Vec<Copy>,
    written: u64,
}

impl Run<'_> {
    async fn write(&mut self, item: usize, told: &mut Told) {
        self.written += 1;
        let value = self.written.to_string();
        let (world, stream) = (self.world, &self.items[item]);
        told.session.write(world, stream, &value).await;
        writeln!(told.lines, "[{}:={value}]", name(item)).unwrap();
    }

    /// Asks a board; whether it has answered.
    async fn ask(&mut self, copy: usize, view: &str, waits: bool, told: &mut Told) -> bool {
        let reader = &self.copies[copy].reader;
        let asked = match waits {
            true => told.session.ask_waiting(reader, view).await,
            false => told.session.ask(reader, view).await,
        };
        match asked {
            Ok(shown) => {
                self.record(&shown, told);
                true
            }
            Err(refused) => {
                assert_eq!(refused, not_reached());
                false
            }
        }
    }

    fn record(&self, shown: &Rows, told: &mut Told) {
        let reads = self.items.iter().enumerate().map(|(number, item)| {
            let value = shown.get(item.key()).map_or("?", |row| &row.text);
            format!("{}=={value}", name(number))
        });
        let reads: Vec<_> = reads.collect();
        writeln!(told.lines, "[{}]", reads.join(" ")).unwrap();
    }
}

fn name(item: usize) -> char {
    ['a', 'b', 'c', 'd', 'e'][item]
}

/// A history: its text.
async fn history(world: &World, stores: Option<&Stores>, seed: u64) -> String {
    let mut random = SplitMix64::new(seed);
    let mut run = Run {
        world,
        items: (0..5).map(|nth| world.item("note", nth)).collect(),
        views: stores.map_or(vec!["board"], Stores::views),
        copies: Vec::new(),
        written: 0,
    };
    for _ in 0..2 {
        let name = format!("copy_{:016x}", Env::os().rng.next_u64());
        let reader = match stores {
            Some(stores) => world.reader_in(&name, stores).await,
            None => world.reader(&name).await,
        };
        run.copies.push(Copy {
            reader,
            is_held: false,
        });
    }
    let new = || Told {
        session: world.session(),
        lines: String::new(),
    };
    let mut done = Vec::new();
    // Who reads what nobody has written shows little. So all is written, and read by each session.
    let mut first = new();
    for item in 0..run.items.len() {
        run.write(item, &mut first).await;
    }
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        let mut told = new();
        if let (Some(token), false) = (first.session.token(), world.forgets_tokens) {
            told.session = Session::with_token(token);
        }
        for copy in 0..run.copies.len() {
            for view in run.views.clone() {
                run.ask(copy, view, true, &mut told).await;
            }
        }
        sessions.push(told);
    }
    done.push(first.lines);
    for _ in 0..STEPS {
        let copy = random.below(run.copies.len() as u64) as usize;
        let item = random.below(run.items.len() as u64) as usize;
        let view = run.views[random.below(run.views.len() as u64) as usize];
        let told = &mut sessions[random.below(SESSIONS as u64) as usize];
        match random.below(20) {
            0..7 => run.write(item, told).await,
            7..16 => {
                let waits = !run.copies[copy].is_held && random.one_in(2);
                run.ask(copy, view, waits, told).await;
            }
            16..18 => {
                let stream = &run.items[item];
                run.copies[copy].reader.hold(stream).await;
                run.copies[copy].is_held = true;
            }
            18 => {
                run.copies[copy].reader.slow.resume();
                run.copies[copy].is_held = false;
            }
            _ => done.push(std::mem::replace(told, new()).lines),
        }
    }
    done.extend(sessions.into_iter().map(|told| told.lines));
    for copy in run.copies {
        copy.reader.slow.resume();
        copy.reader.site.close().await;
    }
    done.join("---\n")
}

fn judge(text: &str) -> Result<Summary, Violation> {
    let history: History = text
        .parse()
        .unwrap_or_else(|error| panic!("{error}: {text}"));
    check(&history)
}

/// Leaves a history where a program can judge it too.
#[expect(clippy::disallowed_methods, reason = "a file of the test's own")]
fn keep(seed: u64, text: &str) {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("histories");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join(format!("boards-{seed}.hist")), text).unwrap();
}

#[tokio::test]
async fn what_boards_in_every_store_show_is_causally_consistent() {
    let stores = Stores::new();
    for seed in 0..4 {
        let world = World::new(Embedded::new()).await;
        let text = history(&world, Some(&stores), seed).await;
        world.writers.close().await;
        keep(seed, &text);
        match judge(&text) {
            Ok(summary) => assert!(summary.reads > 300, "seed {seed}: only {summary}"),
            Err(violation) => panic!("seed {seed}: {violation}\n{text}"),
        }
    }
}

/// Fails unless one of some histories of such worlds is found to be wrong.
async fn is_caught(mut world: impl AsyncFnMut() -> World) {
    for seed in 0..40 {
        let world = world().await;
        let text = history(&world, None, seed).await;
        world.writers.close().await;
        if judge(&text).is_err() {
            return;
        }
    }
    panic!("no history is found to be wrong");
}

#[tokio::test]
async fn histories_of_clients_that_lose_their_tokens_are_found_to_be_wrong() {
    is_caught(async || {
        let mut world = World::new(Embedded::new()).await;
        world.forgets_tokens = true;
        world
    })
    .await;
}

#[tokio::test]
async fn histories_of_readers_that_do_not_wait_for_causes_are_found_to_be_wrong() {
    is_caught(async || {
        let protections = Protections {
            gate: false,
            ..Protections::ALL
        };
        World::new(Minimal::new(protections)).await
    })
    .await;
}
