//! Identifiers: tasks, servers, fencing tokens.

use std::{
    fmt,
    str::FromStr,
    sync::{Mutex, MutexGuard, PoisonError},
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
/// repeated safely: the same id is never a second task. The low 12 bits are an offset within a
/// *pack*, whose ids share all other bits: 0..n for the tasks of one batch, and one after another for
/// tasks that the same source names singly within a millisecond. So runs of tasks that were made
/// together are short ranges of ids, whichever way they were enqueued.
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

impl FromStr for ServerId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let uuid = Uuid::try_parse(text).map_err(|_error| InvalidId)?;
        Ok(Self(uuid.as_u128()))
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
    /// Makes an id that is larger than every id that this source made before.
    ///
    /// It may share its [pack](TaskId::pack) with other ids of this method, and with none of
    /// [`next_pack`](Self::next_pack).
    fn next_id(&self, now: Timestamp) -> TaskId;

    /// Makes the first id of a pack: larger than every id that this source made before, with offset
    /// 0, and so that no other id that this source made or will make shares its other bits. The
    /// offsets above 0 are the caller's.
    fn next_pack(&self, now: Timestamp) -> TaskId;

    /// Makes the id of a server, which is like that of no task.
    fn next_server(&self, now: Timestamp) -> ServerId {
        ServerId(self.next_pack(now).as_u128())
    }
}

/// Makes random, strictly increasing ids.
///
/// A millisecond begins with random bits of its own, by which it differs from that of any other
/// source. Within it, and after a clock stepped back, ids count offsets up from 0; after
/// [`PACK_LEN_MAX`] of them, or after a whole pack was taken, the bits step up by a random amount and
/// the offsets begin again.
#[derive(Debug)]
pub struct SystemIds<R> {
    rng: R,
    newest: Mutex<Newest>,
}

/// The newest pack, and how much of it is used.
#[derive(Debug)]
struct Newest {
    millis: u64,
    random: u64,
    /// The offset of the next single id; [`PACK_LEN_MAX`] when the pack is used up.
    offset: usize,
}

impl<R: Rng> SystemIds<R> {
    /// Makes a source that draws from `rng`.
    pub const fn new(rng: R) -> Self {
        let newest = Newest { millis: 0, random: 0, offset: PACK_LEN_MAX };
        Self { rng, newest: Mutex::new(newest) }
    }

    fn lock(&self) -> MutexGuard<'_, Newest> {
        // No change can panic half way, so what a panicking thread left behind is whole.
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R: Rng> IdSource for SystemIds<R> {
    fn next_id(&self, now: Timestamp) -> TaskId {
        let millis = unix_millis(now);
        let mut newest = self.lock();
        if millis > newest.millis || newest.offset >= PACK_LEN_MAX {
            newest.begin_pack(millis, self.rng.next_u64());
        }
        let offset = u16::try_from(newest.offset).unwrap_or_default();
        newest.offset += 1;
        TaskId::from_parts(newest.millis, newest.random, offset)
    }

    fn next_pack(&self, now: Timestamp) -> TaskId {
        let mut newest = self.lock();
        newest.begin_pack(unix_millis(now), self.rng.next_u64());
        newest.offset = PACK_LEN_MAX;
        TaskId::from_parts(newest.millis, newest.random, 0)
    }
}

impl Newest {
    /// Begins a pack that is larger than the one before.
    fn begin_pack(&mut self, millis: u64, drawn: u64) {
        // The top bit stays free, so that steps within the millisecond have room.
        let fresh = drawn >> (64 - RANDOM_BITS + 1);
        // The same millisecond, or a clock that stepped back: a random step keeps ids of other
        // sources in the same millisecond apart.
        let stepped = self.random + 1 + (drawn >> 24);
        (self.millis, self.random) = if millis > self.millis {
            (millis, fresh)
        } else if stepped >> RANDOM_BITS == 0 {
            (self.millis, stepped)
        } else {
            (self.millis + 1, fresh)
        };
        self.offset = 0;
    }
}

fn unix_millis(at: Timestamp) -> u64 {
    u64::try_from(at.as_millisecond()).unwrap_or(0)
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

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(millis).unwrap()
    }

    #[test]
    fn ids_and_packs_increase_within_a_millisecond_and_when_the_clock_steps_back() {
        let ids = SystemIds::new(SystemRng);
        let mut previous = TaskId::MIN;
        for step in 0..20_000_i64 {
            let now = at(1_700_000_000_000 + if step % 3 == 0 { 0 } else { -step });
            let id = if step % 5_000 == 7 { ids.next_pack(now) } else { ids.next_id(now) };
            assert!(id > previous, "{id} {previous}");
            previous = id;
        }
        assert!(previous < TaskId::MAX);
    }

    #[test]
    fn ids_of_one_millisecond_count_the_offsets_of_a_pack() {
        let ids = SystemIds::new(SystemRng);
        let now = at(1_700_000_000_000);
        let first = ids.next_id(now);
        assert_eq!(first.offset(), 0);
        for offset in 1..PACK_LEN_MAX {
            let earlier = at(1_700_000_000_000 - i64::try_from(offset % 2).unwrap());
            let id = ids.next_id(earlier);
            assert_eq!(id, first.with_offset(u16::try_from(offset).unwrap()));
        }
        let next = ids.next_id(now);
        assert_eq!((next.offset(), next.made_at()), (0, now));
        assert!(next.pack() > first.pack());
        let later = ids.next_id(at(1_700_000_000_001));
        assert_eq!((later.offset(), later.made_at()), (0, at(1_700_000_000_001)));
    }

    #[test]
    fn a_pack_is_shared_with_no_other_id() {
        let ids = SystemIds::new(SystemRng);
        let now = at(1_700_000_000_000);
        let singles = [ids.next_id(now), ids.next_id(now)];
        let (one, other) = (ids.next_pack(now), ids.next_pack(now));
        let server = TaskId::from_u128(ids.next_server(now).as_u128()).unwrap();
        let after = ids.next_id(now);
        assert_eq!(singles[0].pack(), singles[1].pack());
        assert_eq!([one.offset(), other.offset(), server.offset(), after.offset()], [0; 4]);
        let packs = [singles[1], one, other, server, after].map(TaskId::pack);
        assert!(packs.is_sorted_by(|before, after| before < after), "{packs:?}");
        assert_eq!(ids.next_id(now), after.with_offset(1));
    }

    #[test]
    fn packs_that_run_out_of_bits_go_on_in_the_next_millisecond() {
        let mut newest = Newest { millis: 5, random: (1 << RANDOM_BITS) - 1, offset: 1 };
        newest.begin_pack(5, u64::MAX);
        assert_eq!((newest.millis, newest.offset), (6, 0));
        assert_eq!(newest.random >> (RANDOM_BITS - 1), 0);
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
