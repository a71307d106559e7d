//! Every route: its status, its type, and what it shows.

use ergon_core::State;
use ergon_testing::Operation;

use crate::rig::{Rig, at};

/// Addresses that show something, whatever is in the store.
const PAGES: [&str; 13] = [
    "/",
    "/?range=7d",
    "/tasks",
    "/tasks?state=failed",
    "/errors",
    "/errors?range=1h&order=most",
    "/queues",
    "/workers",
    "/bulk",
    "/bulk/new?action=cancel&state=pending",
    "/audit",
    "/system",
    "/enqueue",
];

const API: [&str; 10] = [
    "/stats",
    "/timeseries",
    "/tasks",
    "/errors",
    "/queues",
    "/workers",
    "/bulk",
    "/audit",
    "/system",
    "/openapi.json",
];

#[tokio::test]
async fn every_page_is_a_whole_one_also_of_an_empty_store() {
    let rig = Rig::new();
    for path in PAGES {
        let page = rig.get(&format!("/monitor{path}")).await.is(200);
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
        assert_eq!(page.header("cache-control"), "no-store");
        for part in ["<!DOCTYPE html>", "<html lang=\"en\"", "<main", "Skip to", "<nav aria-label"]
        {
            assert!(page.body.contains(part), "{part} in {path}");
        }
        assert_eq!(page.body.matches("<h1").count(), 1, "{path}");
        page.has_not("style=").has_not("http://").has_not("https://").has_not(" onclick");
    }
    rig.get("/monitor").await.is(200).has("There are no tasks yet");
    rig.get("/monitor/tasks?kind=x").await.is(200).has("No task matches");
    rig.get("/monitor/queues").await.is(200).has("There are no queues yet");
}

#[tokio::test]
async fn every_link_of_every_page_leads_somewhere() {
    let rig = Rig::new();
    for state in [State::Pending, State::Running, State::Failed, State::Completed] {
        rig.in_state(state).await;
    }
    let id = rig.task().await;
    let own = format!("/tasks/{id}");
    for path in PAGES.into_iter().chain(["/queues/default", &own]) {
        let page = rig.get(&format!("/monitor{path}")).await.is(200);
        let links = ["href=\"", "src=\"", "action=\""]
            .iter()
            .flat_map(|mark| page.body.split(mark).skip(1));
        let links: Vec<_> = links.map(|rest| rest.split('"').next().unwrap()).collect();
        assert!(links.len() > 5, "{path}");
        for link in links {
            if link == "#main" {
                continue;
            }
            assert!(link.starts_with("/monitor"), "{link} in {path}");
            let status = rig.get(&link.replace("&amp;", "&")).await.status.as_u16();
            // Addresses of orders are there, but not to be looked at.
            assert!([200, 303, 405].contains(&status), "{status} {link} in {path}");
        }
    }
}

#[tokio::test]
async fn every_answer_to_a_program_stands_in_time() {
    let rig = Rig::new();
    let id = rig.in_state(State::Failed).await;
    for path in
        ["/stats", "/tasks", "/queues", "/queues/default", "/system", &format!("/tasks/{id}")]
    {
        let answer = rig.get(&format!("/monitor/api/v1{path}")).await.is(200);
        let json = answer.json();
        assert_eq!(json["cursor"].as_str().unwrap(), answer.header("x-ergon-cursor"), "{path}");
        assert_eq!(json["revision"].as_str().unwrap().len(), 16);
        assert_eq!(json["read_at"], "2025-01-01T00:00:00Z");
        assert!(json["stale"].is_null());
    }
    for path in API {
        rig.json(&format!("/monitor/api/v1{path}")).await;
    }
    let task = rig.json(&format!("/monitor/api/v1/tasks/{id}")).await;
    assert_eq!(task["id"], id.to_string());
    assert_eq!((&task["state"], &task["payload"]["json"]["to"]), (&"failed".into(), &"ada".into()));
    assert_eq!(task["errors"][0]["message"], "smtp: connect");
    let stats = rig.json("/monitor/api/v1/stats").await;
    let failed = stats["queues"]["data"]["states"]
        .as_array()
        .unwrap()
        .iter()
        .find(|s| s["state"] == "failed");
    assert_eq!(failed.unwrap()["tasks"], "1");
}

#[tokio::test]
async fn the_description_names_every_route_of_the_api() {
    let rig = Rig::new();
    let described = rig.json("/monitor/api/v1/openapi.json").await;
    for path in [
        "stats",
        "tasks",
        "tasks/{id}",
        "tasks/{id}/{action}",
        "tasks/bulk",
        "queues",
        "system",
        "enqueue",
        "timeseries",
        "workers",
        "errors",
        "errors/{fingerprint}",
        "audit",
        "bulk",
        "bulk/{id}",
        "bulk/{id}/{action}",
        "tasks/export.ndjson",
        "tasks/export.csv",
    ] {
        assert!(described["paths"][format!("/api/v1/{path}")].is_object(), "{path}");
    }
    assert_eq!(described["servers"][0]["url"], "/monitor");
    assert!(described["components"]["schemas"]["Problem"].is_object());
}

#[tokio::test]
async fn what_is_not_there_is_said_so_in_the_form_that_was_asked_for() {
    let rig = Rig::new();
    let gone = "/tasks/01890000-0000-7000-8000-000000000000";
    for (path, status) in [
        ("/nowhere", 404),
        (gone, 404),
        ("/queues/none", 404),
        ("/bulk/7", 404),
        ("/outcomes/7", 404),
        ("/errors/0000000000000007", 404),
        ("/errors/x", 400),
        ("/errors?range=2h", 400),
        ("/errors?order=x", 400),
        ("/audit?after=x", 400),
        ("/bulk?after=x", 400),
        ("/bulk/new", 400),
        ("/bulk/new?action=pause", 400),
        ("/bulk/new?action=retry&id=01", 400),
        ("/tasks/export.csv?before=01890000-0000-7000-8000-000000000000", 400),
        ("/static/ergon.0000.css", 404),
        ("/tasks/x", 400),
        ("/queues/a%20b", 400),
        ("/tasks?state=available", 400),
        ("/tasks/bulk", 405),
        ("/theme", 405),
    ] {
        let page = rig.get(&format!("/monitor{path}")).await.is(status).has("<h1>");
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
        let accept = [("accept", "application/json")];
        let problem = rig.get_with(&format!("/monitor{path}"), &accept).await.is(status);
        assert_eq!(problem.header("content-type"), "application/problem+json");
        assert_eq!(problem.json()["status"], status);
        assert!(problem.json()["type"].as_str().unwrap().starts_with("urn:ergon:problem:"));
    }
    rig.get("/monitor/api/v1/none").await.is(404).has("urn:ergon:problem:not-found");
}

#[tokio::test]
async fn a_list_is_paged_in_both_directions() {
    let mut config = crate::rig::local();
    config.page_rows = 10;
    let rig = Rig::with(config);
    let mut ids = Vec::new();
    for _ in 0..25 {
        ids.push(rig.task().await.to_string());
    }
    ids.reverse();
    let listed = |json: &serde_json::Value| -> Vec<String> {
        json["tasks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|t| t["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let (mut seen, mut path) = (Vec::new(), "/monitor/api/v1/tasks".to_owned());
    let last = loop {
        let page = rig.json(&path).await;
        seen.extend(listed(&page));
        match page["older"].as_str() {
            Some(older) => path = format!("/monitor/api/v1/tasks?after={older}"),
            None => break page,
        }
    };
    assert_eq!(seen, ids);
    let newer = last["newer"].as_str().unwrap();
    let page = rig.json(&format!("/monitor/api/v1/tasks?before={newer}")).await;
    assert_eq!(listed(&page), ids[10..20]);
    let newest = rig
        .json(&format!("/monitor/api/v1/tasks?before={}", page["newer"].as_str().unwrap()))
        .await;
    assert_eq!((listed(&newest), &newest["newer"]), (ids[..10].to_vec(), &serde_json::Value::Null));
    rig.get("/monitor/tasks").await.has("older ›").has_not("‹ newer").has("25 tasks match");
}

#[tokio::test]
async fn filters_choose_and_counts_follow_them() {
    let rig = Rig::new();
    let ada = rig
        .in_state_with(State::Failed, "x", |task| {
            task.spec.queue = ergon_core::QueueName::new("mail").unwrap();
            task.spec.tags = vec![crate::rig::tag("eu").unwrap()];
            task.spec.metadata = crate::rig::metadata("user-7");
        })
        .await;
    rig.clock.advance(std::time::Duration::from_secs(60));
    rig.task().await;
    let prefix = &ada.to_string()[..11];
    for (query, expected) in [
        ("", 2),
        ("state=failed", 1),
        ("state=failed&state=pending", 2),
        ("queue=mail", 1),
        ("queue=none", 0),
        ("kind=mail.send", 2),
        ("kind=other", 0),
        ("tag=eu", 1),
        ("meta=plain:user-7", 1),
        ("meta=plain:user-8", 0),
        ("to=2025-01-01T00:00:30", 1),
        ("from=2025-01-01T00:00:30Z", 1),
        (&format!("id={prefix}"), 1),
        (&format!("id={prefix}&state=pending"), 0),
        ("id=ffffffff", 0),
    ] {
        let page = rig.json(&format!("/monitor/api/v1/tasks?{query}")).await;
        assert_eq!(page["tasks"].as_array().unwrap().len(), expected, "{query}");
    }
    let page = rig.json("/monitor/api/v1/tasks?queue=mail").await;
    assert_eq!(page["count"]["data"]["tasks"], "1");
    assert!(page["states"]["data"].is_array());
    let page = rig.json("/monitor/api/v1/tasks?kind=mail.send").await;
    assert!(page["states"]["data"].is_null());
    let found = rig.get(&format!("/monitor/tasks?id={ada}")).await.is(303);
    assert_eq!(found.header("location"), format!("/monitor/tasks/{ada}"));
}

#[tokio::test]
async fn queues_stand_in_the_order_of_their_oldest_due_task() {
    let rig = Rig::new();
    for queue in ["late", "early", "idle"] {
        rig.task_with(|task| {
            task.spec.queue = ergon_core::QueueName::new(queue).unwrap();
            task.run_at = match queue {
                "late" => ergon_core::RunAt::At(at("2024-12-31T23:59:50Z")),
                "early" => ergon_core::RunAt::At(at("2024-12-31T23:00:00Z")),
                _ => ergon_core::RunAt::At(at("2026-01-01T00:00:00Z")),
            };
        })
        .await;
    }
    rig.pause("late").await;
    let stats = rig.json("/monitor/api/v1/stats").await;
    let data = &stats["queues"]["data"];
    let names: Vec<_> =
        data["queues"].as_array().unwrap().iter().map(|q| q["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["early", "late", "idle"]);
    assert_eq!(data["oldest_due_at"], "2024-12-31T23:00:00Z");
    rig.get("/monitor/").await.has("1 h 0 m").has("paused");
    let odd = ergon_core::QueueName::new("a/b..").unwrap();
    rig.task_with(|task| task.spec.queue = odd).await;
    rig.get("/monitor/queues/a%2Fb..").await.is(200).has("Queue a/b..");
}

#[tokio::test(start_paused = true)]
async fn health_needs_no_store_and_readiness_does() {
    let rig = Rig::new();
    rig.get("/monitor/healthz").await.is(200).has("ok");
    rig.get("/monitor/readyz").await.is(200).has("\"ready\"");
    rig.get("/monitor/metrics").await.is(200).has("ergon_up 1");
    rig.faulty.fail_before(Operation::Latest, usize::MAX);
    rig.get("/monitor/healthz").await.is(200);
    let calls = rig.faulty.calls(Operation::Latest);
    rig.get("/monitor/readyz").await.is(200);
    assert_eq!(rig.faulty.calls(Operation::Latest), calls);
    tokio::time::advance(std::time::Duration::from_secs(2)).await;
    rig.get("/monitor/readyz").await.is(503).has("not ready").has("reported a failure");
    // Whoever may not come in is not told why.
    let stranger = crate::rig::request(http::Method::GET, "/monitor/readyz", &[], "");
    rig.send_from("192.0.2.1:1", stranger).await.is(503).has_not("reason");
}

#[tokio::test]
async fn files_are_for_ever_and_known_by_their_content() {
    let rig = Rig::new();
    let page = rig.get("/monitor/").await;
    for (mark, media_type) in
        [("ergon.css", "text/css"), ("ergon.js", "text/javascript"), ("icon.svg", "image/svg+xml")]
    {
        let (stem, extension) = mark.split_once('.').unwrap();
        let rest = page
            .body
            .split(&format!("/monitor/static/{stem}."))
            .find(|rest| rest.split('"').next().is_some_and(|name| name.ends_with(extension)));
        let name = rest.unwrap().split('"').next().unwrap();
        let file = rig.get(&format!("/monitor/static/{stem}.{name}")).await.is(200);
        assert!(file.header("content-type").starts_with(media_type));
        assert!(file.header("cache-control").contains("immutable"));
        assert!(file.body.len() < 20_000, "{mark} is small");
    }
    page.has("integrity=\"sha256-");
}
