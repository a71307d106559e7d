//! Identifiers: tasks, servers, fencing tokens.

use std::{
    fmt,
    str::FromStr,
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;
use uuid::Uuid;

use crate::{error::InvalidId, rng::Rng};

/// How many tasks one pack can hold: one fewer than there are offsets, so that its length fits the
/// bits of an offset too.
pub const PACK_LEN_MAX: usize = 4095;

const OFFSET_BITS: u32 = 12;
const OFFSET_MASK: u128 = (1 << OFFSET_BITS) - 1;
const VERSION_7: u128 = 0x7 << 76;
const VARIANT: u128 = 0b10 << 62;
const RANDOM_BITS: u32 = 62;

/// The id of a task: a UUID of version 7, chosen by whoever enqueues.
///
/// Ids are ordered by the time of their making, unique without coordination, and let an enqueue be
/// repeated safely: the same id is never a second task. The low 12 bits are an offset: 0 for a task
/// enqueued alone, 0..n for the tasks of one *pack*, which share all other bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(u128);

impl TaskId {
    /// Smaller than every other id.
    pub const MIN: Self = Self(VERSION_7 | VARIANT);
    /// Larger than every other id.
    pub const MAX: Self = Self(!(0xf << 76) & !(0b11 << 62) | VERSION_7 | VARIANT);

    /// Makes an id of the milliseconds since 1970, 62 further bits, and an offset within a pack.
    ///
    /// Bits that do not fit their field are dropped.
    #[must_use]
    pub const fn from_parts(unix_millis: u64, random: u64, offset: u16) -> Self {
        let random = random as u128;
        let high = (random >> 50) & 0xfff;
        let low = random & ((1 << 50) - 1);
        Self(
            ((unix_millis as u128 & 0xffff_ffff_ffff) << 80)
                | VERSION_7
                | (high << 64)
                | VARIANT
                | (low << OFFSET_BITS)
                | (offset as u128 & OFFSET_MASK),
        )
    }

    /// Takes the number behind a UUID.
    ///
    /// # Errors
    ///
    /// [`InvalidId`] unless it is a UUID of version 7.
    pub fn from_u128(value: u128) -> Result<Self, InvalidId> {
        if value & (0xf << 76) == VERSION_7 && value & (0b11 << 62) == VARIANT {
            Ok(Self(value))
        } else {
            Err(InvalidId)
        }
    }

    /// The number behind the UUID; its big-endian bytes sort as the ids do.
    #[must_use]
    pub const fn as_u128(self) -> u128 {
        self.0
    }

    /// The id with another offset within the same pack.
    #[must_use]
    pub const fn with_offset(self, offset: u16) -> Self {
        Self(self.0 & !OFFSET_MASK | (offset as u128 & OFFSET_MASK))
    }

    /// The first id of the pack that this task belongs to.
    #[must_use]
    pub const fn pack(self) -> Self {
        self.with_offset(0)
    }

    /// The offset within the pack.
    #[must_use]
    pub const fn offset(self) -> u16 {
        (self.0 & OFFSET_MASK) as u16
    }

    /// When the id was made, by the clock of whoever made it.
    #[must_use]
    pub fn made_at(self) -> Timestamp {
        let millis = i64::try_from(self.0 >> 80).unwrap_or(i64::MAX);
        Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX)
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Uuid::from_u128(self.0), f)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TaskId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let uuid = Uuid::try_parse(text).map_err(|_error| InvalidId)?;
        Self::from_u128(uuid.as_u128())
    }
}

/// The id of one run of a server, made anew at every start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(u128);

impl ServerId {
    /// Takes the number behind a UUID.
    #[must_use]
    pub const fn from_u128(value: u128) -> Self {
        Self(value)
    }

    /// The number behind the UUID.
    #[must_use]
    pub const fn as_u128(self) -> u128 {
        self.0
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Uuid::from_u128(self.0), f)
    }
}

impl fmt::Debug for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The fencing token of a claim: strictly larger at every claim of the same task, for the whole
/// life of the task, and never reset.
///
/// Every write that a worker makes names it; the store answers a write with an older one as
/// [stale](crate::Verdict::Stale) and changes nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Token(u64);

impl Token {
    /// The token of a task that was never claimed.
    pub const NONE: Self = Self(0);

    /// Takes a number.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Makes ids; injected so that tests can foresee them.
pub trait IdSource: fmt::Debug + Send + Sync {
    /// Makes an id with offset 0, larger than every id that this source made before.
    fn next_id(&self, now: Timestamp) -> TaskId;

    /// Makes the id of a server.
    fn next_server(&self, now: Timestamp) -> ServerId {
        ServerId(self.next_id(now).as_u128())
    }
}

/// Makes random, strictly increasing ids.
#[derive(Debug)]
pub struct SystemIds<R> {
    rng: R,
    /// Milliseconds and random bits of the newest id.
    newest: Mutex<(u64, u64)>,
}

impl<R: Rng> SystemIds<R> {
    /// Makes a source that draws from `rng`.
    pub const fn new(rng: R) -> Self {
        Self { rng, newest: Mutex::new((0, 0)) }
    }
}

impl<R: Rng> IdSource for SystemIds<R> {
    fn next_id(&self, now: Timestamp) -> TaskId {
        let drawn = self.rng.next_u64();
        let now_millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if now_millis > newest.0 {
            // The top bit stays free, so that steps within the millisecond have room.
            *newest = (now_millis, drawn >> (64 - RANDOM_BITS + 1));
        } else {
            // The same millisecond, or a clock that stepped back: a random step keeps ids of other
            // sources in the same millisecond apart.
            let stepped = newest.1 + 1 + (drawn >> 24);
            *newest = if stepped >> RANDOM_BITS == 0 {
                (newest.0, stepped)
            } else {
                (newest.0 + 1, drawn >> (64 - RANDOM_BITS + 1))
            };
        }
        TaskId::from_parts(newest.0, newest.1, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SystemRng;

    #[test]
    fn ids_are_uuids_of_version_7_and_survive_their_text() {
        let ids = SystemIds::new(SystemRng);
        let now = Timestamp::from_millisecond(1_700_000_000_123).unwrap();
        let id = ids.next_id(now);
        assert_eq!(Uuid::from_u128(id.as_u128()).get_version_num(), 7);
        assert_eq!(id.to_string().parse::<TaskId>(), Ok(id));
        assert_eq!(id.made_at(), now);
        assert_eq!(id.offset(), 0);
    }

    #[test]
    fn ids_increase_within_a_millisecond_and_when_the_clock_steps_back() {
        let ids = SystemIds::new(SystemRng);
        let mut previous = TaskId::MIN;
        for step in 0..10_000_i64 {
            let millis = 1_700_000_000_000 + if step % 3 == 0 { 0 } else { -step };
            let id = ids.next_id(Timestamp::from_millisecond(millis).unwrap());
            assert!(id > previous);
            previous = id;
        }
        assert!(previous < TaskId::MAX);
    }

    #[test]
    fn the_tasks_of_a_pack_differ_only_in_their_offset() {
        let id = TaskId::from_parts(1, u64::MAX, 0);
        let last = id.with_offset(4095);
        assert_eq!(last.offset(), 4095);
        assert_eq!(last.pack(), id);
        assert!(last > id);
        assert_eq!(TaskId::from_u128(last.as_u128()), Ok(last));
    }

    #[test]
    fn other_uuids_are_refused() {
        for bad in ["", "x", "936da01f-9abd-4d9d-80c7-02af85c822a8"] {
            assert_eq!(bad.parse::<TaskId>(), Err(InvalidId), "{bad:?}");
        }
        assert_eq!(TaskId::from_u128(TaskId::MIN.as_u128()), Ok(TaskId::MIN));
        assert_eq!(TaskId::from_u128(TaskId::MAX.as_u128()), Ok(TaskId::MAX));
    }
}
