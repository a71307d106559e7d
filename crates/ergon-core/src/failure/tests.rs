//! Tests of what makes failures alike, and of what is written and read of them.

use super::*;
use crate::{
    event::{Event, Excerpt, TaskEvent, TaskRef},
    statistics::OTHER,
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

#[test]
fn patterns_leave_out_what_differs_from_task_to_task() {
    for (message, expected) in [
        ("", ""),
        ("connection reset", "connection reset"),
        ("  two\n lines\tof  text ", "two lines of text"),
        ("user 42 not found", "user <n> not found"),
        ("took 1.5s, limit 30s", "took <n>s, limit <n>s"),
        ("worker-7 of v2.1.3 died.", "worker-<n> of v<n> died."),
        ("connect to 10.0.0.1:5432 refused", "connect to <n> refused"),
        ("at 0x7ffe12ab: fault", "at <hex>: fault"),
        ("hash deadbeef12 differs", "hash <hex> differs"),
        ("commit 12345678abcdef", "commit <hex>"),
        ("facade effaced", "facade effaced"),
        ("deadbeefs1234567", "deadbeefs<n>"),
        ("task 0190b5a0-1234-7abc-8def-0123456789ab failed", "task <uuid> failed"),
        (r#"no such user "ana""#, "no such user <text>"),
        (r#"bad "a \" b" here"#, "bad <text> here"),
        ("key 'a b' and `c`", "key <text> and <text>"),
        ("can't open the user's file", "can't open the user's file"),
        ("it's 'don't' twice", "it's <text> twice"),
        (r#"unfinished "quote of"#, "unfinished <text>"),
        ("unfinished 'quote of", "unfinished 'quote of"),
        ("größe 5 €", "größe <n> €"),
        ("\"", "<text>"),
        ("'", "'"),
        ("7", "<n>"),
        ("0x", "<n>x"),
    ] {
        assert_eq!(pattern(message), expected, "{message:?}");
    }
}

#[test]
fn any_text_has_a_short_pattern() {
    for character in ["x", "ä", "7 ", "\"", "'", "a-", "\u{0}", "\u{10ffff}", "0x1 ", "e1"] {
        let pattern = pattern(&character.repeat(1_000));
        assert!(pattern.chars().count() <= 80, "{pattern}");
    }
    let long = "word ".repeat(50);
    assert_eq!(pattern(&long), "word ".repeat(16).trim_end());
}

#[test]
fn a_fingerprint_is_that_of_kind_reason_and_pattern_and_never_changes() {
    let kind = |name: &str| name.parse::<KindName>().unwrap();
    let of = |name, reason, message| Fingerprint::of(&kind(name), reason, message);
    let one = of("mail", ErrorKind::Error, "user 1 not found");
    assert_eq!(one, of("mail", ErrorKind::Error, "user 22 not found"));
    for other in [
        of("mail", ErrorKind::Error, "user not found"),
        of("mail", ErrorKind::Panic, "user 1 not found"),
        of("maile", ErrorKind::Error, "user 1 not found"),
    ] {
        assert_ne!(one, other);
    }
    // Others compare with what an older version wrote.
    assert_eq!(one.to_string(), "69a198d2c2260dc3");
    assert_eq!(one.to_string().parse(), Ok(one));
    assert_eq!(Fingerprint::OTHER.to_string().parse(), Ok(Fingerprint::OTHER));
    for bad in ["", "x", "_", "00000000000000000", "+000000000000001", "ä"] {
        assert_eq!(bad.parse::<Fingerprint>(), Err(fingerprint::InvalidFingerprint), "{bad}");
    }
    // A message that is known whole is like its beginning.
    let whole = format!("user 1 not found {}", "because ".repeat(100));
    let part = Excerpt::of(&whole);
    assert_eq!(of("m", ErrorKind::Error, &whole), of("m", ErrorKind::Error, part.as_str()));
}

fn failed(kind: &str, id: u64, message: &str) -> Event {
    let (queue, kind) = ("q".parse().unwrap(), kind.parse().unwrap());
    let (id, ran) = (TaskId::from_parts(id, 0, 0), Duration::ZERO);
    let (reason, error) = (ErrorKind::Error, Excerpt::of(message));
    let event = TaskEvent::Failed { ran, reason, error };
    Event::task(at(0), TaskRef { id, queue, kind, attempt: 1 }, event)
}

fn retried(kind: &str, id: u64, message: &str) -> Event {
    let failed = failed(kind, id, message);
    let task = failed.task_ref().unwrap().clone();
    let (ran, run_at) = (Duration::ZERO, at(9));
    let (reason, error) = (ErrorKind::Error, Excerpt::of(message));
    Event::task(at(0), task, TaskEvent::Retried { ran, run_at, reason, error })
}

fn flush(collector: &mut Collector, kept: &mut BTreeMap<String, Document>, now: Timestamp) {
    let puts = collector.flush(now);
    for put in &puts {
        let (key, body) = (put.key.clone(), put.body.clone().unwrap());
        kept.insert(key.clone(), Document { key, version: 1, body, expires_at: put.expires_at });
    }
    collector.written(&puts);
}

fn read(kept: &BTreeMap<String, Document>, query: &FailureQuery) -> Failures {
    let mut merge = Merge::new(query);
    let range = query.range();
    let within = |key: &str| range.as_ref().is_some_and(|range| range.contains(key));
    kept.values().rev().filter(|it| within(&it.key)).for_each(|it| merge.take(it));
    merge.finish(false)
}

/// Two servers that saw the same for two hours, and one something else.
fn some() -> BTreeMap<String, Document> {
    let mut kept = BTreeMap::new();
    for server in 1..=2 {
        let mut collector = Collector::new(ServerId::from_u128(server));
        collector.fold(&[failed("mail", 1, "user 1 is gone")], at(10));
        collector.fold(&[retried("mail", 2, "user 2 is gone")], at(3_000));
        collector.fold(&[failed("mail", 3, "user 3 is gone")], at(3_600));
        if server == 2 {
            let other = retried("mail", 4, "smtp down");
            collector.fold(&[other.clone(), other], at(4_000));
        }
        flush(&mut collector, &mut kept, at(4_001));
        assert!(collector.flush(at(4_002)).is_empty());
    }
    kept
}

#[test]
fn failures_that_are_alike_are_added_up_over_servers_and_hours() {
    let kept = some();
    let all = read(&kept, &FailureQuery::new(at(0), at(7_200)));
    assert_eq!((all.groups_total, all.failures_total, all.unreadable), (2, 8, 0));
    let [newest, gone] = &all.groups[..] else { unreachable!("{all:?}") };
    assert_eq!((newest.record.message.as_str(), newest.record.count), ("smtp down", 2));
    assert_eq!((gone.record.pattern.as_str(), gone.record.count), ("user <n> is gone", 6));
    assert_eq!(gone.record.message, "user 3 is gone");
    assert_eq!((gone.record.first_at, gone.record.last_at), (at(10), at(3_600)));
    assert_eq!(gone.record.last_task, TaskId::from_parts(3, 0, 0));
    assert_eq!(gone.hours, [(at(0), 4), (at(3_600), 2)]);
    let most = FailureQuery::new(at(0), at(7_200)).order(FailureOrder::Most).limit(1);
    let most = read(&kept, &most);
    assert_eq!((most.groups.len(), most.groups_total), (1, 2));
    assert_eq!(most.groups[0].fingerprint, gone.fingerprint);
}

#[test]
fn a_query_takes_the_hours_it_touches_and_what_it_names() {
    let kept = some();
    let count = |query: &FailureQuery| read(&kept, query).failures_total;
    for (from, to, expected) in
        [(0, 1, 4), (3_599, 3_600, 8), (3_600, 3_601, 4), (7_200, 9_000, 0), (5, 5, 0)]
    {
        let query = FailureQuery::new(at(from), at(to));
        assert_eq!(count(&query), expected, "{from} {to}");
    }
    let query = FailureQuery::new(at(0), at(7_200));
    assert_eq!(count(&query.clone().kind("other".parse().unwrap())), 0);
    let smtp = Fingerprint::of(&"mail".parse().unwrap(), ErrorKind::Error, "smtp down");
    assert_eq!(count(&query.fingerprint(smtp)), 2);
}

#[test]
fn too_many_different_failures_are_summed() {
    let (mut collector, mut kept) = (Collector::new(ServerId::from_u128(1)), BTreeMap::new());
    for number in 0..300_u64 {
        collector.fold(&[failed(&format!("k{number}"), number, "no")], at(1));
    }
    flush(&mut collector, &mut kept, at(2));
    assert_eq!(kept.len(), FINGERPRINTS_MAX);
    let all = read(&kept, &FailureQuery::new(at(0), at(10)).order(FailureOrder::Most));
    let other = &all.groups[0];
    assert_eq!((other.fingerprint, other.record.count), (Fingerprint::OTHER, 300 - 199));
    assert_eq!(other.record.kind.as_str(), OTHER);
    assert_eq!(all.failures_total, 300);
}

#[test]
fn a_clock_that_is_set_back_a_little_overwrites_nothing() {
    let (mut collector, mut kept) = (Collector::new(ServerId::from_u128(1)), BTreeMap::new());
    collector.fold(&[failed("k", 1, "no")], at(3_599));
    collector.fold(&[failed("k", 1, "no")], at(3_600));
    collector.fold(&[failed("k", 1, "no")], at(3_599));
    flush(&mut collector, &mut kept, at(3_601));
    let all = read(&kept, &FailureQuery::new(at(0), at(7_200)));
    assert_eq!(all.groups[0].hours, [(at(0), 1), (at(3_600), 2)]);
}

#[test]
fn json_is_flat_and_documents_of_another_form_are_left_out() {
    let mut kept = some();
    let (key, document) = kept.first_key_value().unwrap();
    let mut parts = key.split('|');
    assert_eq!(parts.next(), Some("1970-01-01T00:00:00Z"));
    assert_eq!(document.expires_at, Some(after(at(3_600), KEPT)));
    let body: serde_json::Value = serde_json::from_slice(&document.body).unwrap();
    assert_eq!(body["pattern"], "user <n> is gone");
    assert_eq!((&body["count"], &body["reason"]), (&2.into(), &"error".into()));
    let bad = Document { key: format!("{key}x"), body: "{}".into(), ..document.clone() };
    kept.insert(bad.key.clone(), bad);
    let all = read(&kept, &FailureQuery::new(at(0), at(7_200)));
    assert_eq!((all.unreadable, all.failures_total), (1, 8));
    let json = serde_json::to_value(&all.groups[0]).unwrap();
    assert_eq!((&json["kind"], &json["count"]), (&"mail".into(), &2.into()));
}
