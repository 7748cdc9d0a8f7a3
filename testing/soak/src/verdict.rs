//! Whether anything has grown but the log.

use serde::Serialize;

use crate::measure::Taken;

/// What the end of the run says.
#[derive(Debug, Serialize)]
pub struct Verdict {
    /// In words.
    pub verdict: &'static str,
    /// What has grown, and from what to what.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub grown: Vec<String>,
    /// What must always hold of the shop and does not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub broken: Vec<&'static str>,
    /// How many orders were placed.
    pub orders: u64,
    /// How many of them were carried out.
    pub confirmed: u64,
    /// How often a service was killed.
    pub crashes: u64,
}

impl Verdict {
    /// Whether all is well.
    pub fn is_good(&self) -> bool {
        self.grown.is_empty() && self.broken.is_empty()
    }
}

/// Memory may be so much higher beside a tenth: what the allocator holds goes up and down.
const MEMORY_SLACK: u64 = 24 << 20;

/// So many more files may be open, while a service starts or connections come and go.
const FILES_SLACK: u64 = 24;

/// Beside the log so much more may stand, beside a tenth, while a view writes its files anew.
const BESIDE_SLACK: u64 = 8 << 20;

/// A customer's history has a row for each order, which is data and not waste: so many bytes.
const ROW_BYTES: u64 = 320;

/// What has grown from the second quarter of the run to the last one. In the first, caches fill.
pub fn grown(taken: &[Taken], orders: u64) -> Vec<String> {
    let quarter = taken.len() / 4;
    if quarter == 0 {
        return vec!["the run was too short to tell".to_owned()];
    }
    let (early, late) = (
        &taken[quarter..2 * quarter],
        &taken[taken.len() - quarter..],
    );
    let mean = |part: &[Taken], of: fn(&Taken) -> u64| {
        part.iter().map(of).sum::<u64>() / part.len() as u64
    };
    let mut grown = Vec::new();
    let mut look = |name: &str, of: fn(&Taken) -> u64, slack: u64| {
        let (before, after) = (mean(early, of), mean(late, of));
        if after > before + before / 10 + slack {
            grown.push(format!("{name} from {before} to {after}"));
        }
    };
    look("memory_bytes", |t| t.memory_bytes, MEMORY_SLACK);
    look("open_files", |t| t.open_files, FILES_SLACK);
    let rows = orders * ROW_BYTES;
    look("beside_bytes", |t| t.beside_bytes, BESIDE_SLACK + rows);
    grown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(memory_bytes: u64, open_files: u64, beside_bytes: u64) -> Taken {
        Taken {
            memory_bytes,
            open_files,
            log_bytes: 0,
            beside_bytes,
        }
    }

    #[test]
    fn what_fills_at_first_and_then_stays_is_flat_whatever_the_log_takes() {
        let mut taken = vec![at(10 << 20, 20, 0); 3];
        taken.extend(vec![at(200 << 20, 60, 5 << 20); 9]);
        for (n, taken) in taken.iter_mut().enumerate() {
            taken.log_bytes = (n as u64) << 30;
        }
        assert!(grown(&taken, 0).is_empty());
    }

    #[test]
    fn what_goes_on_growing_is_named() {
        let steadily = |n: u64| at((200 + 20 * n) << 20, 60 + 10 * n, (5 + 5 * n) << 20);
        let taken: Vec<_> = (0..12).map(steadily).collect();
        let grown = grown(&taken, 0);
        let names = ["memory_bytes", "open_files", "beside_bytes"];
        assert_eq!(grown.len(), 3, "{grown:?}");
        for (text, name) in grown.iter().zip(names) {
            assert!(text.starts_with(name), "{text}");
        }
        assert_eq!(super::grown(&taken[..3], 0).len(), 1);
    }
}
