//! Random operations on the store and on the reference.

use ergon_testing::{
    harness::Harness,
    model::{CASES_DEFAULT, OPS_DEFAULT, model_test},
};

use crate::{suite, support};

/// Cases are fewer than on stores in memory: each makes a schema.
const CASES: u32 = CASES_DEFAULT / 4;

async fn direct() -> Harness {
    suite::direct().await
}

#[test]
fn random_operations_agree_with_the_reference_store() {
    if support::sandbox().is_some() {
        model_test(direct, CASES, OPS_DEFAULT);
    }
}
