//! Cases of watchers: who watches, for how long, and the place that is kept.

use std::time::{Duration, Instant};

use ergon_core::{
    Now, Rejection,
    store::{Gap, WATCH_LEASE_MAX, WATCHERS_MAX, Watch},
    time::after,
};

use super::{
    observe::{PATIENCE, durable, enqueued},
    rejection,
};
use crate::harness::{HOUR, Harness, MINUTE, Reader, watcher};

/// A lease that is over soon enough for a test to see it.
const SHORT: Duration = Duration::from_millis(50);

fn lasting(name: &str, lease: Duration) -> Watch {
    Watch::lasting(watcher(name), lease)
}

async fn watcher_names(h: &Harness) -> Vec<String> {
    let watchers = h.store.watchers().await.unwrap();
    watchers.into_iter().map(|watcher| watcher.name.as_str().to_owned()).collect()
}

/// Waits until nobody watches any more.
async fn nobody_watches(h: &Harness, reader: &Reader) {
    let begin = Instant::now();
    while !watcher_names(h).await.is_empty() {
        assert!(begin.elapsed() < PATIENCE, "the leases are not over");
        reader.wait(Duration::from_millis(10)).await;
        tokio::task::yield_now().await;
    }
}

pub async fn everything_is_recorded_from_the_answer_of_a_watch_on(h: Harness) {
    h.insert_one(h.task()).await;
    for (name, watch) in [("lasting", lasting("lasting", HOUR)), ("durable", durable("durable"))] {
        let watched = h.watch_by(&watch).await;
        assert!(!watched.is_resumed);
        let mut reader = h.reader(watched.cursor);
        assert_eq!(reader.events().await, []);
        let id = h.insert_one(h.task()).await;
        assert_eq!(enqueued(&reader.read_all(1).await), [id]);
        assert!(h.unwatch(name).await);
    }
}

pub async fn watchers_are_told_by_name(h: Harness) {
    assert_eq!(h.store.watchers().await.unwrap(), []);
    let names = ["b", "a:b", "a", &"n/".repeat(64), "B"];
    for (name, number) in names.into_iter().zip(0..) {
        let watch = if number % 2 == 0 { durable(name) } else { lasting(name, HOUR) };
        h.watch_by(&watch).await;
    }
    let mut sorted: Vec<_> = names.map(watcher).to_vec();
    sorted.sort();
    let watchers = h.store.watchers().await.unwrap();
    assert_eq!(watchers.iter().map(|info| info.name.clone()).collect::<Vec<_>>(), sorted);
    for info in &watchers {
        let is_lasting = ["a:b", names[3]].contains(&info.name.as_str());
        assert_eq!((info.until.is_some(), &info.reached), (is_lasting, &None), "{info:?}");
    }
    h.changing_nothing("watchers", h.store.watchers()).await.unwrap();
}

pub async fn a_watch_lasts_for_its_lease_from_its_newest_call_on(h: Harness) {
    let until = async || h.store.watchers().await.unwrap()[0].until;
    // The clock of the store, by what it writes.
    let now = async || {
        let task = h.task();
        h.store.insert(std::slice::from_ref(&task), Now::Store).await.unwrap();
        h.get(task.id).await.created_at
    };
    for lease in [HOUR, MINUTE, WATCH_LEASE_MAX, HOUR] {
        let earliest = after(now().await, lease);
        h.watch_by(&lasting("suite", lease)).await;
        let latest = after(now().await, lease);
        let end = until().await.unwrap();
        assert!(earliest <= end && end <= latest, "{earliest} {end} {latest}");
    }
    h.watch_by(&durable("suite")).await;
    assert_eq!(until().await, None);
    h.watch_by(&lasting("suite", HOUR)).await;
    assert!(until().await.is_some());
    assert_eq!(watcher_names(&h).await, ["suite"]);
}

pub async fn a_watch_whose_lease_is_over_is_no_watch(h: Harness) {
    let watched = h.watch_by(&lasting("suite", SHORT)).await;
    let mut reader = h.reader(watched.cursor);
    let first = h.insert_one(h.task()).await;
    nobody_watches(&h, &reader).await;
    let between = h.insert_one(h.task()).await;
    let watched = h.watch_by(&lasting("suite", HOUR)).await;
    assert_eq!(h.reader(watched.cursor).events().await, []);
    let last = h.insert_one(h.task()).await;
    let (gaps, recorded) = reader.read_over_gaps(10).await;
    let read = enqueued(&recorded);
    // A machine may be so slow that the lease was over before the first.
    assert!(read.iter().all(|id| [first, last].contains(id)), "{read:?}, but not {between}");
    assert_eq!((gaps, read.last()), (vec![Gap::Unrecorded], Some(&last)));
}

pub async fn a_renewed_watch_goes_on(h: Harness) {
    let mut reader = h.reader(h.watch_by(&lasting("suite", MINUTE)).await.cursor);
    let mut ids = Vec::new();
    for lease in [MINUTE, HOUR, MINUTE] {
        ids.push(h.insert_one(h.task()).await);
        h.watch_by(&lasting("suite", lease)).await;
    }
    h.watch_by(&durable("suite")).await;
    ids.push(h.insert_one(h.task()).await);
    h.watch_by(&durable("suite")).await;
    assert_eq!(enqueued(&reader.read_all(2).await), ids);
}

pub async fn leases_of_no_length_or_too_long_are_refused(h: Harness) {
    let zero = h.store.watch(&lasting("suite", Duration::ZERO)).await;
    assert!(matches!(rejection(zero).1, Rejection::ZeroDuration { .. }));
    for lease in [WATCH_LEASE_MAX + Duration::from_micros(1), Duration::MAX] {
        let long = h.store.watch(&lasting("suite", lease)).await;
        assert_eq!(rejection(long).1, Rejection::WatchTooLong { max: WATCH_LEASE_MAX });
    }
    assert_eq!(h.store.watchers().await.unwrap(), []);
    h.watch_by(&durable("suite")).await;
    assert!(h.store.watch(&lasting("suite", Duration::ZERO)).await.is_err());
    assert_eq!(h.store.watchers().await.unwrap()[0].until, None);
}

pub async fn so_many_may_watch_and_no_more(h: Harness) {
    for number in 0..WATCHERS_MAX {
        let name = format!("w{number}");
        let watch = if number % 2 == 0 { durable(&name) } else { lasting(&name, HOUR) };
        h.watch_by(&watch).await;
    }
    for watch in [durable("more"), lasting("more", MINUTE)] {
        let answer = h.store.watch(&watch).await;
        assert_eq!(rejection(answer).1, Rejection::TooManyWatchers { max: WATCHERS_MAX });
    }
    assert_eq!(watcher_names(&h).await.len(), WATCHERS_MAX);
    h.watch_by(&lasting("w0", HOUR)).await;
    assert!(h.unwatch("w1").await);
    h.watch_by(&durable("more")).await;
    assert!(h.store.watch(&durable("w1")).await.is_err());
}

pub async fn watchers_whose_lease_is_over_make_room_for_others(h: Harness) {
    let reader = h.reader_at_end().await;
    for number in 0..WATCHERS_MAX {
        h.watch_by(&lasting(&format!("w{number}"), Duration::from_micros(1))).await;
    }
    nobody_watches(&h, &reader).await;
    for number in 0..WATCHERS_MAX {
        h.watch_by(&durable(&format!("other{number}"))).await;
    }
    assert_eq!(watcher_names(&h).await.len(), WATCHERS_MAX);
}

pub async fn ending_a_watch_says_whether_there_was_one(h: Harness) {
    assert!(!h.unwatch("suite").await);
    for watch in [lasting("suite", HOUR), durable("suite")] {
        h.watch_by(&watch).await;
        assert!(!h.unwatch("other").await);
        assert_eq!(watcher_names(&h).await, ["suite"]);
        assert!(h.unwatch("suite").await);
        assert!(!h.unwatch("suite").await);
        assert_eq!(h.store.watchers().await.unwrap(), []);
    }
}

pub async fn a_place_is_kept_until_the_watch_is_ended(h: Harness) {
    let mut reader = h.watch("suite").await;
    let ids = [h.insert_one(h.task()).await, h.insert_one(h.task()).await];
    assert_eq!(enqueued(&reader.read(1).await.events), [ids[0]]);
    h.watch_by(&durable("suite").reached(reader.cursor.clone())).await;
    let info = h.store.watchers().await.unwrap().remove(0);
    assert_eq!((info.until, info.reached), (None, Some(reader.cursor.clone())));
    // Who starts again goes on from there, however often.
    for _ in 0..2 {
        let watched = h.watch_by(&durable("suite")).await;
        assert_eq!((watched.is_resumed, &watched.cursor), (true, &reader.cursor));
        assert_eq!(enqueued(&h.reader(watched.cursor).read_all(10).await), [ids[1]]);
    }
    // Another name knows nothing of it.
    assert!(!h.watch_by(&durable("other")).await.is_resumed);
    reader.events().await;
    h.watch_by(&durable("suite").reached(reader.cursor.clone())).await;
    let third = h.insert_one(h.task()).await;
    let watched = h.watch_by(&lasting("suite", HOUR)).await;
    assert!(watched.is_resumed);
    assert_eq!(enqueued(&h.reader(watched.cursor).read_all(10).await), [third]);
    assert!(h.unwatch("suite").await);
    let watched = h.watch_by(&durable("suite")).await;
    assert!(!watched.is_resumed);
    assert_eq!(h.reader(watched.cursor).events().await, []);
}

pub async fn a_place_from_before_an_unrecorded_time_may_be_kept(h: Harness) {
    let place = h.watch("suite").await.cursor;
    assert!(h.unwatch("suite").await);
    h.insert_one(h.task()).await;
    h.watch_by(&durable("suite").reached(place.clone())).await;
    let watched = h.watch_by(&durable("suite")).await;
    assert_eq!((watched.is_resumed, &watched.cursor), (true, &place));
    let last = h.insert_one(h.task()).await;
    let (gaps, recorded) = h.reader(watched.cursor).read_over_gaps(10).await;
    assert_eq!((gaps, enqueued(&recorded)), (vec![Gap::Unrecorded], vec![last]));
}
