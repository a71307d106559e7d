//! The power fails at any moment: what was acknowledged is there, and nothing by halves; and whoever
//! watches is told of exactly that.

use std::sync::Arc;

use ergon_core::{
    Rng,
    store::{Cursor, Dispatch},
};
use ergon_redb::{OpenError, RedbOptions, RedbStore};
use ergon_testing::{SeededRng, VirtualClock, harness::Harness};

use crate::{
    medium::{Loss, Medium, below},
    rig::{OnMedium, on},
    workload::{Ledger, Workload},
};

/// A run that is cut many times.
struct Case {
    seed: u64,
    rounds: usize,
    cuts: usize,
    /// Calls at once, at the most: with one there is a commit for each.
    callers: usize,
    /// From this size of the file on, commits keep what makes a repair quick.
    quick_repair_from_bytes: u64,
}

fn options(h: &Harness, case: &Case) -> RedbOptions {
    RedbStore::builder()
        .clock(Arc::new(VirtualClock::new(h.instant())))
        .quick_repair_from_bytes(case.quick_repair_from_bytes)
}

/// Works, cuts the power at many moments, and audits what is found afterwards.
async fn survive(case: &Case) {
    let medium = Medium::default();
    let (rig, made, first) = {
        let h = Harness::new(RedbStore::in_memory().unwrap());
        let rig = OnMedium::open(&medium, options(&h, case)).await;
        let made = rig.made;
        let mut work = Workload::new(on(&h, &rig.store), case.seed, case.callers);
        let first = work.h.watch("audit").await.cursor;
        work.run(&rig.store, &medium, case.rounds).await.unwrap();
        assert!(work.ledger.len() >= case.rounds);
        rig.store.close().await.unwrap();
        drop(rig);
        (work, made, first)
    };
    let mut history = medium.history();
    let rng = SeededRng::new(case.seed);
    // redb does not open what it had begun to make; no store was there yet.
    let any = || made + below(&rng, history.len() + 1 - made);
    let mut cuts: Vec<usize> = (0..case.cuts).map(|_| any()).collect();
    cuts.sort_unstable();
    for (number, cut) in cuts.into_iter().enumerate() {
        let loss = Loss::ALL[below(&rng, Loss::ALL.len())];
        let context = format!("seed {}, {cut} changes, loss: {loss:?}", case.seed);
        let image = history.cut(cut, loss, &rng);
        let after = Medium::new(image);
        let reopened = OnMedium::open(&after, options(&rig.h, case)).await;
        let h = on(&rig.h, &reopened.store);
        rig.ledger.audit(&reopened.store, &h, cut, &context).await;
        Ledger::audit_journal(&h, &first, &context).await;
        // Some go on working, some lose power again while they repair or work.
        if number % 4 == 0 {
            go_on(&h, &reopened.store, &context).await;
            Ledger::audit_journal(&h, &first, &context).await;
            drop((h, reopened));
            cut_again(case, &rig, &after, (cut, &first), &rng, &context).await;
        }
    }
}

async fn go_on(h: &Harness, store: &RedbStore, context: &str) {
    let ids = h.create(&h.tasks(3)).await;
    let claimed = store.claim(&h.request(5)).await.unwrap();
    for task in &claimed {
        h.conclude(task, ergon_testing::harness::complete()).await;
    }
    assert!(!claimed.is_empty(), "{context}: nothing to claim of {ids:?}");
}

async fn cut_again(
    case: &Case,
    rig: &Workload,
    medium: &Medium,
    (cut, first): (usize, &Cursor),
    rng: &dyn Rng,
    context: &str,
) {
    let mut history = medium.history();
    let second = below(rng, history.len() + 1);
    let loss = Loss::ALL[below(rng, Loss::ALL.len())];
    let context = format!("{context}; again after {second} changes, loss: {loss:?}");
    let medium = Medium::new(history.cut(second, loss, rng));
    let reopened = OnMedium::open(&medium, options(&rig.h, case)).await;
    let h = on(&rig.h, &reopened.store);
    rig.ledger.audit(&reopened.store, &h, cut, &context).await;
    Ledger::audit_journal(&h, first, &context).await;
}

#[tokio::test]
async fn with_many_callers_who_share_commits() {
    let quick_repair_from_bytes = u64::MAX;
    survive(&Case { seed: 1, rounds: 40, cuts: 250, callers: 6, quick_repair_from_bytes }).await;
}

#[tokio::test]
async fn with_one_caller_and_a_commit_for_each_call() {
    let quick_repair_from_bytes = u64::MAX;
    survive(&Case { seed: 2, rounds: 40, cuts: 200, callers: 1, quick_repair_from_bytes }).await;
}

#[tokio::test]
async fn with_quick_repair() {
    let quick_repair_from_bytes = 0;
    survive(&Case { seed: 3, rounds: 40, cuts: 250, callers: 4, quick_repair_from_bytes }).await;
}

#[tokio::test]
async fn while_the_first_tables_are_made() {
    let quick_repair_from_bytes = u64::MAX;
    for seed in 10..14 {
        let cuts = 20;
        survive(&Case { seed, rounds: 1, cuts, callers: 2, quick_repair_from_bytes }).await;
    }
}

#[tokio::test]
async fn while_redb_makes_the_file() {
    let medium = Medium::default();
    let rig = OnMedium::open(&medium, RedbStore::builder()).await;
    let rng = SeededRng::new(7);
    for loss in Loss::ALL {
        let mut history = medium.history();
        for cut in 0..=rig.made {
            let after = Medium::new(history.cut(cut, loss, &rng));
            match OnMedium::try_open(&after, RedbStore::builder()).await {
                Ok(rig) => crate::rig::check(&rig.store).await,
                // What was begun is not taken for a store; nothing was in it.
                Err(error) => assert!(matches!(error, OpenError::Io { .. }), "{error:?}"),
            }
        }
    }
}
