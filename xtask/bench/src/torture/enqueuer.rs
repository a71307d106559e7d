//! Enqueues at full speed, and notes what was acknowledged.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::Result;
use ergon_core::{Client, CommandVerdict, Enqueued, Manager, StateSet, Store, StoreError, Unique};
use rand::{RngExt as _, rngs::StdRng};

use super::{
    chore::{Chore, Ends},
    ledger::{Entry, Ledger, What},
    tell,
};
use crate::workload::counts;

/// Tasks that wait at the most, so that the last child is done in time.
const BACKLOG_MAX: u64 = 5_000;
/// How often it is looked whether enough tasks wait still.
const PAUSE: Duration = Duration::from_millis(10);

/// Whether enough tasks wait.
#[derive(Clone, Debug, Default)]
pub(super) struct Gate(Arc<AtomicBool>);

impl Gate {
    /// Keeps looking how many tasks wait, so often.
    pub(super) async fn watch(self, store: Arc<dyn Store>, every: Duration) -> Result<()> {
        loop {
            if let Some(counts) = unless_transient(counts(&*store).await).await? {
                self.0.store(counts.sum(StateSet::UNFINISHED) > BACKLOG_MAX, Relaxed);
            }
            tokio::time::sleep(every).await;
        }
    }

    async fn pass(&self) {
        while self.0.load(Relaxed) {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Enqueues until it is killed.
pub(super) struct Enqueuer {
    pub(super) client: Client,
    pub(super) ledger: Ledger,
    pub(super) gate: Gate,
    pub(super) rng: StdRng,
}

impl Enqueuer {
    pub(super) async fn run(mut self) -> Result<()> {
        loop {
            self.gate.pass().await;
            let done = match self.rng.random_range(0..100_u32) {
                0..40 => self.one(Ends::Well).await,
                40..55 => self.batch().await,
                55..70 => self.unique().await,
                70..82 => self.scheduled().await,
                82..92 => self.one(Ends::WellAtSecond).await,
                92..97 => self.one(Ends::Cancelled).await,
                _ => self.one(Ends::Failed).await,
            };
            // Nothing was acknowledged, so that there is nothing to be noted.
            unless_transient(done).await?;
        }
    }

    async fn one(&mut self, ends: Ends) -> Result<()> {
        let chore = Chore::new(ends, &mut self.rng);
        let enqueued = self.client.enqueue(chore).await?;
        self.ledger.note([entry(&enqueued, None)]).await
    }

    async fn batch(&mut self) -> Result<()> {
        let len = self.rng.random_range(1..=50_u32);
        let chores: Vec<Chore> = (0..len).map(|_| Chore::new(Ends::Well, &mut self.rng)).collect();
        let enqueued = self.client.enqueue_many(chores).await?;
        self.ledger.note(enqueued.iter().map(|enqueued| entry(enqueued, None))).await
    }

    async fn unique(&mut self) -> Result<()> {
        let chore = Chore::new(Ends::Well, &mut self.rng).keyed(&mut self.rng);
        let key = chore.key;
        let enqueued = self.client.enqueue(chore).unique(Unique::by_fields(["key"])).await?;
        self.ledger.note([entry(&enqueued, key)]).await
    }

    /// A task for later; some are called off while they wait.
    async fn scheduled(&mut self) -> Result<()> {
        let mut chore = Chore::new(Ends::Well, &mut self.rng);
        chore.may_be_called = self.rng.random_bool(0.3);
        let is_called = chore.may_be_called;
        let delay = Duration::from_millis(self.rng.random_range(10..=300));
        let enqueued = self.client.enqueue(chore).delay(delay).await?;
        self.ledger.note([entry(&enqueued, None)]).await?;
        if !is_called {
            return Ok(());
        }
        let manager = Manager::new(self.client.store());
        let verdict = manager.control().cancel(enqueued.id(), "called off").await?;
        if verdict == CommandVerdict::Applied {
            self.ledger.note([Entry { id: enqueued.id(), what: What::Called }]).await?;
        }
        Ok(())
    }
}

/// Passes over an error after which the same call may succeed, as a store has under load; tells of it,
/// and waits a little.
pub(super) async fn unless_transient<T>(done: Result<T>) -> Result<Option<T>> {
    let error = match done {
        Ok(done) => return Ok(Some(done)),
        Err(error) => error,
    };
    let is_transient = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<StoreError>())
        .any(StoreError::is_transient);
    if !is_transient {
        return Err(error);
    }
    tell(&format!("passed over: {error:#}"));
    tokio::time::sleep(PAUSE).await;
    Ok(None)
}

/// What an answered enqueue says: the task is there, or the one that holds its key.
fn entry(enqueued: &Enqueued<()>, key: Option<u32>) -> Entry {
    let what = if enqueued.is_duplicate() { What::Held } else { What::Acked(key) };
    Entry { id: enqueued.id(), what }
}
