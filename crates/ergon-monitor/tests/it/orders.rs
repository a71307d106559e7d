//! Orders: what they do, how they are answered, and that the audit is told.

use std::time::Duration;

use ergon_core::{
    State,
    audit::{Actor, AuditOutcome},
};
use ergon_testing::Operation;

use crate::rig::Rig;

#[tokio::test]
async fn orders_for_a_task_are_carried_out_and_lead_back_to_it() {
    for (from, action, fields, to) in [
        (State::Failed, "retry", "", Some(State::Pending)),
        (State::Pending, "cancel", "reason=wrong+address", Some(State::Cancelled)),
        (State::Pending, "reschedule", "run_at=2025-01-02T03:04", Some(State::Scheduled)),
        (State::Scheduled, "priority", "priority=-7", Some(State::Scheduled)),
        (State::Completed, "delete", "confirm=yes", None),
    ] {
        let rig = Rig::new();
        let id = rig.in_state(from).await;
        let answer = rig.form(&format!("/monitor/tasks/{id}/{action}"), fields).await.is(303);
        let target = if to.is_some() { format!("/tasks/{id}") } else { "/tasks".to_owned() };
        assert_eq!(answer.header("location"), format!("/monitor{target}?notice={action}"));
        let found = rig.find(id).await;
        assert_eq!(found.as_ref().map(|task| task.state), to, "{action}");
        let [entry] = &rig.trail().await[..] else { unreachable!("one entry") };
        assert_eq!((&entry.action, &entry.target), (&format!("task.{action}"), &id.to_string()));
        assert_eq!((entry.outcome, entry.count), (AuditOutcome::Done, Some(1)));
        assert_eq!(entry.actor, Actor::new("local").role("admin").address("127.0.0.1"));
        let page = rig.get(answer.header("location")).await.is(200).has("Done: ");
        if action == "cancel" {
            page.has("wrong address (local)");
        }
    }
}

#[tokio::test]
async fn programs_are_answered_task_by_task() {
    let rig = Rig::new();
    let running = rig.in_state(State::Running).await;
    let failed = rig.in_state(State::Failed).await;
    let gone = ergon_core::TaskId::MIN;
    let body =
        format!(r#"{{"action":"cancel","ids":["{running}","{failed}","{gone}","{running}"]}}"#);
    for path in ["/monitor/tasks/bulk", "/monitor/api/v1/tasks/bulk"] {
        let answer = rig.post_json(path, &body).await.is(200).json();
        let outcomes: Vec<_> = answer["results"]
            .as_array()
            .unwrap()
            .iter()
            .map(|result| (result["id"].as_str().unwrap(), result["outcome"].as_str().unwrap()))
            .collect();
        let again = if path.contains("api") { "unchanged" } else { "requested" };
        assert_eq!(outcomes[0], (&*running.to_string(), again));
        assert_eq!((outcomes[1].1, outcomes[2].1, outcomes.len()), ("illegal", "not_found", 3));
    }
    let answer =
        rig.post_json(&format!("/monitor/api/v1/tasks/{failed}/cancel"), "{}").await.is(409);
    assert_eq!(answer.header("content-type"), "application/problem+json");
    answer.has("failed").has("Nothing changed");
    rig.post_json(&format!("/monitor/api/v1/tasks/{gone}/cancel"), "{}").await.is(404);
    let done = rig.post_json(&format!("/monitor/api/v1/tasks/{failed}/retry"), "{}").await.is(200);
    assert_eq!(done.json()["results"][0]["outcome"], "applied");
}

#[tokio::test]
async fn a_form_for_many_leads_to_what_came_of_each() {
    let rig = Rig::new();
    let (failed, done) = (rig.in_state(State::Failed).await, rig.in_state(State::Running).await);
    let fields = format!("action=retry&ids={failed}&ids={done}");
    let answer = rig.form("/monitor/tasks/bulk", &fields).await.is(303);
    let target = answer.header("location").to_owned();
    assert!(target.starts_with("/monitor/outcomes/"), "{target}");
    for _ in 0..2 {
        rig.get(&target)
            .await
            .is(200)
            .has("2 tasks: 1 set to run again")
            .has("illegal")
            .has("running");
    }
    assert_eq!(rig.state(failed).await, State::Pending);
    let entry = &rig.trail().await[0];
    assert_eq!((entry.target.as_str(), entry.count), ("2 tasks", Some(1)));
}

#[tokio::test]
async fn queues_pause_and_resume() {
    let rig = Rig::new();
    rig.task().await;
    let answer = rig.form("/monitor/queues/default/pause", "").await.is(303);
    assert_eq!(answer.header("location"), "/monitor/queues/default?notice=pause");
    rig.get("/monitor/queues/default").await.is(200).has("nothing of it is started").has("Resume");
    rig.post_json("/monitor/api/v1/queues/default/resume", "{}").await.is(204);
    rig.get("/monitor/queues/default").await.is(200).has_not("nothing of it is started");
}

#[tokio::test]
async fn a_task_is_enqueued_once_however_often_its_form_is_sent() {
    let rig = Rig::new();
    let page = rig.get("/monitor/enqueue").await.is(200);
    let id = page.body.split("name=\"id\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let fields = format!(
        "id={id}&kind=mail.send&queue=mail&priority=3&tags=a,+b&payload=%7B%22n%22%3A1.10%7D"
    );
    for _ in 0..2 {
        let answer = rig.form("/monitor/enqueue", &fields).await.is(303);
        assert_eq!(answer.header("location"), format!("/monitor/tasks/{id}?notice=enqueue"));
    }
    let task = rig.record(id.parse().unwrap()).await;
    assert_eq!((&task.spec.payload[..], task.spec.tags.len()), (&br#"{"n":1.10}"#[..], 2));
    assert_eq!((task.spec.queue.as_str(), task.progress.priority), ("mail", 3));
    let body = r#"{"kind":"k","payload":{"b":1,"a":12345678901234567890},"run_at":"2025-02-01T00:00:00Z"}"#;
    let answer = rig.post_json("/monitor/api/v1/enqueue", body).await.is(200).json();
    let id = answer["results"][0]["id"].as_str().unwrap().parse().unwrap();
    let task = rig.record(id).await;
    assert_eq!(&task.spec.payload[..], br#"{"b":1,"a":12345678901234567890}"#);
    assert_eq!(task.state, State::Scheduled);
    let trail = rig.trail().await;
    assert!(trail.iter().all(|it| it.action == "task.enqueue" && !it.target.contains("1.10")));
    assert!(trail.iter().all(|it| !it.note.contains("1.10") && it.outcome == AuditOutcome::Done));
}

#[tokio::test]
async fn an_order_that_the_store_loses_is_told_so() {
    let rig = Rig::new();
    let id = rig.in_state(State::Failed).await;
    rig.faulty.fail_before(Operation::Apply, 1);
    let answer = rig.form(&format!("/monitor/tasks/{id}/retry"), "").await.is(503);
    answer.has("The store does not answer").has("reference").has_not("planned");
    assert_eq!(rig.outcome().await, AuditOutcome::Failed);
    rig.form(&format!("/monitor/tasks/{id}/retry"), "").await.is(303);
}

#[tokio::test]
async fn an_order_is_seen_at_once_on_every_page() {
    let rig = Rig::new();
    let id = rig.in_state(State::Failed).await;
    let failed = |stats: &serde_json::Value| {
        let states = stats["queues"]["data"]["states"].as_array().unwrap().clone();
        states.iter().find(|state| state["state"] == "failed").unwrap()["tasks"].clone()
    };
    assert_eq!(failed(&rig.json("/monitor/api/v1/stats").await), "1");
    rig.form(&format!("/monitor/tasks/{id}/retry"), "").await.is(303);
    assert_eq!(failed(&rig.json("/monitor/api/v1/stats").await), "0");
}

#[tokio::test(start_paused = true)]
async fn an_order_whose_answer_does_not_come_may_have_been_carried_out() {
    let rig = Rig::new();
    let id = rig.in_state(State::Failed).await;
    rig.faulty.delay(Operation::Apply, Duration::from_secs(60));
    let begun = tokio::time::Instant::now();
    let answer = rig.post_json(&format!("/monitor/api/v1/tasks/{id}/retry"), "{}").await.is(503);
    answer.has("may have been carried out, or not");
    assert_eq!(begun.elapsed(), Duration::from_secs(10));
    assert_eq!(rig.outcome().await, AuditOutcome::Failed);
}

#[tokio::test(start_paused = true)]
async fn an_order_goes_on_when_whoever_gave_it_goes_away() {
    let rig = Rig::new();
    let id = rig.in_state(State::Failed).await;
    rig.faulty.delay(Operation::Apply, Duration::from_secs(5));
    let path = format!("/monitor/api/v1/tasks/{id}/retry");
    let order = tokio::time::timeout(Duration::from_secs(1), rig.post_json(&path, "{}"));
    assert!(order.await.is_err());
    assert_eq!(rig.state(id).await, State::Failed);
    rig.monitor.close().await;
    assert_eq!(rig.state(id).await, State::Pending);
    assert_eq!(rig.outcome().await, AuditOutcome::Done);
}
