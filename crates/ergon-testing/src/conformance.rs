//! The conformance suite: every law of a store as a case, to be run on every store.
//!
//! A store is right when the suite says so. The suite speaks to a store through its roles alone and
//! asks no store its name; every request names an instant, so that no case sleeps or depends on a
//! clock. Only watchers are let go by the store's own clock: a few cases give them milliseconds, and
//! look until they are gone. A test of a backend needs one line,
//! [`conformance!`](crate::conformance!), and a function that makes a [`Harness`] around a fresh,
//! empty store.
//!
//! Cases are grouped by area, and their names are the laws they hold a store to. After each case the
//! store's counters are compared with a scan.

#![expect(clippy::unwrap_used, reason = "a case fails by panicking")]

use std::time::Duration;

use ergon_core::{Jitter, Rejection, RetryPolicy, StateSet, StoreError, TaskSpec, UniqueScope};

use crate::harness::{Harness, MINUTE, kind, queue, tag, unique};

#[doc(hidden)]
pub mod beat;
#[doc(hidden)]
pub mod concurrency;
#[doc(hidden)]
pub mod control;
#[doc(hidden)]
pub mod dispatch;
#[doc(hidden)]
pub mod document;
#[doc(hidden)]
pub mod enqueue;
#[doc(hidden)]
pub mod fencing;
#[doc(hidden)]
pub mod finish;
#[doc(hidden)]
pub mod follow;
#[doc(hidden)]
pub mod follow_at_once;
#[doc(hidden)]
pub mod inspect;
#[doc(hidden)]
pub mod law;
#[doc(hidden)]
pub mod limit;
#[doc(hidden)]
pub mod maintain;
#[doc(hidden)]
pub mod observe;
#[doc(hidden)]
pub mod page;
#[doc(hidden)]
pub mod queue;
#[doc(hidden)]
pub mod record;
#[doc(hidden)]
pub mod record_control;
#[doc(hidden)]
pub mod regression;
#[doc(hidden)]
pub mod report;
mod table;
#[doc(hidden)]
pub mod unique;
#[doc(hidden)]
pub mod watch;

/// How long a case may take before it counts as hung. No case waits for time to pass, so a store
/// that needs it does not answer at all.
const CASE_TIME_MAX: Duration = Duration::from_secs(180);

/// Makes one test of each case, in one module an area.
///
/// Takes the path of an `async fn() -> Harness` that makes a fresh, empty store each time, with the
/// default [`Limits`](ergon_core::Limits) and [`Retention`](ergon_core::Retention). Several backends
/// of a crate have a module each.
///
/// ```
/// use ergon_testing::{MemoryStore, harness::Harness};
///
/// async fn memory() -> Harness {
///     Harness::new(MemoryStore::new())
/// }
///
/// ergon_testing::conformance!(memory);
/// ```
#[macro_export]
macro_rules! conformance {
    ($factory:path) => {
        async fn conformance_harness() -> $crate::harness::Harness {
            $factory().await
        }

        $crate::for_each_case!($crate::conformance_tests);
    };
}

/// Makes the tests of [`conformance!`].
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_tests {
    ($($area:ident { $($case:ident,)+ })+) => {
        $(
            mod $area {
                $(
                    #[test]
                    fn $case() {
                        $crate::conformance::run(
                            super::conformance_harness,
                            $crate::conformance::$area::$case,
                        );
                    }
                )+
            }
        )+
    };
}

/// Runs one case on a store of its own, with two threads, and checks the counters after it.
#[doc(hidden)]
pub fn run<M, C>(make: impl FnOnce() -> M, case: impl FnOnce(Harness) -> C)
where
    M: Future<Output = Harness>,
    C: Future<Output = ()>,
{
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let harness = make().await;
        let case = Box::pin(async {
            case(harness.clone()).await;
            harness.check_counters().await;
        });
        let outcome = tokio::time::timeout(CASE_TIME_MAX, case).await;
        assert!(outcome.is_ok(), "the case hangs");
    });
}

/// What a store refused, and why.
#[track_caller]
fn rejection<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> (usize, Rejection) {
    match answer {
        Err(StoreError::Rejected { index, reason }) => (index, reason),
        other => panic!("a rejection has to be answered, not {other:?}"),
    }
}

/// A specification that chooses everything.
fn full_spec(h: &Harness) -> TaskSpec {
    let every_byte: Vec<u8> = (0..=u8::MAX).collect();
    let mut spec = TaskSpec::new(kind("full:spec/1.0_x-y"), every_byte);
    spec.queue = queue("full:queue/1.0_x-y");
    spec.retry = RetryPolicy::Exponential {
        base: Duration::from_micros(1_500_001),
        cap: MINUTE * 90,
        jitter: Jitter::None,
    };
    spec.timeout = Some(Duration::from_micros(30_000_001));
    spec.deadline = Some(h.later(Duration::from_micros(86_400_000_001)));
    spec.retention = Some(Duration::from_micros(3_600_000_001));
    spec.metadata.insert("tenant".to_owned(), "größe 5 €".to_owned());
    spec.metadata.insert("empty".to_owned(), String::new());
    spec.tags = vec![tag("z"), tag("größe: 5 €"), tag("a")];
    let states = StateSet::UNFINISHED.union(ergon_core::State::Completed.into());
    spec.unique = Some(unique(200, UniqueScope::While(states)));
    spec
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    /// Compares the list of cases with the files of the areas.
    macro_rules! check_table {
        ($($area:ident { $($case:ident,)+ })+) => {
            [$((
                stringify!($area),
                include_str!(concat!("conformance/", stringify!($area), ".rs")),
                [$(stringify!($case)),+].as_slice(),
            )),+]
        };
    }

    #[test]
    fn every_case_is_listed_once() {
        let areas: &[(&str, &str, &[&str])] = &crate::for_each_case!(check_table);
        let mut total = 0;
        for (area, source, listed) in areas {
            let cases = source
                .lines()
                .filter_map(|line| line.strip_prefix("pub async fn ")?.split('(').next());
            let written: BTreeSet<&str> = cases.collect();
            let listed_once: BTreeSet<&str> = listed.iter().copied().collect();
            assert_eq!(written, listed_once, "{area}");
            assert_eq!(listed.len(), listed_once.len(), "{area}");
            total += listed.len();
        }
        assert!(total >= 140, "{total} cases");
    }
}
