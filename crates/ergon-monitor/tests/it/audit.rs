//! The audit trail: written before an order is carried out and after, and shown page by page.

use ergon_core::{State, audit::AuditOutcome};
use ergon_testing::Operation;

use crate::rig::{JSON, LOCAL, Rig, local, request};

#[tokio::test]
async fn the_trail_is_shown_the_newest_first_and_page_by_page() {
    let mut config = local();
    config.page_rows = 10;
    let rig = Rig::with(config);
    rig.get("/monitor/audit").await.is(200).has("Nobody has ordered anything yet");
    for _ in 0..25 {
        let id = rig.task().await;
        rig.clock.advance(std::time::Duration::from_secs(1));
        rig.post_json(&format!("/monitor/api/v1/tasks/{id}/cancel"), "{}").await.is(200);
    }
    let mut expected: Vec<_> = rig.trail().await.iter().map(|entry| entry.id.to_string()).collect();
    expected.reverse();
    let (mut seen, mut path) = (Vec::new(), "/monitor/api/v1/audit".to_owned());
    loop {
        let page = rig.json(&path).await;
        let entries = page["entries"].as_array().unwrap();
        seen.extend(entries.iter().map(|entry| entry["id"].as_str().unwrap().to_owned()));
        assert!(entries.len() <= 10);
        let Some(older) = page["older"].as_str() else { break };
        path = format!("/monitor/api/v1/audit?after={older}");
    }
    assert_eq!(seen, expected);
    let page = rig.get("/monitor/audit").await.has("task.cancel").has("older ›").has("127.0.0.1");
    page.has("local").has("(<bdi>admin</bdi>)").has("state-done");
    rig.get(&format!("/monitor/audit?after={}", expected[9])).await.has("‹ newest");
}

#[tokio::test]
async fn an_order_whose_beginning_cannot_be_kept_is_not_carried_out() {
    let rig = Rig::new();
    let id = rig.in_state(State::Failed).await;
    // The first request keeps the key of the forms.
    rig.get("/monitor/").await.is(200);
    rig.faulty.fail_before(Operation::Put, 1);
    let path = format!("/monitor/api/v1/tasks/{id}/retry");
    rig.post_json(&path, "{}").await.is(503).has("store-unavailable");
    assert_eq!((rig.state(id).await, rig.trail().await.len()), (State::Failed, 0));
    rig.post_json(&path, "{}").await.is(200);
    assert_eq!(rig.state(id).await, State::Pending);
}

#[tokio::test]
async fn an_order_that_may_not_have_been_kept_is_not_carried_out_and_stays_begun() {
    let rig = Rig::new();
    let id = rig.in_state(State::Failed).await;
    rig.get("/monitor/").await.is(200);
    // The beginning is written, its answer is lost: nobody can know, so nothing is done.
    rig.faulty.fail_after(Operation::Put, 1);
    let path = format!("/monitor/api/v1/tasks/{id}/retry");
    rig.post_json(&path, "{}").await.is(503);
    assert_eq!((rig.state(id).await, rig.outcome().await), (State::Failed, AuditOutcome::Begun));
    rig.get("/monitor/audit").await.is(200).has("state-begun");
}

#[tokio::test]
async fn what_is_refused_is_written_down_without_its_payload() {
    let rig = Rig::with(local().read_only(true));
    let body = r#"{"kind":"k","payload":{"a":"hush"}}"#;
    let headers = [("sec-fetch-site", "same-origin"), JSON];
    let order = request(http::Method::POST, "/monitor/api/v1/enqueue", &headers, body);
    rig.send_from(LOCAL, order).await.is(403);
    let trail = rig.trail().await;
    assert_eq!(
        (trail[0].outcome, trail[0].action.as_str()),
        (AuditOutcome::Denied, "task.enqueue")
    );
    assert!(!format!("{trail:?}").contains("hush"));
    rig.get("/monitor/audit").await.has("state-denied").has("read-only").has_not("hush");
}
