//! The stream of events for programs: all of them, once, or a gap that says so.

use std::time::Duration;

use ergon_core::State;
use ergon_testing::Operation;

use crate::{
    rig::Rig,
    sse::live,
    stream::{Got, Stream, serve},
};

async fn program(rig: &Rig, query: &str) -> Stream {
    Stream::of(rig.monitor.router(), &format!("/monitor/api/v1/events?{query}"), &[]).await
}

#[tokio::test]
async fn every_event_is_told_over_a_socket() {
    let rig = Rig::with(live());
    let served = serve(&rig, "127.0.0.1:0").await;
    let mut stream = Stream::connect(served.address, "/monitor/api/v1/events").await;
    let hello = stream.want("hello").await;
    assert_eq!(hello.json()["cursor"].as_str(), hello.id.as_deref());
    let id = rig.in_state(State::Failed).await;
    let enqueued = stream.want("task.enqueued").await;
    let started = stream.want("task.started").await;
    let failed = stream.want("task.failed").await;
    for got in [&enqueued, &started, &failed] {
        let json = got.json();
        assert_eq!(
            (&json["task"]["id"], &json["kind"]),
            (&id.to_string().into(), &got.name.clone().into())
        );
    }
    assert_eq!(failed.json()["error"], "smtp: connect");
    rig.pause("default").await;
    assert_eq!(stream.want("queue.paused").await.json()["queue"], "default");
    served.stop.send(()).unwrap();
    served.ended.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_resumes_is_told_each_event_once() {
    let rig = Rig::with(live());
    let mut first = program(&rig, "").await;
    let mut place = first.want("hello").await.id.unwrap();
    let mut expected = Vec::new();
    for _ in 0..20 {
        expected.push(rig.task().await.to_string());
    }
    let mut told: Vec<String> = Vec::new();
    // Every reader is told one event that has a place, and goes away.
    while told.len() < expected.len() {
        let mut stream = program(&rig, &format!("after={place}")).await;
        assert_eq!(stream.want("hello").await.json()["resumed"], true);
        let got = stream.want("task.enqueued").await;
        told.push(got.json()["task"]["id"].as_str().unwrap().to_owned());
        let Some(next) = got.id else {
            // Events of one read: the last of them has the place.
            loop {
                let Got { id, data, .. } = stream.want("task.enqueued").await;
                let json: serde_json::Value = serde_json::from_str(&data).unwrap();
                told.push(json["task"]["id"].as_str().unwrap().to_owned());
                if let Some(id) = id {
                    place = id;
                    break;
                }
            }
            continue;
        };
        place = next;
    }
    assert_eq!(told, expected);
}

#[tokio::test(start_paused = true)]
async fn kinds_are_chosen_and_the_place_moves_on_all_the_same() {
    let rig = Rig::with(live());
    let mut stream = program(&rig, "kind=task.failed&kind=queue.paused").await;
    let place = stream.want("hello").await.id;
    rig.task().await;
    let skipped = stream.next().await.unwrap();
    assert_eq!((skipped.name.as_str(), skipped.data.as_str()), ("", ""));
    assert!(skipped.id.is_some() && skipped.id != place);
    rig.in_state(State::Failed).await;
    stream.find("task.failed").await;
    rig.pause("default").await;
    stream.find("queue.paused").await;
    let bad = program(&rig, "kind=task.exploded").await;
    assert_eq!(
        (bad.status, &bad.headers["content-type"]),
        (400, &"application/problem+json".parse().unwrap())
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_is_told() {
    let rig = Rig::with(live());
    let mut seed = program(&rig, "").await;
    let place = seed.want("hello").await.id.unwrap();
    drop(seed);
    // Nobody watches: what happens now is not recorded.
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(rig.faulty.calls(Operation::Unwatch), 1);
    rig.task().await;
    for (after, reason) in
        [(place.as_str(), "unrecorded"), ("m0000000000000007.1", "foreign"), ("%20", "foreign")]
    {
        let mut stream = program(&rig, &format!("after={after}")).await;
        stream.want("hello").await;
        assert_eq!(stream.want("gap").await.json()["reason"], reason, "{after}");
        let id = rig.task().await;
        let got = stream.find("task.enqueued").await;
        assert!(got.data.contains(&id.to_string()) || reason == "unrecorded", "{got:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_loses_nothing() {
    let rig = Rig::with(live());
    let mut stream = program(&rig, "").await;
    stream.want("hello").await;
    rig.faulty.fail_before(Operation::Changes, 3);
    let ids = [rig.task().await, rig.task().await];
    for id in ids {
        stream.find("task.enqueued").await.has(&id.to_string());
    }
}
