//! Role *enqueue*: takes new tasks.

mod careful;
pub(crate) mod group;
mod rows;

use std::sync::Arc;

use async_trait::async_trait;
use ergon_core::{
    NewTask, Now, RunAt, StoreError, SystemClock,
    store::{Enqueue, Inserted, check_insert},
};

use self::rows::Rows;
use crate::{
    PostgresStore,
    error::is_duplicate_key,
    runner::Runner,
    shared::{Shared, given},
    value::column,
};

/// Calls with at least so many tasks are a statement of their own: grouping would gain nothing.
const GROUPED_BELOW: usize = 64;

/// What became of tasks in a transaction that is open.
#[derive(Debug)]
pub(crate) struct Insertion {
    pub(crate) inserted: Vec<Inserted>,
    /// Whether it is in the journal.
    pub(crate) is_recorded: bool,
}

#[async_trait]
impl Enqueue for PostgresStore {
    async fn insert(&self, tasks: &[NewTask], now: Now) -> Result<Vec<Inserted>, StoreError> {
        let shared = self.shared();
        // The limits are ten years away: the database's clock decides everything else.
        check_insert(tasks, &shared.limits, now.resolve(&SystemClock))?;
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        // The whole of it, also the wait for the statement of others that goes first.
        let inserting = Box::pin(insert_somehow(shared, tasks, now));
        let inserted = shared.database.within_deadline(inserting).await?;
        shared.ring_for(tasks, &inserted);
        Ok(inserted)
    }
}

impl Shared {
    /// Makes the queues, priorities and kinds of tasks known.
    pub(crate) async fn know(&self, tasks: &[NewTask]) -> Result<(), StoreError> {
        // Neighbours are most often alike.
        let mut last = None;
        let tasks: Vec<&NewTask> = tasks
            .iter()
            .filter(|task| {
                let name = Some((&task.spec.queue, task.priority, &task.spec.kind));
                std::mem::replace(&mut last, name) != name
            })
            .collect();
        let lanes = tasks.iter().map(|task| (&task.spec.queue, task.priority));
        self.names.ensure_lanes(&self.database, &self.sql, lanes).await?;
        let kinds = tasks.iter().map(|task| &task.spec.kind);
        self.names.ensure_kinds(&self.database, &self.sql, kinds).await
    }

    /// Rings for the queues of tasks that were created.
    fn ring_for(&self, tasks: &[NewTask], inserted: &[Inserted]) {
        let created =
            tasks.iter().zip(inserted).filter(|(_, answer)| **answer == Inserted::Created);
        let (mut due, mut later) = (Vec::new(), Vec::new());
        for (task, _) in created {
            let queues = if task.run_at == RunAt::Now { &mut due } else { &mut later };
            if !queues.contains(&task.spec.queue) {
                queues.push(task.spec.queue.clone());
            }
        }
        self.ring(&due);
        self.ring_later(&later);
    }

    /// Stores the tasks of several calls by one statement, if none of their ids is taken; says whether
    /// it did.
    async fn insert_new(&self, calls: &[&[NewTask]], now: Now) -> Result<bool, StoreError> {
        let rows = Rows::of(calls, &self.names)?;
        if rows.overlap() {
            return Ok(false);
        }
        let query = rows.bind(&self.sql, given(now));
        match self.database.row(|| query.query()).await {
            Ok(row) => {
                self.tell_readers(&row)?;
                column(&row, "stored")
            }
            Err(error) if is_duplicate_key(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Stores tasks in a transaction that is open; after an error it has to be rolled back.
pub(crate) async fn insert_within(
    shared: &Shared,
    runner: &mut Runner<'_>,
    tasks: &[NewTask],
) -> Result<Insertion, StoreError> {
    let rows = Rows::of(&[tasks], &shared.names)?;
    // A statement that failed would take the whole transaction along.
    if tasks.iter().all(|task| task.spec.unique.is_none()) && !rows.may_fail() {
        let answer = runner.rows(&rows.bind(&shared.sql, None)).await?;
        if let Some(row) = answer.first()
            && column(row, "stored")?
        {
            let inserted = vec![Inserted::Created; tasks.len()];
            return Ok(Insertion { inserted, is_recorded: column(row, "recorded")? });
        }
    }
    careful::insert_carefully(shared, runner, tasks, Now::Store).await
}

/// Stores the tasks of one call, by the way that suits them.
async fn insert_somehow(
    shared: &Arc<Shared>,
    tasks: &[NewTask],
    now: Now,
) -> Result<Vec<Inserted>, StoreError> {
    shared.know(tasks).await?;
    if tasks.iter().any(|task| task.spec.unique.is_some()) {
        careful::insert(shared, tasks, now).await
    } else if tasks.len() < GROUPED_BELOW && now == Now::Store {
        group::insert(shared, tasks).await
    } else {
        insert(shared, &[tasks], now).await
    }
}

/// Stores the tasks of several calls together, and answers for all of them.
async fn insert(
    shared: &Arc<Shared>,
    calls: &[&[NewTask]],
    now: Now,
) -> Result<Vec<Inserted>, StoreError> {
    if shared.insert_new(calls, now).await? {
        return Ok(vec![Inserted::Created; calls.iter().map(|call| call.len()).sum()]);
    }
    // Some id is taken, or another call took it just now: look one by one.
    careful::insert(shared, &calls.concat(), now).await
}
