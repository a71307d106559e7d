//! A store that can be closed, killed and opened again, on a file or on a simulated medium.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use ergon_redb::{OpenError, RedbOptions, RedbStore};
use ergon_testing::{VirtualClock, harness::Harness};
use redb::Database;
use tempfile::TempDir;

use crate::medium::Medium;

type Options = fn(RedbOptions) -> RedbOptions;

/// A store on a file of its own.
pub(crate) struct Rig {
    pub(crate) h: Harness,
    pub(crate) store: RedbStore,
    pub(crate) path: PathBuf,
    clock: VirtualClock,
    options: Options,
    directory: TempDir,
}

impl Rig {
    pub(crate) async fn new() -> Self {
        Self::with(|options| options).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tasks.redb");
        let nothing = RedbStore::in_memory().unwrap();
        let h = Harness::new(nothing.clone());
        let clock = VirtualClock::new(h.instant());
        let mut rig = Self { h, store: nothing, path, clock, options, directory };
        rig.open().await;
        rig
    }

    fn builder(&self) -> RedbOptions {
        self.clock.set(self.h.instant());
        (self.options)(RedbStore::builder().clock(Arc::new(self.clock.clone())))
    }

    /// Opens the file.
    async fn open(&mut self) {
        self.store = self.builder().open(&self.path).await.unwrap();
        self.h.store = Arc::new(self.store.clone());
    }

    /// Drops every handle.
    pub(crate) fn drop_store(&mut self) {
        self.store = RedbStore::in_memory().unwrap();
        self.h.store = Arc::new(self.store.clone());
    }

    /// Closes the store and opens it again.
    pub(crate) async fn reopen(&mut self) {
        self.store.close().await.unwrap();
        self.open().await;
    }

    /// Drops the store without closing it, and opens it again.
    pub(crate) async fn drop_and_reopen(&mut self) {
        self.drop_store();
        self.open().await;
    }

    /// Kills the process, as it were: goes on with what the file holds at this moment.
    pub(crate) async fn kill(&mut self) {
        self.kill_with(self.options).await;
    }

    /// Kills the process, and opens the file with other options.
    pub(crate) async fn kill_with(&mut self, options: Options) {
        let copy = self.directory.path().join(format!("{}.copy", file_name(&self.path)));
        std::fs::copy(&self.path, &copy).unwrap();
        self.path = copy;
        self.options = options;
        self.open().await;
    }

    /// Fails unless every counter and index agrees with the tasks.
    pub(crate) async fn check(&self) {
        check(&self.store).await;
        self.h.check_counters().await;
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// Fails unless every counter and index agrees with the tasks.
pub(crate) async fn check(store: &RedbStore) {
    let found = store.check().await.unwrap();
    assert_eq!(found.problems, Vec::<String>::new());
}

/// A store on a simulated medium, and the database below it.
pub(crate) struct OnMedium {
    pub(crate) store: RedbStore,
    pub(crate) database: Arc<Database>,
    /// How many changes to the medium made it a database.
    pub(crate) made: usize,
}

impl OnMedium {
    /// Opens a store on a medium that works.
    pub(crate) async fn open(medium: &Medium, options: RedbOptions) -> Self {
        Self::try_open(medium, options).await.unwrap()
    }

    pub(crate) async fn try_open(medium: &Medium, options: RedbOptions) -> Result<Self, OpenError> {
        let database = Database::builder().create_with_backend(medium.clone());
        let database = database
            .map_err(|error| OpenError::Io { path: PathBuf::new(), source: error.into() })?;
        let database = Arc::new(database);
        let made = medium.len();
        let store = options.with_database(Arc::clone(&database)).await?;
        Ok(Self { store, database, made })
    }
}

/// The harness, with another store.
pub(crate) fn on(h: &Harness, store: &RedbStore) -> Harness {
    let mut h = h.clone();
    h.store = Arc::new(store.clone());
    h
}
