//! Operations: one command for all tasks that match, from its form to its end.

use std::time::Duration;

use ergon_core::{State, audit::AuditOutcome};
use serde_json::Value;

use crate::rig::{Rig, local};

const SECOND: Duration = Duration::from_secs(1);

/// The operation, once it stands so.
async fn until(rig: &Rig, id: &str, state: &str) -> Value {
    loop {
        let view = rig.json(&format!("/monitor/api/v1/bulk/{id}")).await;
        if view["state"] == state {
            return view;
        }
        tokio::task::yield_now().await;
        tokio::time::advance(SECOND * 2).await;
    }
}

async fn failed(rig: &Rig, tasks: usize) -> Vec<ergon_core::TaskId> {
    let mut ids = Vec::new();
    for _ in 0..tasks {
        ids.push(rig.in_state(State::Failed).await);
    }
    ids
}

#[tokio::test(start_paused = true)]
async fn all_that_match_are_met_from_the_page_that_lists_some() {
    let mut config = local();
    config.page_rows = 10;
    let rig = Rig::with(config);
    let ids = failed(&rig, 30).await;
    let waiting = rig.task().await;
    let page =
        rig.get("/monitor/tasks?state=failed").await.has("All 30 that match").has("Run all again…");
    page.has("/monitor/bulk/new?state=failed&amp;action=retry").has_not("Cancel all");
    let form = rig.get("/monitor/bulk/new?state=failed&action=retry").await.is(200);
    form.has("30 tasks match")
        .has(&ids[0].to_string())
        .has("state=failed")
        .has_not("name=\"typed\"");
    let fields = "action=retry&filter=state%3Dfailed&expected_count=30&note=ticket+7";
    let made = rig.form("/monitor/bulk", fields).await.is(303).header("location").to_owned();
    assert!(made.ends_with("?notice=begun"), "{made}");
    let id = made.trim_start_matches("/monitor/bulk/").trim_end_matches("?notice=begun");
    let view = until(&rig, id, "finished").await;
    assert_eq!(
        (&view["seen"], &view["changed"], &view["expected"]),
        (&"30".into(), &"30".into(), &"30".into())
    );
    assert_eq!(
        (&view["actor"], &view["note"], &view["tasks"]),
        (&"local".into(), &"ticket 7".into(), &"state=failed".into())
    );
    for task in ids {
        assert_eq!(rig.state(task).await, State::Pending);
    }
    assert_eq!(rig.state(waiting).await, State::Pending);
    rig.get(&made)
        .await
        .is(200)
        .has("The operation was made")
        .has(">30</data> of ")
        .has("ticket 7")
        .has_not("Pause</button>");
    rig.get("/monitor/bulk").await.has(id).has("retry").has("finished");
    let trail = rig.trail().await;
    assert_eq!(
        (trail[0].action.as_str(), trail[0].outcome),
        ("operation.retry", AuditOutcome::Done)
    );
    assert_eq!(
        (trail[0].target.as_str(), trail[0].count, trail[0].note.as_str()),
        ("state=failed", Some(30), id)
    );
}

#[tokio::test(start_paused = true)]
async fn an_operation_is_paused_resumed_and_stopped() {
    let rig = Rig::new();
    failed(&rig, 6).await;
    let body =
        r#"{"filter":"state=failed","action":"delete","expected_count":6,"rate_per_second":1}"#;
    let made = rig.post_json("/monitor/api/v1/bulk", body).await.is(200).json();
    assert_eq!(made["expected"], "6");
    let id = made["id"].as_str().unwrap();
    let steer = async |action: &str| {
        let answer = rig.post_json(&format!("/monitor/api/v1/bulk/{id}/{action}"), "{}").await;
        answer.is(200).json()["state"].as_str().unwrap().to_owned()
    };
    assert_eq!(steer("pause").await, "paused");
    rig.get(&format!("/monitor/bulk/{id}"))
        .await
        .has("Go on</button>")
        .has("Stop</button>")
        .has("1 tasks a second");
    assert_eq!(steer("resume").await, "running");
    rig.get(&format!("/monitor/bulk/{id}")).await.has("Pause</button>");
    let answer = rig.form(&format!("/monitor/bulk/{id}/stop"), "").await.is(303);
    assert_eq!(answer.header("location"), format!("/monitor/bulk/{id}?notice=steered"));
    // What is over stays so.
    assert_eq!(steer("resume").await, "stopped");
    let view = rig.json(&format!("/monitor/api/v1/bulk/{id}")).await;
    assert!(view["seen"].as_str().unwrap().parse::<u64>().unwrap() < 6, "{view}");
    let gone = "/monitor/api/v1/bulk/01890000-0000-7000-8000-000000000000/pause";
    rig.post_json(gone, "{}").await.is(404);
    rig.post_json(&format!("/monitor/api/v1/bulk/{id}/explode"), "{}").await.is(404);
    let actions: Vec<_> = rig.trail().await.into_iter().map(|entry| entry.action).collect();
    for action in ["operation.delete", "operation.pause", "operation.resume", "operation.stop"] {
        assert!(actions.iter().any(|found| found == action), "{action}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_not_meant_is_not_done() {
    let rig = Rig::new();
    let form = rig.get("/monitor/bulk/new?action=retry&state=failed").await.is(200);
    form.has("No task matches");
    for _ in 0..150 {
        rig.task().await;
    }
    let shown = |count: u64| {
        format!(r#"{{"filter":"state=pending","action":"cancel","expected_count":{count}}}"#)
    };
    for (body, status, words) in [
        (shown(49), 409, "Many more tasks match"),
        (shown(150).replace("pending", "failed"), 409, "No task matches"),
        (shown(150).replace("state=pending", "id=01"), 400, "id: "),
        (shown(150).replace("state=pending", "state=x"), 400, "state: "),
        (shown(150).replace("cancel", "pause"), 404, "no such order"),
        (shown(150).replace("\"expected_count\":150", "\"x\":1"), 400, "expected_count"),
        (shown(150).replace('}', ",\"rate_per_second\":-1}"), 400, "rate_per_second"),
    ] {
        let answer = rig.post_json("/monitor/api/v1/bulk", &body).await.is(status);
        answer.has(words);
    }
    let delete = "action=delete&filter=&expected_count=150";
    rig.form("/monitor/bulk", delete).await.is(400).has("confirmed");
    assert!(rig.json("/monitor/api/v1/bulk").await["operations"].as_array().unwrap().is_empty());
    assert!(rig.trail().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn more_than_a_thousand_take_a_typed_word() {
    let rig = Rig::new();
    for _ in 0..1_001 {
        rig.task().await;
    }
    let form = rig.get("/monitor/bulk/new?action=cancel&state=pending").await.is(200);
    form.has("more than 1,000").has("name=\"typed\"");
    let fields = "action=cancel&filter=state%3Dpending&expected_count=1001";
    rig.form("/monitor/bulk", fields).await.is(400).has("has to be typed");
    rig.form("/monitor/bulk", &format!("{fields}&typed=retry")).await.is(400);
    let made = rig.form("/monitor/bulk", &format!("{fields}&typed=cancel")).await.is(303);
    let id = made.header("location").trim_start_matches("/monitor/bulk/");
    let view = until(&rig, id.split('?').next().unwrap(), "finished").await;
    assert_eq!(view["changed"], "1001");
}

#[tokio::test(start_paused = true)]
async fn tasks_that_could_not_be_changed_are_named() {
    let rig = Rig::new();
    let running = rig.in_state(State::Running).await;
    failed(&rig, 2).await;
    let body = r#"{"filter":"kind=mail.send","action":"delete","expected_count":3}"#;
    let made = rig.post_json("/monitor/api/v1/bulk", body).await.is(200).json();
    let id = made["id"].as_str().unwrap();
    let view = until(&rig, id, "finished").await;
    assert_eq!((&view["changed"], &view["illegal"]), (&"2".into(), &"1".into()));
    assert_eq!(
        (&view["problems"][0]["id"], &view["problems"][0]["state"]),
        (&running.to_string().into(), &"running".into())
    );
    rig.get(&format!("/monitor/bulk/{id}")).await.has("not changed").has(&running.to_string());
}

#[tokio::test(start_paused = true)]
async fn a_monitor_that_stops_leaves_operations_to_others() {
    let rig = Rig::new();
    failed(&rig, 5).await;
    let body =
        r#"{"filter":"state=failed","action":"retry","expected_count":5,"rate_per_second":1}"#;
    let made = rig.post_json("/monitor/api/v1/bulk", body).await.is(200).json();
    rig.monitor.close().await;
    let view =
        rig.beside().json(&format!("/monitor/api/v1/bulk/{}", made["id"].as_str().unwrap())).await;
    assert_eq!(view["state"], "running");
}
