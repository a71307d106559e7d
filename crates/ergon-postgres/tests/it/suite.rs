//! The store against every law, directly and through a pooler.
//!
//! Without a server a case has nothing to hold to the laws: it says so, and runs on the reference.

use ergon_testing::{MemoryStore, harness::Harness};

use crate::support;

pub(crate) async fn direct() -> Harness {
    match support::store().await {
        Some((sandbox, store)) => Harness::new(store).guard(sandbox),
        None => Harness::new(MemoryStore::new()),
    }
}

async fn pooled() -> Harness {
    let (Some(sandbox), Some(url)) = (support::sandbox(), support::pooler()) else {
        return Harness::new(MemoryStore::new());
    };
    let options = sandbox.options().pooled_by_bouncer(true);
    let store = options.connect(&url).await.expect("the pooler is reachable");
    Harness::new(store).guard(sandbox)
}

mod postgres {
    ergon_testing::conformance!(super::direct);
}

mod bouncer {
    ergon_testing::conformance!(super::pooled);
}
