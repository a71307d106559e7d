//! A record that does not read back is set aside, and stops nobody else.

use std::path::Path;

use ergon_core::{
    Command, CommandVerdict, State, StateSet, TaskFilter, TaskId, store::QueueChange,
};
use ergon_testing::harness::{MINUTE, cancel_command, claimed_ids, complete, retry};
use redb::{Database, ReadableTable, TableDefinition};

use crate::rig::Rig;

type Records = TableDefinition<'static, &'static [u8; 16], &'static [u8]>;
const BODY: Records = TableDefinition::new("ergon.body");
const HEAD: Records = TableDefinition::new("ergon.head");

/// Flips a bit of the last byte of a record, in a file that nobody has open.
fn damage(path: &Path, table: Records, id: TaskId) {
    let database = Database::open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut table = transaction.open_table(table).unwrap();
        let key = id.as_u128().to_be_bytes();
        let mut record = table.get(&key).unwrap().unwrap().value().to_vec();
        *record.last_mut().unwrap() ^= 1;
        table.insert(&key, record.as_slice()).unwrap();
    }
    transaction.commit().unwrap();
}

/// A closed store of five tasks, of which one record is damaged; open again.
async fn damaged(table: Records) -> (Rig, TaskId, Vec<TaskId>) {
    let mut rig = Rig::new().await;
    let ids = rig.h.create(&rig.h.tasks(5)).await;
    for task in rig.h.claim(5).await {
        // Every task has a head then.
        rig.h.conclude(&task, retry(std::time::Duration::ZERO)).await;
    }
    rig.store.close().await.unwrap();
    damage(&rig.path, table, ids[2]);
    rig.reopen().await;
    let others = ids.iter().copied().filter(|id| *id != ids[2]).collect();
    (rig, ids[2], others)
}

/// The damaged task is set aside and counted out, and the others are as good as before.
async fn is_set_aside(rig: &Rig, id: TaskId, others: &[TaskId]) {
    // What a claim has left to do is done before what comes after it.
    rig.h.set_queue("default", QueueChange::resume()).await;
    let aside = rig.store.quarantined().await.unwrap();
    assert_eq!(aside.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [id]);
    assert!(aside[0].1.contains("checksum"), "{aside:?}");
    assert_eq!(rig.h.count(&TaskFilter::all()).await.value, 4);
    assert_eq!(rig.h.find(id).await, None);
    assert_eq!(rig.h.apply(id, Command::Retry).await, CommandVerdict::NotFound);
    rig.check().await;
    for &other in others {
        assert!(rig.h.find(other).await.is_some());
    }
}

#[tokio::test]
async fn a_claim_sets_it_aside_and_takes_the_others() {
    for table in [BODY, HEAD] {
        let (mut rig, id, others) = damaged(table).await;
        let found = rig.store.check().await.unwrap();
        assert!(found.problems.iter().any(|it| it.contains("read back")), "{:?}", found.problems);
        let claimed = rig.h.claim(9).await;
        assert_eq!(claimed_ids(&claimed), others);
        for task in &claimed[..3] {
            rig.h.conclude(task, complete()).await;
        }
        is_set_aside(&rig, id, &others).await;
        rig.reopen().await;
        assert_eq!(claimed_ids(&rig.h.claim(9).await), others[3..]);
        rig.kill().await;
        is_set_aside(&rig, id, &others).await;
    }
}

#[tokio::test]
async fn a_command_or_an_outcome_that_meets_it_finds_nothing() {
    for table in [BODY, HEAD] {
        let (rig, id, others) = damaged(table).await;
        let selection = ergon_core::Selection::Ids([&[id], &others[..1]].concat());
        let applied = rig.h.apply_to(selection, cancel_command()).await;
        let expected = [(id, CommandVerdict::NotFound), (others[0], CommandVerdict::Applied)];
        assert_eq!(applied.verdicts, expected);
        assert_eq!(rig.store.quarantined().await.unwrap()[0].0, id);
        // Its row in the index goes when its turn comes.
        assert_eq!(claimed_ids(&rig.h.claim(9).await), others[1..]);
        is_set_aside(&rig, id, &others).await;
    }
}

#[tokio::test]
async fn lists_and_counts_pass_it_by() {
    let (rig, id, others) = damaged(BODY).await;
    for filter in [TaskFilter::all(), TaskFilter::all().states(StateSet::UNFINISHED)] {
        let listed = rig.h.walk(&filter, 2, ergon_core::Order::OldestFirst).await;
        assert_eq!(ergon_testing::harness::record_ids(&listed), others);
    }
    assert_eq!(rig.h.find(id).await, None);
}

#[tokio::test]
async fn a_sweep_passes_it_by_and_removes_the_others() {
    let mut rig = Rig::new().await;
    let h = rig.h.clone();
    let mut ids = Vec::new();
    for _ in 0..3 {
        let keep = Some(MINUTE);
        ids.push(h.in_state_with(State::Completed, |task| task.spec.retention = keep).await);
    }
    rig.store.close().await.unwrap();
    damage(&rig.path, HEAD, ids[1]);
    rig.reopen().await;
    rig.h.advance(MINUTE * 2);
    assert_eq!(rig.h.prune().await.done, 2);
    assert_eq!(rig.h.prune().await.done, 0);
    assert_eq!(rig.store.quarantined().await.unwrap()[0].0, ids[1]);
    rig.h.create(&rig.h.tasks(1)).await;
    assert_eq!(rig.h.claim(9).await.len(), 1);
}

#[tokio::test]
async fn a_task_that_ran_when_its_process_died_is_set_aside_too() {
    let mut rig = Rig::new().await;
    rig.kill().await;
    let ids = rig.h.create(&rig.h.tasks(2)).await;
    rig.h.claim(1).await;
    rig.kill().await;
    // Killed again before it was taken back: the damage is done to a copy that nobody has open.
    rig.h.claim(1).await;
    let copy = rig.path.with_extension("other");
    std::fs::copy(&rig.path, &copy).unwrap();
    damage(&copy, BODY, ids[0]);
    let store = ergon_redb::RedbStore::open(&copy).await.unwrap();
    let h = crate::rig::on(&rig.h, &store);
    assert_eq!(claimed_ids(&h.claim(9).await), ids[1..]);
    assert_eq!(store.quarantined().await.unwrap()[0].0, ids[0]);
    crate::rig::check(&store).await;
}
