//! Live pages: what changes is sent, once for all who look, and who resumes is sent what it lacks.

use std::time::Duration;

use ergon_core::State;
use ergon_testing::Operation;
use futures_util::future::join_all;
use http::Method;
use tokio::time::advance;

use crate::{
    rig::{LOCAL, Rig, local, request},
    stream::{Got, Stream, serve},
};

const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn live() -> ergon_monitor::MonitorConfig {
    local().enable_sse(true)
}

/// The revision and the cursor that a part of a page shows.
fn shown(body: &str) -> (String, String) {
    let of = |name: &str| {
        let rest = body.split(&format!("{name}=\"")).nth(1).unwrap();
        rest.split('"').next().unwrap().to_owned()
    };
    (of("data-revision"), of("data-cursor"))
}

/// Where the store stands.
async fn latest(rig: &Rig) -> String {
    use ergon_core::store::Observe as _;
    rig.store.latest().await.unwrap().as_str().to_owned()
}

#[tokio::test]
async fn a_change_arrives_over_a_socket() {
    let rig = Rig::with(live());
    let served = serve(&rig, "127.0.0.1:0").await;
    let mut stream = Stream::connect(served.address, "/monitor/events?view=tasks").await;
    assert_eq!(stream.status, 200);
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-store"),
        ("x-accel-buffering", "no"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(stream.headers[name], value);
    }
    let hello = stream.want("hello").await.json();
    assert_eq!(hello["server_ms"], 1_735_689_600_000_u64);
    assert_eq!((&hello["hb_s"], &hello["mode"]), (&15.0.into(), &"live".into()));
    assert_eq!((&hello["resumed"], &hello["cursor"]), (&false.into(), &serde_json::Value::Null));
    assert!(hello["token"].as_str().unwrap().len() > 20);
    let first = stream.want("main").await.has("There are no tasks yet").has("<main id=\"main\"");
    assert_eq!(first.id.as_deref(), Some(shown(&first.data).1.as_str()));
    let id = rig.task().await;
    stream.want("main").await.has(&id.to_string());
    served.stop.send(()).unwrap();
    served.ended.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn every_page_that_renews_itself_can_be_followed() {
    let rig = Rig::with(live());
    let id = rig.in_state(State::Failed).await;
    let plain =
        ["/", "/tasks", "/queues", "/queues/default", "/workers", "/errors", "/audit", "/bulk"];
    for path in plain.into_iter().chain(["/tasks?state=failed", "/system"]) {
        let page = rig.get(&format!("/monitor{path}")).await.is(200);
        let view = page.body.split("data-view=\"").nth(1).unwrap().split('"').next().unwrap();
        assert!(
            page.body.contains("data-events=\"/monitor/events\"") && page.body.contains("live.")
        );
        let filter = path.split_once('?').map(|(_, query)| query).unwrap_or_default();
        let mut stream = rig.follow(&format!("view={view}&{filter}")).await;
        stream.want("hello").await;
        let main = stream.want("main").await;
        assert_eq!(shown(&main.data).0, shown(&page.body).0, "{path}");
    }
    let mut stream = rig.follow(&format!("view=task:{id}")).await;
    stream.want("hello").await;
    stream.want("main").await.has("smtp: connect");
    for (bad, status) in [("", 400), ("view=..", 400), ("view=task:7", 400)] {
        assert_eq!(rig.follow(bad).await.status, status, "{bad}");
    }
    let mut stream = rig.follow("view=nothing").await;
    stream.want("hello").await;
    assert_eq!(stream.want("gone").await.json()["status"], 404);
    // What is not to be followed says nothing of it.
    rig.get("/monitor/enqueue").await.is(200).has_not("data-events").has_not("/live.");
}

#[tokio::test]
async fn without_it_there_is_no_such_address() {
    let rig = Rig::new();
    rig.get("/monitor/events?view=overview").await.is(404);
    rig.get("/monitor/api/v1/events").await.is(404);
    rig.get("/monitor/").await.is(200).has_not("data-events").has_not("/live.");
    rig.task().await;
    assert_eq!(rig.faulty.calls(Operation::Watch), 0);
}

#[tokio::test]
async fn a_head_opens_nothing() {
    let rig = Rig::with(live());
    let head = request(Method::HEAD, "/monitor/events?view=overview", &[], "");
    let answer = rig.send_from(LOCAL, head).await.is(200);
    assert_eq!((answer.header("content-type"), answer.body.as_str()), ("text/event-stream", ""));
    assert_eq!(rig.faulty.calls(Operation::Watch), 0);
}

#[tokio::test(start_paused = true)]
async fn many_changes_are_sent_as_few() {
    let rig = Rig::with(live());
    let mut stream = rig.follow("view=queues").await;
    stream.want("hello").await;
    stream.want("main").await;
    advance(SECOND * 2).await;
    for _ in 0..50 {
        rig.task().await;
        tokio::time::sleep(SECOND / 20).await;
    }
    let got = stream.within(SECOND * 2).await;
    assert!((3..=4).contains(&got.len()), "{}", got.len());
    got.last().unwrap().clone().has("title=\"50\"");
}

#[tokio::test(start_paused = true)]
async fn what_does_not_concern_a_page_is_not_sent_to_it() {
    let rig = Rig::with(live());
    let id = rig.task().await;
    let mut task = rig.follow(&format!("view=task:{id}")).await;
    let mut other = rig.follow("view=tasks&queue=other").await;
    for stream in [&mut task, &mut other] {
        stream.want("hello").await;
        stream.want("main").await;
    }
    let calls = rig.faulty.calls(Operation::Tasks);
    rig.task().await;
    // Another page reads in the same interval, this one does not.
    assert_eq!(task.within(SECOND * 3).await, []);
    assert_eq!(rig.faulty.calls(Operation::Tasks), calls);
    assert_eq!(other.within(SECOND).await, []);
    rig.task_with(|task| task.spec.queue = "other".parse().unwrap()).await;
    other.want("main").await.has("other");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_comes_due_is_shown_although_nothing_happened() {
    let rig = Rig::with(live());
    let id = rig.in_state(State::Scheduled).await;
    let mut stream = rig.follow(&format!("view=task:{id}")).await;
    stream.want("hello").await;
    stream.want("main").await.has("scheduled");
    rig.clock.advance(SECOND * 3_600);
    stream.want("main").await.has("pending");
}

#[tokio::test(start_paused = true)]
async fn who_resumes_is_sent_what_it_lacks_and_no_more() {
    let rig = Rig::with(live());
    let mut other = rig.follow("view=overview").await;
    other.want("hello").await;
    let mut page = other.want("main").await;
    // Nothing happened: whether the page says what it shows or not.
    for says_revision in [false, true] {
        let (revision, cursor) = shown(&page.data);
        let since = if says_revision { format!("&since={revision}") } else { String::new() };
        let mut stream = rig.follow(&format!("view=overview&after={cursor}{since}")).await;
        let hello = stream.want("hello").await;
        assert_eq!(hello.json()["resumed"], true);
        assert_eq!(hello.id.as_deref(), Some(cursor.as_str()));
        let got = stream.within(SECOND * 20).await;
        let names: Vec<_> = got.iter().map(|got| got.name.as_str()).collect();
        assert_eq!(names, ["hb"], "{got:?}");
        rig.pause("default").await;
        stream.want("main").await;
        use ergon_core::store::Control as _;
        let queue = "default".parse().unwrap();
        rig.store.set_queue(&queue, &ergon_core::store::QueueChange::resume()).await.unwrap();
        page = stream.want("main").await;
    }
    // Something happened: it is sent at once, also to who says where it stands in a header.
    let cursor = latest(&rig).await;
    let id = rig.in_state(State::Failed).await;
    for (after, headers) in
        [(cursor.as_str(), vec![]), ("x", vec![("last-event-id", cursor.as_str())])]
    {
        let query = format!("view=overview&after={after}");
        let mut stream = rig.follow_with(&query, &headers).await;
        assert_eq!(stream.want("hello").await.json()["resumed"], true);
        stream.want("main").await.has(&id.to_string());
    }
    // Something happened that the page does not show.
    let task = rig.task().await;
    let cursor = latest(&rig).await;
    rig.task().await;
    let mut stream = rig.follow(&format!("view=task:{task}&after={cursor}")).await;
    assert_eq!(stream.want("hello").await.json()["resumed"], true);
    assert_eq!(stream.within(SECOND * 10).await, []);
}

#[tokio::test(start_paused = true)]
async fn a_cursor_that_cannot_be_followed_is_reset() {
    let rig = Rig::with(live());
    let unwatched = latest(&rig).await;
    rig.task().await;
    for (after, reason) in [
        (unwatched.as_str(), "unrecorded"),
        ("m0000000000000007.1", "foreign"),
        ("p1.2:3", "foreign"),
        ("%22%0a", "foreign"),
    ] {
        let mut stream = rig.follow(&format!("view=overview&after={after}")).await;
        assert_eq!(stream.want("hello").await.json()["resumed"], false, "{after}");
        let reset = stream.want("reset").await;
        assert_eq!((reset.json()["reason"].as_str(), reset.id.is_some()), (Some(reason), true));
        stream.want("main").await;
    }
    // Behind the window of the journal.
    let mut stream = rig.follow("view=overview").await;
    stream.find("main").await;
    let old = latest(&rig).await;
    rig.task().await;
    rig.clock.advance(SECOND * 50);
    rig.task().await;
    advance(SECOND * 25).await;
    stream.within(SECOND).await;
    for _ in 0..90 {
        rig.clock.advance(SECOND * 50);
        stream.within(SECOND * 25).await;
    }
    rig.task().await;
    let mut late = rig.follow(&format!("view=overview&after={old}")).await;
    late.want("hello").await;
    assert_eq!(late.want("reset").await.json()["reason"], "expired");
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_comes_when_nothing_does_and_moves_the_place_on() {
    let rig = Rig::with(live());
    let mut stream = rig.follow("view=tasks&queue=other").await;
    stream.want("hello").await;
    let main = stream.want("main").await;
    let begun = tokio::time::Instant::now();
    rig.task().await;
    let beat = stream.want("hb").await;
    assert_eq!(begun.elapsed().as_secs(), 15);
    assert_eq!(beat.json()["server_ms"], 1_735_689_600_000_u64);
    assert_ne!(beat.id, main.id);
    assert_eq!(beat.id, Some(latest(&rig).await));
}

#[tokio::test(start_paused = true)]
async fn sixty_pages_cost_what_one_does() {
    let mut config = live();
    config.sse_clients_each_max = 64;
    let rig = Rig::with(config);
    rig.task().await;
    let calls = |rig: &Rig| {
        use Operation::{Changes, List, Queues, Watch};
        [Watch, Changes, Queues, List].map(|operation| rig.faulty.calls(operation))
    };
    let one = rig.follow("view=overview").await;
    let mut streams = vec![one];
    streams.extend(join_all((1..60).map(|_| rig.follow("view=overview"))).await);
    let all = |got: Vec<Got>| assert!(got.iter().all(|got| got.name == "main"));
    join_all(streams.iter_mut().map(|stream| stream.want("hello"))).await;
    all(join_all(streams.iter_mut().map(|stream| stream.want("main"))).await);
    let opened = calls(&rig);
    assert_eq!(opened[0], 1);
    for round in 1..=5 {
        tokio::time::sleep(SECOND * 2).await;
        rig.task().await;
        let got = join_all(streams.iter_mut().map(|stream| stream.want("main"))).await;
        assert!(got.windows(2).all(|pair| pair[0] == pair[1]));
        let now = calls(&rig);
        // A change is read once from the journal, and once from the counters.
        assert_eq!(now[1] - opened[1], round, "{now:?}");
        assert_eq!([now[2] - opened[2], now[3] - opened[3]], [round, round], "{now:?}");
    }
    // When all have left, the store stops recording a while later.
    drop(streams);
    tokio::time::sleep(SECOND * 20).await;
    assert_eq!(rig.faulty.calls(Operation::Unwatch), 0);
    tokio::time::sleep(SECOND * 40).await;
    assert_eq!(rig.faulty.calls(Operation::Unwatch), 1);
    let quiet = calls(&rig);
    tokio::time::sleep(SECOND * 600).await;
    assert_eq!(calls(&rig), quiet);
}

#[tokio::test(start_paused = true)]
async fn the_lease_is_renewed_while_somebody_looks() {
    let rig = Rig::with(live());
    let mut stream = rig.follow("view=queues").await;
    for minute in 1..=5 {
        for _ in 0..6 {
            rig.clock.advance(SECOND * 10);
            stream.within(SECOND * 10).await;
        }
        let watched = rig.faulty.calls(Operation::Watch);
        assert!((minute * 3..=minute * 3 + 2).contains(&watched), "{minute} {watched}");
    }
    rig.task().await;
    stream.find("main").await.has("default");
}
