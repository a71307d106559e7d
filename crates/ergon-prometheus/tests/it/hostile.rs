//! More names than the metrics tell apart, and texts that are hard to write.

use ergon_core::EventSink;
use ergon_prometheus::{Metrics, ObserverNumbers};

use crate::scrape::{Scrape, enqueued, event, every_task_event};

#[test]
fn ten_thousand_kinds_are_folded() {
    let metrics = Metrics::builder().build().unwrap();
    let kinds: Vec<_> = (0..10_000).map(|kind| format!("kind{kind}")).collect();
    for _ in 0..2 {
        for kinds in kinds.chunks(100) {
            let events: Vec<_> = kinds.iter().map(|kind| event("q", kind, enqueued())).collect();
            metrics.publish(&events);
        }
    }
    let scrape = Scrape::of(&metrics);
    assert_eq!(scrape.sum("ergon_tasks_enqueued_total", ""), 20_000.0);
    assert_eq!(scrape.all("ergon_tasks_enqueued_total").count(), (256 + 1) * 2);
    let of_others =
        r#"ergon_tasks_enqueued_total{queue="_other",kind="_other",outcome="inserted"}"#;
    assert_eq!(scrape.get(of_others), Some(2.0 * (10_000.0 - 256.0)));
    let overflow =
        |label| scrape.get(&format!(r#"ergon_metrics_label_overflow_total{{label="{label}"}}"#));
    assert_eq!(overflow("pair"), Some(2.0 * (10_000.0 - 256.0)));
    assert_eq!((overflow("queue"), overflow("kind")), (Some(0.0), Some(0.0)));
}

#[test]
fn ten_thousand_queues_of_as_many_kinds_stay_within_the_bounds() {
    let metrics = Metrics::builder().build().unwrap();
    let events = every_task_event();
    for number in 0..10_000 {
        let (queue, kind) = (format!("queue{number}"), format!("kind{number}"));
        let of_task = events.iter().map(|it| event(&queue, &kind, it.clone()));
        metrics.publish(&of_task.collect::<Vec<_>>());
    }
    let scrape = Scrape::of(&metrics);
    assert_eq!(scrape.all("ergon_attempts_started_total").count(), 257);
    assert_eq!(scrape.all("ergon_tasks_rescued_total").count(), 201);
    let overflow =
        |label| scrape.get(&format!(r#"ergon_metrics_label_overflow_total{{label="{label}"}}"#));
    let of_each = events.len() as f64;
    assert_eq!(overflow("queue"), Some((10_000.0 - 200.0) * of_each));
    assert!(scrape.len() < 23_000, "{}", scrape.len());
    assert_eq!(scrape.sum("ergon_attempts_started_total", ""), 10_000.0);
}

#[test]
fn every_text_can_be_a_label() {
    let observers = || {
        let names = ["say \"hi\"", "two\nlines", "back\\slash", "nul\0", "esc\u{1b}", "ä€🦀", ""];
        let longest = "x".repeat(10_000);
        names.into_iter().chain([longest.as_str()]).map(ObserverNumbers::new).collect()
    };
    let metrics = Metrics::builder().backend("a\"b\\c\nd\0e").observers(observers).build().unwrap();
    let text = metrics.encode();
    assert!(!text.contains(['\0', '\u{1b}', '\r']), "{text}");
    let scrape = Scrape::parse(&text);
    for label in [
        r#"observer="say \"hi\"""#,
        r#"observer="two\nlines""#,
        r#"observer="back\\slash""#,
        "observer=\"nul\u{fffd}\"",
        "observer=\"esc\u{fffd}\"",
        "observer=\"ä€🦀\"",
        &format!("observer=\"{}\"", "x".repeat(128)),
    ] {
        let series = format!("ergon_event_gaps_total{{{label}}}");
        assert_eq!(scrape.get(&series), Some(0.0), "{series}\n{text}");
    }
    assert!(text.contains("backend=\"a\\\"b\\\\c\\nd\u{fffd}e\""), "{text}");
}
