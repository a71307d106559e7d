//! Lists of tasks as files.

use axum::body::Body;
use ergon_core::{QueueName, State, audit::AuditOutcome};
use ergon_monitor::{AccessToken, Auth, MonitorConfig, Role, Secret};
use ergon_testing::Operation;
use http::Method;
use http_body_util::BodyExt as _;

use crate::rig::{LOCAL, Rig, local, request};

#[tokio::test]
async fn every_task_that_matches_is_a_line() {
    let rig = Rig::new();
    let mut ids = Vec::new();
    for _ in 0..1_203 {
        ids.push(rig.task().await.to_string());
    }
    rig.in_state(State::Failed).await;
    ids.reverse();
    for path in ["/monitor/tasks/export.ndjson", "/monitor/api/v1/tasks/export.ndjson"] {
        let file = rig.get(&format!("{path}?state=pending")).await.is(200);
        assert_eq!(file.header("content-type"), "application/x-ndjson");
        assert!(file.header("content-disposition").contains("tasks.ndjson"));
        let lines: Vec<serde_json::Value> =
            file.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let found: Vec<_> = lines.iter().map(|line| line["id"].as_str().unwrap()).collect();
        assert_eq!(found, ids);
        assert!(lines.iter().all(|line| line["state"] == "pending" && line["payload"].is_null()));
        assert!(!file.body.contains("ada"), "no payload");
    }
    let file = rig.get("/monitor/tasks/export.csv?state=pending&limit=7").await.is(200);
    assert_eq!(file.body.lines().count(), 8);
    let file = rig.get(&format!("/monitor/tasks/export.csv?after={}", ids[1_200])).await.is(200);
    assert_eq!(file.body.lines().count(), 3);
    rig.get("/monitor/tasks/export.csv?state=x").await.is(400);
    rig.monitor.close().await;
    let trail = rig.trail().await;
    assert!(
        trail
            .iter()
            .all(|it| (it.action.as_str(), it.outcome) == ("task.export", AuditOutcome::Done))
    );
    let mut counts: Vec<_> = trail.iter().filter_map(|entry| entry.count).collect();
    counts.sort_unstable();
    assert_eq!(counts, [2, 7, 1_203, 1_203]);
}

#[tokio::test]
async fn a_table_computes_nothing() {
    let rig = Rig::new();
    let id = rig
        .in_state_with(State::Failed, "=HYPERLINK(\"evil\")", |task| {
            task.spec.queue = QueueName::new("-q").unwrap();
            task.spec.tags = crate::rig::tag("@sum").into_iter().collect();
            task.priority = -7;
        })
        .await;
    let file = rig.get("/monitor/tasks/export.csv").await.is(200);
    assert_eq!(file.header("content-type"), "text/csv; charset=utf-8");
    let (head, line) = file.body.split_once("\r\n").unwrap();
    assert!(head.starts_with("id,kind,queue,state,"), "{head}");
    let expected =
        format!("\"{id}\",\"mail.send\",\"'-q\",failed,1,25,-7,\"'@sum\",2025-01-01T00:00:00Z,");
    assert!(line.starts_with(&expected), "{line}");
    assert!(line.ends_with(",\"'=HYPERLINK(\"\"evil\"\")\"\r\n"), "{line}");
}

#[tokio::test]
async fn exports_are_capped() {
    let mut config = local();
    config.export_rows_max = 3;
    let rig = Rig::with(config);
    for _ in 0..5 {
        rig.task().await;
    }
    let file = rig.get("/monitor/tasks/export.ndjson?limit=5").await.is(200);
    assert_eq!(file.body.lines().count(), 3);
    let mut config = local();
    config.export_rows_max = 100_001;
    assert!(config.check().is_err());
}

#[tokio::test]
async fn a_viewer_takes_nothing_away_and_a_read_only_monitor_gives() {
    let tokens = [("v", Role::Viewer), ("o", Role::Operator)]
        .map(|(name, role)| AccessToken::new(name, Secret::new(name), role));
    let rig = Rig::with(MonitorConfig::new(Auth::Bearer(tokens.to_vec())).read_only(true));
    rig.task().await;
    for (token, status) in [("v", 403), ("o", 200)] {
        let who = format!("Bearer {token}");
        let headers = [("authorization", who.as_str())];
        rig.get_with("/monitor/tasks/export.csv", &headers).await.is(status);
        let page = rig.get_with("/monitor/tasks", &headers).await.is(200);
        assert_eq!(page.body.contains("/monitor/tasks/export.csv"), status == 200);
    }
    rig.monitor.close().await;
    let outcomes: Vec<_> = rig.trail().await.iter().map(|entry| entry.outcome).collect();
    assert!(outcomes.contains(&AuditOutcome::Denied) && outcomes.contains(&AuditOutcome::Done));
    assert_eq!(outcomes.len(), 2);
}

#[tokio::test]
async fn one_that_breaks_off_says_so_to_both_sides() {
    let rig = Rig::new();
    for _ in 0..600 {
        rig.task().await;
    }
    let ask = || {
        let mut ask = request(Method::GET, "/monitor/tasks/export.ndjson", &[], Body::empty());
        let peer: std::net::SocketAddr = LOCAL.parse().unwrap();
        ask.extensions_mut().insert(axum::extract::ConnectInfo(peer));
        ask
    };
    // The store fails in the middle.
    let mut body = rig.response(ask()).await.into_body();
    assert!(body.frame().await.unwrap().is_ok());
    rig.faulty.fail_before(Operation::List, 1);
    assert!(body.frame().await.unwrap().is_err());
    drop(body);
    // Whoever reads goes away.
    let mut body = rig.response(ask()).await.into_body();
    assert!(body.frame().await.unwrap().is_ok());
    let other = rig.response(ask()).await.into_body();
    assert_eq!(rig.response(ask()).await.status().as_u16(), 429);
    drop((body, other));
    assert_eq!(rig.response(ask()).await.status().as_u16(), 200);
    rig.monitor.close().await;
    let trail = rig.trail().await;
    assert!(trail.iter().all(|entry| entry.outcome == AuditOutcome::Failed), "{trail:?}");
    let mut counts: Vec<_> = trail.iter().filter_map(|entry| entry.count).collect();
    counts.sort_unstable();
    assert_eq!(counts, [0, 0, 500, 500]);
}
