//! What is too long, too large or too often is refused, and nothing breaks.

use http::Method;

use crate::rig::{FORM, JSON, LOCAL, Rig, local, request};

#[tokio::test]
async fn bodies_queries_and_lists_have_an_end() {
    let rig = Rig::new();
    let long = "x".repeat(2_049);
    rig.get(&format!("/monitor/tasks?x={long}")).await.is(414);
    let large = format!(r#"{{"reason":"{}"}}"#, "x".repeat(64 << 10));
    let id = rig.task().await;
    rig.post_json(&format!("/monitor/tasks/{id}/cancel"), &large).await.is(413);
    let ids: Vec<_> = (0..=1_000).map(|n| ergon_core::TaskId::from_parts(n, 0, 0)).collect();
    let order = |ids: &[ergon_core::TaskId]| {
        let ids: Vec<_> = ids.iter().map(|id| format!("\"{id}\"")).collect();
        format!(r#"{{"action":"retry","ids":[{}]}}"#, ids.join(","))
    };
    rig.post_json("/monitor/tasks/bulk", &order(&ids)).await.is(400).has("not 1 to 1000");
    let answered = rig.post_json("/monitor/tasks/bulk", &order(&ids[1..])).await.is(200).json();
    assert_eq!(answered["results"].as_array().unwrap().len(), 1_000);
    rig.post_json("/monitor/tasks/bulk", r#"{"action":"retry","ids":[]}"#).await.is(400);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let rig = Rig::new();
    let endless = futures_util::stream::pending::<Result<bytes::Bytes, std::io::Error>>();
    let body = axum::body::Body::from_stream(endless);
    let headers = [("sec-fetch-site", "same-origin"), JSON];
    let order = request(Method::POST, "/monitor/queues/default/pause", &headers, body);
    rig.send_from(LOCAL, order).await.is(408);
}

#[tokio::test]
async fn a_body_of_unknown_length_is_cut_off() {
    let rig = Rig::new();
    let chunk = Ok::<_, std::io::Error>(bytes::Bytes::from(vec![b' '; 1 << 10]));
    let endless = futures_util::stream::repeat_with(move || match &chunk {
        Ok(chunk) => Ok(chunk.clone()),
        Err(_) => Err(std::io::Error::other("x")),
    });
    let headers = [("sec-fetch-site", "same-origin"), JSON];
    let body = axum::body::Body::from_stream(endless);
    let order = request(Method::POST, "/monitor/queues/default/pause", &headers, body);
    rig.send_from(LOCAL, order).await.is(413);
}

#[tokio::test(start_paused = true)]
async fn too_many_requests_are_told_when_to_come_again() {
    let mut config = local();
    config.request_burst = 5;
    config.requests_per_second = 1;
    let rig = Rig::with(config);
    for _ in 0..5 {
        rig.get("/monitor/").await.is(200);
    }
    let refused = rig.get("/monitor/").await.is(429);
    assert_eq!(refused.header("retry-after"), "1");
    rig.get("/monitor/healthz").await.is(200);
    tokio::time::advance(std::time::Duration::from_secs(2)).await;
    rig.get("/monitor/").await.is(200);
}

#[tokio::test]
async fn odd_orders_are_refused_before_anything_happens() {
    let rig = Rig::new();
    let id = rig.task().await;
    for (path, body, status) in [
        (format!("/tasks/{id}/explode"), "{}", 404),
        (format!("/tasks/{id}/pause"), "{}", 404),
        (format!("/tasks/{id}/reschedule"), "{}", 400),
        (format!("/tasks/{id}/reschedule"), r#"{"run_at":"soon"}"#, 400),
        (format!("/tasks/{id}/priority"), r#"{"priority":40000}"#, 400),
        (format!("/tasks/{id}/priority"), r#"{"priority":"x"}"#, 400),
        (format!("/tasks/{id}/retry"), "[1]", 400),
        (format!("/tasks/{id}/retry"), "{", 400),
        ("/tasks/7/retry".to_owned(), "{}", 400),
        ("/tasks/bulk".to_owned(), r#"{"action":"pause","ids":["x"]}"#, 404),
        ("/queues/a%20b/pause".to_owned(), "{}", 400),
        ("/queues/default/explode".to_owned(), "{}", 404),
        ("/enqueue".to_owned(), r#"{"kind":"k"}"#, 400),
        ("/enqueue".to_owned(), r#"{"kind":"a b","payload":1}"#, 400),
        ("/enqueue".to_owned(), r#"{"kind":"k","payload":1,"queue":"a b"}"#, 400),
        ("/enqueue".to_owned(), r#"{"kind":"k","payload":1,"max_attempts":0}"#, 400),
    ] {
        let answer = rig.post_json(&format!("/monitor{path}"), body).await;
        assert_eq!(answer.status.as_u16(), status, "{path} {body}: {}", answer.body);
    }
    rig.form("/monitor/enqueue", "kind=k&payload=%7B").await.is(400).has("payload");
    rig.form(&format!("/monitor/tasks/{id}/delete"), "").await.is(400).has("confirmed");
    assert_eq!(rig.state(id).await, ergon_core::State::Pending);
    let other = request(
        Method::POST,
        "/monitor/enqueue",
        &[("sec-fetch-site", "same-origin"), FORM],
        "kind=k",
    );
    rig.send_from(LOCAL, other).await.is(403);
}
