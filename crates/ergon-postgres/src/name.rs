//! Queues, lanes and kinds by number: rows name them so, and the numbers never change.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{PoisonError, RwLock},
};

use ergon_core::{KindName, QueueName, StoreError};
use sqlx::Row as _;

use crate::{database::Database, error::corrupt, runner::Runner, sql::Statements, value::column};

/// How often a name is looked for: a statement that finds it taken just now does not see it, and the
/// next one does.
const LOOKS_MAX: u32 = 3;

/// A queue at one priority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lane {
    pub(crate) id: i32,
    pub(crate) queue_id: i32,
    pub(crate) queue: QueueName,
    pub(crate) priority: i16,
}

/// The names that this process has met.
#[derive(Debug, Default)]
pub(crate) struct Names {
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    queues: HashMap<QueueName, i32>,
    kinds: HashMap<KindName, i32>,
    kinds_by_id: HashMap<i32, KindName>,
    lanes: HashMap<(i32, i16), i32>,
    lanes_by_id: HashMap<i32, Lane>,
}

impl Names {
    fn read<R>(&self, read: impl FnOnce(&Known) -> R) -> R {
        // Every change is one insert, so what a panicking thread left behind is whole.
        read(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<R>(&self, write: impl FnOnce(&mut Known) -> R) -> R {
        write(&mut self.known.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// The lane, if this process has met it.
    pub(crate) fn lane(&self, queue: &QueueName, priority: i16) -> Option<Lane> {
        self.read(|known| {
            let id = known.lanes.get(&(*known.queues.get(queue)?, priority))?;
            known.lanes_by_id.get(id).cloned()
        })
    }

    /// The lane with this number, if this process has met it.
    pub(crate) fn lane_by_id(&self, id: i32) -> Option<Lane> {
        self.read(|known| known.lanes_by_id.get(&id).cloned())
    }

    /// The number of a kind, if this process has met it.
    pub(crate) fn kind(&self, kind: &KindName) -> Option<i32> {
        self.read(|known| known.kinds.get(kind).copied())
    }

    /// The kind with this number, if this process has met it.
    pub(crate) fn kind_by_id(&self, id: i32) -> Option<KindName> {
        self.read(|known| known.kinds_by_id.get(&id).cloned())
    }

    /// Makes lanes known to everybody, those that are new.
    pub(crate) async fn ensure_lanes(
        &self,
        database: &Database,
        sql: &Statements,
        wanted: impl IntoIterator<Item = (&QueueName, i16)>,
    ) -> Result<(), StoreError> {
        let mut missing: BTreeSet<_> = wanted
            .into_iter()
            .filter(|(queue, priority)| self.lane(queue, *priority).is_none())
            .map(|(queue, priority)| (queue.clone(), priority))
            .collect();
        for _ in 0..LOOKS_MAX {
            if missing.is_empty() {
                return Ok(());
            }
            self.learn_lanes(database, sql, &missing).await?;
            missing.retain(|(queue, priority)| self.lane(queue, *priority).is_none());
        }
        if missing.is_empty() { Ok(()) } else { Err(StoreError::Conflict) }
    }

    async fn learn_lanes(
        &self,
        database: &Database,
        sql: &Statements,
        missing: &BTreeSet<(QueueName, i16)>,
    ) -> Result<(), StoreError> {
        let queues: BTreeSet<&str> = missing.iter().map(|(queue, _)| queue.as_str()).collect();
        let queues: Vec<&str> = queues.into_iter().collect();
        let query = sql.queues_known.with(queues);
        let mut ids = HashMap::new();
        for row in database.rows(|| query.query()).await? {
            ids.insert(queue_name(column(&row, "name")?)?, column::<i32>(&row, "id")?);
        }
        let lanes =
            missing.iter().filter_map(|(queue, priority)| Some((*ids.get(queue)?, *priority)));
        let (queue_ids, priorities): (Vec<i32>, Vec<i16>) = lanes.unzip();
        let query = sql.lanes_known.with(queue_ids).with(priorities);
        let rows = database.rows(|| query.query()).await?;
        let names: HashMap<i32, &QueueName> = ids.iter().map(|(name, &id)| (id, name)).collect();
        for row in rows {
            let queue_id = column::<i32>(&row, "queue")?;
            let Some(&queue) = names.get(&queue_id) else { continue };
            let (id, priority) = (column(&row, "id")?, column(&row, "priority")?);
            self.learn_lane(Lane { id, queue_id, queue: queue.clone(), priority });
        }
        Ok(())
    }

    /// Makes kinds known to everybody, those that are new.
    pub(crate) async fn ensure_kinds(
        &self,
        database: &Database,
        sql: &Statements,
        wanted: impl IntoIterator<Item = &KindName>,
    ) -> Result<(), StoreError> {
        let mut missing: BTreeSet<&KindName> =
            wanted.into_iter().filter(|kind| self.kind(kind).is_none()).collect();
        for _ in 0..LOOKS_MAX {
            if missing.is_empty() {
                return Ok(());
            }
            let names: Vec<&str> = missing.iter().map(|kind| kind.as_str()).collect();
            let query = sql.kinds_known.with(names);
            for row in database.rows(|| query.query()).await? {
                self.learn_kind(column(&row, "id")?, column(&row, "name")?)?;
            }
            missing.retain(|kind| self.kind(kind).is_none());
        }
        if missing.is_empty() { Ok(()) } else { Err(StoreError::Conflict) }
    }

    /// Reads every name, as there are numbers that this process has not met.
    pub(crate) async fn refresh(
        &self,
        runner: &mut Runner<'_>,
        sql: &Statements,
    ) -> Result<(), StoreError> {
        for row in runner.rows(&sql.names.bind()).await? {
            // Without arguments, the answer comes as text or not by the driver's choice; names and
            // numbers read the same either way.
            let name: String = column(&row, "name")?;
            let (id, queue_id): (i32, Option<i32>) = (column(&row, "id")?, column(&row, "queue")?);
            match (queue_id, row.try_get("priority")) {
                (Some(queue_id), Ok(priority)) => {
                    self.learn_lane(Lane { id, queue_id, queue: queue_name(name)?, priority });
                }
                _ => self.learn_kind(id, name)?,
            }
        }
        Ok(())
    }

    fn learn_lane(&self, lane: Lane) {
        self.write(|known| {
            known.queues.insert(lane.queue.clone(), lane.queue_id);
            known.lanes.insert((lane.queue_id, lane.priority), lane.id);
            known.lanes_by_id.insert(lane.id, lane);
        });
    }

    fn learn_kind(&self, id: i32, name: String) -> Result<(), StoreError> {
        let name = KindName::new(name).map_err(|error| corrupt(error.to_string()))?;
        self.write(|known| {
            known.kinds.insert(name.clone(), id);
            known.kinds_by_id.insert(id, name);
        });
        Ok(())
    }
}

/// A queue's name as it was stored.
pub(crate) fn queue_name(name: String) -> Result<QueueName, StoreError> {
    QueueName::new(name).map_err(|error| corrupt(error.to_string()))
}
