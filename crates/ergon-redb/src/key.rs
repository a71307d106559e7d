//! Keys: fixed big-endian bytes, so that their order is the order of the things they stand for.

use ergon_core::{TaskId, time::to_micros};
use jiff::Timestamp;

/// The number of a name; see [`crate::names`].
pub(crate) type NameId = u32;

/// One line of waiting tasks: a queue, a priority, a kind.
///
/// Lanes sort by queue, then from the highest priority to the lowest, then by kind: the order in
/// which a claim looks at them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Lane {
    pub(crate) queue: NameId,
    inverse_priority: u16,
    pub(crate) kind: NameId,
}

impl Lane {
    pub(crate) fn new(queue: NameId, priority: i16, kind: NameId) -> Self {
        let inverse_priority = (i32::from(i16::MAX) - i32::from(priority)).unsigned_abs();
        let inverse_priority = u16::try_from(inverse_priority).unwrap_or(u16::MAX);
        Self { queue, inverse_priority, kind }
    }

    /// The first lane of a queue.
    pub(crate) const fn first_of(queue: NameId) -> Self {
        Self { queue, inverse_priority: 0, kind: 0 }
    }

    /// The last lane of a queue.
    pub(crate) const fn last_of(queue: NameId) -> Self {
        Self { queue, inverse_priority: u16::MAX, kind: NameId::MAX }
    }

    /// Says whether two lanes hold tasks of the same queue and priority.
    pub(crate) fn is_level_with(self, other: Self) -> bool {
        (self.queue, self.inverse_priority) == (other.queue, other.inverse_priority)
    }
}

/// Where a task stands within its lane: by due time in microseconds, then by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    pub(crate) run_at: i64,
    pub(crate) id: u128,
}

impl Place {
    pub(crate) const MIN: Self = Self { run_at: i64::MIN, id: 0 };
    pub(crate) const MAX: Self = Self { run_at: i64::MAX, id: u128::MAX };

    pub(crate) fn new(run_at: Timestamp, id: TaskId) -> Self {
        Self { run_at: to_micros(run_at), id: id.as_u128() }
    }
}

/// The key of the last task that there can be; the rows of queues come behind it.
pub(crate) const LAST_TASK: [u8; 16] = TaskId::MAX.as_u128().to_be_bytes();

/// The key of the row of a queue, in the table of bodies.
///
/// It stands behind every task, where new tasks are added: counting a new task changes a page that
/// has to be written anyway.
pub(crate) fn queue_key(number: NameId) -> [u8; 16] {
    let mut key = [u8::MAX; 16];
    key[12..].copy_from_slice(&number.to_be_bytes());
    key
}

/// Reads the key of the row of a queue.
pub(crate) fn parse_queue_key(key: &[u8; 16]) -> NameId {
    u32::from_be_bytes(part(key, 12))
}

pub(crate) const READY_KEY_LEN: usize = 34;

/// The key of a row in the ready index.
pub(crate) fn ready_key(lane: Lane, place: Place) -> [u8; READY_KEY_LEN] {
    let mut key = [0; READY_KEY_LEN];
    key[..4].copy_from_slice(&lane.queue.to_be_bytes());
    key[4..6].copy_from_slice(&lane.inverse_priority.to_be_bytes());
    key[6..10].copy_from_slice(&lane.kind.to_be_bytes());
    key[10..18].copy_from_slice(&instant_key(place.run_at));
    key[18..].copy_from_slice(&place.id.to_be_bytes());
    key
}

/// Reads the key of a row in the ready index.
pub(crate) fn parse_ready_key(key: &[u8; READY_KEY_LEN]) -> (Lane, Place) {
    let lane = Lane {
        queue: u32::from_be_bytes(part(key, 0)),
        inverse_priority: u16::from_be_bytes(part(key, 4)),
        kind: u32::from_be_bytes(part(key, 6)),
    };
    let place =
        Place { run_at: parse_instant_key(part(key, 10)), id: u128::from_be_bytes(part(key, 18)) };
    (lane, place)
}

/// An instant in microseconds, so that earlier ones sort first.
pub(crate) const fn instant_key(micros: i64) -> [u8; 8] {
    (micros.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

pub(crate) const fn parse_instant_key(key: [u8; 8]) -> i64 {
    (u64::from_be_bytes(key) ^ (1 << 63)).cast_signed()
}

/// The `N` bytes at `at`; zeros where the key ends before.
pub(crate) fn part<const N: usize>(key: &[u8], at: usize) -> [u8; N] {
    key.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_come_behind_every_task() {
        for number in [0, 7, u32::MAX] {
            assert_eq!(parse_queue_key(&queue_key(number)), number);
            assert!(queue_key(number) > LAST_TASK);
        }
    }

    #[test]
    fn ready_keys_round_trip_and_sort_like_claims() {
        let mut keys = Vec::new();
        for queue in [0, 1, u32::MAX] {
            for priority in [i16::MAX, 1, 0, -1, i16::MIN] {
                for kind in [0, 7] {
                    for run_at in [i64::MIN, -1, 0, 1, i64::MAX] {
                        for id in [0, 1, u128::MAX] {
                            let (lane, place) =
                                (Lane::new(queue, priority, kind), Place { run_at, id });
                            let key = ready_key(lane, place);
                            assert_eq!(parse_ready_key(&key), (lane, place));
                            keys.push(key);
                        }
                    }
                }
            }
        }
        assert!(keys.is_sorted_by(|one, next| one < next));
    }
}
