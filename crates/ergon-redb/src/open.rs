//! Opens a store: the file, its format, what is held in memory, what a crash left behind.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, ErrorKind, Read as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, RwLock, atomic::AtomicBool},
    time::{Duration, Instant},
};

use ergon_core::{Rng as _, StoreError, SystemRng, TaskId, WatcherName, limits::HORIZON};
use jiff::Timestamp;
use redb::{
    Database, DatabaseError, ReadTransaction, ReadableTable, StorageError, TableHandle,
    WriteTransaction, backends::InMemoryBackend,
};

use crate::{
    OpenError, RedbOptions, RedbStore,
    batch::{parse_id, parse_started_note},
    database::Handle,
    error::backend,
    inbox::Inbox,
    journal::{self, Journal, NameLists, Unended, Watcher, Window},
    key::{
        LAST_TASK, Lane, Place, READY_KEY_LEN, parse_queue_key, parse_ready_key, part, queue_key,
        ready_key,
    },
    live::Live,
    lock,
    maintain::Rescue,
    queue::QueueRow,
    shared::Shared,
    table::{BODY, FORMAT, FORMAT_MIN, JOURNAL, META, NAME, READY, STARTED, WATCHER, create_all},
    wake::Wake,
    writer::{Writer, read_lane},
};

/// Rows of [`META`].
const FORMAT_KEY: &str = "format";
const INCARNATION: &str = "incarnation";
pub(crate) const IS_CLEAN: &str = "is_clean";
const JOURNAL_KEY: &str = "journal";

/// Tasks that are read of each lane when a store is opened, however many lanes there are; the writer
/// reads on as far as memory is given.
const LANE_ROWS: usize = 64;

/// A file smaller than this, and than what is repaired quickly, is read and verified as a whole when
/// it is opened: at about 1 ms a MiB, measured.
const VERIFIED_BYTES_MAX: u64 = 256 << 20;

/// Longer than any process lives.
const CAREFUL_TIME_MAX: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

const JOURNAL_BYTES_MIN: u64 = 64 << 10;
const JOURNAL_AGE_MIN: Duration = Duration::from_secs(1);

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
    let len = fs::metadata(path).map_or(0, |metadata| metadata.len());
    let mut builder = Database::builder();
    builder.set_cache_size(options.cache_bytes);
    // A file that was closed is trusted by redb, and damaged it might be misread.
    let verified = std::cmp::min(options.quick_repair_from_bytes, VERIFIED_BYTES_MAX);
    builder.set_check_integrity_on_open(len < verified);
    if let Some(tell) = options.on_repair.clone()
        && !was_closed(path)
    {
        builder.set_repair_callback(move |session| tell(session.progress()));
    }
    let path = path.to_owned();
    let database = builder.create(&path).map_err(|error| describe(error, &path))?;
    if len == 0 {
        let io = |error| OpenError::Io { path: path.clone(), source: redb::Error::Io(error) };
        sync_directory(&path).map_err(io)?;
    }
    let handle = Handle::Owned { database: RwLock::new(Some(database)), path: Some(path.clone()) };
    start(options, handle, &path)
}

/// Whether redb closed the file, as a flag in its header says.
fn was_closed(path: &Path) -> bool {
    /// After nine bytes that tell what the file is.
    const FLAGS_LEN: usize = 10;
    const IS_OPEN: u8 = 1 << 1;
    let mut header = [0; FLAGS_LEN];
    let read = fs::File::open(path).and_then(|mut file| file.read_exact(&mut header));
    let [.., flags] = header;
    read.is_ok() && flags & IS_OPEN == 0
}

/// Makes the name of a new file durable, which syncing the file alone does not everywhere.
fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    match fs::File::open(parent.unwrap_or(Path::new("."))).and_then(|it| it.sync_all()) {
        // Not every file system can do it, and those that cannot do not need it.
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => {
            Ok(())
        }
        outcome => outcome,
    }
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
    if options.journal_bytes_max < JOURNAL_BYTES_MIN {
        return invalid("journal_bytes_max", "the least is 64 KiB");
    }
    if !(JOURNAL_AGE_MIN..=HORIZON).contains(&options.journal_age_max) {
        return invalid("journal_age_max", "1 second is the least, 10 years are the most");
    }
    Ok(())
}

fn describe(error: DatabaseError, path: &Path) -> OpenError {
    let path = path.to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            OpenError::Locked { holder: lock::holder(&path), path }
        }
        DatabaseError::Storage(StorageError::Corrupted(_)) | DatabaseError::UpgradeRequired(_) => {
            OpenError::Damaged { path, source: error.into() }
        }
        DatabaseError::Storage(StorageError::Io(ref io)) if io.kind() == ErrorKind::InvalidData => {
            OpenError::Damaged { path, source: error.into() }
        }
        error => OpenError::Io { path, source: error.into() },
    }
}

/// Tasks that have lost their owner, and when it claimed them if that is known.
type Orphans = BTreeMap<TaskId, Option<Timestamp>>;

/// What the file said before this opening changed it.
struct Found {
    incarnation: u64,
    /// The number of the journal.
    journal: u64,
    /// The store was not closed: what was running then has lost its owner.
    is_crashed: bool,
}

fn start(options: &RedbOptions, database: Handle, path: &Path) -> Result<RedbStore, OpenError> {
    let io = |source: redb::Error| OpenError::Io { path: path.to_owned(), source };
    let is_large = database.file_bytes() >= options.quick_repair_from_bytes;
    let found = begin(&database, is_large, io)?;
    let age_max = i64::try_from(options.journal_age_max.as_micros()).unwrap_or(i64::MAX);
    let limits = journal::Limits { bytes_max: options.journal_bytes_max, age_max };
    let journal = Journal::new(found.journal, limits, Arc::clone(&options.clock));
    let mut live = Live::new(found.incarnation, options.window_tasks, journal);
    let snapshot = database.begin_read()?;
    load_names(&snapshot, &mut live)?;
    load_lanes(&snapshot, &mut live)?;
    load_journal(&snapshot, &mut live)?;
    let (orphans, newest) = (orphans(&snapshot)?, newest(&snapshot)?);
    // The end of a claim that was told of has to be told too, also if it was never written down.
    let unended = if found.is_crashed { unended(&snapshot, &live)? } else { Unended::new() };
    drop(snapshot);
    let careful_time = std::cmp::min(options.careful_time, CAREFUL_TIME_MAX);
    let careful_until = found.is_crashed.then(|| Instant::now() + careful_time);
    let shared = Arc::new(Shared {
        database,
        live: Arc::new(Mutex::new(live)),
        gate: RwLock::new(()),
        inbox: Inbox::new(),
        wake: Wake::default(),
        adoptions: Mutex::default(),
        is_watching: AtomicBool::new(false),
        compactions: Mutex::default(),
        careful_until,
        quick_repair_from_bytes: options.quick_repair_from_bytes,
        failure: OnceLock::new(),
        clock: Arc::clone(&options.clock),
        limits: options.limits,
        retention: options.retention,
    });
    let mut writer = Writer::new(Arc::clone(&shared), newest, found.incarnation);
    if !orphans.is_empty() || !unended.is_empty() {
        let deaths_max = if found.is_crashed { options.deaths_max } else { u16::MAX };
        take_back(&shared, orphans, unended, deaths_max)?;
    }
    writer.begin()?;
    let thread = std::thread::Builder::new()
        .name("ergon-redb".to_owned())
        .spawn(move || writer.run())
        .map_err(|error| StoreError::Backend { source: Box::new(error) })?;
    Ok(RedbStore::new(shared, thread))
}

/// Checks the format, creates what is missing, and begins a new incarnation.
fn begin(
    database: &Handle,
    is_large: bool,
    io: impl Fn(redb::Error) -> OpenError,
) -> Result<Found, OpenError> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(is_large);
    if let Some(path) = database.path() {
        let is_ours = is_ours(&transaction).map_err(|error| io(error.into()))?;
        if !is_ours {
            return Err(OpenError::Foreign { path: path.to_owned() });
        }
    }
    let found = {
        let mut meta = transaction.open_table(META).map_err(|error| io(error.into()))?;
        let read = |key: &str| -> Result<Option<u64>, OpenError> {
            let value = meta.get(key).map_err(|error| io(error.into()))?;
            Ok(value.map(|value| value.value()))
        };
        let format = read(FORMAT_KEY)?.unwrap_or(u64::from(FORMAT));
        if !(u64::from(FORMAT_MIN)..=u64::from(FORMAT)).contains(&format) {
            let found = u32::try_from(format).unwrap_or(u32::MAX);
            return Err(OpenError::Format { found, supported: FORMAT });
        }
        let incarnation = read(INCARNATION)?.unwrap_or(0) + 1;
        let is_crashed = incarnation > 1 && read(IS_CLEAN)? != Some(1);
        // A file of format 1 has no journal: its number and the two tables are all that it lacks.
        let journal = read(JOURNAL_KEY)?.unwrap_or_else(|| SystemRng.next_u64());
        let rows = [
            (FORMAT_KEY, u64::from(FORMAT)),
            (INCARNATION, incarnation),
            (IS_CLEAN, 0),
            (JOURNAL_KEY, journal),
        ];
        for (key, value) in rows {
            meta.insert(key, value).map_err(|error| io(error.into()))?;
        }
        Found { incarnation, journal, is_crashed }
    };
    create_all(&transaction).map_err(|error| io(error.into()))?;
    transaction.commit().map_err(|error| io(error.into()))?;
    Ok(found)
}

/// Whether a file holds a store, or nothing: what holds tables of others alone is not the store's to
/// change, unless it was handed over.
fn is_ours(transaction: &WriteTransaction) -> Result<bool, StorageError> {
    let mut tables = transaction.list_tables()?.peekable();
    let is_empty = tables.peek().is_none() && transaction.list_multimap_tables()?.next().is_none();
    Ok(is_empty || tables.any(|table| table.name() == META.name()))
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

/// Reads who watches, and where the journal begins and ends.
fn load_journal(snapshot: &ReadTransaction, live: &mut Live) -> Result<(), StoreError> {
    let table = snapshot.open_table(WATCHER).map_err(backend)?;
    let mut watchers = BTreeMap::new();
    for row in table.iter().map_err(backend)? {
        let (name, record) = row.map_err(backend)?;
        let Ok(name) = WatcherName::new(name.value()) else { continue };
        // One whose row does not read back may have watched for ever, so that it does from now on.
        watchers.insert(name, Watcher::decode(record.value()).unwrap_or_default());
    }
    let entries = snapshot.open_table(JOURNAL).map_err(backend)?;
    let (window, _) = Window::read(&entries)?;
    live.journal.load(window, watchers);
    Ok(())
}

/// The tasks that run by what the journal tells.
fn unended(snapshot: &ReadTransaction, live: &Live) -> Result<Unended, StoreError> {
    let entries = snapshot.open_table(JOURNAL).map_err(backend)?;
    let names = NameLists { queues: live.names.queues(), kinds: live.names.kinds() };
    journal::unended(&entries, names)
}

/// The tasks that were running when the store was last used, and since when if the file says.
fn orphans(snapshot: &ReadTransaction) -> Result<Orphans, StoreError> {
    let started = snapshot.open_table(STARTED).map_err(backend)?;
    let mut orphans = Orphans::new();
    for row in started.iter().map_err(backend)? {
        let (id, note) = row.map_err(backend)?;
        orphans.insert(parse_id(id.value())?, parse_started_note(note.value()));
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
    orphans: Orphans,
    unended: Unended,
    deaths_max: u16,
) -> Result<(), StoreError> {
    let rescue = Rescue { retention: shared.retention, deaths_max, now: shared.clock.now() };
    shared.inbox.post(move |batch| {
        for (&id, &attempt) in unended.iter().filter(|(id, _)| !orphans.contains_key(id)) {
            rescue.tell_lost(batch, id, attempt)?;
        }
        // No sink is there yet; whoever watches reads them in the journal.
        let mut events = Vec::new();
        for (id, claimed_at) in orphans {
            rescue.carry_out(batch, id, None, claimed_at, &mut events)?;
            batch.forget_note(id);
        }
        Ok(())
    })
}
