//! The memory store against the conformance suite and the model.

use ergon_testing::{MemoryStore, harness::Harness};

async fn memory() -> Harness {
    Harness::new(MemoryStore::new())
}

mod conformance {
    ergon_testing::conformance!(super::memory);
}

#[test]
fn the_memory_store_is_like_itself() {
    use ergon_testing::model::{CASES_DEFAULT, OPS_DEFAULT, model_test};

    model_test(memory, CASES_DEFAULT, OPS_DEFAULT);
}
