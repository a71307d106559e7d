//! Runs of consecutive ids within one pack.

use std::collections::BTreeMap;

use ergon_core::{StoreError, TaskId};
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::value::{column, offset, small, task_id};

/// What is left of a run from `first` on of `n` offsets without those that were taken out.
pub(crate) fn pieces(first: i16, n: i16, taken: &[i16]) -> Vec<(i16, i16)> {
    let mut taken = taken.to_vec();
    taken.sort_unstable();
    let mut left = Vec::new();
    let mut begin = first;
    for &at in &taken {
        if at > begin {
            left.push((begin, at - begin));
        }
        begin = at + 1;
    }
    let end = first + n;
    if end > begin {
        left.push((begin, end - begin));
    }
    left
}

/// The tasks of a lease, as runs: the first id, and how many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Runs(BTreeMap<TaskId, u16>);

impl Runs {
    /// Reads the columns `packs`, `firsts` and `ns` of a lease.
    pub(crate) fn read(row: &PgRow) -> Result<Self, StoreError> {
        let packs: Vec<Uuid> = column(row, "packs")?;
        let (firsts, ns): (Vec<i16>, Vec<i16>) = (column(row, "firsts")?, column(row, "ns")?);
        let mut runs = Self::default();
        for ((pack, first), n) in packs.into_iter().zip(firsts).zip(ns) {
            runs.insert(task_id(pack, first)?, small(n)?);
        }
        Ok(runs)
    }

    /// Adds a run that touches no other.
    pub(crate) fn insert(&mut self, first: TaskId, n: u16) {
        self.0.insert(first, n);
    }

    /// Takes one task out; says whether it was in.
    pub(crate) fn remove(&mut self, id: TaskId) -> bool {
        let Some((&first, &n)) = self.0.range(..=id).next_back() else { return false };
        let before = id.offset().wrapping_sub(first.offset());
        if first.pack() != id.pack() || before >= n {
            return false;
        }
        if before == 0 {
            self.0.remove(&first);
        } else {
            self.0.insert(first, before);
        }
        let after = n - before - 1;
        if after > 0 {
            self.0.insert(id.with_offset(id.offset() + 1), after);
        }
        true
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every id, in order.
    pub(crate) fn ids(&self) -> impl Iterator<Item = TaskId> {
        self.0.iter().flat_map(|(first, &n)| {
            (first.offset()..first.offset() + n).map(|offset| first.with_offset(offset))
        })
    }

    /// The columns of a lease.
    pub(crate) fn columns(&self) -> (Vec<Uuid>, Vec<i16>, Vec<i16>) {
        let pack = |id: &TaskId| Uuid::from_u128(id.pack().as_u128());
        (
            self.0.keys().map(pack).collect(),
            self.0.keys().map(|id| offset(id.offset())).collect(),
            self.0.values().copied().map(offset).collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_falls_into_pieces_around_what_is_taken() {
        assert_eq!(pieces(5, 3, &[]), [(5, 3)]);
        assert_eq!(pieces(5, 3, &[5]), [(6, 2)]);
        assert_eq!(pieces(5, 3, &[6]), [(5, 1), (7, 1)]);
        assert_eq!(pieces(5, 3, &[7]), [(5, 2)]);
        assert_eq!(pieces(5, 3, &[7, 5]), [(6, 1)]);
        assert_eq!(pieces(5, 3, &[6, 5, 7]), []);
        assert_eq!(pieces(0, 4095, &[4094]), [(0, 4094)]);
    }

    #[test]
    fn tasks_are_taken_out_of_runs_one_by_one() {
        let pack = TaskId::from_parts(1, 2, 0);
        let other = TaskId::from_parts(1, 3, 0);
        let mut runs = Runs::default();
        runs.insert(pack.with_offset(2), 4);
        runs.insert(other, 1);
        assert!(!runs.remove(pack.with_offset(1)) && !runs.remove(pack.with_offset(6)));
        assert!(!runs.remove(other.with_offset(2)));
        assert!(runs.remove(pack.with_offset(3)) && !runs.remove(pack.with_offset(3)));
        let left = [pack.with_offset(2), pack.with_offset(4), pack.with_offset(5), other];
        assert_eq!(runs.ids().collect::<Vec<_>>(), left);
        assert_eq!(runs.columns().1, [2, 4, 0]);
        for id in left {
            assert!(!runs.is_empty() && runs.remove(id));
        }
        assert!(runs.is_empty());
    }
}
