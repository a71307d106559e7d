//! Pages that stay open: they ask again, share one reading, and never show old data as new.

use std::time::Duration;

use ergon_core::State;
use ergon_testing::Operation;
use futures_util::future::join_all;
use tokio::time::advance;

use crate::rig::Rig;

const SECOND: Duration = Duration::from_secs(1);

/// The revision that a page shows.
fn revision(body: &str) -> String {
    let rest = body.split("data-revision=\"").nth(1).unwrap();
    rest.split('"').next().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_poll_is_answered_with_nothing_when_nothing_changed() {
    let rig = Rig::new();
    let id = rig.in_state(State::Failed).await;
    for path in ["/", "/tasks", "/queues", "/queues/default", "/system", &format!("/tasks/{id}")] {
        let page = rig.get(&format!("/monitor{path}")).await.is(200);
        let poll = format!("/monitor{path}?fragment=1&since={}", revision(&page.body));
        let answer = rig.get(&poll).await.is(204);
        assert!(answer.body.is_empty() && !answer.header("x-ergon-cursor").is_empty());
        let next: u64 = answer.header("x-ergon-next-poll").parse().unwrap();
        assert!((1..=5_050).contains(&next), "{next}");
        let poll = format!("/monitor/api/v1{}", poll.replacen("/monitor", "", 1));
        if path != "/" {
            rig.get(&poll).await.is(204);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_poll_is_answered_with_what_changed_and_no_more() {
    let rig = Rig::new();
    rig.task().await;
    let page = rig.get("/monitor/queues").await;
    let poll = format!("/monitor/queues?fragment=1&since={}", revision(&page.body));
    rig.task().await;
    advance(SECOND * 6).await;
    let fragment = rig.get(&poll).await.is(200).has_not("<html").has_not("<head");
    assert!(fragment.body.starts_with("<main") && fragment.body.ends_with("</main>"));
    assert_ne!(revision(&fragment.body), revision(&page.body));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_comes_due_changes_its_page_without_a_write() {
    let rig = Rig::new();
    let id = rig.in_state(State::Scheduled).await;
    let page = rig.get(&format!("/monitor/tasks/{id}")).await.has("scheduled");
    let poll = format!("/monitor/tasks/{id}?fragment=1&since={}", revision(&page.body));
    rig.clock.advance(SECOND * 3_600);
    advance(SECOND * 6).await;
    rig.get(&poll).await.is(200).has("pending");
}

#[tokio::test(start_paused = true)]
async fn a_hundred_pages_cost_what_one_does() {
    let rig = Rig::new();
    rig.task().await;
    let calls = |rig: &Rig| {
        [Operation::Queues, Operation::List, Operation::Latest, Operation::Count]
            .map(|operation| rig.faulty.calls(operation))
    };
    let page = rig.get("/monitor/").await;
    let opened = calls(&rig);
    assert_eq!(opened, [1, 1, 1, 0]);
    let poll = format!("/monitor/?fragment=1&since={}", revision(&page.body));
    for round in 1..=10 {
        advance(SECOND * 5 + SECOND / 10).await;
        for answer in join_all((0..100).map(|_| rig.get(&poll))).await {
            answer.is(204);
        }
        assert_eq!(calls(&rig), [1 + round, 1 + round, 1 + round, 0]);
    }
    // Slow readings are shared by all who come while they last.
    rig.faulty.delay(Operation::Queues, SECOND);
    advance(SECOND * 6).await;
    join_all((0..100).map(|_| rig.get("/monitor/"))).await;
    assert_eq!(rig.faulty.calls(Operation::Queues), 12);
}

#[tokio::test(start_paused = true)]
async fn one_part_that_fails_leaves_the_others() {
    let rig = Rig::new();
    rig.in_state(State::Failed).await;
    rig.faulty.fail_before(Operation::List, 1);
    let page = rig.get("/monitor/").await.is(200);
    page.has("could not be read").has("Tasks by state").has("reference").has_not("planned");
    advance(SECOND * 2).await;
    rig.faulty.fail_before(Operation::Queues, 1);
    rig.get("/monitor/").await.is(200).has("could not be read").has("smtp: connect");
    advance(SECOND * 2).await;
    rig.faulty.fail_before(Operation::Count, 1);
    rig.get("/monitor/tasks").await.is(200).has("could not be read").has("mail.send");
    // The end of the journal is nice to know, no more.
    advance(SECOND * 2).await;
    rig.faulty.fail_before(Operation::Latest, 1);
    let page = rig.get("/monitor/queues").await.is(200);
    assert_eq!(page.header("x-ergon-cursor"), "");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_shows_what_was_read_last_and_says_so() {
    let rig = Rig::new();
    rig.task().await;
    let page = rig.get("/monitor/queues").await.is(200);
    rig.faulty.fail_before(Operation::Queues, usize::MAX);
    advance(SECOND * 6).await;
    let poll = format!("/monitor/queues?fragment=1&since={}", revision(&page.body));
    rig.get(&poll).await.is(200).has("Stale: ").has("2025-01-01T00:00:00Z").has("default");
    let json = rig.json("/monitor/api/v1/queues").await;
    assert!(json["stale"].as_str().unwrap().contains("reported a failure"));
    // What was never read cannot be shown.
    let calls = rig.faulty.calls(Operation::Queues);
    for answer in join_all((0..50).map(|_| rig.get("/monitor/queues/other"))).await {
        let answer = answer.is(503).has("The store does not answer");
        assert_eq!(answer.header("retry-after"), "2");
    }
    assert_eq!(rig.faulty.calls(Operation::Queues), calls + 1);
    rig.get("/monitor/api/v1/queues/other")
        .await
        .is(503)
        .has("urn:ergon:problem:store-unavailable");
    rig.faulty.heal();
    advance(SECOND * 2).await;
    rig.get("/monitor/queues").await.is(200).has_not("Stale: ");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_is_not_waited_for() {
    let rig = Rig::new();
    rig.faulty.delay(Operation::Queues, SECOND * 60);
    let before = tokio::time::Instant::now();
    rig.get("/monitor/queues").await.is(503).has("did not answer within 2 s");
    assert_eq!(before.elapsed(), SECOND * 2);
    // Four readings at once at the most; the others wait for their turn within the same time.
    let asked = (0..20).map(|number| rig.get_owned(format!("/monitor/queues/q{number}")));
    let answers = join_all(asked).await;
    assert!(answers.iter().all(|answer| answer.status.as_u16() == 503));
}
