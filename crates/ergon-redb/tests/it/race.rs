//! Orders of events that are rare, forced.

use ergon_core::{
    Command, CommandVerdict, State, Verdict,
    store::{Beat, Control, Enqueue, Inserted},
};
use ergon_redb::RedbStore;
use ergon_testing::harness::{Harness, SERVER, complete, held, queue};
use redb::Database;

use crate::{
    medium::{Access, Medium},
    rig::{OnMedium, check},
};

/// A store whose reads reach the medium.
async fn uncached(medium: &Medium) -> Harness {
    let mut builder = Database::builder();
    builder.set_cache_size(0);
    let database = builder.create_with_backend(medium.clone()).unwrap();
    Harness::new(RedbStore::with_database(std::sync::Arc::new(database)).await.unwrap())
}

#[tokio::test]
async fn a_cancel_reaches_a_task_whose_claim_is_still_reading() {
    const CLAIMER: &str = "claimer";
    let medium = Medium::default();
    let h = uncached(&medium).await;
    let id = h.insert_one(h.task()).await;
    medium.block(Access::ReadsOf(CLAIMER));
    let claimer = {
        let h = h.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let claim = move || runtime.block_on(h.claim(1));
        std::thread::Builder::new().name(CLAIMER.to_owned()).spawn(claim).unwrap()
    };
    medium.until_blocked();
    let reason = "by order".to_owned();
    assert_eq!(h.apply(id, Command::Cancel { reason }).await, CommandVerdict::Requested);
    medium.unblock();
    for task in claimer.join().unwrap() {
        let beat = h.store.beat(&Beat::new(SERVER, vec![held(&task)])).await.unwrap();
        assert_eq!(beat.cancelled, [held(&task)]);
        assert_eq!(h.finish(&task, complete()).await, Verdict::CancelRequested);
    }
    assert_ne!(h.state(id).await, Some(State::Completed));
    h.check_counters().await;
}

/// Has two calls share a commit, in this order.
async fn in_one_commit<A: Send + 'static, B: Send + 'static>(
    medium: &Medium,
    h: &Harness,
    first: impl Future<Output = A> + Send + 'static,
    second: impl Future<Output = B> + Send + 'static,
) -> (A, B) {
    medium.block(Access::Changes);
    let before = {
        let h = h.clone();
        async move { h.create(&h.tasks(1)).await }
    };
    let (medium, _) = (medium.clone(), ());
    let release = async move {
        // The calls before this one are on their way, and wait for the commit of the first.
        medium.until_blocked();
        medium.unblock();
    };
    let (_, first, second, ()) = tokio::join!(before, first, second, release);
    (first, second)
}

#[tokio::test]
async fn a_task_deleted_and_enqueued_anew_in_one_commit_starts_over() {
    for state in [State::Completed, State::Failed, State::Cancelled, State::Retrying] {
        let medium = Medium::default();
        let rig = OnMedium::open(&medium, RedbStore::builder()).await;
        let h = Harness::new(rig.store.clone());
        let id = h.in_state(state).await;
        let mut task = h.task();
        task.id = id;
        task.spec.queue = queue("other");
        let (one, two, now) = (rig.store.clone(), rig.store.clone(), h.now());
        let delete = async move {
            let selection = ergon_core::Selection::Ids(vec![id]);
            one.apply(&selection, &Command::Delete, now).await.unwrap()
        };
        let insert = async move { two.insert(&[task], now).await.unwrap() };
        let (deleted, inserted) = in_one_commit(&medium, &h, delete, insert).await;
        assert_eq!(deleted.verdicts, [(id, CommandVerdict::Applied)]);
        assert_eq!(inserted, [Inserted::Created]);
        let task = h.get(id).await;
        assert_eq!(task.state, State::Pending, "{state}");
        assert_eq!((task.progress.attempt, task.progress.errors.len()), (0, 0));
        check(&rig.store).await;
        h.check_counters().await;
        let claimed = h.claim_by(&h.request_from(9, &["other"])).await;
        assert_eq!((claimed.len(), claimed[0].id, claimed[0].attempt), (1, id, 1));
        let killed = Medium::new(medium.image());
        let reopened = OnMedium::open(&killed, RedbStore::builder()).await;
        check(&reopened.store).await;
    }
}

#[tokio::test]
async fn a_task_enqueued_and_deleted_in_one_commit_leaves_nothing() {
    let medium = Medium::default();
    let rig = OnMedium::open(&medium, RedbStore::builder()).await;
    let h = Harness::new(rig.store.clone());
    let task = h.task();
    let id = task.id;
    let (one, two, now) = (rig.store.clone(), rig.store.clone(), h.now());
    let insert = async move { one.insert(&[task], now).await.unwrap() };
    let delete = async move {
        let selection = ergon_core::Selection::Ids(vec![id]);
        two.apply(&selection, &Command::Delete, now).await.unwrap()
    };
    let (inserted, deleted) = in_one_commit(&medium, &h, insert, delete).await;
    assert_eq!(inserted, [Inserted::Created]);
    assert_eq!(deleted.verdicts, [(id, CommandVerdict::Applied)]);
    assert_eq!(h.find(id).await, None);
    check(&rig.store).await;
    h.check_counters().await;
    assert_eq!(h.claim(9).await.len(), 1);
}
