//! What is published is counted, once and under its names.

use std::{thread, time::Duration};

use ergon_core::{EventKind, EventSink, ServerId, TaskEvent};
use ergon_prometheus::Metrics;
use prometheus::IntCounter;

use crate::scrape::{Scrape, enqueued, event, every_event, observers};

fn metrics() -> Metrics {
    Metrics::builder().build().unwrap()
}

#[track_caller]
fn check(scrape: &Scrape, series: &str, expected: f64) {
    assert_eq!(scrape.get(series), Some(expected), "{series}\n{scrape:#?}");
}

#[test]
fn each_event_is_counted_under_its_names() {
    let metrics = Metrics::builder().observers(observers).build().unwrap();
    metrics.publish(&every_event());
    let scrape = Scrape::of(&metrics);
    let of = r#"{queue="mail",kind="email.send""#;
    for (name, label, expected) in [
        ("ergon_tasks_enqueued_total", r#",outcome="inserted"}"#, 1.0),
        ("ergon_tasks_enqueued_total", r#",outcome="duplicate"}"#, 1.0),
        ("ergon_attempts_started_total", "}", 1.0),
        ("ergon_attempts_finished_total", r#",outcome="ok"}"#, 1.0),
        ("ergon_attempts_finished_total", r#",outcome="retry"}"#, 5.0),
        ("ergon_attempts_finished_total", r#",outcome="failed"}"#, 5.0),
        ("ergon_attempts_finished_total", r#",outcome="cancelled"}"#, 1.0),
        ("ergon_attempts_finished_total", r#",outcome="snoozed"}"#, 1.0),
        ("ergon_attempts_finished_total", r#",outcome="timeout"}"#, 2.0),
        ("ergon_attempts_finished_total", r#",outcome="panic"}"#, 2.0),
        ("ergon_attempts_finished_total", r#",outcome="lost"}"#, 3.0),
        ("ergon_attempts_finished_total", r#",outcome="released"}"#, 1.0),
        ("ergon_tasks_finalized_total", r#",state="completed"}"#, 1.0),
        ("ergon_tasks_finalized_total", r#",state="failed"}"#, 8.0),
        ("ergon_tasks_finalized_total", r#",state="cancelled"}"#, 2.0),
        ("ergon_task_wait_seconds_bucket", r#",le="0.01"}"#, 0.0),
        ("ergon_task_wait_seconds_bucket", r#",le="0.025"}"#, 1.0),
        ("ergon_task_wait_seconds_bucket", r#",le="+Inf"}"#, 1.0),
        ("ergon_task_wait_seconds_sum", "}", 0.02),
        ("ergon_task_run_seconds_count", r#",outcome="ok"}"#, 2.0),
    ] {
        check(&scrape, &format!("{name}{of}{label}"), expected);
    }
    check(&scrape, r#"ergon_tasks_rescued_total{queue="mail"}"#, 2.0);
    check(&scrape, r#"ergon_task_attempts_count{queue="mail"}"#, 11.0);
    check(&scrape, r#"ergon_tasks_deleted_total{reason="retention"}"#, 3.0);
    check(&scrape, r#"ergon_tasks_deleted_total{reason="manual"}"#, 1.0);
    for &kind in EventKind::ALL {
        let series = format!(r#"ergon_events_total{{type="{kind}"}}"#);
        assert!(scrape.get(&series).is_some_and(|count| count >= 1.0), "{series}");
    }
    for (name, expected) in [
        ("ergon_event_bus_lag_events", 1.0),
        ("ergon_event_missed_total", 2.0),
        ("ergon_event_gaps_total", 3.0),
        ("ergon_observer_panics_total", 4.0),
        ("ergon_observer_seconds_total", 0.005),
    ] {
        check(&scrape, &format!(r#"{name}{{observer="mailer"}}"#), expected);
    }
}

#[test]
fn runs_of_equal_names_are_told_apart_where_they_change() {
    let metrics = metrics();
    // Texts that are equal, but not at the same place, as decoded tasks have them.
    let fresh = |queue: &str, kind: &str| event(queue, kind, enqueued());
    let names = [("a", "x"), ("a", "x"), ("a", "y"), ("b", "y"), ("a", "x"), ("b", "y")];
    let events: Vec<_> = names.map(|(queue, kind)| fresh(queue, kind)).to_vec();
    metrics.publish(&events);
    metrics.publish(&events);
    let scrape = Scrape::of(&metrics);
    for (queue, kind, expected) in [("a", "x", 6.0), ("a", "y", 2.0), ("b", "y", 4.0)] {
        let labels = format!(r#"{{queue="{queue}",kind="{kind}",outcome="inserted"}}"#);
        check(&scrape, &format!("ergon_tasks_enqueued_total{labels}"), expected);
    }
}

#[test]
fn threads_count_together() {
    let metrics = metrics();
    const THREADS: u32 = 8;
    const BATCHES: u32 = 200;
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let sink = metrics.sink();
            scope.spawn(move || {
                let own = format!("own{thread}");
                let started =
                    TaskEvent::Started { server: ServerId::from_u128(1), waited: Duration::ZERO };
                for _ in 0..BATCHES {
                    sink.publish(&[
                        event("shared", "k", enqueued()),
                        event(&own, "k", started.clone()),
                    ]);
                }
            });
        }
        // Scrapes in between neither lose nor repeat anything.
        let mut before = 0.0;
        for _ in 0..50 {
            let now = Scrape::of(&metrics).sum("ergon_events_total", "task.enqueued");
            assert!(now >= before);
            before = now;
        }
    });
    let scrape = Scrape::of(&metrics);
    let all = f64::from(THREADS * BATCHES);
    let of_shared = r#"ergon_tasks_enqueued_total{queue="shared",kind="k",outcome="inserted"}"#;
    check(&scrape, of_shared, all);
    assert_eq!(scrape.sum("ergon_attempts_started_total", ""), all);
    check(&scrape, r#"ergon_attempts_started_total{queue="own3",kind="k"}"#, f64::from(BATCHES));
}

#[test]
fn series_begin_with_their_group() {
    let metrics = metrics();
    assert_eq!(Scrape::of(&metrics).sum("ergon_tasks_enqueued_total", ""), 0.0);
    metrics.publish(&[event("q", "k", enqueued())]);
    let scrape = Scrape::of(&metrics);
    let of = r#"{queue="q",kind="k""#;
    check(&scrape, &format!(r#"ergon_tasks_enqueued_total{of},outcome="duplicate"}}"#), 0.0);
    assert_eq!(scrape.all("ergon_attempts_started_total").count(), 0);

    let started = TaskEvent::Started { server: ServerId::from_u128(1), waited: Duration::ZERO };
    metrics.publish(&[event("q", "k", started)]);
    let scrape = Scrape::of(&metrics);
    check(&scrape, &format!(r#"ergon_attempts_finished_total{of},outcome="panic"}}"#), 0.0);
    check(&scrape, &format!(r#"ergon_tasks_finalized_total{of},state="failed"}}"#), 0.0);
}

#[test]
fn metrics_of_the_application_stand_beside_ours() {
    let metrics = metrics();
    let orders = IntCounter::new("shop_orders_total", "Orders.").unwrap();
    metrics.registry().register(Box::new(orders.clone())).unwrap();
    orders.inc();
    check(&Scrape::of(&metrics), "shop_orders_total", 1.0);

    let registry = prometheus::Registry::new();
    registry.register(Box::new(metrics.collector())).unwrap();
    metrics.publish(&[event("q", "k", enqueued())]);
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    assert_eq!(Scrape::parse(&text).sum("ergon_tasks_enqueued_total", ""), 1.0);
}

#[test]
fn builds_say_what_they_are() {
    let metrics =
        Metrics::builder().backend("redb").version("1.2.3").revision("abc").build().unwrap();
    let series = r#"ergon_build_info{version="1.2.3",backend="redb",revision="abc"}"#;
    check(&Scrape::of(&metrics), series, 1.0);
}

#[test]
fn bounds_are_checked() {
    for builder in [
        Metrics::builder().queues_max(0),
        Metrics::builder().kinds_max(10_001),
        Metrics::builder().pairs_max(usize::MAX),
    ] {
        let error = builder.build().unwrap_err();
        assert!(error.to_string().ends_with("is not within 1..=10000"), "{error}");
    }
}
