//! The window of the journal, its watchers by the clock, and its cursors.

use ergon_core::{
    EventKind, ProgressReport, WatcherName,
    event::ServerEvent,
    report::ClaimReport,
    store::{Changes, Cursor, Gap, Observe, WATCHERS_MAX, Watch},
};

use super::*;

/// A store with choices, and the clock that decides for it.
fn built(
    choose: impl FnOnce(MemoryStoreBuilder) -> MemoryStoreBuilder,
) -> (MemoryStore, VirtualClock) {
    let clock = VirtualClock::default();
    let builder = MemoryStore::builder().clock(Arc::new(clock.clone())).journal(7);
    (choose(builder).build(), clock)
}

fn name(name: &str) -> WatcherName {
    WatcherName::new(name).unwrap()
}

async fn watch(store: &MemoryStore) -> Cursor {
    store.watch(&Watch::durable(name("w"))).await.unwrap().cursor
}

/// Watches for so many seconds.
async fn watch_for(store: &MemoryStore, watcher: &str, seconds: u32) -> Cursor {
    store.watch(&Watch::lasting(name(watcher), SECOND * seconds)).await.unwrap().cursor
}

async fn announce(store: &MemoryStore, left: u64) {
    store.announce(SERVER, &ServerEvent::Stopped { left }).await.unwrap();
}

async fn changes(store: &MemoryStore, after: &Cursor) -> Changes {
    store.changes(after, 100).await.unwrap()
}

/// The gap, and how many events come behind it.
async fn read(store: &MemoryStore, after: &Cursor) -> (Option<Gap>, usize) {
    let changes = changes(store, after).await;
    (changes.gap, changes.events.len())
}

#[tokio::test]
async fn what_is_too_old_leaves_the_window() {
    let (store, clock) = built(|builder| builder.journal_age_max(SECOND * 10));
    let begin = watch(&store).await;
    announce(&store, 1).await;
    clock.advance(SECOND * 4);
    announce(&store, 2).await;
    let middle = store.latest().await.unwrap();
    clock.advance(SECOND * 6 - Duration::from_micros(1));
    assert_eq!(read(&store, &begin).await, (None, 2));
    clock.advance(Duration::from_micros(1));
    assert_eq!(read(&store, &begin).await, (Some(Gap::Expired), 1));
    assert_eq!(read(&store, &middle).await, (None, 0));
    clock.advance(SECOND * 4);
    let behind = changes(&store, &begin).await;
    assert_eq!((behind.gap, behind.events.len(), behind.more), (Some(Gap::Expired), 0, false));
    assert_eq!(behind.cursor, middle);
    announce(&store, 3).await;
    assert_eq!(read(&store, &middle).await, (None, 1));
    assert_eq!(read(&store, &begin).await, (Some(Gap::Expired), 1));
}

#[tokio::test]
async fn what_is_too_much_leaves_the_window_but_the_newest_stays() {
    let (store, _clock) = built(|builder| builder.journal_bytes_max(size_of::<Event>() * 3));
    let begin = watch(&store).await;
    for left in 0..3 {
        announce(&store, left).await;
    }
    assert_eq!(read(&store, &begin).await, (None, 3));
    announce(&store, 3).await;
    assert_eq!(read(&store, &begin).await, (Some(Gap::Expired), 3));
    // One change that is larger than the window alone.
    insert(&store, &(0..100).map(task).collect::<Vec<_>>()).await;
    assert_eq!(read(&store, &begin).await, (Some(Gap::Expired), 100));
    announce(&store, 4).await;
    assert_eq!(read(&store, &begin).await, (Some(Gap::Expired), 1));
}

#[tokio::test]
async fn the_clock_of_the_store_decides_who_watches() {
    let (store, clock) = built(|builder| builder);
    let begin = watch_for(&store, "w", 10).await;
    clock.advance(SECOND * 10 - Duration::from_micros(1));
    // Whatever instant a request names.
    let late = Now::At(clock.now() + jiff::SignedDuration::from_hours(1));
    store.insert(&[task(1)], late).await.unwrap();
    assert_eq!(store.watchers().await.unwrap().len(), 1);
    clock.advance(Duration::from_micros(1));
    assert_eq!(store.watchers().await.unwrap(), []);
    insert(&store, &[task(2)]).await;
    let before = changes(&store, &begin).await;
    assert_eq!((before.gap, before.events.len(), before.more), (None, 1, false));
    // As long as nobody watches, more may be missing with every read.
    for _ in 0..2 {
        assert_eq!(read(&store, &before.cursor).await, (Some(Gap::Unrecorded), 0));
    }
    let again = watch_for(&store, "w", 10).await;
    assert_eq!(read(&store, &again).await, (None, 0));
    assert_eq!(read(&store, &before.cursor).await, (Some(Gap::Unrecorded), 0));
    insert(&store, &[task(3)]).await;
    assert_eq!(read(&store, &before.cursor).await, (Some(Gap::Unrecorded), 1));
    // The gap is told where it lies: what was recorded before it comes first.
    let first = changes(&store, &begin).await;
    assert_eq!((first.gap, first.events.len(), first.more), (None, 1, true));
    assert_eq!(read(&store, &first.cursor).await, (Some(Gap::Unrecorded), 1));
}

#[tokio::test]
async fn a_lease_that_another_outlives_leaves_no_gap() {
    let (store, clock) = built(|builder| builder);
    let begin = watch_for(&store, "short", 10).await;
    watch_for(&store, "long", 30).await;
    clock.advance(SECOND * 20);
    announce(&store, 1).await;
    watch_for(&store, "short", 20).await;
    clock.advance(SECOND * 15);
    announce(&store, 2).await;
    assert_eq!(read(&store, &begin).await, (None, 2));
}

#[tokio::test]
async fn a_place_outlives_its_lease_until_its_room_is_needed() {
    let (store, clock) = built(|builder| builder);
    let place = watch_for(&store, "w0", 1).await;
    let keep = |number: usize| Watch::lasting(name(&format!("w{number}")), SECOND);
    for number in 0..WATCHERS_MAX {
        store.watch(&keep(number).reached(place.clone())).await.unwrap();
        clock.advance(Duration::from_micros(1));
    }
    assert!(store.watch(&Watch::durable(name("more"))).await.is_err());
    clock.advance(SECOND);
    assert_eq!(store.watchers().await.unwrap(), []);
    assert!(!store.watch(&Watch::durable(name("more"))).await.unwrap().is_resumed);
    // The one that was over for longest had to go, and goes again for another.
    assert!(store.watch(&keep(1)).await.unwrap().is_resumed);
    assert!(!store.watch(&keep(0)).await.unwrap().is_resumed);
    assert!(store.watch(&keep(3)).await.unwrap().is_resumed);
    assert!(!store.watch(&keep(2)).await.unwrap().is_resumed);
}

#[tokio::test]
async fn a_place_that_is_kept_with_the_call_counts_from_the_next_one_on() {
    let (store, _clock) = built(|builder| builder);
    let begin = watch(&store).await;
    announce(&store, 1).await;
    let place = store.latest().await.unwrap();
    let durable = Watch::durable(name("w"));
    let keeping = store.watch(&durable.clone().reached(begin.clone())).await.unwrap();
    assert_eq!((keeping.is_resumed, keeping.cursor), (false, place.clone()));
    let keeping = store.watch(&durable.clone().reached(place.clone())).await.unwrap();
    assert_eq!((keeping.is_resumed, keeping.cursor), (true, begin));
    let kept = store.watch(&durable).await.unwrap();
    assert_eq!((kept.is_resumed, kept.cursor), (true, place));
}

#[tokio::test]
async fn cursors_repeat_with_the_number_of_the_journal() {
    let (one, two) = (built(|builder| builder).0, built(|builder| builder).0);
    let other = built(|builder| builder.journal(8)).0;
    for store in [&one, &two, &other] {
        watch(store).await;
        announce(store, 1).await;
    }
    let cursor = one.latest().await.unwrap();
    assert_eq!(cursor.as_str(), "m0000000000000007.2");
    assert_eq!(two.latest().await.unwrap(), cursor);
    assert_eq!(read(&two, &cursor).await, (None, 0));
    let foreign = changes(&other, &cursor).await;
    assert_eq!((foreign.gap, foreign.cursor), (Some(Gap::Foreign), other.latest().await.unwrap()));
    for bad in ["m7.3", "m7.", "m.1", "m7", "n7.1", "m7.1.1", "m7.-1", "m7.99999999999999999999"] {
        let cursor = Cursor::new(bad).unwrap();
        assert_eq!(read(&one, &cursor).await, (Some(Gap::Foreign), 0), "{bad}");
    }
    let store = MemoryStore::new();
    assert_ne!(store.latest().await.unwrap(), MemoryStore::new().latest().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_changes_ends_with_the_first_that_is_recorded() {
    let (store, _clock) = built(|builder| builder);
    let wait = async |cursor: &Cursor, within| {
        let start = Instant::now();
        store.wait_for_changes(cursor, within).await;
        start.elapsed()
    };
    let unwatched = store.latest().await.unwrap();
    let changing = async {
        tokio::time::sleep(SECOND * 5).await;
        announce(&store, 1).await;
    };
    // What is not recorded is no news.
    assert_eq!(tokio::join!(wait(&unwatched, SECOND * 9), changing).0, SECOND * 9);
    let cursor = watch(&store).await;
    assert_eq!(wait(&unwatched, SECOND).await, Duration::ZERO);
    let changing = async {
        tokio::time::sleep(SECOND * 5).await;
        store.beat(&Beat::new(SERVER, vec![])).await.unwrap();
        tokio::time::sleep(SECOND).await;
        announce(&store, 2).await;
    };
    assert_eq!(tokio::join!(wait(&cursor, Duration::MAX), changing).0, SECOND * 6);
    assert_eq!(wait(&cursor, SECOND).await, Duration::ZERO);
    assert_eq!(wait(&store.latest().await.unwrap(), SECOND).await, SECOND);
    let foreign = Cursor::new("x").unwrap();
    assert_eq!(wait(&foreign, SECOND).await, Duration::ZERO, "a read tells at once that it is");
}

#[tokio::test]
async fn reports_of_a_stranger_or_after_a_crash_change_nothing() {
    let (store, clock) = built(|builder| builder);
    let begin = watch(&store).await;
    insert(&store, &[task(1)]).await;
    let held = claim(&store, 1).await[0];
    let report =
        |token, done| ClaimReport { id: held.id, token, report: ProgressReport::new(done) };
    let reports = [report(held.token, 1), report(Token::new(9), 2)];
    let verdicts = store.report(&reports, Now::Store).await.unwrap();
    assert_eq!(verdicts, [Verdict::Applied, Verdict::Stale]);
    clock.advance(SECOND * 30);
    store.rescue_expired(&RescueRequest::default()).await.unwrap();
    assert_eq!(claim(&store, 1).await.len(), 1);
    let verdicts = store.report(&reports[..1], Now::Store).await.unwrap();
    assert_eq!(verdicts, [Verdict::Stale]);
    let found = store.tasks(&[held.id], Now::Store).await.unwrap();
    assert_eq!(found[0].as_ref().unwrap().report, None);
    let kinds: Vec<_> =
        changes(&store, &begin).await.events.iter().map(|one| one.event.kind()).collect();
    let expected = [
        EventKind::TaskEnqueued,
        EventKind::TaskStarted,
        EventKind::TaskProgressed,
        EventKind::TaskRescued,
        EventKind::TaskStarted,
    ];
    assert_eq!(kinds, expected);
}
