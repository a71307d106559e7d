//! Pages of what servers tell: workers, errors, charts, problems, and why a task stands as it does.

use std::time::Duration;

use ergon_core::{
    ErrorKind, KindName, ServerId, State, Timestamp,
    document::Put,
    failure::{FailureRecord, Fingerprint},
    servers::{Presence, ServedQueue, ServerProfile},
    statistics::{Counts, Resolution, Slice},
    store::Control as _,
};
use ergon_testing::Operation;

use crate::{
    content::check,
    rig::{MARKUP, Rig, at},
};

const SECOND: Duration = Duration::from_secs(1);

/// When every test begins.
const START: &str = "2025-01-01T00:00:00Z";

impl Rig {
    async fn put(&self, put: Put) {
        self.store.put(&[put]).await.unwrap();
    }

    /// A server gives a sign of life now.
    async fn serves(&self, server: u128, change: impl FnOnce(Presence) -> Presence) {
        let now = ergon_core::Clock::now(&self.clock);
        let queue = ServedQueue { queue: "default".parse().unwrap(), concurrency: 8 };
        let profile = ServerProfile::new(format!("host-{server}"), 7, at(START)).version("1.2.3");
        let profile = profile.queues([queue]).kinds(["mail.send".parse().unwrap()]);
        let presence = change(Presence::new(profile, now, SECOND * 10).held(3, 8));
        self.put(presence.put(ServerId::from_u128(server)).unwrap()).await;
    }

    /// A server writes what it did.
    async fn did(&self, start: &str, queue: &str, resolution: Resolution, counts: Counts) {
        let (queue, kind) = (queue.parse().unwrap(), "mail.send".parse().unwrap());
        let server = ServerId::from_u128(1);
        let slice = Slice { start: at(start), resolution, server, queue, kind, counts };
        self.put(slice.put().unwrap()).await;
    }

    /// A server writes what failed.
    async fn failed(&self, hour: &str, kind: &str, message: &str, count: u64) -> Fingerprint {
        let kind: KindName = kind.parse().unwrap();
        let fingerprint = Fingerprint::of(&kind, ErrorKind::Timeout, message);
        let hour: Timestamp = at(hour);
        let record = FailureRecord {
            kind,
            reason: ErrorKind::Timeout,
            pattern: ergon_core::failure::pattern(message),
            message: message.to_owned(),
            count,
            first_at: hour,
            last_at: hour + SECOND * 60,
            last_task: ergon_core::TaskId::MIN,
        };
        self.put(record.put(hour, fingerprint, ServerId::from_u128(1)).unwrap()).await;
        fingerprint
    }
}

fn counts(completed: u64, failed: u64, millis: u64) -> Counts {
    let mut counts = Counts::default();
    counts.started = completed + failed;
    (counts.completed, counts.retried) = (completed, failed);
    for _ in 0..completed {
        counts.waited.record(Duration::from_millis(millis));
        counts.ran.record(Duration::from_millis(millis * 2));
    }
    counts
}

#[tokio::test(start_paused = true)]
async fn workers_live_drain_and_are_lost() {
    let rig = Rig::new();
    rig.get("/monitor/workers").await.is(200).has("There is no worker");
    rig.serves(1, |presence| presence).await;
    rig.clock.advance(SECOND * 31);
    rig.serves(2, |presence| presence.draining(true)).await;
    rig.serves(3, |presence| presence.held(12, 8)).await;
    tokio::time::advance(SECOND * 6).await;
    let view = rig.json("/monitor/api/v1/workers").await;
    let states: Vec<_> = view["workers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["state"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["running", "draining", "lost"]);
    assert_eq!(
        (&view["running"], &view["held"], &view["slots"]),
        (&1.into(), &"15".into(), &"16".into())
    );
    let worker = &view["workers"][0];
    assert_eq!((&worker["name"], &worker["version"]), (&"host-3:7".into(), &"1.2.3".into()));
    assert_eq!(
        (&worker["queues"][0]["queue"], &worker["queues"][0]["concurrency"]),
        (&"default".into(), &"8".into())
    );
    let page = rig.get("/monitor/workers").await.is(200);
    page.has("<meter min=\"0\" max=\"8\" value=\"8\"")
        .has("12</data>/")
        .has("state-lost")
        .has("1.2.3")
        .has("31 s ago");
}

#[tokio::test(start_paused = true)]
async fn errors_that_are_alike_stand_together() {
    let rig = Rig::new();
    rig.get("/monitor/errors")
        .await
        .is(200)
        .has("No attempt failed in the last 24h")
        .has("Look at a week");
    rig.clock.advance(SECOND * 7_200);
    let often = rig.failed("2025-01-01T00:00:00Z", "mail.send", "connect 10 to 'a'", 40).await;
    rig.failed("2025-01-01T01:00:00Z", "mail.send", "connect 11 to 'b'", 2).await;
    let rare = rig.failed("2025-01-01T01:30:00Z", "report", "no disk", 1).await;
    rig.failed("2024-12-29T00:00:00Z", "report", "long ago", 1).await;
    tokio::time::advance(SECOND * 6).await;
    let prints = |view: &serde_json::Value| -> Vec<String> {
        let groups = view["groups"].as_array().unwrap();
        groups.iter().map(|it| it["fingerprint"].as_str().unwrap().to_owned()).collect()
    };
    let newest = rig.json("/monitor/api/v1/errors").await;
    assert_eq!(prints(&newest), [rare.to_string(), often.to_string()]);
    let most = rig.json("/monitor/api/v1/errors?order=most").await;
    assert_eq!(prints(&most), [often.to_string(), rare.to_string()]);
    assert_eq!(
        (&most["groups"][0]["count"], &most["failures_total"]),
        (&"42".into(), &"43".into())
    );
    let hours = most["groups"][0]["hours"].as_array().unwrap();
    let counted: Vec<_> =
        hours.iter().rev().take(3).map(|hour| hour["count"].as_str().unwrap()).collect();
    assert_eq!((counted, hours.len()), (vec!["0", "2", "40"], 25));
    assert_eq!(prints(&rig.json("/monitor/api/v1/errors?kind=report").await), [rare.to_string()]);
    assert_eq!(prints(&rig.json("/monitor/api/v1/errors?range=7d").await).len(), 3);
    let page =
        rig.get("/monitor/errors").await.has("43</data> attempts failed, in 2 ways").has("no disk");
    page.has(&format!("/monitor/errors/{often}?range=24h")).has("class=\"spark\"");
    let page = rig.get(&format!("/monitor/errors/{often}")).await.is(200);
    page.has("connect 11 to")
        .has("/monitor/bulk/new?kind=mail.send&amp;state=failed&amp;action=retry")
        .has("/monitor/tasks?kind=mail.send&amp;state=failed&amp;state=retrying");
    rig.get(&format!("/monitor/errors/{rare}?range=1h")).await.is(200).has("no disk");
    rig.get(&format!("/monitor/errors/{often}?range=6h")).await.is(200);
    let single = rig.json(&format!("/monitor/api/v1/errors/{often}")).await;
    assert_eq!((&single["reason"], &single["range"]), (&"timeout".into(), &"24h".into()));
}

#[tokio::test(start_paused = true)]
async fn what_servers_did_is_drawn_and_told() {
    let rig = Rig::new();
    rig.task().await;
    rig.get("/monitor/").await.has("Nothing, as far as servers told");
    rig.clock.advance(SECOND * (6 * 3_600 + 90));
    for (start, resolution) in [
        ("2025-01-01T06:01:00Z", Resolution::Minute),
        ("2025-01-01T05:58:00Z", Resolution::Minute),
        ("2025-01-01T01:00:00Z", Resolution::Minute),
        ("2025-01-01T06:00:00Z", Resolution::Hour),
        ("2024-12-28T00:00:00Z", Resolution::Hour),
    ] {
        rig.did(start, "default", resolution, counts(9, 1, 100)).await;
    }
    rig.did("2025-01-01T06:00:00Z", "other", Resolution::Minute, counts(5, 0, 100)).await;
    tokio::time::advance(SECOND * 61).await;
    for (query, points, completed) in [
        ("", 60, "23"),
        ("?range=1h", 60, "23"),
        ("?range=6h", 72, "32"),
        ("?range=24h", 24, "9"),
        ("?range=7d", 42, "18"),
        ("?queue=other", 60, "5"),
        ("?queue=none", 60, "0"),
    ] {
        let view = rig.json(&format!("/monitor/api/v1/timeseries{query}")).await;
        assert_eq!(view["points"].as_array().unwrap().len(), points, "{query}");
        assert_eq!(view["total"]["completed"], completed, "{query}");
        let sum: u64 = view["points"]
            .as_array()
            .unwrap()
            .iter()
            .map(|point| point["completed"].as_str().unwrap().parse::<u64>().unwrap())
            .sum();
        assert_eq!(sum.to_string(), completed, "{query}");
    }
    let view = rig.json("/monitor/api/v1/timeseries").await;
    let last = &view["points"][59];
    assert_eq!(
        (&last["start"], &last["completed"], &last["retried"]),
        (&"2025-01-01T06:01:00Z".into(), &"9".into(), &"1".into())
    );
    let p95: u64 = last["ran"]["p95_us"].as_str().unwrap().parse().unwrap();
    assert!((196_000..=204_000).contains(&p95), "{p95}");
    assert!(view["points"][0]["ran"]["p50_us"].is_null());
    rig.json("/monitor/api/v1/timeseries?range=1h").await;
    rig.get("/monitor/api/v1/timeseries?queue=a%20b").await.is(400);
    let page = rig.get("/monitor/").await.is(200);
    page.has("<polyline")
        .has("The same as numbers")
        .has("23</data> attempts completed")
        .has("200 ms")
        .has("/monitor/?range=7d")
        .has("aria-label=\"How long tasks waited, at most");
    rig.get("/monitor/queues/default?range=6h")
        .await
        .has("27</data> attempts completed")
        .has("/monitor/queues/default?range=1h");
}

#[tokio::test(start_paused = true)]
async fn work_that_nobody_does_is_told_first() {
    let rig = Rig::new();
    rig.task().await;
    let found = |view: serde_json::Value| view["problems"]["data"].as_array().unwrap().clone();
    let overview =
        rig.get("/monitor/").await.is(200).has("1</data> tasks are due, and").has("no live worker");
    assert!(overview.body.find("class=\"problems\"") < overview.body.find("class=\"cards\""));
    rig.get("/monitor/queues/default").await.is(200).has("no live worker");
    let problem = found(rig.json("/monitor/api/v1/stats").await).remove(0);
    assert_eq!(
        (&problem["problem"], &problem["queue"], &problem["tasks"]),
        (&"unserved".into(), &"default".into(), &"1".into())
    );
    rig.serves(1, |presence| presence).await;
    tokio::time::advance(SECOND * 6).await;
    assert!(found(rig.json("/monitor/api/v1/stats").await).is_empty());
    // Five minutes are not too long, and a second more is.
    for (seconds, problems) in [(300, 0), (1, 1)] {
        rig.clock.advance(SECOND * seconds);
        rig.serves(1, |presence| presence).await;
        tokio::time::advance(SECOND * 6).await;
        let found = found(rig.json("/monitor/api/v1/stats").await);
        assert_eq!(found.len(), problems, "{found:?}");
    }
    rig.get("/monitor/").await.has("its workers lag behind");
    rig.pause("default").await;
    tokio::time::advance(SECOND * 6).await;
    assert!(found(rig.json("/monitor/api/v1/stats").await).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_task_says_why_it_is_not_running() {
    let rig = Rig::new();
    let id = rig.task().await;
    let reasons = async |id: ergon_core::TaskId| -> Vec<String> {
        tokio::time::advance(SECOND * 6).await;
        let view = rig.json(&format!("/monitor/api/v1/tasks/{id}")).await;
        let Some(reasons) = view["reasons"]["data"].as_array() else { return Vec::new() };
        reasons.iter().map(|it| it["reason"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(reasons(id).await, ["queue_unserved"]);
    rig.get(&format!("/monitor/tasks/{id}"))
        .await
        .has("Why it stands so")
        .has("no server serves queue default");
    rig.serves(1, |presence| presence).await;
    assert_eq!(reasons(id).await, ["due"]);
    rig.pause("default").await;
    assert_eq!(reasons(id).await, ["queue_paused"]);
    let done = rig
        .in_state_with(State::Completed, "", |task| task.spec.queue = "q".parse().unwrap())
        .await;
    assert_eq!(reasons(done).await, [""; 0]);
    rig.get(&format!("/monitor/tasks/{done}")).await.has_not("Why it stands so");
    rig.faulty.fail_before(Operation::Documents, 1);
    tokio::time::advance(SECOND * 6).await;
    let page = rig.get(&format!("/monitor/tasks/{id}")).await.is(200);
    page.has("could not be read").has("Payload");
}

#[tokio::test(start_paused = true)]
async fn what_servers_tell_is_no_markup() {
    let rig = Rig::new();
    rig.task().await;
    for (number, text) in (1..).zip(MARKUP) {
        rig.failed(START, "mail.send", text, number).await;
        rig.serves(u128::from(number), |mut presence| {
            presence.profile = presence.profile.name(text).version(text);
            presence
        })
        .await;
    }
    let print = rig.failed(START, "k", MARKUP[0], 1).await;
    rig.did(START, "default", Resolution::Minute, counts(9, 1, 100)).await;
    for text in MARKUP {
        let text = serde_json::to_string(text).unwrap();
        let body = format!(
            r#"{{"filter":"queue=default","action":"cancel","expected_count":1,"note":{text},"reason":{text}}}"#
        );
        rig.post_json("/monitor/api/v1/bulk", &body).await.is(200);
    }
    let listed = rig.json("/monitor/api/v1/bulk").await;
    let operation = format!("/bulk/{}", listed["operations"][0]["id"].as_str().unwrap());
    let error = format!("/errors/{print}");
    let pages =
        ["/", "/queues/default", "/errors", "/workers", "/audit", "/bulk", &operation, &error];
    for path in pages.into_iter().chain(["/bulk/new?action=delete", "/tasks"]) {
        let page = rig.get(&format!("/monitor{path}")).await.is(200);
        check(&page.body, path);
    }
}

#[tokio::test(start_paused = true)]
async fn a_part_that_cannot_be_read_leaves_the_others() {
    let rig = Rig::new();
    rig.task().await;
    rig.faulty.fail_before(Operation::Documents, usize::MAX);
    rig.get("/monitor/").await.is(200).has("could not be read").has("Tasks by state");
    rig.get("/monitor/queues/default").await.is(200).has("could not be read").has("Oldest due");
    for path in ["/workers", "/errors", "/audit", "/bulk", "/api/v1/timeseries"] {
        rig.get(&format!("/monitor{path}")).await.is(503);
    }
    rig.faulty.heal();
    tokio::time::advance(SECOND * 2).await;
    for path in ["/workers", "/errors", "/audit", "/bulk", "/api/v1/timeseries"] {
        let json = rig.get(&format!("/monitor{path}")).await.is(200);
        assert!(!json.body.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn the_pages_are_polled_like_the_others() {
    let rig = Rig::new();
    for path in ["/workers", "/errors", "/audit", "/bulk"] {
        let page = rig.get(&format!("/monitor{path}")).await.is(200);
        let rest = page.body.split("data-revision=\"").nth(1).unwrap();
        let revision = rest.split('"').next().unwrap();
        rig.get(&format!("/monitor{path}?fragment=1&since={revision}")).await.is(204);
        let fragment = rig.get(&format!("/monitor{path}?fragment=1&since=x")).await.is(200);
        assert!(fragment.body.starts_with("<main"));
    }
}
