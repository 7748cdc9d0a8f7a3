//! Damage: what time, cosmic rays and people do to a disk. It meets what is durable and
//! what is cached alike, at once, and goes past every fault by plan.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::SimDisk;
use super::disk::{lock, place};
use super::node::Node;
use super::tally::{Hit, Tally};
use super::tree::{NodeRef, Tree};

impl SimDisk {
    /// Every file and its length in bytes, sorted by path.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let listed = self.with_tree(|tree, _| {
            Ok(tree
                .files()
                .map(|(dir, name, node)| (dir.join(name), lock(node).len() as u64))
                .collect())
        });
        listed.unwrap_or_default()
    }

    /// The content of a file, as reads show it.
    pub fn content(&self, path: &Path) -> io::Result<Arc<Vec<u8>>> {
        self.with_tree(|tree, _| {
            let node = find(tree, path)?;
            Ok(lock(&node).bytes().clone())
        })
    }

    /// Offset and length of the last hundred or so writes to a file, oldest first.
    pub fn writes(&self, path: &Path) -> io::Result<Vec<(u64, u64)>> {
        self.with_tree(|tree, _| {
            let node = find(tree, path)?;
            Ok(lock(&node).writes.clone())
        })
    }

    /// Makes a file with this content, or replaces it.
    pub fn plant(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let place = place(path)?;
        self.with_tree(|tree, _| {
            let node = Arc::new(Mutex::new(Node::durable(content.to_vec())));
            tree.damage(&place, Some(node));
            Ok(())
        })
    }

    /// Flips bit `bit` (0 to 7) of the byte at `offset`.
    pub fn flip_bit(&self, path: &Path, offset: u64, bit: u32) -> io::Result<()> {
        self.damage_file(path, Hit::BitFlip, |bytes| {
            if let Some(byte) = bytes.get_mut(offset as usize) {
                *byte ^= 1 << (bit % 8);
            }
        })
    }

    /// Sets `len` bytes from `offset` to zero, as far as the file goes.
    pub fn zero(&self, path: &Path, offset: u64, len: u64) -> io::Result<()> {
        self.damage_file(path, Hit::Zeroed, |bytes| {
            let end = ((offset + len) as usize).min(bytes.len());
            let start = (offset as usize).min(end);
            bytes[start..end].fill(0);
        })
    }

    /// Puts other bytes at `offset`, as far as the file goes.
    pub fn overwrite(&self, path: &Path, offset: u64, with: &[u8]) -> io::Result<()> {
        self.damage_file(path, Hit::Overwritten, |bytes| {
            let start = (offset as usize).min(bytes.len());
            let len = with.len().min(bytes.len() - start);
            bytes[start..start + len].copy_from_slice(&with[..len]);
        })
    }

    /// Cuts the file to `len` bytes.
    pub fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        self.damage_file(path, Hit::Truncated, |bytes| bytes.truncate(len as usize))
    }

    /// Makes reads of `len` bytes from `offset` fail with EIO, for ever.
    pub fn make_unreadable(&self, path: &Path, offset: u64, len: u64) -> io::Result<()> {
        self.with_tree(|tree, _| {
            let node = find(tree, path)?;
            lock(&node).bad = Some((offset, offset + len));
            Ok(())
        })
    }

    /// Deletes a file.
    pub fn delete(&self, path: &Path) -> io::Result<()> {
        let place = place(path)?;
        self.with_tree(|tree, tally| {
            find(tree, path)?;
            tree.damage(&place, None);
            tally.hit(Hit::Deleted);
            Ok(())
        })
    }

    /// Copies a file over another name.
    pub fn duplicate(&self, from: &Path, to: &Path) -> io::Result<()> {
        let target = place(to)?;
        self.with_tree(|tree, tally| {
            let node = find(tree, from)?;
            let copy = lock(&node).clone();
            tree.damage(&target, Some(Arc::new(Mutex::new(copy))));
            tally.hit(Hit::Duplicated);
            Ok(())
        })
    }

    /// Two files change places.
    pub fn swap(&self, one: &Path, other: &Path) -> io::Result<()> {
        let places = (place(one)?, place(other)?);
        self.with_tree(|tree, tally| {
            let nodes = (find(tree, one)?, find(tree, other)?);
            tree.damage(&places.0, Some(nodes.1));
            tree.damage(&places.1, Some(nodes.0));
            tally.hit(Hit::Swapped);
            Ok(())
        })
    }

    fn damage_file(&self, path: &Path, hit: Hit, change: impl Fn(&mut Vec<u8>)) -> io::Result<()> {
        self.with_tree(|tree: &mut Tree, tally: &mut Tally| {
            let node = find(tree, path)?;
            lock(&node).damage(change);
            tally.hit(hit);
            Ok(())
        })
    }
}

fn find(tree: &Tree, path: &Path) -> io::Result<NodeRef> {
    let node = tree.file(&place(path)?).cloned();
    node.ok_or_else(|| io::ErrorKind::NotFound.into())
}
