//! Opens a store: the file, its format, what is held in memory, what a crash left behind.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, RwLock, atomic::AtomicBool},
    time::Instant,
};

use ergon_core::{StoreError, TaskId, transition};
use redb::{
    Database, DatabaseError, ReadTransaction, ReadableTable, StorageError, backends::InMemoryBackend,
};

use crate::{
    OpenError, RedbOptions, RedbStore,
    batch::parse_id,
    database::Handle,
    error::backend,
    inbox::Inbox,
    key::{
        LAST_TASK, Lane, Place, READY_KEY_LEN, parse_queue_key, parse_ready_key, part, queue_key,
        ready_key,
    },
    live::Live,
    lock,
    queue::QueueRow,
    shared::Shared,
    table::{BODY, FORMAT, META, NAME, READY, STARTED, create_all},
    wake::Wake,
    writer::{Writer, read_lane},
};

/// Rows of [`META`].
const FORMAT_KEY: &str = "format";
const INCARNATION: &str = "incarnation";
pub(crate) const IS_CLEAN: &str = "is_clean";

/// Tasks that are read of each lane when a store is opened; more follow when they are wanted.
const LANE_ROWS: usize = 1_024;

const CACHE_BYTES_MIN: usize = 1 << 20;
const WINDOW_TASKS_MIN: usize = 1_024;

/// Opens where blocking is allowed.
pub(crate) async fn off_the_runtime(
    open: impl FnOnce() -> Result<RedbStore, OpenError> + Send + 'static,
) -> Result<RedbStore, OpenError> {
    match tokio::task::spawn_blocking(open).await {
        Ok(opened) => opened,
        Err(error) => Err(StoreError::Backend { source: Box::new(error) }.into()),
    }
}

pub(crate) fn file(options: &RedbOptions, path: &Path) -> Result<RedbStore, OpenError> {
    check(options)?;
    let mut builder = Database::builder();
    builder.set_cache_size(options.cache_bytes);
    if let Some(tell) = options.on_repair.clone() {
        builder.set_repair_callback(move |session| tell(session.progress()));
    }
    let path = path.to_owned();
    let database = builder.create(&path).map_err(|error| describe(error, &path))?;
    let handle =
        Handle::Owned { database: RwLock::new(Some(database)), path: Some(path.clone()) };
    start(options, handle, &path)
}

pub(crate) fn memory(options: &RedbOptions) -> Result<RedbStore, OpenError> {
    check(options)?;
    let mut builder = Database::builder();
    builder.set_cache_size(options.cache_bytes);
    let path = PathBuf::new();
    let database = builder
        .create_with_backend(InMemoryBackend::new())
        .map_err(|error| describe(error, &path))?;
    start(options, Handle::Owned { database: RwLock::new(Some(database)), path: None }, &path)
}

pub(crate) fn shared(
    options: &RedbOptions,
    database: Arc<Database>,
) -> Result<RedbStore, OpenError> {
    check(options)?;
    start(options, Handle::Shared(database), &PathBuf::new())
}

fn check(options: &RedbOptions) -> Result<(), OpenError> {
    let invalid = |field, reason| Err(OpenError::InvalidOption { field, reason });
    if options.cache_bytes < CACHE_BYTES_MIN {
        return invalid("cache_bytes", "the least is 1 MiB");
    }
    if options.window_tasks < WINDOW_TASKS_MIN {
        return invalid("window_tasks", "the least is 1,024");
    }
    if options.deaths_max == 0 {
        return invalid("deaths_max", "the least is 1");
    }
    Ok(())
}

fn describe(error: DatabaseError, path: &Path) -> OpenError {
    let path = path.to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            OpenError::Locked { holder: lock::holder(&path).unwrap_or_default(), path }
        }
        DatabaseError::Storage(StorageError::Corrupted(_)) | DatabaseError::UpgradeRequired(_) => {
            OpenError::Damaged { path, source: error.into() }
        }
        DatabaseError::Storage(StorageError::Io(ref io))
            if io.kind() == std::io::ErrorKind::InvalidData =>
        {
            OpenError::Damaged { path, source: error.into() }
        }
        error => OpenError::Io { path, source: error.into() },
    }
}

/// What the file said before this opening changed it.
struct Found {
    incarnation: u64,
    /// The store was not closed: what was running then has lost its owner.
    is_crashed: bool,
}

fn start(options: &RedbOptions, database: Handle, path: &Path) -> Result<RedbStore, OpenError> {
    let io = |source: redb::Error| OpenError::Io { path: path.to_owned(), source };
    let found = begin(&database, io)?;
    let mut live = Live::new(found.incarnation, options.window_tasks);
    let snapshot = database.begin_read()?;
    load_names(&snapshot, &mut live)?;
    load_lanes(&snapshot, &mut live)?;
    let (orphans, newest) = (orphans(&snapshot)?, newest(&snapshot)?);
    drop(snapshot);
    let careful_until = found.is_crashed.then(|| Instant::now() + options.careful_time);
    let shared = Arc::new(Shared {
        database,
        live: Arc::new(Mutex::new(live)),
        gate: RwLock::new(()),
        inbox: Inbox::new(),
        wake: Wake::default(),
        adoptions: Mutex::default(),
        is_watching: AtomicBool::new(false),
        compaction: Mutex::default(),
        careful_until,
        quick_repair_from_bytes: options.quick_repair_from_bytes,
        failure: OnceLock::new(),
        clock: Arc::clone(&options.clock),
        limits: options.limits,
        retention: options.retention,
    });
    let mut writer = Writer::new(Arc::clone(&shared), newest, found.incarnation);
    if !orphans.is_empty() {
        let deaths_max = if found.is_crashed { options.deaths_max } else { u16::MAX };
        take_back(&shared, orphans, deaths_max)?;
        writer.begin()?;
    }
    let thread = std::thread::Builder::new()
        .name("ergon-redb".to_owned())
        .spawn(move || writer.run())
        .map_err(|error| StoreError::Backend { source: Box::new(error) })?;
    Ok(RedbStore::new(shared, thread))
}

/// Checks the format, creates what is missing, and begins a new incarnation.
fn begin(
    database: &Handle,
    io: impl Fn(redb::Error) -> OpenError,
) -> Result<Found, OpenError> {
    let transaction = database.begin_write()?;
    let found = {
        let mut meta = transaction.open_table(META).map_err(|error| io(error.into()))?;
        let read = |key: &str| -> Result<Option<u64>, OpenError> {
            let value = meta.get(key).map_err(|error| io(error.into()))?;
            Ok(value.map(|value| value.value()))
        };
        let format = read(FORMAT_KEY)?.unwrap_or(u64::from(FORMAT));
        if format != u64::from(FORMAT) {
            let found = u32::try_from(format).unwrap_or(u32::MAX);
            return Err(OpenError::Format { found, supported: FORMAT });
        }
        let incarnation = read(INCARNATION)?.unwrap_or(0) + 1;
        let is_crashed = incarnation > 1 && read(IS_CLEAN)? != Some(1);
        let rows =
            [(FORMAT_KEY, format), (INCARNATION, incarnation), (IS_CLEAN, 0)];
        for (key, value) in rows {
            meta.insert(key, value).map_err(|error| io(error.into()))?;
        }
        Found { incarnation, is_crashed }
    };
    create_all(&transaction).map_err(|error| io(error.into()))?;
    transaction.commit().map_err(|error| io(error.into()))?;
    Ok(found)
}

fn load_names(snapshot: &ReadTransaction, live: &mut Live) -> Result<(), StoreError> {
    let names = snapshot.open_table(NAME).map_err(backend)?;
    for row in names.iter().map_err(backend)? {
        let (key, name) = row.map_err(backend)?;
        let [tag, ..] = *key.value();
        live.names.load(tag, u32::from_be_bytes(part(key.value(), 1)), name.value())?;
    }
    let bodies = snapshot.open_table(BODY).map_err(backend)?;
    for row in bodies.range::<&[u8; 16]>(&queue_key(0)..).map_err(backend)? {
        let (key, record) = row.map_err(backend)?;
        live.set_row(parse_queue_key(key.value()), QueueRow::decode(record.value())?);
    }
    Ok(())
}

/// Reads the front of every lane, passing over the rest.
fn load_lanes(snapshot: &ReadTransaction, live: &mut Live) -> Result<(), StoreError> {
    let ready = snapshot.open_table(READY).map_err(backend)?;
    let mut from = [0; READY_KEY_LEN];
    loop {
        let first = ready.range::<&[u8; READY_KEY_LEN]>(&from..).map_err(backend)?.next();
        let Some(row) = first else { return Ok(()) };
        let (lane, _): (Lane, Place) = parse_ready_key(row.map_err(backend)?.0.value());
        let (rows, bound) = read_lane(&ready, lane, Place::MIN, LANE_ROWS)?;
        live.lanes.refill(lane, rows, bound);
        // No task stands at the very end of a lane.
        from = ready_key(lane, Place::MAX);
    }
}

/// The tasks that were running when the store was last used.
fn orphans(snapshot: &ReadTransaction) -> Result<BTreeSet<TaskId>, StoreError> {
    let started = snapshot.open_table(STARTED).map_err(backend)?;
    let mut orphans = BTreeSet::new();
    for row in started.iter().map_err(backend)? {
        orphans.insert(parse_id(row.map_err(backend)?.0.value())?);
    }
    Ok(orphans)
}

fn newest(snapshot: &ReadTransaction) -> Result<TaskId, StoreError> {
    let bodies = snapshot.open_table(BODY).map_err(backend)?;
    let last = bodies.range::<&[u8; 16]>(..=&LAST_TASK).map_err(backend)?.next_back();
    last.map_or(Ok(TaskId::MIN), |row| parse_id(row.map_err(backend)?.0.value()))
}

/// Has the writer take tasks back from their dead owner, before anything else.
fn take_back(
    shared: &Arc<Shared>,
    orphans: BTreeSet<TaskId>,
    deaths_max: u16,
) -> Result<(), StoreError> {
    let now = shared.clock.now();
    let retention = shared.retention;
    shared.inbox.post(move |batch| {
        for id in orphans {
            let Some(mut state) = batch.load_orphan(id)? else { continue };
            let retention = retention.chosen_by(state.body.retention);
            transition::rescue(&mut state.progress, &retention, deaths_max, now);
            batch.put(id, state)?;
        }
        Ok(())
    })
}
