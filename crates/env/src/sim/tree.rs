//! Directories: the entries that processes see, those on the disk, and the changes that
//! lie between.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::crash::Mood;
use super::node::Node;
use super::tally::{Hit, Tally};
use crate::SplitMix64;

pub(super) type NodeRef = Arc<Mutex<Node>>;

#[derive(Debug, Clone)]
pub(super) enum Entry {
    File(NodeRef),
    Dir,
}

type Entries = BTreeMap<String, Entry>;
/// All directories by path; the root is the empty path.
type Dirs = BTreeMap<PathBuf, Entries>;

/// Directory and name.
pub(super) type Place = (PathBuf, String);

#[derive(Debug, Clone)]
enum Change {
    Put(Place, Entry),
    Remove(Place),
    Rename(Place, Place, NodeRef),
}

impl Change {
    fn places(&self) -> impl Iterator<Item = &Place> {
        let (one, two) = match self {
            Self::Put(place, _) | Self::Remove(place) => (place, None),
            Self::Rename(from, to, _) => (to, Some(from)),
        };
        std::iter::once(one).chain(two)
    }

    fn apply(&self, dirs: &mut Dirs) {
        match self {
            Self::Put(place, entry) => put(dirs, place, entry.clone()),
            Self::Remove(place) => remove(dirs, place),
            Self::Rename(from, to, node) => {
                remove(dirs, from);
                put(dirs, to, Entry::File(node.clone()));
            }
        }
    }
}

fn put(dirs: &mut Dirs, (dir, name): &Place, entry: Entry) {
    if matches!(entry, Entry::Dir) {
        dirs.entry(dir.join(name)).or_default();
    }
    dirs.entry(dir.clone())
        .or_default()
        .insert(name.clone(), entry);
}

fn remove(dirs: &mut Dirs, (dir, name): &Place) {
    if let Some(entries) = dirs.get_mut(dir) {
        entries.remove(name);
    }
}

/// The directories of a disk.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    cached: Dirs,
    durable: Dirs,
    /// Applied to `cached`, not yet to `durable`, oldest first.
    pending: Vec<Change>,
}

impl Tree {
    pub(super) fn new() -> Self {
        let root = Dirs::from([(PathBuf::new(), Entries::new())]);
        Self {
            cached: root.clone(),
            durable: root,
            pending: Vec::new(),
        }
    }

    pub(super) fn entries(&self, dir: &Path) -> Option<&Entries> {
        self.cached.get(dir)
    }

    pub(super) fn file(&self, place: &Place) -> Option<&NodeRef> {
        match self.cached.get(&place.0)?.get(&place.1)? {
            Entry::File(node) => Some(node),
            Entry::Dir => None,
        }
    }

    pub(super) fn files(&self) -> impl Iterator<Item = (&PathBuf, &String, &NodeRef)> {
        self.cached.iter().flat_map(|(dir, entries)| {
            entries.iter().filter_map(move |(name, entry)| match entry {
                Entry::File(node) => Some((dir, name, node)),
                Entry::Dir => None,
            })
        })
    }

    pub(super) fn put(&mut self, place: Place, entry: Entry) {
        self.change(Change::Put(place, entry));
    }

    pub(super) fn remove(&mut self, place: Place) {
        self.change(Change::Remove(place));
    }

    pub(super) fn rename(&mut self, from: Place, to: Place, node: NodeRef) {
        self.change(Change::Rename(from, to, node));
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.cached);
        self.pending.push(change);
    }

    /// Makes the entries of `dir` durable, and what they build on in other directories.
    pub(super) fn sync(&mut self, dir: &Path) {
        let mut needed: BTreeSet<&Place> = BTreeSet::new();
        let mut wanted = vec![false; self.pending.len()];
        for (change, wanted) in self.pending.iter().zip(&mut wanted).rev() {
            if change
                .places()
                .any(|place| place.0 == dir || needed.contains(place))
            {
                *wanted = true;
                needed.extend(change.places());
            }
        }
        drop(needed);
        let mut later = Vec::new();
        for (change, wanted) in std::mem::take(&mut self.pending).into_iter().zip(wanted) {
            if wanted {
                change.apply(&mut self.durable);
            } else {
                later.push(change);
            }
        }
        self.pending = later;
    }

    /// Turns the directories into what a power cut leaves: any subset of the unsynced
    /// changes in which no change of a name survives one before it that did not. Returns
    /// the files whose renaming survived.
    pub(super) fn crash(
        &mut self,
        rng: &mut SplitMix64,
        mood: &Mood,
        tally: &mut Tally,
    ) -> Vec<NodeRef> {
        let mut renamed = Vec::new();
        let mut broken: BTreeSet<Place> = BTreeSet::new();
        for change in std::mem::take(&mut self.pending) {
            let possible = !change.places().any(|place| broken.contains(place));
            if possible && mood.keeps(rng) {
                change.apply(&mut self.durable);
                if let Change::Rename(_, _, node) = change {
                    renamed.push(node);
                }
            } else {
                tally.hit(Hit::EntryLost);
                broken.extend(change.places().cloned());
            }
        }
        self.prune();
        self.cached = self.durable.clone();
        renamed
    }

    /// Drops directories that no entry leads to.
    fn prune(&mut self) {
        let durable = &mut self.durable;
        let lost: Vec<PathBuf> = durable
            .keys()
            .filter(|path| !reachable(durable, path))
            .cloned()
            .collect();
        for path in lost {
            durable.remove(&path);
        }
    }

    /// Changes disk and cache alike, as damage does.
    pub(super) fn damage(&mut self, place: &Place, node: Option<NodeRef>) {
        for dirs in [&mut self.cached, &mut self.durable] {
            match &node {
                Some(node) => put(dirs, place, Entry::File(node.clone())),
                None => remove(dirs, place),
            }
        }
        self.pending
            .retain(|change| !change.places().any(|p| p == place));
    }

    /// Every file that a name leads to or may lead to again.
    pub(super) fn nodes(&self) -> Vec<NodeRef> {
        let mut nodes: Vec<NodeRef> = Vec::new();
        let mut seen = BTreeSet::new();
        let mut add = |node: &NodeRef| {
            if seen.insert(Arc::as_ptr(node) as usize) {
                nodes.push(node.clone());
            }
        };
        for entry in self.durable.values().flat_map(BTreeMap::values) {
            if let Entry::File(node) = entry {
                add(node);
            }
        }
        for change in &self.pending {
            if let Change::Put(_, Entry::File(node)) | Change::Rename(_, _, node) = change {
                add(node);
            }
        }
        nodes
    }

    /// The same directories with `copy` of each file.
    pub(super) fn fork(&self, mut copy: impl FnMut(&NodeRef) -> NodeRef) -> Self {
        let mut fork = self.clone();
        let entries = fork
            .cached
            .values_mut()
            .chain(fork.durable.values_mut())
            .flat_map(BTreeMap::values_mut);
        for entry in entries {
            if let Entry::File(node) = entry {
                *node = copy(node);
            }
        }
        for change in &mut fork.pending {
            if let Change::Put(_, Entry::File(node)) | Change::Rename(_, _, node) = change {
                *node = copy(node);
            }
        }
        fork
    }
}

fn reachable(dirs: &Dirs, path: &Path) -> bool {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return true;
    };
    let linked = dirs
        .get(parent)
        .zip(name.to_str())
        .and_then(|(entries, name)| entries.get(name));
    matches!(linked, Some(Entry::Dir)) && reachable(dirs, parent)
}
