//! The targets over their corpus and mutations of it, with a fixed seed, in bounded time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anabranch_env::SplitMix64;
use anabranch_fuzz::{TARGETS, corpus};

/// No target takes longer, however slow the machine is.
const LONGEST: Duration = Duration::from_secs(6);

fn kept(target: &str) -> Vec<Vec<u8>> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    let mut paths: Vec<_> = std::fs::read_dir(&dir)
        .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect()
}

fn mutated(rng: &mut SplitMix64, input: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..1 + rng.below(4) {
        let at = rng.below(bytes.len() as u64 + 1) as usize;
        match rng.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.below(8),
            1 if at < bytes.len() => bytes[at] = rng.below(256) as u8,
            2 => bytes.insert(
                at,
                [0, 0x7f, 0x80, 0xff, b'"', b'{', b'\\', b'9'][rng.below(8) as usize],
            ),
            3 => bytes.truncate(at),
            4 => drop(
                bytes.drain(at.min(bytes.len())..(at + rng.below(8) as usize).min(bytes.len())),
            ),
            5 => {
                let from = rng.below(other.len() as u64 + 1) as usize;
                let to = (from + rng.below(16) as usize).min(other.len());
                bytes.splice(at..at, other[from..to].iter().copied());
            }
            6 => {
                let run = bytes[at..(at + 8).min(bytes.len())].to_vec();
                bytes.splice(at..at, run);
            }
            _ => {
                let word = rng.next_u64().to_le_bytes();
                let end = (at + 8).min(bytes.len());
                let len = end - at;
                bytes[at..end].copy_from_slice(&word[..len]);
            }
        }
    }
    bytes
}

#[test]
fn no_target_panics_over_its_corpus_and_mutations_of_it() {
    let mut failed = Vec::new();
    for (name, target, mutations) in TARGETS {
        let corpus = kept(name);
        assert!(!corpus.is_empty(), "{name} has no corpus");
        let try_one = |input: &[u8]| catch_unwind(AssertUnwindSafe(|| target(input))).is_ok();
        let mut bad = corpus.iter().find(|input| !try_one(input)).cloned();
        let mut rng = SplitMix64::new(1);
        let begun = Instant::now();
        for _ in 0..mutations {
            if bad.is_some() || begun.elapsed() > LONGEST {
                break;
            }
            let pick = |rng: &mut SplitMix64| &corpus[rng.below(corpus.len() as u64) as usize];
            let (input, other) = (pick(&mut rng), pick(&mut rng));
            let input = mutated(&mut rng, input, other);
            if !try_one(&input) {
                bad = Some(input);
            }
        }
        println!(
            "{name}: {} inputs, {:.1} s",
            corpus.len(),
            begun.elapsed().as_secs_f64()
        );
        if let Some(input) = bad {
            failed.push(format!("{name}: {}", input.escape_ascii()));
        }
    }
    assert!(failed.is_empty(), "put these into the corpus: {failed:#?}");
}

/// The corpus is what the code writes today: `BLESS=1 cargo test` writes it anew beside what was
/// found by searching.
#[test]
fn the_corpus_has_what_the_code_writes() {
    for (name, ..) in TARGETS {
        let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("corpus")
            .join(name);
        for (n, input) in corpus(name).iter().enumerate() {
            let path = dir.join(format!("made-{n}"));
            if std::env::var_os("BLESS").is_some() {
                std::fs::create_dir_all(&dir).unwrap();
                std::fs::write(&path, input).unwrap();
            }
            let kept = std::fs::read(&path).unwrap_or_default();
            assert!(kept == *input, "{}: BLESS=1 writes it anew", path.display());
        }
    }
}
