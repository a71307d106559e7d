//! The careful way of an insert: for unique tasks, and when an id may be taken.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use ergon_core::{NewTask, Now, StoreError, TaskId, UniqueScope, store::Inserted};
use serde::Serialize;
use sqlx::types::Json;
use uuid::Uuid;

use super::{Insertion, rows::Rows};
use crate::{
    error::{self, is_duplicate_key},
    place::{self, Payload, Place},
    range::pieces,
    runner::Runner,
    shared::{Shared, given},
    sql::Bound,
    value::{column, split, task_id},
};

/// How often an insert is decided anew when others were first.
const ATTEMPTS_MAX: u32 = 20;

#[derive(Debug, Serialize)]
struct Key {
    hash: String,
    pack: Uuid,
    off: i16,
    /// For how many microseconds, if time alone decides.
    period: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Range {
    pack: Uuid,
    first: i16,
    n: i16,
}

/// What has to give way to new tasks, and what they take.
#[derive(Debug, Default)]
struct Room {
    keys_out: Vec<Key>,
    keys_in: Vec<Key>,
    packs_out: Vec<Range>,
    packs_left: Vec<Range>,
}

/// Who holds a key.
#[derive(Clone, Copy, Debug)]
struct Holder {
    id: TaskId,
    is_over: bool,
}

/// Stores tasks in a transaction of its own.
pub(super) async fn insert(
    shared: &Arc<Shared>,
    tasks: &[NewTask],
    now: Now,
) -> Result<Vec<Inserted>, StoreError> {
    let (shared, tasks) = (Arc::clone(shared), tasks.to_vec());
    // A task of its own: a caller who goes away in the middle leaves no transaction open.
    let tracker = shared.tasks.clone();
    let inserting = tracker.spawn(async move {
        let mut attempt = 0;
        loop {
            match Box::pin(in_own_transaction(&shared, &tasks, now)).await {
                Err(StoreError::Conflict) if attempt < ATTEMPTS_MAX => attempt += 1,
                inserted => return inserted,
            }
            shared.step_back(attempt).await;
        }
    });
    // It is never aborted; a panic in it leaves a connection that the pool closes.
    inserting.await.unwrap_or(Err(StoreError::Conflict))
}

async fn in_own_transaction(
    shared: &Shared,
    tasks: &[NewTask],
    now: Now,
) -> Result<Vec<Inserted>, StoreError> {
    shared
        .database
        .within_deadline(Box::pin(async {
            let mut transaction = shared.database.begin().await?;
            let mut runner = Runner::own(&shared.database, &mut transaction)?;
            let insertion = insert_carefully(shared, &mut runner, tasks, now).await;
            let ended = transaction.end(insertion.is_ok()).await;
            // Of a statement and the rollback after it, the statement says what is wrong.
            let insertion = insertion.and_then(|insertion| ended.map(|()| insertion))?;
            if insertion.is_recorded {
                shared.ring_journal();
            }
            Ok(insertion.inserted)
        }))
        .await
}

/// Stores tasks in a transaction that is open; after an error it has to be rolled back.
pub(super) async fn insert_carefully(
    shared: &Shared,
    runner: &mut Runner<'_>,
    tasks: &[NewTask],
    now: Now,
) -> Result<Insertion, StoreError> {
    let ids: Vec<TaskId> = tasks.iter().map(|task| task.id).collect();
    let find = place::by_id(&shared.sql, &ids, Payload::Skip);
    let rows = runner.rows(&find).await?;
    let found = place::read(runner, &shared.sql, &shared.names, &rows).await?;
    let mut stored: HashSet<TaskId> =
        found.iter().filter(|found| found.place != Place::Gone).map(|found| found.id).collect();
    let gone: HashMap<TaskId, (i16, i16)> = found
        .iter()
        .filter(|found| found.place == Place::Gone)
        .map(|found| (found.id, found.pack))
        .collect();
    let mut holders = holders(shared, runner, tasks, now).await?;
    let mut room = Room::default();
    let mut packs = BTreeMap::<Range, Vec<i16>>::new();
    let mut inserted = Vec::with_capacity(tasks.len());
    let mut created = Vec::new();
    for task in tasks {
        let answer = decide(task, &mut stored, &mut holders, &mut room);
        if answer == Inserted::Created {
            let (pack, off) = split(task.id);
            if let Some(&(first, n)) = gone.get(&task.id) {
                packs.entry(Range { pack, first, n }).or_default().push(off);
            }
            created.push(task.clone());
        }
        inserted.push(answer);
    }
    for (row, taken) in packs {
        let left = pieces(row.first, row.n, &taken).into_iter();
        room.packs_left.extend(left.map(|(first, n)| Range { first, n, ..row.clone() }));
        room.packs_out.push(row);
    }
    let mut is_recorded = false;
    if !created.is_empty() {
        if let Some(reserve) = room.bind(shared, now) {
            runner.rows(&reserve).await?;
        }
        let rows = Rows::of(&[&created], &shared.names)?.bind(&shared.sql, given(now));
        let stored = match runner.rows(&rows).await {
            Ok(rows) => match rows.first() {
                Some(row) => {
                    is_recorded = column(row, "recorded")?;
                    column(row, "stored")?
                }
                None => false,
            },
            Err(error) if is_duplicate_key(&error) => false,
            Err(error) => return Err(error),
        };
        if !stored {
            return Err(StoreError::Conflict);
        }
    }
    Ok(Insertion { inserted, is_recorded })
}

async fn holders(
    shared: &Shared,
    runner: &mut Runner<'_>,
    tasks: &[NewTask],
    now: Now,
) -> Result<HashMap<[u8; 32], Holder>, StoreError> {
    let keys = tasks.iter().filter_map(|task| task.spec.unique);
    let hashes: Vec<Vec<u8>> = keys.map(|key| key.hash.to_vec()).collect();
    if hashes.is_empty() {
        return Ok(HashMap::new());
    }
    let query = shared.sql.holders.with(hashes).with(given(now));
    let mut holders = HashMap::new();
    for row in runner.rows(&query).await? {
        let hash: &[u8] = column(&row, "hash")?;
        let hash =
            hash.try_into().map_err(|_too_short| error::corrupt("the hash of a unique key"))?;
        let id = task_id(column(&row, "pack")?, column(&row, "off")?)?;
        holders.insert(hash, Holder { id, is_over: column(&row, "is_over")? });
    }
    Ok(holders)
}

/// What becomes of a task, given what is stored and what came earlier in its batch.
fn decide(
    task: &NewTask,
    stored: &mut HashSet<TaskId>,
    holders: &mut HashMap<[u8; 32], Holder>,
    room: &mut Room,
) -> Inserted {
    if stored.contains(&task.id) {
        return Inserted::AlreadyExists;
    }
    let (pack, off) = split(task.id);
    if let Some(key) = task.spec.unique {
        let hash = format!("\\x{}", hex::encode(key.hash));
        match holders.get(&key.hash) {
            Some(holder) if !holder.is_over && holder.id == task.id => {
                return Inserted::AlreadyExists;
            }
            Some(holder) if !holder.is_over => return Inserted::Duplicate { of: holder.id },
            Some(over) => {
                let (pack, off) = split(over.id);
                room.keys_out.push(Key { hash: hash.clone(), pack, off, period: None });
            }
            None => {}
        }
        let period = match key.scope {
            UniqueScope::For(period) => Some(i64::try_from(period.as_micros()).unwrap_or(i64::MAX)),
            UniqueScope::UntilStarted | UniqueScope::UntilFinished | UniqueScope::While(_) => None,
        };
        room.keys_in.push(Key { hash, pack, off, period });
        holders.insert(key.hash, Holder { id: task.id, is_over: false });
    }
    stored.insert(task.id);
    Inserted::Created
}

impl Room {
    /// The statement that makes room; `None` when none is needed.
    fn bind(&self, shared: &Shared, now: Now) -> Option<Bound> {
        let rows = self.keys_out.len() + self.keys_in.len() + self.packs_out.len();
        (rows > 0).then(|| {
            shared
                .sql
                .reserve
                .with(Json(&self.keys_out))
                .with(Json(&self.keys_in))
                .with(Json(&self.packs_out))
                .with(Json(&self.packs_left))
                .with(given(now))
                .with(i64::try_from(rows).unwrap_or(i64::MAX))
        })
    }
}
