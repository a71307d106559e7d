//! The keeper: folds counters, makes and drops partitions, removes what nobody needs any more.
//!
//! Of all stores that share the tables one leads, and works; see `seat`. Leading only saves work: each
//! step is one statement that is right whoever else does the same at the same time, so that the work of a
//! leader who was frozen and replaced does no harm.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ergon_core::{Retention, StoreError};
use tokio::{runtime::Handle, sync::watch};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use self::seat::Seat;
use crate::{PostgresStore, ServerError, database::Database, sql::Statements};

mod counters;
mod journal;
mod partitions;
mod seat;
mod sweep;

/// How long a lead lasts that is not renewed, and how often it is renewed: one may fail. Chosen without
/// measurement.
const LEASE: Duration = Duration::from_secs(15);
const RENEW_INTERVAL: Duration = Duration::from_secs(5);

/// How often counters are folded while there is something to fold.
const FOLD_INTERVAL: Duration = Duration::from_secs(1);

/// How often partitions and leftovers are looked after, and how soon again when somebody held a lock.
const CARE_INTERVAL: Duration = Duration::from_secs(600);
const CARE_AGAIN: Duration = Duration::from_secs(60);

/// The pause between two batches of a sweep, so that it never is the main work of the server.
const SWEEP_PAUSE: Duration = Duration::from_secs(1);

/// Longest time for one step; what locks anything waits for the lock for 200 ms at most.
const STEP_TIME_MAX: Duration = Duration::from_secs(60);
const LOCK_TIMEOUT: Duration = Duration::from_millis(200);

/// What [`PostgresStore::housekeep`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Housekeeping {
    /// Changes of counters that were added up.
    pub folded: u64,
    /// Rows of payloads outside of any partition that were removed, since their tasks are gone.
    pub swept: u64,
    /// Entries of the journal that left its window.
    pub trimmed: u64,
    /// Partitions that were made.
    pub made: u64,
    /// Partitions that were dropped.
    pub dropped: u64,
    /// Rows of payloads that were moved out of dropped partitions, since their tasks are not gone.
    pub moved: u64,
    /// Partitions that would have been dropped if their locks had been free.
    pub postponed: u64,
}

impl PostgresStore {
    /// Keeps house now, whoever else does: folds counters, removes payloads whose tasks are gone and entries
    /// of the journal that left its window, makes the partitions that are missing and drops those that
    /// nothing lives in.
    ///
    /// Stores do all of this by themselves in the background, in one process at a time, unless they were
    /// told [not to](crate::PostgresOptions::housekeeping). Safe at any time and any number of times at
    /// once. Nothing that belongs to a task is removed.
    ///
    /// # Errors
    ///
    /// [`StoreError::Backend`] with SQLSTATE 42501 when the role was not given what
    /// [`Migrator::grants`](crate::Migrator::grants) lists, or who made the tables may make none any
    /// more; and what the server reports. What was done before remains done.
    ///
    /// # Cancel safety
    ///
    /// A dropped call has done some of the work, and nothing by halves.
    pub async fn housekeep(&self) -> Result<Housekeeping, StoreError> {
        let house = self.shared().keeper().house();
        let folded = house.fold().await?;
        let trimmed = house.trim().await?;
        house.sweep_reports().await?;
        let swept = house.sweep(Duration::ZERO).await?;
        let made = house.make_partitions().await?;
        let drops = house.drop_partitions().await?;
        Ok(Housekeeping {
            folded,
            swept,
            trimmed,
            made,
            dropped: drops.dropped,
            moved: drops.moved,
            postponed: drops.postponed,
        })
    }
}

/// How a keeper is made.
#[derive(Clone, Debug)]
pub(crate) struct KeeperConfig {
    /// Whether it works by itself.
    pub(crate) is_active: bool,
    /// How much time one partition holds.
    pub(crate) span: Duration,
    /// How long finished tasks are kept.
    pub(crate) retention: Retention,
    /// How many bytes, and for how long, the journal keeps.
    pub(crate) journal_bytes_max: u64,
    pub(crate) journal_age_max: Duration,
}

/// Keeps house in the background. Stops some time after it is dropped.
#[derive(Debug)]
pub(crate) struct Keeper {
    house: Arc<House>,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Stops when the keeper is dropped.
    _stop: DropGuard,
}

impl Keeper {
    /// Starts a keeper; outside of a tokio runtime it does nothing by itself.
    pub(crate) fn start(database: &Database, sql: &Arc<Statements>, config: &KeeperConfig) -> Self {
        let house = Arc::new(House::new(database, sql, config));
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        if config.is_active
            && let Ok(runtime) = Handle::try_current()
        {
            let (leads, is_leading) = watch::channel(false);
            let seat = Seat::new(Arc::clone(&house), leads);
            let stopped = stop.clone();
            tasks.spawn_on(async move { Box::pin(seat.run(stopped)).await }, &runtime);
            let (house, stopped) = (Arc::clone(&house), stop.clone());
            let care = async move {
                stopped.run_until_cancelled(Box::pin(house.care(is_leading))).await;
            };
            tasks.spawn_on(care, &runtime);
        }
        tasks.close();
        Self { house, tasks, _stop: stop.clone().drop_guard(), stop }
    }

    pub(crate) const fn house(&self) -> &Arc<House> {
        &self.house
    }

    /// Stops, and lets another process lead; waits until that is done: at most a second or so.
    ///
    /// # Cancel safety
    ///
    /// Once called, the keeper stops even if the call is dropped.
    pub(crate) async fn close(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

/// What there is to keep, and the means.
#[derive(Debug)]
pub(crate) struct House {
    database: Database,
    /// Runs each statement in a transaction at *read committed*, whatever the default, and for longer.
    patient: Database,
    sql: Arc<Statements>,
    span: Duration,
    /// No finished task is kept for a shorter time, unless it says so itself.
    kept_min: Duration,
    journal_bytes_max: u64,
    journal_age_max: Duration,
    is_warned: AtomicBool,
}

impl House {
    fn new(database: &Database, sql: &Arc<Statements>, config: &KeeperConfig) -> Self {
        let Retention { completed, failed, cancelled } = config.retention;
        Self {
            database: database.clone(),
            patient: database.in_transactions(STEP_TIME_MAX, LOCK_TIMEOUT),
            sql: Arc::clone(sql),
            span: config.span,
            kept_min: std::cmp::min(completed, std::cmp::min(failed, cancelled)),
            journal_bytes_max: config.journal_bytes_max,
            journal_age_max: config.journal_age_max,
            is_warned: AtomicBool::new(false),
        }
    }

    /// Looks after partitions and leftovers, whenever this process leads.
    async fn care(&self, mut is_leading: watch::Receiver<bool>) {
        while is_leading.wait_for(|leads| *leads).await.is_ok() {
            let is_done = self.care_once().await;
            tokio::time::sleep(if is_done { CARE_INTERVAL } else { CARE_AGAIN }).await;
        }
    }

    /// Answers whether all was done.
    async fn care_once(&self) -> bool {
        let made = self.make_partitions().await;
        let drops = self.drop_partitions().await;
        let is_postponed = drops.as_ref().is_ok_and(|drops| drops.postponed > 0);
        let done = [
            self.tell("make partitions", made.map(drop)),
            self.tell("drop partitions", drops.map(drop)),
            self.tell("remove payloads", self.sweep(SWEEP_PAUSE).await.map(drop)),
            self.tell("trim the journal", self.trim().await.map(drop)),
        ];
        !is_postponed && done.into_iter().all(|is_done| is_done)
    }

    /// Tells people of what failed, once of what needs them; answers whether nothing did.
    fn tell(&self, what: &'static str, done: Result<(), StoreError>) -> bool {
        let Err(error) = done else { return true };
        let code = match &error {
            StoreError::Backend { source } => source.downcast_ref().map(ServerError::code),
            _ => None,
        };
        let told = ergon_core::text::error_chain(&error);
        let remedy = match code {
            Some("42501") => {
                "as the owner of the tables, run what Migrator::grants lists, and let the owner \
                 create tables in the schema; until then payloads are kept in pack_default, and \
                 removed row by row"
            }
            Some("54000") => {
                "wait until most of the tasks in pack_default are gone, or move its rows"
            }
            _ if error.is_transient() => {
                tracing::debug!(error = told, "could not {what}, and tries again later");
                return false;
            }
            _ => "none is known",
        };
        if !self.is_warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(error = told, remedy, "cannot {what}");
        }
        false
    }
}

/// Microseconds, as statements take them.
fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
