//! The conformance suite.

use ergon_redb::RedbStore;
use ergon_testing::harness::Harness;

async fn in_memory() -> Harness {
    Harness::new(RedbStore::in_memory().expect("a store in memory opens"))
}

ergon_testing::conformance!(in_memory);
