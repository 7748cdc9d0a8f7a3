//! Files that are read now and then, few of them open at a time: a log may have more files
//! than a process may have open.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use anabranch_env::{Disk, File, OpenMode};

use crate::sync::lock;

/// The most files kept open.
const OPEN_MAX: usize = 128;

/// Opens files when they are read, and closes those that were not read for longest.
pub(crate) struct Files {
    disk: Arc<dyn Disk>,
    /// Those that are open, as they were opened.
    open: Mutex<VecDeque<Weak<Slot>>>,
}

/// Where an open file is kept, until others take its place.
#[derive(Default)]
pub(crate) struct Slot {
    file: Mutex<Option<Arc<dyn File>>>,
    /// Whether it was read since somebody last looked for a file to close.
    used: AtomicBool,
}

impl Files {
    pub fn new(disk: Arc<dyn Disk>) -> Self {
        Self {
            disk,
            open: Mutex::default(),
        }
    }

    /// The file at `path`, which has this slot, open for reading.
    pub fn get(&self, slot: &Arc<Slot>, path: &Path) -> io::Result<Arc<dyn File>> {
        if let Some(file) = &*lock(&slot.file) {
            slot.used.store(true, Ordering::Relaxed);
            return Ok(file.clone());
        }
        let file = self.disk.open(path, OpenMode::Read)?;
        *lock(&slot.file) = Some(file.clone());
        // Outside their locks: two slots are never locked at a time.
        for closed in self.make_room(slot) {
            *lock(&closed.file) = None;
        }
        Ok(file)
    }

    /// Counts a file in; gives those to close.
    fn make_room(&self, opened: &Arc<Slot>) -> Vec<Arc<Slot>> {
        let mut open = lock(&self.open);
        open.push_back(Arc::downgrade(opened));
        let mut spared = open.len();
        let mut closed = Vec::new();
        while open.len() > OPEN_MAX
            && let Some(oldest) = open.pop_front()
        {
            let Some(slot) = oldest.upgrade() else {
                continue;
            };
            if spared > 0 && slot.used.swap(false, Ordering::Relaxed) {
                spared -= 1;
                open.push_back(oldest);
            } else {
                closed.push(slot);
            }
        }
        closed
    }
}

#[cfg(test)]
mod tests {
    use anabranch_env::sim;

    use super::*;

    #[test]
    fn few_files_are_open_at_a_time_and_those_in_use_stay() {
        let (env, _, _) = sim::env(1);
        env.disk.create_dir(Path::new("d")).unwrap();
        let files = Files::new(env.disk.clone());
        let named = |i: usize| std::path::PathBuf::from(format!("d/{i}"));
        let slots: Vec<_> = (0..3 * OPEN_MAX)
            .map(|i| {
                env.disk.open(&named(i), OpenMode::Create).unwrap();
                Arc::new(Slot::default())
            })
            .collect();
        for (i, slot) in slots.iter().enumerate() {
            files.get(slot, &named(i)).unwrap();
            files.get(&slots[0], &named(0)).unwrap();
        }
        let is_open = |slot: &&Arc<Slot>| lock(&slot.file).is_some();
        assert_eq!(slots.iter().filter(is_open).count(), OPEN_MAX);
        assert!(is_open(&&slots[0]));
    }
}
