//! What the roles of a store share.

use std::{sync::Arc, time::Duration};

use ergon_core::{
    KindName, Limits, Now, QueueName, Retention, StoreError, SystemRng, TaskId, rng,
    time::whole_micros,
};
use sqlx::postgres::PgRow;
use tokio::sync::Mutex;
use tokio_util::task::TaskTracker;

use crate::{
    bound::Bounds,
    connect::Connected,
    database::Database,
    dispatch::{claim::RowLen, claims::Claims},
    doorbell::{Bell, Channels, Doorbell, DoorbellConfig},
    enqueue::group::Group,
    keeper::{Keeper, KeeperConfig},
    name::Names,
    options::Pooling,
    runner::Runner,
    sql::Statements,
    value::{Instant, column},
    wait::{Asking, Waits},
};

/// First and longest pause before a change that lost is decided anew.
const STEP_BACK_FIRST: Duration = Duration::from_millis(1);
const STEP_BACK_LONGEST: Duration = Duration::from_millis(100);

/// Everything that the roles of a store share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) database: Database,
    pub(crate) sql: Arc<Statements>,
    pub(crate) names: Names,
    pub(crate) limits: Limits,
    pub(crate) retention: Retention,
    /// The claims that this process made.
    pub(crate) claims: Claims,
    /// Held while outcomes are settled: see `dispatch`.
    pub(crate) settling: Mutex<()>,
    pub(crate) row_len: RowLen,
    pub(crate) bounds: Bounds,
    pub(crate) group: Group,
    /// What goes on although its caller went away.
    pub(crate) tasks: TaskTracker,
    doorbell: Doorbell,
    keeper: Keeper,
    waits: Waits,
}

impl Shared {
    pub(crate) fn new(connected: Connected) -> Self {
        let Connected { database, schema, options } = connected;
        let sql = Arc::new(Statements::new(&schema));
        let listens = options.listen && options.pooling == Pooling::Direct;
        let connect = listens.then(|| (*database.connect_options()).clone());
        let doorbell = Doorbell::start(DoorbellConfig::new(connect, schema.name()));
        let asking = Asking::new(database.clone(), sql.due.clone(), sql.finished.clone());
        let bell = Arc::clone(doorbell.bell());
        let waits = Waits::new(Arc::new(asking), bell, options.poll_interval);
        let keeper = KeeperConfig {
            is_active: options.housekeeping,
            span: options.partition_span,
            retention: options.retention,
            journal_bytes_max: options.journal_bytes_max,
            journal_age_max: options.journal_age_max,
        };
        let keeper = Keeper::start(&database, &sql, &keeper);
        Self {
            database,
            sql,
            names: Names::default(),
            limits: options.limits,
            retention: options.retention,
            claims: Claims::default(),
            settling: Mutex::new(()),
            row_len: RowLen::default(),
            bounds: Bounds::default(),
            group: Group::default(),
            tasks: TaskTracker::new(),
            doorbell,
            keeper,
            waits,
        }
    }

    /// The channels on which other processes are told of work and of the journal; `None` when they are not.
    pub(crate) const fn channels(&self) -> Option<&Channels> {
        self.doorbell.channels()
    }

    pub(crate) const fn bell(&self) -> &Arc<Bell> {
        self.doorbell.bell()
    }

    /// Tells that something was recorded in the journal.
    pub(crate) fn ring_journal(&self) {
        self.doorbell.ring_journal();
    }

    /// Tells those who read the journal, if the statement that answered this row recorded something.
    pub(crate) fn tell_readers(&self, row: &PgRow) -> Result<(), StoreError> {
        if column(row, "recorded")? {
            self.ring_journal();
        }
        Ok(())
    }

    /// Runs statements each by itself.
    pub(crate) const fn each(&self) -> Runner<'_> {
        Runner::Each(&self.database)
    }

    /// Tells that tasks of these queues became due, or may have.
    pub(crate) fn ring(&self, queues: &[QueueName]) {
        self.doorbell.ring(queues);
    }

    /// Tells that tasks of these queues will become due at an instant that nobody knows of.
    pub(crate) fn ring_later(&self, queues: &[QueueName]) {
        self.doorbell.ring_later(queues);
    }

    /// Tells whoever waits in this process that these tasks may be finished or gone.
    pub(crate) fn finished(&self, ids: impl IntoIterator<Item = TaskId>) {
        self.waits.finished(ids);
    }

    pub(crate) const fn keeper(&self) -> &Keeper {
        &self.keeper
    }

    pub(crate) const fn waits(&self) -> &Waits {
        &self.waits
    }

    pub(crate) async fn wait_for_work(
        &self,
        queues: &[QueueName],
        kinds: &[KindName],
        within: Duration,
    ) {
        self.waits.wait_for_work(queues, kinds, within).await;
    }

    /// Waits a little, at random and longer each time, before something that lost is tried again.
    pub(crate) async fn step_back(&self, attempt: u32) {
        let ceiling =
            STEP_BACK_FIRST.saturating_mul(2_u32.saturating_pow(std::cmp::min(attempt, 10)));
        let ceiling = std::cmp::min(ceiling, STEP_BACK_LONGEST);
        tokio::time::sleep(rng::duration_up_to(&SystemRng, ceiling)).await;
    }

    /// Stops the doorbell and the keeper, and closes the pool, if it is the store's own.
    pub(crate) async fn close(&self) {
        tokio::join!(self.doorbell.close(), self.keeper.close());
        self.waits.settled().await;
        self.tasks.close();
        self.tasks.wait().await;
        self.tasks.reopen();
        self.database.close().await;
    }
}

/// The instant that a request gives, for a statement that else asks the clock.
pub(crate) fn given(now: Now) -> Option<Instant> {
    match now {
        Now::Store => None,
        Now::At(instant) => Some(Instant(whole_micros(instant))),
    }
}
