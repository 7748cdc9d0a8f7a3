//! A store of views by somebody else: each copy of a view is one JSON file, written anew with
//! each transaction. Slow, and whole.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anabranch::log::BoxFuture;
use anabranch::model::{Cut, EventBatch};
use anabranch::runtime::view::{
    Copies, CopyId, Edit, Intake, Look, PoisonEvent, Progress, StoreError, ViewCode, ViewContext,
    ViewCopy, ViewStore, ViewStoreFactory,
};

/// What views in this store write to: numbers by name.
pub type Numbers = BTreeMap<String, i64>;

/// Keeps views in JSON files of one directory.
pub struct JsonFiles(pub PathBuf);

impl ViewStoreFactory<Numbers> for JsonFiles {
    fn store(&self, context: &ViewContext) -> Arc<dyn ViewStore<Numbers>> {
        Arc::new(Store {
            dir: self.0.clone(),
            view: context.view,
        })
    }
}

struct Store {
    dir: PathBuf,
    view: &'static str,
}

/// Rows, and how far they are.
type Kept = (Numbers, Progress);

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn write(path: &Path, value: &impl serde::Serialize) -> io::Result<()> {
    let draft = path.with_extension("draft");
    fs::write(&draft, serde_json::to_vec(value)?)?;
    fs::rename(draft, path)
}

/// Runs code that blocks on a thread that may.
fn blocking<T: Send + 'static>(
    view: &'static str,
    code: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> BoxFuture<'static, Result<T, StoreError>> {
    Box::pin(async move {
        let ran = tokio::task::spawn_blocking(code).await;
        let ran = ran.map_err(|error| StoreError::new(view, error))?;
        ran.map_err(|error| StoreError::new(view, error))
    })
}

impl Store {
    fn path(&self, what: &str) -> PathBuf {
        self.dir.join(format!("{}.{what}.json", self.view))
    }

    fn rows(&self, id: CopyId) -> PathBuf {
        self.path(&format!("v{}.g{}", id.version, id.generation))
    }
}

impl ViewStore<Numbers> for Store {
    fn copies(&self) -> BoxFuture<'_, Result<Copies, StoreError>> {
        let (dir, path) = (self.dir.clone(), self.path("copies"));
        blocking(self.view, move || {
            fs::create_dir_all(dir)?;
            Ok(read(&path)?.unwrap_or_default())
        })
    }

    fn set_copies(&self, copies: Copies) -> BoxFuture<'_, Result<(), StoreError>> {
        let path = self.path("copies");
        blocking(self.view, move || write(&path, &copies))
    }

    fn open(
        &self,
        id: CopyId,
        code: Arc<ViewCode<Numbers>>,
    ) -> BoxFuture<'_, Result<Arc<dyn ViewCopy<Numbers>>, StoreError>> {
        let (path, view) = (self.rows(id), self.view);
        blocking(self.view, move || {
            let kept = match read::<Kept>(&path)? {
                Some(kept) => kept,
                None => {
                    let mut kept = Kept::default();
                    code.set_up(&mut kept.0).map_err(io::Error::other)?;
                    kept
                }
            };
            Ok(Arc::new(Copy {
                id,
                view,
                path,
                code,
                shown: Arc::new(Mutex::new(kept.1.clone())),
                kept: Arc::new(Mutex::new(kept)),
            }) as Arc<dyn ViewCopy<Numbers>>)
        })
    }

    fn remove(&self, id: CopyId) -> BoxFuture<'_, Result<(), StoreError>> {
        let path = self.rows(id);
        blocking(self.view, move || match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })
    }
}

struct Copy {
    id: CopyId,
    view: &'static str,
    path: PathBuf,
    code: Arc<ViewCode<Numbers>>,
    kept: Arc<Mutex<Kept>>,
    /// The progress when it was last written: for those who must not wait.
    shown: Arc<Mutex<Progress>>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Copy {
    /// Runs `code` on rows and progress; both are written if it succeeds, and as they were
    /// before if not.
    fn transact<E: Send + 'static>(
        &self,
        code: impl FnOnce(&ViewCode<Numbers>, &mut Numbers, &mut Progress) -> Result<(), E>
        + Send
        + 'static,
    ) -> BoxFuture<'static, Result<Result<(), E>, StoreError>> {
        let (kept, shown) = (self.kept.clone(), self.shown.clone());
        let (path, of) = (self.path.clone(), self.code.clone());
        blocking(self.view, move || {
            let mut kept = locked(&kept);
            let mut next = kept.clone();
            if let Err(error) = code(&of, &mut next.0, &mut next.1) {
                return Ok(Err(error));
            }
            write(&path, &next)?;
            locked(&shown).clone_from(&next.1);
            *kept = next;
            Ok(Ok(()))
        })
    }
}

impl Intake for Copy {
    fn progress(&self) -> BoxFuture<'_, Progress> {
        let progress = locked(&self.shown).clone();
        Box::pin(async { progress })
    }

    fn apply(&self, batch: EventBatch) -> BoxFuture<'_, Result<Option<PoisonEvent>, StoreError>> {
        Box::pin(async move {
            let all = batch.clone();
            let taken =
                self.transact(move |code, rows, progress| code.take_in(rows, progress, &all, None));
            let Err(poison) = taken.await? else {
                return Ok(None);
            };
            // Nothing was kept; the appends before the event's are taken in again.
            let end = batch.append_start(poison.position);
            let before = self.transact(move |code, rows, progress| {
                code.take_in(rows, progress, &batch, Some(end))
            });
            match before.await? {
                Ok(()) => Ok(Some(*poison)),
                Err(other) => Err(StoreError::new(self.view, other)),
            }
        })
    }

    fn edit(&self, edit: Edit) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let edited = self.transact(move |_, _, progress| {
                edit(progress);
                Ok::<_, StoreError>(())
            });
            edited.await?
        })
    }

    fn advance(&self, cut: Cut) -> BoxFuture<'_, Result<(), StoreError>> {
        self.edit(Box::new(move |progress| progress.cut.join(&cut)))
    }

    fn keep(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }
}

impl ViewCopy<Numbers> for Copy {
    fn id(&self) -> CopyId {
        self.id
    }

    fn apply_parked(
        &self,
        stream: String,
        events: EventBatch,
    ) -> BoxFuture<'_, Result<Option<PoisonEvent>, StoreError>> {
        Box::pin(async move {
            let taken = self.transact(move |code, rows, progress| {
                code.take_back(rows, progress, &stream, &events).map(|_| ())
            });
            Ok(taken.await?.err().map(|poison| *poison))
        })
    }

    fn look(&self, look: Look<Numbers>) -> BoxFuture<'_, Result<(), StoreError>> {
        let kept = self.kept.clone();
        blocking(self.view, move || {
            let kept = locked(&kept);
            look(&kept.0, &kept.1);
            Ok(())
        })
    }
}
