//! The model test: random operations on a store and on the reference model, compared step by step.
//!
//! Where the [conformance suite](mod@crate::conformance) asks for one law at a time, the model test
//! asks for all of them in histories that nobody thought of. Each operation is carried out on the
//! store under test and on a [`MemoryStore`], and both have to give the same answer and show the
//! same tasks and counts. Both are watched from the start, have to record the same events, and what
//! these tell from the beginning to the end has to be what the store shows. Tokens are compared by their rank among the claims of a task, since stores
//! are free to number claims as they like.

mod op;
mod plant;
mod replay;

use ergon_core::{Rng, SystemRng};
use proptest::test_runner::{Config, RngSeed, TestError, TestRunner};

use self::{op::Op, replay::Replay};
use crate::{MemoryStore, harness::Harness};

/// Histories of a model test in a normal run of the tests. Chosen for a few seconds on a store in
/// memory.
pub const CASES_DEFAULT: u32 = 64;

/// Operations of a history, on average, in a normal run of the tests.
pub const OPS_DEFAULT: usize = 100;

/// Most attempts to make a failing history shorter: each replays it.
const SHRINKS_MAX: u32 = 4_000;

/// Replays `cases` random histories of about `ops` operations each on fresh stores, and compares
/// them with the reference model.
///
/// `factory` makes a fresh, empty store each time, as for [`conformance!`](crate::conformance!).
/// Blocks until all is done, in a runtime of its own; to be called from a plain `#[test]`.
///
/// The run can be repeated: a failure prints the seed, and the environment variable
/// `PROPTEST_RNG_SEED` takes it.
///
/// # Panics
///
/// When the store and the model differ. The message holds the shortest history found that shows it.
pub fn model_test<F, M>(factory: F, cases: u32, ops: usize)
where
    F: Fn() -> M,
    M: Future<Output = Harness>,
{
    let mut config = Config::default();
    let seed = match config.rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => SystemRng.next_u64(),
    };
    config.rng_seed = RngSeed::Fixed(seed);
    config.cases = cases;
    config.max_shrink_iters = SHRINKS_MAX;
    config.failure_persistence = None;
    let built = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = match built {
        Ok(runtime) => runtime,
        Err(error) => panic!("a runtime is needed for a test: {error}"),
    };
    let outcome = TestRunner::new(config).run(&op::history(ops), |history: Vec<Op>| {
        runtime.block_on(async {
            let mut replay = Replay::new(factory().await, Harness::new(MemoryStore::new())).await;
            replay.run(&history).await
        })
    });
    let repeat = format!("PROPTEST_RNG_SEED={seed}, {cases} cases, {ops} operations");
    match outcome {
        Ok(()) => {}
        Err(TestError::Abort(reason)) => panic!("{repeat}: {reason}"),
        Err(TestError::Fail(reason, history)) => {
            let steps = history.iter().enumerate();
            let shown: String = steps.map(|(at, op)| format!("\n{at:>4} {op:?}")).collect();
            panic!("{repeat}: {reason}\nThe shortest history found:{shown}")
        }
    }
}
