//! One consistent view of file and memory, for reads.
//!
//! A snapshot is opened while no commit is between the file and memory, lives for one call, and is
//! never held across an await: pages that it sees cannot be reused until it is gone.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
};

use ergon_core::{
    KindName, Phase, Progress, QueueName, StoreError, TaskId, TaskRecord, Token,
    report::KeptReport, time::from_micros, transition,
};
use jiff::Timestamp;
use redb::{ReadOnlyTable, ReadTransaction};

use crate::{
    error::backend,
    journal::NameLists,
    key::{NameId, READY_KEY_LEN},
    live::{Live, Queue, Running},
    record::{decode_body, decode_head},
    shared::Shared,
    table::{BODY, HEAD, MARKED, READY},
};

pub(crate) mod count;
pub(crate) mod counts;
pub(crate) mod list;

type Records = ReadOnlyTable<&'static [u8; 16], &'static [u8]>;

/// A claim, as a read shows it.
#[derive(Clone, Debug)]
struct Claimed {
    token: Token,
    claimed_at: i64,
    is_cancel_requested: bool,
    report: Option<Arc<KeptReport>>,
}

impl Claimed {
    fn of(claim: &Running) -> Self {
        Self {
            token: claim.token,
            claimed_at: claim.claimed_at,
            is_cancel_requested: claim.is_cancel_requested,
            report: claim.report.clone(),
        }
    }
}

/// One consistent view of file and memory.
pub(crate) struct Snapshot {
    transaction: ReadTransaction,
    bodies: Records,
    heads: Records,
    running: HashMap<TaskId, Claimed>,
    queues: Vec<Queue>,
    queue_names: Arc<Vec<QueueName>>,
    kind_names: Arc<Vec<KindName>>,
}

impl Snapshot {
    /// A view of everything.
    pub(crate) fn open(shared: &Shared) -> Result<Self, StoreError> {
        Self::with_claims(shared, |live| {
            live.running.iter().map(|(&id, claim)| (id, Claimed::of(claim))).collect()
        })
    }

    /// A view of these tasks: of others it is not known whether they are running.
    pub(crate) fn of_tasks(shared: &Shared, ids: &[TaskId]) -> Result<Self, StoreError> {
        Self::with_claims(shared, |live| {
            let claimed = |&id: &TaskId| Some((id, Claimed::of(live.running.get(&id)?)));
            ids.iter().filter_map(claimed).collect()
        })
    }

    fn with_claims(
        shared: &Shared,
        claims: impl FnOnce(&Live) -> HashMap<TaskId, Claimed>,
    ) -> Result<Self, StoreError> {
        let gate = shared.gate.read().unwrap_or_else(PoisonError::into_inner);
        let transaction = shared.database.begin_read()?;
        let live = shared.live();
        let running = claims(&live);
        let queues = live.queues.clone();
        let queue_names = Arc::clone(live.names.queues());
        let kind_names = Arc::clone(live.names.kinds());
        drop(live);
        drop(gate);
        Ok(Self {
            bodies: transaction.open_table(BODY).map_err(backend)?,
            heads: transaction.open_table(HEAD).map_err(backend)?,
            transaction,
            running,
            queues,
            queue_names,
            kind_names,
        })
    }

    pub(crate) const fn transaction(&self) -> &ReadTransaction {
        &self.transaction
    }

    /// Every name, by number.
    pub(crate) fn names(&self) -> NameLists<'_> {
        NameLists { queues: &self.queue_names, kinds: &self.kind_names }
    }

    /// Every queue that was ever used or changed, with its number.
    pub(crate) fn queue_names(&self) -> impl Iterator<Item = (NameId, QueueName)> {
        let named = (0..).zip(self.queue_names.iter().cloned());
        named.filter(|&(number, _)| self.queue(number).is_known)
    }

    pub(crate) fn queue(&self, number: NameId) -> Queue {
        self.queues.get(number as usize).copied().unwrap_or_default()
    }

    /// Reads a task; one that does not read back is not found.
    pub(crate) fn task(
        &self,
        id: TaskId,
        now: Timestamp,
    ) -> Result<Option<TaskRecord>, StoreError> {
        let key = id.as_u128().to_be_bytes();
        let Some(body) = self.bodies.get(&key).map_err(backend)? else { return Ok(None) };
        let head = self.heads.get(&key).map_err(backend)?;
        let progress = head.map(|head| decode_head(head.value())).transpose();
        match progress.and_then(|progress| self.record(id, body.value(), progress, now)) {
            Ok(task) => Ok(Some(task)),
            Err(StoreError::Corrupt { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts a task together from its records and its claim.
    fn record(
        &self,
        id: TaskId,
        body: &[u8],
        head: Option<Progress>,
        now: Timestamp,
    ) -> Result<TaskRecord, StoreError> {
        let (body, spec) = decode_body(body, |body| {
            let queue = self.queue_names.get(body.queue as usize);
            let kind = self.kind_names.get(body.kind as usize);
            queue
                .cloned()
                .zip(kind.cloned())
                .ok_or_else(|| crate::error::corrupt("a body names no known queue or kind"))
        })?;
        let mut progress = head.unwrap_or_else(|| body.fresh());
        let mut report = None;
        if progress.phase == Phase::Waiting
            && let Some(claim) = self.running.get(&id)
        {
            report = claim.report.as_deref().cloned();
            transition::claim(&mut progress, claim.token, from_micros(claim.claimed_at));
            progress.cancel_requested |= claim.is_cancel_requested;
        }
        let state = progress.state(now);
        let created_at = from_micros(body.created_at);
        Ok(TaskRecord { id, spec, created_at, progress, state, report })
    }

    fn ready(&self) -> Result<ReadOnlyTable<&'static [u8; READY_KEY_LEN], u8>, StoreError> {
        self.transaction.open_table(READY).map_err(backend)
    }

    fn marked(&self) -> Result<ReadOnlyTable<&'static [u8; 17], ()>, StoreError> {
        self.transaction.open_table(MARKED).map_err(backend)
    }
}
