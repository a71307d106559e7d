//! Cases of `beat`: which claims it renews, and what a server learns by it.

use std::time::Duration;

use ergon_core::{
    Conclusion, Rejection, State, StoreError, Token,
    store::{Beat, BeatReply, Held, LEASE_DEFAULT},
};

use super::rejection;
use crate::harness::{
    Harness, MICROSECOND, MINUTE, OTHER_SERVER, SECOND, SERVER, cancel_command, complete, held,
    retry,
};

pub async fn a_renewed_lease_is_left_alone(h: Harness) {
    h.insert_one(h.task()).await;
    let claimed = h.claim_one().await;
    for _ in 0..10 {
        h.advance(LEASE_DEFAULT - SECOND);
        assert_eq!(h.beat(SERVER, &[held(&claimed)]).await, BeatReply::default());
        let rescue = h.changing_nothing("renewed", h.rescue()).await;
        assert_eq!(rescue.done, 0);
    }
    h.conclude(&claimed, complete()).await;
}

pub async fn a_renewed_lease_ends_its_time_after_the_beat(h: Harness) {
    let id = h.insert_one(h.task()).await;
    let claimed = h.claim_one().await;
    h.advance(SECOND * 7);
    let beat = Beat::new(SERVER, vec![held(&claimed)]).lease(MINUTE).now(h.now());
    h.store.beat(&beat).await.unwrap();
    h.advance(MINUTE - MICROSECOND);
    assert_eq!(h.rescue().await.done, 0);
    h.advance(MICROSECOND);
    assert_eq!(h.rescue().await.done, 1);
    assert_eq!(h.get(id).await.state, State::Pending);
}

pub async fn a_claim_that_the_beat_omits_lapses(h: Harness) {
    h.create(&h.tasks(5)).await;
    let claimed = h.claim(5).await;
    h.advance(LEASE_DEFAULT - SECOND);
    let named = [held(&claimed[1]), held(&claimed[3])];
    assert_eq!(h.beat(SERVER, &named).await, BeatReply::default());
    h.advance(SECOND);
    assert_eq!(h.rescue().await.done, 3);
    for (at, task) in claimed.iter().enumerate() {
        let is_named = [1, 3].contains(&at);
        let expected = if is_named { State::Running } else { State::Pending };
        assert_eq!(h.get(task.id).await.state, expected, "claim {at}");
    }
}

pub async fn a_beat_of_another_server_renews_nothing(h: Harness) {
    h.insert_one(h.task()).await;
    let claimed = h.claim_one().await;
    h.advance(LEASE_DEFAULT - SECOND);
    let reply = h.beat(OTHER_SERVER, &[held(&claimed)]).await;
    assert_eq!(reply, BeatReply { lost: vec![held(&claimed)], cancelled: vec![] });
    h.advance(SECOND);
    assert_eq!(h.rescue().await.done, 1);
}

pub async fn a_beat_changes_nothing_that_can_be_read(h: Harness) {
    h.create(&h.tasks(3)).await;
    let claimed: Vec<Held> = h.claim(2).await.iter().map(held).collect();
    h.advance(SECOND);
    h.changing_nothing("a beat", h.beat(SERVER, &claimed)).await;
    h.changing_nothing("an empty beat", h.beat(OTHER_SERVER, &[])).await;
}

pub async fn a_beat_that_comes_late_still_renews_what_nobody_took_back(h: Harness) {
    h.insert_one(h.task()).await;
    let claimed = h.claim_one().await;
    h.advance(LEASE_DEFAULT * 10);
    assert_eq!(h.beat(SERVER, &[held(&claimed)]).await, BeatReply::default());
    assert_eq!(h.changing_nothing("renewed", h.rescue()).await.done, 0);
    h.conclude(&claimed, complete()).await;
}

pub async fn a_beat_tells_which_claims_are_lost(h: Harness) {
    h.create(&h.tasks(5)).await;
    let claimed = h.claim(5).await;
    let [live, done, retried, released, rescued] = claimed.as_slice() else {
        panic!("five were claimed");
    };
    h.conclude(done, complete()).await;
    h.conclude(retried, retry(SECOND)).await;
    h.conclude(released, Conclusion::Release).await;
    h.advance(LEASE_DEFAULT - SECOND);
    let alive = [held(live)];
    h.beat(SERVER, &alive).await;
    h.advance(SECOND);
    assert_eq!(h.rescue().await.done, 1);
    let unknown = Held { id: h.id(), token: Token::new(1) };
    let foreign = Held { id: live.id, token: Token::new(live.token.get() + 1) };
    let all =
        [held(rescued), held(done), unknown, held(live), held(released), foreign, held(retried)];
    let reply = h.changing_nothing("lost claims", h.beat(SERVER, &all)).await;
    let lost = vec![all[0], all[1], all[2], all[4], all[5], all[6]];
    assert_eq!(reply, BeatReply { lost, cancelled: vec![] });
}

pub async fn a_lost_claim_is_lost_although_the_task_runs_again(h: Harness) {
    let id = h.insert_one(h.task()).await;
    let old = h.claim_this(id).await;
    h.advance(LEASE_DEFAULT);
    h.rescue().await;
    let new = h.claim_this(id).await;
    h.advance(LEASE_DEFAULT - SECOND);
    let reply = h.beat(SERVER, &[held(&old)]).await;
    assert_eq!(reply.lost, [held(&old)]);
    h.advance(SECOND);
    assert_eq!(h.rescue().await.done, 1, "the old token renewed the claim of the new one");
    assert_eq!(h.finish(&new, complete()).await, ergon_core::Verdict::Stale);
}

pub async fn a_beat_tells_which_claims_were_asked_to_stop(h: Harness) {
    h.create(&h.tasks(4)).await;
    let claimed: Vec<Held> = h.claim(4).await.iter().map(held).collect();
    h.apply(claimed[2].id, cancel_command()).await;
    h.apply(claimed[0].id, cancel_command()).await;
    for _ in 0..2 {
        let reply = h.beat(SERVER, &claimed).await;
        let expected = BeatReply { lost: vec![], cancelled: vec![claimed[0], claimed[2]] };
        assert_eq!(reply, expected);
    }
    h.advance(LEASE_DEFAULT - SECOND);
    h.beat(SERVER, &claimed).await;
    h.advance(SECOND);
    assert_eq!(h.rescue().await.done, 0, "claims asked to stop are renewed too");
}

pub async fn a_beat_without_lease_or_with_too_many_claims_is_refused(h: Harness) {
    h.insert_one(h.task()).await;
    let claimed = h.claim_one().await;
    let beat = Beat::new(SERVER, vec![held(&claimed)]).lease(Duration::ZERO).now(h.now());
    let answer = h.store.beat(&beat).await;
    assert!(matches!(rejection(answer).1, Rejection::ZeroDuration { .. }));
    let beat = Beat::new(SERVER, vec![held(&claimed); 10_001]).now(h.now());
    let answer = h.store.beat(&beat).await;
    let is_refused = matches!(answer, Err(StoreError::BatchTooLarge { len: 10_001, max: 10_000 }));
    assert!(is_refused, "{answer:?}");
}
