//! Lower bounds of `run_at`: below the bound of a lane no row waits that is not late.
//!
//! Claimed rows stay in the index until vacuum removes them, and vacuum cannot while anybody holds an
//! old snapshot. Without a bound every claim would walk over all of them.
//!
//! A bound is the smaller of two instants: the earliest row that is visible, and an instant before
//! which no transaction began that is still to appear. A row that is not late is due at the clock's
//! instant at the earliest, read after its transaction got its number. So when a look is taken at
//! instant *t* and the next transaction would get number *n*, every row of a transaction from *n* on is
//! due at *t* or later; and once all transactions below *n* are over, *t* is such an instant.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ergon_core::{StoreError, time::to_micros};
use jiff::Timestamp;
use sqlx::postgres::PgRow;
use tokio::time::Instant as Moment;

use crate::{
    shared::Shared,
    value::{Instant, column, instant},
};

/// A look is taken after so many claimed rows, and after so long while rows are claimed; but not
/// before the pause is over. Chosen without measurement.
const ROWS: usize = 5_000;
const INTERVAL: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(50);

/// For how long a bound is used. It holds for ever, unless the clock of the server is set back, which the
/// next look finds out: so it is not used when none was taken for this time.
const TRUSTED: Duration = Duration::from_secs(10);

/// How far the clocks of server and process may drift apart between two looks before the server's is held
/// to be set back. Below the shortest time between two looks, which is how far bounds lag behind.
const DRIFT_MAX: Duration = Duration::from_millis(20);

/// Looks that are remembered, in the hope that the transactions before them end.
const LOOKS_MAX: usize = 256;

/// The bounds that this process knows.
#[derive(Debug, Default)]
pub(crate) struct Bounds {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    bounds: BTreeMap<i32, Timestamp>,
    /// Lanes of which tasks were claimed.
    lanes: BTreeSet<i32>,
    /// Instants of looks, with the number that the next transaction would have got.
    looks: VecDeque<(Timestamp, i64)>,
    looked_at: Option<Moment>,
    /// What the clock of the server showed at the last look, and when that was over at the latest.
    clock: Option<(Timestamp, Moment)>,
    rows: usize,
    is_looking: bool,
}

impl Bounds {
    fn with<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        // Every change is whole before anything can panic.
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The lanes and their bounds, as columns; none when they are old.
    pub(crate) fn columns(&self) -> (Vec<i32>, Vec<Instant>) {
        self.with(|state| {
            if state.looked_at.is_none_or(|at| at.elapsed() > TRUSTED) {
                return (Vec::new(), Vec::new());
            }
            state.bounds.iter().map(|(&lane, &bound)| (lane, Instant(bound))).unzip()
        })
    }

    /// Notes lanes that are read.
    pub(crate) fn know(&self, lanes: Vec<i32>) {
        self.with(|state| state.lanes.extend(lanes));
    }

    /// Says whether the last look is so old that another one is due before lanes are read.
    fn is_old(&self) -> bool {
        self.with(|state| {
            let is_old = state.looked_at.is_none_or(|at| at.elapsed() > TRUSTED / 2);
            is_old && !state.is_looking && !state.lanes.is_empty()
        })
    }

    /// Notes claimed rows; says whether it is time to look.
    fn claimed(&self, lanes: &BTreeSet<i32>, rows: usize) -> bool {
        self.with(|state| {
            state.lanes.extend(lanes);
            state.rows += rows;
            let since = state.looked_at.map_or(Duration::MAX, |at| at.elapsed());
            let is_time =
                !state.is_looking && (since >= INTERVAL || (state.rows >= ROWS && since >= PAUSE));
            state.is_looking |= is_time;
            is_time
        })
    }
}

impl State {
    /// Compares the clock of the server, which showed `at` between two moments, with that of this process:
    /// when it was set back, nothing that was learnt holds, also if it shows more than at the last look.
    fn check_clock(&mut self, at: Timestamp, asked: Moment, answered: Moment) {
        if let Some((last, moment)) = self.clock.replace((at, answered)) {
            let moved = to_micros(at).saturating_sub(to_micros(last));
            let moved = Duration::from_micros(u64::try_from(moved).unwrap_or(0));
            if moved + DRIFT_MAX < asked.saturating_duration_since(moment) {
                self.looks.clear();
                self.bounds.clear();
            }
        }
    }

    /// Learns from a look at `at`, when `oldest` was the oldest transaction under way and `next` the
    /// number of the next; `first` are the earliest rows of the lanes.
    fn learn(&mut self, at: Timestamp, oldest: i64, next: i64, first: &[(i32, Option<Timestamp>)]) {
        if self.looks.back().is_some_and(|&(before, _)| to_micros(before) > to_micros(at)) {
            // The clock was set back: nothing that was learnt holds.
            self.looks.clear();
            self.bounds.clear();
        }
        let floor = self.looks.iter().rev().find(|(_, next)| *next <= oldest).map(|&(at, _)| at);
        if let Some(floor) = floor {
            self.looks.retain(|&(at, _)| at >= floor);
            for &(lane, earliest) in first {
                self.bounds.insert(lane, earliest.map_or(floor, |at| std::cmp::min(at, floor)));
            }
        }
        if self.looks.len() >= LOOKS_MAX {
            // Long transactions: every other instant will do.
            let mut keep = false;
            self.looks.retain(|_| {
                keep = !keep;
                keep
            });
        }
        self.looks.push_back((at, next));
    }
}

impl Shared {
    /// Notes claimed rows, and looks for better bounds when it is time, beside the claims.
    pub(crate) fn note_rows(self: &Arc<Self>, lanes: &BTreeSet<i32>, rows: usize) {
        if rows > 0 && self.bounds.claimed(lanes, rows) {
            let shared = Arc::clone(self);
            self.tasks.spawn(async move {
                if let Err(error) = shared.look().await {
                    tracing::debug!(%error, "no better bounds for claims");
                }
                shared.bounds.with(|state| {
                    state.is_looking = false;
                    state.rows = 0;
                });
            });
        }
    }

    /// Looks for better bounds when there was no look for some time, since nothing is claimed here. Without
    /// any, reads walk over what was claimed.
    pub(crate) async fn freshen_bounds(&self) {
        if self.bounds.is_old()
            && let Err(error) = self.look().await
        {
            tracing::debug!(%error, "no better bounds for reads");
        }
    }

    async fn look(&self) -> Result<(), StoreError> {
        let (lanes, bounds): (Vec<i32>, Vec<Instant>) = self.bounds.with(|state| {
            let bound = |lane: &i32| state.bounds.get(lane).copied().unwrap_or(Timestamp::MIN);
            state.lanes.iter().map(|lane| (*lane, Instant(bound(lane)))).unzip()
        });
        let query = self.sql.bound.with(lanes).with(bounds);
        let asked = Moment::now();
        let rows = self.database.rows(|| query.query()).await?;
        let answered = Moment::now();
        let Some(row) = rows.first() else { return Ok(()) };
        let at = column::<Instant>(row, "at")?.0;
        let (oldest, next) = (column(row, "oldest")?, column(row, "next")?);
        let first = |row: &PgRow| Ok((column(row, "lane")?, instant(row, "run_at")?));
        let first = rows.iter().map(first).collect::<Result<Vec<_>, StoreError>>()?;
        self.bounds.with(|state| {
            state.check_clock(at, asked, answered);
            state.learn(at, oldest, next, &first);
            state.looked_at = Some(Moment::now());
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// The bound of lane 1 after looks, each with the oldest and next transaction and its first row.
    fn bound(looks: &[(i64, i64, i64, Option<i64>)]) -> Option<i64> {
        let mut state = State::default();
        for &(second, oldest, next, first) in looks {
            state.learn(at(second), oldest, next, &[(1, first.map(at))]);
        }
        state.bounds.get(&1).map(|bound| bound.as_second())
    }

    #[test]
    fn a_bound_waits_for_the_transactions_before_a_look() {
        assert_eq!(bound(&[(10, 5, 7, None)]), None, "one look proves nothing");
        assert_eq!(bound(&[(10, 5, 7, None), (11, 5, 8, None)]), None, "transaction 5 goes on");
        assert_eq!(bound(&[(10, 5, 7, None), (11, 7, 8, None)]), Some(10));
        assert_eq!(bound(&[(10, 5, 7, None), (11, 5, 8, None), (12, 8, 9, None)]), Some(11));
    }

    #[test]
    fn a_row_that_waits_holds_the_bound() {
        assert_eq!(bound(&[(10, 5, 5, None), (11, 6, 6, Some(3))]), Some(3));
        assert_eq!(bound(&[(10, 5, 5, None), (11, 6, 6, Some(99))]), Some(10));
    }

    #[test]
    fn a_clock_that_is_set_back_takes_every_bound_back() {
        assert_eq!(bound(&[(10, 5, 5, None), (11, 6, 6, None), (9, 7, 7, None)]), None);
    }

    #[test]
    fn a_clock_that_is_set_back_by_less_than_passed_since_takes_every_bound_back() {
        let has_bound = |micros: i64| {
            let (mut state, begin) = (State::default(), Moment::now());
            state.bounds.insert(1, at(5));
            state.check_clock(at(10), begin, begin);
            let later = begin + Duration::from_secs(1);
            let shown = ergon_core::time::from_micros(micros);
            state.check_clock(shown, later, later + Duration::from_millis(3));
            state.bounds.contains_key(&1)
        };
        assert!(has_bound(11_000_000) && has_bound(10_990_000) && has_bound(60_000_000));
        assert!(!has_bound(10_900_000) && !has_bound(10_000_000) && !has_bound(3_000_000));
    }

    #[test]
    fn remembered_looks_are_few_however_long_a_transaction_takes() {
        let mut state = State::default();
        for second in 0..10_000 {
            state.learn(at(second), 1, second + 2, &[(1, None)]);
        }
        assert!(state.looks.len() <= LOOKS_MAX && state.bounds.is_empty());
        state.learn(at(10_000), 20_000, 20_000, &[(1, None)]);
        assert!(state.bounds.contains_key(&1));
    }
}
