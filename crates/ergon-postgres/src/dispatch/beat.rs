//! Renews the claims that a server names.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use ergon_core::{
    Now, StoreError, TaskId,
    store::{Beat, BeatReply, Held},
};
use uuid::Uuid;

use crate::{
    database::Database,
    range::Runs,
    shared::{Shared, given},
    sql::Statement,
    value::{column, small, split, task_id},
};

/// Longest wait for a lease that is locked.
const LOCKED_TIME_MAX: Duration = Duration::from_secs(2);

/// How often leases that others changed meanwhile are read anew.
const ATTEMPTS_MAX: u32 = 20;

/// A lease as it was read, and what a beat names of it.
struct Lease {
    token: i64,
    part: i64,
    version: i32,
    cancels: i32,
    /// Those of its tasks that the beat does not name.
    others: Runs,
    named: Vec<TaskId>,
}

impl Shared {
    pub(super) async fn beat(&self, beat: &Beat) -> Result<BeatReply, StoreError> {
        if beat.held.is_empty() {
            return Ok(BeatReply::default());
        }
        let mut by_token = BTreeMap::<i64, BTreeSet<TaskId>>::new();
        for held in &beat.held {
            // A token beyond the range of the sequence was never given.
            if let Ok(token) = i64::try_from(held.token.get()) {
                by_token.entry(token).or_default().insert(held.id);
            }
        }
        let micros = i64::try_from(beat.lease.as_micros()).unwrap_or(i64::MAX);
        let micros = std::cmp::min(micros, i64::MAX / 4);
        for attempt in 0..ATTEMPTS_MAX {
            let leases = self.leases_held(beat, &by_token).await?;
            // Whoever took them has no reason to tell this process.
            let is_lost = |token: &&i64| !leases.iter().any(|lease| lease.token == **token);
            for token in by_token.keys().filter(is_lost) {
                self.claims.forget(small::<u64, i64>(*token)?);
            }
            let whole: Vec<&Lease> =
                leases.iter().filter(|lease| lease.others.is_empty()).collect();
            let mut missed =
                self.renew(&self.database, &self.sql.renew, &whole, beat.now, micros).await?;
            if !missed.is_empty() {
                missed = match self.renew_locked(&missed, beat.now, micros).await {
                    // A transaction of the application is about to finish these tasks, and takes its
                    // time; as long as it is open nobody else gets at them.
                    Err(StoreError::Conflict) => Vec::new(),
                    missed => missed?,
                };
            }
            let mut stood = missed.is_empty();
            for lease in leases.iter().filter(|lease| !lease.others.is_empty()) {
                stood &= self.split(lease, beat.now, micros).await?;
            }
            if stood {
                return self.reply(beat, &leases).await;
            }
            self.step_back(attempt).await;
        }
        Err(StoreError::Conflict)
    }

    async fn leases_held(
        &self,
        beat: &Beat,
        by_token: &BTreeMap<i64, BTreeSet<TaskId>>,
    ) -> Result<Vec<Lease>, StoreError> {
        let tokens: Vec<i64> = by_token.keys().copied().collect();
        let query = self.sql.held.with(tokens).with(Uuid::from_u128(beat.server.as_u128()));
        let mut leases = Vec::new();
        for row in self.database.rows(|| query.query()).await? {
            let token = column(&row, "token")?;
            let mut others = Runs::read(&row)?;
            let named = by_token.get(&token).into_iter().flatten().copied();
            let named: Vec<TaskId> = named.filter(|&id| others.remove(id)).collect();
            if named.is_empty() {
                continue;
            }
            let (part, version) = (column(&row, "part")?, column(&row, "version")?);
            let cancels = column(&row, "cancels")?;
            leases.push(Lease { token, part, version, cancels, others, named });
        }
        leases.sort_by_key(|lease| (lease.token, lease.part));
        Ok(leases)
    }

    /// Waits for whoever holds leases locked, for a while, and renews them.
    async fn renew_locked<'l>(
        &self,
        leases: &[&'l Lease],
        now: Now,
        micros: i64,
    ) -> Result<Vec<&'l Lease>, StoreError> {
        // The sessions of an application may wait for locks without end.
        let database = self.database.in_transactions(LOCKED_TIME_MAX * 2, LOCKED_TIME_MAX);
        self.renew(&database, &self.sql.renew_locked, leases, now, micros).await
    }

    /// Renews leases; answers those that did not stand as they were read, or are locked.
    async fn renew<'l>(
        &self,
        database: &Database,
        statement: &Statement,
        leases: &[&'l Lease],
        now: Now,
        micros: i64,
    ) -> Result<Vec<&'l Lease>, StoreError> {
        if leases.is_empty() {
            return Ok(Vec::new());
        }
        let query = statement
            .with(leases.iter().map(|lease| lease.token).collect::<Vec<_>>())
            .with(leases.iter().map(|lease| lease.part).collect::<Vec<_>>())
            .with(leases.iter().map(|lease| lease.version).collect::<Vec<_>>())
            .with(given(now))
            .with(micros);
        let mut renewed = BTreeSet::<(i64, i64)>::new();
        for row in database.rows(|| query.query()).await? {
            renewed.insert((column(&row, "token")?, column(&row, "part")?));
        }
        let is_missed = |lease: &&&Lease| !renewed.contains(&(lease.token, lease.part));
        Ok(leases.iter().filter(is_missed).copied().collect())
    }

    /// Gives the named tasks of a lease a part of their own, and renews it.
    async fn split(&self, lease: &Lease, now: Now, micros: i64) -> Result<bool, StoreError> {
        let asked =
            if lease.cancels > 0 { self.asked_to_stop(&lease.named).await?.len() } else { 0 };
        let mut named = Runs::default();
        lease.named.iter().for_each(|&id| named.insert(id, 1));
        let (old, new) = (lease.others.columns(), named.columns());
        let query = self
            .sql
            .split
            .with(lease.token)
            .with(lease.part)
            .with(lease.version)
            .with(old.0)
            .with(old.1)
            .with(old.2)
            .with(new.0)
            .with(new.1)
            .with(new.2)
            .with(i32::try_from(asked).unwrap_or(i32::MAX))
            .with(given(now))
            .with(micros);
        let row = self.database.row(|| query.query()).await?;
        self.claims.forget(small::<u64, i64>(lease.token)?);
        Ok(column::<i64>(&row, "split")? == 1)
    }

    async fn reply(&self, beat: &Beat, leases: &[Lease]) -> Result<BeatReply, StoreError> {
        let mut live = HashMap::new();
        for lease in leases {
            live.extend(lease.named.iter().map(|&id| (id, lease.token)));
        }
        let is_live = |held: &Held| {
            live.get(&held.id).is_some_and(|&token| u64::try_from(token) == Ok(held.token.get()))
        };
        let lost = beat.held.iter().copied().filter(|held| !is_live(held)).collect();
        let asked = leases.iter().filter(|lease| lease.cancels > 0);
        let asked: Vec<TaskId> = asked.flat_map(|lease| lease.named.iter().copied()).collect();
        let stopping = self.asked_to_stop(&asked).await?;
        let is_stopping = |held: &Held| is_live(held) && stopping.contains(&held.id);
        let cancelled = beat.held.iter().copied().filter(is_stopping).collect();
        Ok(BeatReply { lost, cancelled })
    }

    /// Those of the tasks that were asked to stop.
    async fn asked_to_stop(&self, ids: &[TaskId]) -> Result<BTreeSet<TaskId>, StoreError> {
        if ids.is_empty() {
            return Ok(BTreeSet::new());
        }
        let (packs, offsets): (Vec<Uuid>, Vec<i16>) = ids.iter().copied().map(split).unzip();
        let query = self.sql.cancels.with(packs).with(offsets);
        let rows = self.database.rows(|| query.query()).await?;
        rows.iter().map(|row| task_id(column(row, "pack")?, column(row, "off")?)).collect()
    }
}
