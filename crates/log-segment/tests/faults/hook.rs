//! A disk whose calls a test can hold up or fail.
use std::io;
use std::path::Path;
use std::sync::{Arc, RwLock};

use anabranch_env::{Disk, DiskLock, DiskStats, Env, File, OpenMode};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Open,
    Opened,
    Closed,
    Read,
    AfterRead,
    Write,
    Sync,
    SyncDir,
    Rename,
}

pub type Hook = Arc<dyn Fn(Op, &str) -> io::Result<()> + Send + Sync>;

#[derive(Clone)]
pub struct Hooks(pub Arc<RwLock<Option<Hook>>>);

impl Hooks {
    pub fn set(&self, hook: impl Fn(Op, &str) -> io::Result<()> + Send + Sync + 'static) {
        *self.0.write().unwrap() = Some(Arc::new(hook));
    }
    pub fn clear(&self) {
        *self.0.write().unwrap() = None;
    }
    fn call(&self, op: Op, name: &str) -> io::Result<()> {
        let hook = self.0.read().unwrap().clone();
        match hook {
            Some(hook) => hook(op, name),
            None => Ok(()),
        }
    }
}

pub struct HookDisk {
    inner: Arc<dyn Disk>,
    hooks: Hooks,
}

pub fn hooked(env: &Env) -> (Env, Hooks) {
    let hooks = Hooks(Arc::new(RwLock::new(None)));
    let disk = HookDisk {
        inner: env.disk.clone(),
        hooks: hooks.clone(),
    };
    let env = Env {
        disk: Arc::new(disk),
        ..env.clone()
    };
    (env, hooks)
}

struct HookFile {
    inner: Arc<dyn File>,
    name: String,
    hooks: Hooks,
}

/// The name of a file; that of a partition's with its folder.
fn name(path: &Path) -> String {
    let last = |path: &Path| {
        let name = path.file_name();
        name.map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    };
    match path.parent().map(last) {
        Some(folder) if folder.starts_with("partition-") => format!("{folder}/{}", last(path)),
        _ => last(path),
    }
}

impl Disk for HookDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        self.hooks.call(Op::Open, &name(path))?;
        let inner = self.inner.open(path, mode)?;
        self.hooks.call(Op::Opened, &name(path))?;
        Ok(Arc::new(HookFile {
            inner,
            name: name(path),
            hooks: self.hooks.clone(),
        }))
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.inner.list(dir)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.inner.exists(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.hooks.call(Op::Rename, &name(to))?;
        self.inner.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.hooks.call(Op::SyncDir, &name(dir))?;
        self.inner.sync_dir(dir)
    }
    fn lock(&self, path: &Path, note: &str) -> io::Result<Result<Box<dyn DiskLock>, String>> {
        self.inner.lock(path, note)
    }
    fn is_locked(&self, path: &Path) -> io::Result<bool> {
        self.inner.is_locked(path)
    }
    fn is_world_writable(&self, dir: &Path) -> io::Result<bool> {
        self.inner.is_world_writable(dir)
    }
    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.inner.free_bytes(dir)
    }
    fn stats(&self) -> DiskStats {
        self.inner.stats()
    }
}

impl Drop for HookFile {
    fn drop(&mut self) {
        // Nobody can be told of an error here.
        drop(self.hooks.call(Op::Closed, &self.name));
    }
}

impl File for HookFile {
    fn is_at(&self, path: &Path) -> io::Result<bool> {
        self.inner.is_at(path)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.hooks.call(Op::Read, &self.name)?;
        let read = self.inner.read_at(buf, offset);
        self.hooks.call(Op::AfterRead, &self.name)?;
        read
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.hooks.call(Op::Write, &self.name)?;
        self.inner.write_at(buf, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.hooks.call(Op::Sync, &self.name)?;
        self.inner.sync_data()
    }
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }
}
