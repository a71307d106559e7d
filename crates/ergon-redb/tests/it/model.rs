//! The same random operations on this store and on the reference store.

use ergon_redb::RedbStore;
use ergon_testing::{
    harness::Harness,
    model::{CASES_DEFAULT, OPS_DEFAULT, model_test},
};

async fn in_memory() -> Harness {
    Harness::new(RedbStore::in_memory().expect("a store in memory opens"))
}

#[test]
fn random_operations_agree_with_the_reference_store() {
    model_test(in_memory, CASES_DEFAULT, OPS_DEFAULT);
}
