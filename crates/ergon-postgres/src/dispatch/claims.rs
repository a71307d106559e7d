//! The claims that this process made, so that most outcomes are written without a read.
//!
//! What stands here is a hint: the database decides by the version of each lease, and whatever does not
//! stand there as it is noted here goes the careful way.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use ergon_core::TaskId;
use uuid::Uuid;

use crate::{
    sql::{Bound, Statements},
    value::{Instant, offset, split},
};

/// A run of claimed tasks that are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) n: u16,
    pub(super) lane: i32,
    pub(super) queue: i32,
    pub(super) kind: i32,
    /// How long its tasks are kept once completed, in microseconds.
    pub(super) retention: i64,
    /// Whether a row of `settled` will say everything about a task of it that completes: it is at its
    /// first attempt, was never touched, and holds no unique key.
    pub(super) is_plain: bool,
}

/// One lease, as it stands in the database unless somebody else changed it.
#[derive(Clone, Debug, Default)]
pub(super) struct Claim {
    version: i32,
    runs: BTreeMap<TaskId, Run>,
}

/// How many claims are noted at the most, the oldest are forgotten first. Chosen without measurement.
const CLAIMS_MAX: usize = 10_000;

/// The claims under way.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    claims: Mutex<BTreeMap<u64, Claim>>,
}

impl Claims {
    fn with<R>(&self, change: impl FnOnce(&mut BTreeMap<u64, Claim>) -> R) -> R {
        // A note that a panicking thread left behind is at worst out of date.
        change(&mut self.claims.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn note(&self, token: u64, runs: BTreeMap<TaskId, Run>) {
        self.with(|claims| {
            claims.insert(token, Claim { version: 0, runs });
            // Nobody says that a claim was given up by a server, or its answer dropped.
            if claims.len() > CLAIMS_MAX {
                claims.pop_first();
            }
        });
    }

    /// Forgets a claim that somebody changed.
    pub(crate) fn forget(&self, token: u64) {
        self.with(|claims| claims.remove(&token));
    }

    /// Notes that a task was given a lease of its own, in the database.
    pub(crate) fn set_apart(&self, token: u64, id: TaskId) {
        self.with(|claims| {
            if let Some(claim) = claims.get_mut(&token) {
                claim.version += 1;
                claim.cut(id);
            }
        });
    }

    /// Notes that a task is in a claim no more, as the database says.
    pub(super) fn leave(&self, token: u64, id: TaskId) {
        self.with(|claims| {
            if let Some(claim) = claims.get_mut(&token) {
                claim.cut(id);
                if claim.runs.is_empty() {
                    claims.remove(&token);
                }
            }
        });
    }

    /// Takes a claim out, to settle tasks of it: whoever fails to put it back loses the note only.
    pub(super) fn take(&self, token: u64) -> Option<Claim> {
        self.with(|claims| claims.remove(&token))
    }

    pub(super) fn put_back(&self, token: u64, claim: Claim) {
        self.with(|claims| claims.insert(token, claim));
    }
}

impl Claim {
    /// The run that a task belongs to.
    fn run(&self, id: TaskId) -> Option<(TaskId, Run)> {
        let (&first, &run) = self.runs.range(..=id).next_back()?;
        let before = id.offset().wrapping_sub(first.offset());
        (first.pack() == id.pack() && before < run.n).then_some((first, run))
    }

    /// Takes a plain task out; `None` when it is not plain, or not in.
    fn remove(&mut self, id: TaskId) -> Option<Run> {
        self.run(id).filter(|(_, run)| run.is_plain)?;
        self.cut(id)
    }

    /// Takes any task out; `None` when it is not in.
    fn cut(&mut self, id: TaskId) -> Option<Run> {
        let (first, run) = self.run(id)?;
        let before = id.offset() - first.offset();
        if before == 0 {
            self.runs.remove(&first);
        } else {
            self.runs.insert(first, Run { n: before, ..run });
        }
        let after = run.n - before - 1;
        if after > 0 {
            self.runs.insert(id.with_offset(id.offset() + 1), Run { n: after, ..run });
        }
        Some(run)
    }
}

/// A run of completed tasks.
#[derive(Debug)]
struct Done {
    token: i64,
    pack: Uuid,
    first: i16,
    n: i16,
    run: Run,
    results: Option<Vec<u8>>,
    /// Where the ends of its results begin among all of them.
    ends_at: Option<i32>,
}

/// Outcomes that are written without a read.
#[derive(Debug, Default)]
pub(super) struct Settling {
    claims: BTreeMap<u64, Claim>,
    done: Vec<Done>,
    ends: Vec<i32>,
}

/// Most bytes of results in one row: larger runs are several rows.
const RESULTS_BYTES_MAX: usize = 1 << 20;

impl Settling {
    /// Adds a completed task; `false` when it has to go the careful way. Tasks come by token and id.
    pub(super) fn add(
        &mut self,
        claims: &Claims,
        token: u64,
        id: TaskId,
        result: Option<&Bytes>,
    ) -> bool {
        let Ok(number) = i64::try_from(token) else { return false };
        let claim = match self.claims.entry(token) {
            Entry::Occupied(taken) => taken.into_mut(),
            Entry::Vacant(vacant) => match claims.take(token) {
                Some(claim) => vacant.insert(claim),
                None => return false,
            },
        };
        let Some(run) = claim.remove(id) else { return false };
        let (pack, off) = split(id);
        let grows = self.done.last_mut().filter(|done| {
            done.token == number
                && done.pack == pack
                && done.first + done.n == off
                && (done.run.lane, done.run.queue, done.run.kind, done.run.retention)
                    == (run.lane, run.queue, run.kind, run.retention)
                && done.results.is_some() == result.is_some()
                && done.results.as_ref().map_or(0, Vec::len) + result.map_or(0, Bytes::len)
                    <= RESULTS_BYTES_MAX
        });
        let ends_at = i32::try_from(self.ends.len()).ok();
        let done = match grows {
            Some(done) => {
                done.n += 1;
                done
            }
            None => {
                let results = result.map(|_| Vec::new());
                let ends_at = ends_at.filter(|_| result.is_some());
                self.done.push(Done {
                    token: number,
                    pack,
                    first: off,
                    n: 1,
                    run,
                    results,
                    ends_at,
                });
                let Some(done) = self.done.last_mut() else { return false };
                done
            }
        };
        if let (Some(results), Some(result)) = (&mut done.results, result) {
            results.extend_from_slice(result);
            self.ends.push(i32::try_from(results.len()).unwrap_or(i32::MAX));
        }
        true
    }

    pub(super) fn is_empty(&self) -> bool {
        self.done.is_empty()
    }

    /// The statement that records them.
    pub(super) fn bind(&self, sql: &Statements, now: Option<Instant>) -> Bound {
        let number = |token: &u64| i64::try_from(*token).unwrap_or_default();
        let (mut ended, mut cut) = (Vec::new(), Vec::new());
        let (mut packs, mut firsts, mut ns) = (Vec::new(), Vec::new(), Vec::new());
        for (token, claim) in &self.claims {
            if claim.runs.is_empty() {
                ended.push((number(token), claim.version));
                continue;
            }
            let at = i32::try_from(packs.len()).unwrap_or(i32::MAX);
            let len = i32::try_from(claim.runs.len()).unwrap_or(i32::MAX);
            cut.push((number(token), claim.version, at, len));
            for (id, run) in &claim.runs {
                let (pack, first) = split(*id);
                packs.push(pack);
                firsts.push(first);
                ns.push(offset(run.n));
            }
        }
        let (done, column) = (&self.done, <[Done]>::iter);
        sql.settle
            .with(now)
            .with(ended.iter().map(|row| row.0).collect::<Vec<_>>())
            .with(ended.iter().map(|row| row.1).collect::<Vec<_>>())
            .with(cut.iter().map(|row| row.0).collect::<Vec<_>>())
            .with(cut.iter().map(|row| row.1).collect::<Vec<_>>())
            .with(cut.iter().map(|row| row.2).collect::<Vec<_>>())
            .with(cut.iter().map(|row| row.3).collect::<Vec<_>>())
            .with(packs)
            .with(firsts)
            .with(ns)
            .with(column(done).map(|done| done.token).collect::<Vec<_>>())
            .with(column(done).map(|done| done.pack).collect::<Vec<_>>())
            .with(column(done).map(|done| done.first).collect::<Vec<_>>())
            .with(column(done).map(|done| done.n).collect::<Vec<_>>())
            .with(column(done).map(|done| done.run.lane).collect::<Vec<_>>())
            .with(column(done).map(|done| done.run.queue).collect::<Vec<_>>())
            .with(column(done).map(|done| done.run.retention).collect::<Vec<_>>())
            .with(column(done).map(|done| done.results.as_deref()).collect::<Vec<_>>())
            .with(column(done).map(|done| done.ends_at).collect::<Vec<_>>())
            .with(&self.ends)
            .with(column(done).map(|done| done.run.kind).collect::<Vec<_>>())
    }

    /// Notes the claims as they were: nothing of them was settled.
    pub(super) fn end_unchanged(self, claims: &Claims) {
        for (token, claim) in self.claims {
            claims.put_back(token, claim);
        }
    }

    /// Notes what is left of the claims that stood.
    pub(super) fn end(self, claims: &Claims, held: &[u64]) {
        for (token, mut claim) in self.claims {
            if held.contains(&token) && !claim.runs.is_empty() {
                claim.version += 1;
                claims.put_back(token, claim);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: Run = Run { n: 4, lane: 1, queue: 1, kind: 1, retention: 0, is_plain: true };

    fn id(offset: u16) -> TaskId {
        TaskId::from_parts(1, 2, offset)
    }

    fn claims() -> Claims {
        let claims = Claims::default();
        let careful = Run { n: 1, is_plain: false, ..RUN };
        claims.note(7, BTreeMap::from([(id(0), RUN), (id(4), careful)]));
        claims
    }

    #[test]
    fn neighbours_that_end_together_are_one_row() {
        let claims = claims();
        let mut settling = Settling::default();
        for offset in [0, 1, 3] {
            assert!(settling.add(&claims, 7, id(offset), None));
        }
        let rows: Vec<_> = settling.done.iter().map(|done| (done.first, done.n)).collect();
        assert_eq!(rows, [(0, 2), (3, 1)]);
        settling.end(&claims, &[7]);
        let left = claims.take(7).unwrap();
        assert_eq!((left.version, left.runs.len()), (1, 2));
    }

    #[test]
    fn what_is_not_plain_or_not_held_goes_the_careful_way() {
        let claims = claims();
        let mut settling = Settling::default();
        assert!(!settling.add(&claims, 7, id(4), None));
        assert!(!settling.add(&claims, 7, id(5), None));
        assert!(!settling.add(&claims, 8, id(0), None));
        assert!(settling.add(&claims, 7, id(0), None));
        assert!(!settling.add(&claims, 7, id(0), None), "twice in one batch");
    }

    #[test]
    fn results_are_laid_end_to_end() {
        let claims = claims();
        let mut settling = Settling::default();
        let one = Bytes::from_static(b"one");
        assert!(settling.add(&claims, 7, id(0), Some(&one)));
        assert!(settling.add(&claims, 7, id(1), Some(&one)));
        assert!(settling.add(&claims, 7, id(2), None));
        assert_eq!((settling.done.len(), &settling.ends[..]), (2, &[3, 6][..]));
        assert_eq!(settling.done[0].results.as_deref(), Some(&b"oneone"[..]));
    }
}
