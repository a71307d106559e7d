//! The operations of a random history.
//!
//! Tasks and claims are named by numbers, taken modulo what there is, so that a history stays
//! meaningful while it is made shorter. Time moves in steps of two seconds and every retention is
//! a multiple of it, while leases and periods of uniqueness are odd: so the instants of sweeps and
//! expiries never coincide, and a store that prunes up to a second late shows nothing of it.

use std::time::Duration;

use ergon_core::{Conclusion, ErrorKind, Order, State, StateSet, UniqueScope};
use proptest::{collection::vec, option, prelude::*};

use crate::harness::{complete, fail};

/// The length of a step in time.
pub(super) const STEP: Duration = Duration::from_secs(2);

/// One operation on both stores.
#[derive(Clone, Debug)]
pub(super) enum Op {
    /// Inserts a batch; `is_pack` gives the tasks the ids of one pack.
    Insert { tasks: Vec<Seed>, is_pack: bool },
    /// Claims for a server.
    Claim { server: u8, kinds: Vec<u8>, queues: Vec<(u8, usize)>, limit: usize, lease: Duration },
    /// Ends claims.
    Finish(Vec<Ending>),
    /// Tells how far claims have come: the claim, the token, how much is done and of how much.
    Report(Vec<(usize, TokenChoice, u64, Option<u64>)>),
    /// Renews claims.
    Beat { server: u8, claims: Vec<usize>, lease: Duration },
    /// Takes back what dead servers hold.
    Rescue { limit: usize, deaths_max: u16 },
    /// Removes what outlived its retention.
    Prune { limit: usize },
    /// Carries out a command for tasks named by number.
    ApplyIds(Vec<usize>, Errand),
    /// Carries out a command for tasks that match.
    ApplyMatching(Filter, usize, Errand),
    /// Pauses or resumes a queue.
    SetQueue(u8, Option<bool>),
    /// Lets time pass.
    Advance(u32),
    /// Lists and counts the tasks that match.
    Read { filter: Filter, limit: usize, order: Order },
}

/// A new task.
#[derive(Clone, Debug)]
pub(super) struct Seed {
    /// The number of a task to take the id of, or a new id.
    pub(super) known_id: Option<usize>,
    pub(super) queue: u8,
    pub(super) kind: u8,
    pub(super) priority: i16,
    /// When it is due: so many microseconds from now.
    pub(super) due_micros: i64,
    /// Attempts; 0 is refused.
    pub(super) max_attempts: u16,
    pub(super) unique: Option<(u8, UniqueScope)>,
    pub(super) retention: Option<Duration>,
    pub(super) is_tagged: bool,
}

/// The end of a claim.
#[derive(Clone, Debug)]
pub(super) struct Ending {
    /// The claim, counted from the newest.
    pub(super) claim: usize,
    pub(super) token: TokenChoice,
    pub(super) conclusion: Conclusion,
}

/// Which token an outcome or a report names.
#[derive(Clone, Copy, Debug)]
pub(super) enum TokenChoice {
    /// That of the claim, live or stale.
    Own,
    /// None.
    None,
    /// One that no claim has yet.
    Future,
}

/// An operator's command, with times counted from now.
#[derive(Clone, Copy, Debug)]
pub(super) enum Errand {
    Cancel,
    Retry,
    Delete,
    Reschedule(i64),
    SetPriority(i16),
}

/// Which tasks to read.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    pub(super) states: StateSet,
    pub(super) queues: Vec<u8>,
    pub(super) kinds: Vec<u8>,
    pub(super) is_tagged: bool,
}

/// Histories of `ops` operations on average.
pub(super) fn history(ops: usize) -> impl Strategy<Value = Vec<Op>> {
    vec(op(), 1..=ops.saturating_mul(2).clamp(1, usize::MAX))
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (vec(seed(), 1..6), any::<bool>())
            .prop_map(|(tasks, is_pack)| Op::Insert { tasks, is_pack }),
        6 => claim(),
        6 => vec(ending(), 1..5).prop_map(Op::Finish),
        2 => vec((0..8_usize, token(), any::<u64>(), option::of(any::<u64>())), 1..4)
            .prop_map(Op::Report),
        2 => (0..2_u8, vec(0..12_usize, 0..6), lease())
            .prop_map(|(server, claims, lease)| Op::Beat { server, claims, lease }),
        2 => (1..6_usize, prop_oneof![Just(1_u16), Just(2), Just(10)])
            .prop_map(|(limit, deaths_max)| Op::Rescue { limit, deaths_max }),
        1 => (1..6_usize).prop_map(|limit| Op::Prune { limit }),
        3 => (vec(0..200_usize, 1..4), command()).prop_map(|(ids, errand)| Op::ApplyIds(ids, errand)),
        1 => (filter(), 1..5_usize, command())
            .prop_map(|(filter, limit, errand)| Op::ApplyMatching(filter, limit, errand)),
        1 => (0..3_u8, option::of(any::<bool>()))
            .prop_map(|(queue, paused)| Op::SetQueue(queue, paused)),
        3 => prop_oneof![
            6 => 1..10_u32,
            2 => 10..100_u32,
            // Hours and days: retention comes to its end.
            1 => 10_000..400_000_u32,
        ].prop_map(Op::Advance),
        1 => (filter(), 1..8_usize, prop_oneof![Just(Order::OldestFirst), Just(Order::NewestFirst)])
            .prop_map(|(filter, limit, order)| Op::Read { filter, limit, order }),
    ]
}

fn seed() -> impl Strategy<Value = Seed> {
    let retention = prop_oneof![Just(Duration::ZERO), Just(STEP), Just(STEP * 30)];
    let max_attempts = prop_oneof![1 => Just(0_u16), 30 => 1..4_u16, 10 => Just(25)];
    (
        option::weighted(0.05, 0..200_usize),
        0..3_u8,
        0..3_u8,
        priority(),
        due_micros(),
        max_attempts,
        option::weighted(0.4, (0..4_u8, scope())),
        option::weighted(0.5, retention),
        any::<bool>(),
    )
        .prop_map(
            |(
                known_id,
                queue,
                kind,
                priority,
                due_micros,
                max_attempts,
                unique,
                retention,
                tag,
            )| {
                Seed {
                    known_id,
                    queue,
                    kind,
                    priority,
                    due_micros,
                    max_attempts,
                    unique,
                    retention,
                    is_tagged: tag,
                }
            },
        )
}

fn claim() -> impl Strategy<Value = Op> {
    let queues = Just([0_u8, 1, 2].to_vec()).prop_shuffle();
    (0..2_u8, vec(0..3_u8, 0..4), queues, vec(0..4_usize, 3), 0..8_usize, lease()).prop_map(
        |(server, kinds, queues, slots, limit, lease)| Op::Claim {
            server,
            kinds,
            queues: queues.into_iter().zip(slots).collect(),
            limit,
            lease,
        },
    )
}

fn token() -> impl Strategy<Value = TokenChoice> {
    prop_oneof![
        12 => Just(TokenChoice::Own),
        1 => Just(TokenChoice::None),
        1 => Just(TokenChoice::Future),
    ]
}

fn ending() -> impl Strategy<Value = Ending> {
    (0..8_usize, token(), conclusion()).prop_map(|(claim, token, conclusion)| Ending {
        claim,
        token,
        conclusion,
    })
}

fn conclusion() -> impl Strategy<Value = Conclusion> {
    let delay = (0..20_000_000_u64).prop_map(Duration::from_micros);
    let kind = proptest::sample::select(ErrorKind::ALL.as_slice());
    prop_oneof![
        3 => vec(any::<u8>(), 0..5)
            .prop_map(|bytes| Conclusion::Complete { result: Some(bytes.into()) }),
        1 => Just(complete()),
        5 => (delay.clone(), kind, "[a-z\0]{0,3}")
            .prop_map(|(delay, kind, error)| Conclusion::Retry { delay, kind, error }),
        1 => Just(fail()),
        1 => Just(Conclusion::Cancel { reason: "called off".to_owned() }),
        2 => delay.prop_map(|delay| Conclusion::Snooze { delay }),
        2 => Just(Conclusion::Release),
    ]
}

fn command() -> impl Strategy<Value = Errand> {
    prop_oneof![
        Just(Errand::Cancel),
        Just(Errand::Retry),
        Just(Errand::Delete),
        due_micros().prop_map(Errand::Reschedule),
        priority().prop_map(Errand::SetPriority),
    ]
}

fn filter() -> impl Strategy<Value = Filter> {
    let states = (0..=StateSet::ALL.bits()).prop_map(StateSet::from_bits);
    let states = prop_oneof![Just(StateSet::EMPTY), states];
    (states, vec(0..3_u8, 0..3), vec(0..3_u8, 0..2), prop::bool::weighted(0.2))
        .prop_map(|(states, queues, kinds, is_tagged)| Filter { states, queues, kinds, is_tagged })
}

fn scope() -> impl Strategy<Value = UniqueScope> {
    prop_oneof![
        Just(UniqueScope::UntilStarted),
        Just(UniqueScope::UntilFinished),
        Just(UniqueScope::While(StateSet::UNFINISHED.union(State::Completed.into()))),
        Just(UniqueScope::While(StateSet::ALL)),
        odd_seconds().prop_map(UniqueScope::For),
    ]
}

fn priority() -> impl Strategy<Value = i16> {
    prop_oneof![4 => Just(0_i16), 3 => -2..3_i16, 1 => any::<i16>()]
}

fn due_micros() -> impl Strategy<Value = i64> {
    prop_oneof![5 => Just(0_i64), 1 => -5_000_000..0_i64, 4 => 0..30_000_000_i64]
}

fn lease() -> impl Strategy<Value = Duration> {
    odd_seconds()
}

fn odd_seconds() -> impl Strategy<Value = Duration> {
    (0..20_u64).prop_map(|half| Duration::from_secs(half * 2 + 1))
}
