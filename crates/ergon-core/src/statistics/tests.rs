//! Tests of the statistics as a whole: what is counted, written, read and added up.

use std::{collections::BTreeMap, time::Duration};

use super::*;
use crate::{
    event::{Event, Excerpt, TaskEvent, TaskRef},
    id::TaskId,
    progress::ErrorKind,
};

const SECOND: Duration = Duration::from_secs(1);
/// 2025-01-01T00:00:00Z.
const START: i64 = 1_735_689_600;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(START + second).unwrap()
}

fn server(number: u128) -> ServerId {
    ServerId::from_u128(number)
}

fn event(queue: &str, kind: &str, event: TaskEvent) -> Event {
    let (queue, kind) = (queue.parse().unwrap(), kind.parse().unwrap());
    Event::task(at(0), TaskRef { id: TaskId::MIN, queue, kind, attempt: 1 }, event)
}

fn completed(queue: &str, kind: &str) -> Event {
    event(queue, kind, TaskEvent::Completed { ran: SECOND })
}

/// What a store would hold.
#[derive(Default)]
struct Kept(BTreeMap<String, Document>);

impl Kept {
    fn take(&mut self, collector: &mut Collector, now: Timestamp) -> usize {
        let puts = collector.flush(now);
        for put in &puts {
            let (key, body) = (put.key.clone(), put.body.clone().unwrap());
            let document = Document { key: key.clone(), version: 1, body, expires_at: None };
            self.0.insert(key, document);
        }
        collector.written(&puts);
        puts.len()
    }

    /// Reads as a store does, at most so many.
    fn read(&self, query: &StatisticsQuery, most: usize) -> Statistics {
        let mut merge = Merge::new(query);
        let range = merge.range();
        let within = |key: &str| range.as_ref().is_some_and(|range| range.contains(key));
        let found: Vec<_> = self.0.values().rev().filter(|it| within(&it.key)).collect();
        found.iter().take(most).for_each(|document| merge.take(document));
        merge.finish(found.len() > most)
    }

    fn slices(&self) -> Vec<Slice> {
        self.0.values().map(|document| Slice::read(document).unwrap()).collect()
    }
}

#[test]
fn every_event_of_an_attempt_is_counted_once_and_others_are_not() {
    let (ran, run_at) = (SECOND, at(0));
    let error = Excerpt::of("no");
    let failed = |reason| TaskEvent::Failed { ran, reason, error: error.clone() };
    let events = [
        TaskEvent::Started { server: server(1), waited: SECOND * 2 },
        TaskEvent::Completed { ran },
        TaskEvent::Retried { ran, run_at, reason: ErrorKind::Error, error: error.clone() },
        failed(ErrorKind::Panic),
        failed(ErrorKind::Poison),
        TaskEvent::Cancelled { ran: Some(ran) },
        TaskEvent::Snoozed { ran, run_at },
        TaskEvent::Released,
        TaskEvent::Rescued,
        // None of these is the begin or end of an attempt.
        TaskEvent::Cancelled { ran: None },
        TaskEvent::CancelRequested,
        TaskEvent::Enqueued { run_at, priority: 0 },
        TaskEvent::Deduplicated { of: TaskId::MIN },
        TaskEvent::Progressed { done: 1, total: None },
        TaskEvent::Reopened,
        TaskEvent::Rescheduled { run_at },
        TaskEvent::Reprioritized { priority: 1 },
        TaskEvent::Deleted,
    ];
    let mut events: Vec<_> = events.map(|it| event("q", "k", it)).into();
    events.push(Event::pruned(at(0), 7));
    let (mut collector, mut kept) = (Collector::new(server(1)), Kept::default());
    collector.fold(&events, at(5));
    assert_eq!(kept.take(&mut collector, at(6)), 2);
    for slice in kept.slices() {
        let counts = &slice.counts;
        let Counts { started, completed, failed, retried, cancelled, .. } = counts;
        assert_eq!([started, completed, failed, retried, cancelled], [&1, &1, &2, &1, &1]);
        assert_eq!([counts.snoozed, counts.released, counts.rescued], [1; 3]);
        assert_eq!((counts.ended(), counts.failure_share()), (5, Some(0.6)));
        assert_eq!((counts.waited.count(), counts.waited.max()), (1, SECOND * 2));
        assert_eq!((counts.ran.count(), counts.ran.sum()), (4, SECOND * 4));
        assert_eq!((slice.start, slice.server), (at(0), server(1)));
    }
}

#[test]
fn json_holds_what_happened_and_no_more() {
    let (mut collector, mut kept) = (Collector::new(server(7)), Kept::default());
    collector.fold(&[completed("mail/eu", "send")], at(0));
    kept.take(&mut collector, at(0));
    let (key, document) = kept.0.last_key_value().unwrap();
    let expected = "m|2025-01-01T00:00:00Z|mail/eu|send|00000000-0000-0000-0000-000000000007";
    assert_eq!(key, expected);
    let body = r#"{"completed":1,"ran":{"sum_us":1000000,"max_us":1000000,"buckets":"_QMB"}}"#;
    assert_eq!(document.body, body);
}

#[test]
fn each_minute_has_its_slice_and_the_hour_is_all_of_them() {
    let (mut collector, mut kept) = (Collector::new(server(1)), Kept::default());
    for minute in 0..61 {
        for _ in 0..=minute {
            collector.fold(&[completed("q", "k")], at(minute * 60 + 59));
        }
        if minute % 7 == 0 {
            kept.take(&mut collector, at(minute * 60 + 59));
        }
    }
    kept.take(&mut collector, at(61 * 60 + 5));
    let of = |resolution| {
        let slices = kept.slices().into_iter().filter(move |it| it.resolution == resolution);
        slices.map(|it| (it.start, it.counts.completed)).collect::<Vec<_>>()
    };
    let minutes: Vec<_> = (0..61_u64).map(|it| (at(it.cast_signed() * 60), it + 1)).collect();
    assert_eq!(of(Resolution::Minute), minutes);
    assert_eq!(of(Resolution::Hour), [(at(0), 60 * 61 / 2), (at(3_600), 61)]);
    assert_eq!(kept.take(&mut collector, at(61 * 60 + 6)), 0, "nothing has changed");
}

#[test]
fn what_the_store_did_not_take_is_offered_again() {
    let (mut collector, mut kept) = (Collector::new(server(1)), Kept::default());
    collector.fold(&[completed("q", "k")], at(0));
    let lost = collector.flush(at(10));
    collector.fold(&[completed("q", "k")], at(11));
    // The minute and hour of before, and the minute of now.
    assert_eq!(collector.flush(at(60)).len(), 2);
    collector.written(&lost);
    assert_eq!(collector.flush(at(61)).len(), 2, "what was lost is older than what is offered");
    kept.take(&mut collector, at(62));
    assert!(kept.slices().iter().all(|slice| slice.counts.completed == 2));
    assert!(collector.flush(at(63)).is_empty());
}

#[test]
fn a_store_that_takes_nothing_for_hours_costs_bounded_memory() {
    let mut collector = Collector::new(server(1));
    let names: Vec<_> = (0..100).map(|it| format!("k{it}")).collect();
    let mut most = 0;
    for minute in 0..240 {
        for name in &names {
            collector.fold(&[completed("q", name)], at(minute * 60));
        }
        most = std::cmp::max(most, collector.flush(at(minute * 60 + 10)).len());
    }
    assert_eq!(most, 2_048);
    let puts = collector.flush(at(240 * 60));
    let hours = puts.iter().filter(|put| put.key.starts_with("h|")).count();
    assert_eq!(hours, 400, "hours are kept");
}

#[test]
fn a_clock_that_is_set_back_a_little_overwrites_nothing() {
    let (mut collector, mut kept) = (Collector::new(server(1)), Kept::default());
    collector.fold(&[completed("q", "k")], at(59));
    collector.fold(&[completed("q", "k")], at(60));
    collector.fold(&[completed("q", "k")], at(59));
    collector.fold(&[completed("q", "k")], at(-3_000));
    kept.take(&mut collector, at(58));
    let counts: Vec<_> = kept.slices().iter().map(|it| (it.start, it.counts.completed)).collect();
    assert_eq!(counts, [(at(0), 4), (at(0), 1), (at(60), 3)]);
    // A clock that was wrong by a day goes by the right time again.
    collector.fold(&[completed("q", "k")], at(-86_400));
    kept.take(&mut collector, at(-86_400));
    assert_eq!(kept.slices().iter().map(|it| it.start).min(), Some(at(-86_400)));
}

#[test]
fn pairs_beyond_the_limit_are_summed_until_the_hour_is_over() {
    let (mut collector, mut kept) = (Collector::new(server(1)), Kept::default());
    for round in 0..2 {
        for number in 0..300 {
            collector.fold(&[completed("q", &format!("k{number}"))], at(round));
        }
    }
    kept.take(&mut collector, at(2));
    let slices = kept.slices();
    assert_eq!(slices.len(), 2 * PAIRS_MAX);
    let other = slices.iter().find(|it| it.kind.as_str() == OTHER).unwrap();
    assert_eq!((other.queue.as_str(), other.counts.completed), (OTHER, 2 * (300 - 255)));
    collector.fold(&[completed("q", "k299")], at(3_600));
    kept.take(&mut collector, at(3_600));
    let is_own = |it: &Slice| it.start == at(3_600) && it.kind.as_str() == "k299";
    assert!(kept.slices().iter().any(is_own));
}

/// Two servers, two queues, three kinds, over three minutes.
fn some() -> Kept {
    let mut kept = Kept::default();
    for number in 1..=2 {
        let mut collector = Collector::new(server(number));
        for minute in [0, 2] {
            let events = [
                completed("a", "x"),
                completed("a", "y"),
                completed("b", "x"),
                completed("b", "z"),
            ];
            let weights = [1, 2, 3, 10];
            for (event, weight) in events.into_iter().zip(weights) {
                (0..weight)
                    .for_each(|_| collector.fold(std::slice::from_ref(&event), at(minute * 60)));
            }
        }
        kept.take(&mut collector, at(180));
    }
    kept
}

fn names(statistics: &Statistics) -> Vec<(&str, &str, u64)> {
    let names = statistics.series.iter().map(|it| {
        let queue = it.queue.as_ref().map_or("-", QueueName::as_str);
        (queue, it.kind.as_ref().map_or("-", KindName::as_str), it.total.completed)
    });
    names.collect()
}

#[test]
fn servers_are_added_up_and_told_apart_as_asked() {
    let kept = some();
    let query = StatisticsQuery::new(at(1), at(240));
    let total = kept.read(&query, usize::MAX);
    assert_eq!(total.starts, [at(0), at(60), at(120), at(180)]);
    let points: Vec<_> = total.series[0].points.iter().map(|it| it.completed).collect();
    assert_eq!(points, [32, 0, 32, 0]);
    assert_eq!((total.series[0].total.ran.count(), total.documents), (64, 16));
    let by = |group| kept.read(&query.clone().group(group), usize::MAX);
    assert_eq!(names(&by(Group::Total)), [("-", "-", 64)]);
    assert_eq!(names(&by(Group::Queue)), [("b", "-", 52), ("a", "-", 12)]);
    assert_eq!(names(&by(Group::Kind)), [("-", "z", 40), ("-", "x", 16), ("-", "y", 8)]);
    let pairs = [("b", "z", 40), ("b", "x", 12), ("a", "y", 8), ("a", "x", 4)];
    assert_eq!(names(&by(Group::Pair)), pairs);
    let two = kept.read(&query.clone().group(Group::Pair).series_max(2), usize::MAX);
    assert_eq!(names(&two), [("b", "z", 40), (OTHER, OTHER, 24)]);
    let one = query.clone().queue("a".parse().unwrap()).kind("x".parse().unwrap());
    assert_eq!(names(&kept.read(&one, usize::MAX)), [("-", "-", 4)]);
    let hours = kept.read(&query.resolution(Resolution::Hour), usize::MAX);
    assert_eq!((hours.starts.len(), hours.series[0].total.completed), (1, 64));
}

#[test]
fn the_time_axis_is_whole_minutes_and_never_empty_handed() {
    for (from, to, expected) in [
        (0, 60, vec![0]),
        (0, 61, vec![0, 60]),
        (59, 60, vec![0]),
        (59, 61, vec![0, 60]),
        (5, 5, vec![]),
        (60, 0, vec![]),
    ] {
        let read = Kept::default().read(&StatisticsQuery::new(at(from), at(to)), 10);
        let expected: Vec<_> = expected.into_iter().map(at).collect();
        assert_eq!(read.starts, expected, "{from} {to}");
        // Nothing happened, and that is told point by point.
        assert_eq!((read.series.len(), read.series[0].points.len()), (1, expected.len()));
    }
    let by_kind = StatisticsQuery::new(at(0), at(60)).group(Group::Kind);
    assert!(Kept::default().read(&by_kind, 10).series.is_empty());
}

#[test]
fn what_is_too_much_is_cut_and_said() {
    let kept = some();
    let query = StatisticsQuery::new(at(0), at(180));
    assert_eq!(kept.read(&query, 16).cut_before, None);
    // Of the minute where the reading ended some may be missing.
    let cut = kept.read(&query, 12);
    assert_eq!((cut.cut_before, cut.documents), (Some(at(60)), 12));
    let long = StatisticsQuery::new(at(0), at(60 * 3_000));
    let read = kept.read(&long, 16);
    assert_eq!((read.starts.len(), read.cut_before), (POINTS_MAX, Some(at(60 * 120))));
    let for_ever = StatisticsQuery::new(Timestamp::MIN, Timestamp::MAX);
    assert_eq!(kept.read(&for_ever.resolution(Resolution::Hour), 16).starts.len(), POINTS_MAX);
}

#[test]
fn documents_of_another_form_are_counted_and_left_out() {
    let mut kept = some();
    let good = kept.0.values().next_back().unwrap().clone();
    for (key, body) in [
        ("m|2025-01-01T00:02:00Z|a", &good.body),
        ("m|2025-01-01T00:02:00Z|a|x|7|more", &good.body),
        ("m|2025-01-01T00:02:00Z|a|x|8", &b"7"[..].into()),
        ("m|2025-01-01T00:01:xx|a|x|8", &good.body),
    ] {
        let document = Document { key: key.to_owned(), body: body.clone(), ..good.clone() };
        assert!(key.ends_with('8') && body == &good.body || Slice::read(&document).is_none());
        kept.0.insert(key.to_owned(), document);
    }
    let read = kept.read(&StatisticsQuery::new(at(0), at(180)), usize::MAX);
    assert_eq!((read.unreadable, read.documents), (4, 20));
    assert_eq!(read.series[0].total.completed, 64);
}
