//! Cases of documents: what is small, seldom and named.

use bytes::Bytes;
use ergon_core::{
    Rejection, StoreError,
    document::{
        BODY_BYTES_MAX, Document, DocumentRange, Expect, KEY_BYTES_MAX, Put, PutVerdict, Space,
    },
    limits::{BATCH_MAX, PAGE_BYTES_MAX},
};
use jiff::Timestamp;

use super::rejection;
use crate::harness::Harness;

const SPACE: Space = Space::Setting;

fn put(key: &str, body: &str) -> Put {
    Put::new(SPACE, key, body.to_owned())
}

const fn done(version: u64) -> PutVerdict {
    PutVerdict::Done { version }
}

/// An instant that has passed by the clock of every store.
fn past() -> Timestamp {
    "2000-01-01T00:00:00Z".parse().unwrap()
}

/// One that has not.
fn far() -> Timestamp {
    "2200-01-01T00:00:00.000001Z".parse().unwrap()
}

async fn write(h: &Harness, puts: &[Put]) -> Vec<PutVerdict> {
    h.store.put(puts).await.unwrap()
}

async fn one(h: &Harness, put: Put) -> PutVerdict {
    let [verdict] = write(h, &[put]).await[..] else { unreachable!("one answer a write") };
    verdict
}

async fn read(h: &Harness, range: &DocumentRange) -> Vec<Document> {
    h.store.documents(range).await.unwrap()
}

async fn keys(h: &Harness, range: &DocumentRange) -> Vec<String> {
    read(h, range).await.into_iter().map(|document| document.key).collect()
}

async fn body(h: &Harness, key: &str) -> Option<Bytes> {
    let found = read(h, &DocumentRange::one(SPACE, key)).await;
    assert!(found.len() <= 1);
    found.into_iter().next().map(|document| document.body)
}

pub async fn a_document_reads_back_as_it_was_written(h: Harness) {
    let bodies = [Bytes::new(), Bytes::from_static(b"{}\0\xff"), vec![7; BODY_BYTES_MAX].into()];
    for (number, body) in bodies.into_iter().enumerate() {
        let key = format!("k{number}");
        for (put, expires_at) in [
            (Put::new(SPACE, &*key, body.clone()), None),
            (Put::new(SPACE, &*key, body.clone()).expires_at(far()), Some(far())),
        ] {
            let PutVerdict::Done { version } = one(&h, put).await else { unreachable!() };
            let expected = Document { key: key.clone(), version, body: body.clone(), expires_at };
            assert_eq!(read(&h, &DocumentRange::one(SPACE, &*key)).await, [expected]);
        }
    }
}

pub async fn versions_count_the_writes_of_a_key(h: Harness) {
    for version in 1..=3 {
        assert_eq!(one(&h, put("k", "x")).await, done(version));
    }
    assert_eq!(one(&h, put("other", "x")).await, done(1));
    assert_eq!(one(&h, Put::remove(SPACE, "k")).await, done(0));
    assert_eq!(body(&h, "k").await, None);
    assert_eq!(one(&h, Put::remove(SPACE, "k")).await, done(0), "removed already");
    assert_eq!(one(&h, put("k", "x")).await, done(1));
}

pub async fn what_a_write_expects_decides(h: Harness) {
    let absent = |body: &str| put("k", body).expect(Expect::Absent);
    let version = |version, body: &str| put("k", body).expect(Expect::Version(version));
    assert_eq!(one(&h, version(0, "a")).await, PutVerdict::Conflict);
    assert_eq!(one(&h, version(1, "a")).await, PutVerdict::Conflict);
    assert_eq!(one(&h, absent("b")).await, done(1));
    assert_eq!(one(&h, absent("c")).await, PutVerdict::Conflict);
    assert_eq!(one(&h, version(2, "d")).await, PutVerdict::Conflict);
    assert_eq!(one(&h, version(u64::MAX, "d")).await, PutVerdict::Conflict);
    assert_eq!(body(&h, "k").await.as_deref(), Some(&b"b"[..]));
    assert_eq!(one(&h, version(1, "e")).await, done(2));
    assert_eq!(body(&h, "k").await.as_deref(), Some(&b"e"[..]));
}

pub async fn what_a_removal_expects_decides(h: Harness) {
    let remove = |expect| Put::remove(SPACE, "k").expect(expect);
    assert_eq!(one(&h, remove(Expect::Absent)).await, done(0));
    assert_eq!(one(&h, remove(Expect::Version(1))).await, PutVerdict::Conflict);
    assert_eq!(one(&h, put("k", "x")).await, done(1));
    assert_eq!(one(&h, remove(Expect::Absent)).await, PutVerdict::Conflict);
    assert_eq!(one(&h, remove(Expect::Version(2))).await, PutVerdict::Conflict);
    assert!(body(&h, "k").await.is_some());
    assert_eq!(one(&h, remove(Expect::Version(1))).await, done(0));
    assert_eq!(body(&h, "k").await, None);
}

pub async fn writes_of_one_call_are_answered_one_by_one(h: Harness) {
    write(&h, &[put("b", "1"), put("c", "1")]).await;
    let puts = [
        put("z", "2"),
        put("b", "2").expect(Expect::Absent),
        Put::remove(SPACE, "c"),
        put("a", "2").expect(Expect::Absent),
        put("y", "2").expect(Expect::Version(1)),
        Put::remove(SPACE, "never"),
    ];
    let conflict = PutVerdict::Conflict;
    let expected = [done(1), conflict, done(0), done(1), conflict, done(0)];
    assert_eq!(write(&h, &puts).await, expected);
    assert_eq!(keys(&h, &DocumentRange::all(SPACE)).await, ["a", "b", "z"]);
    assert_eq!(write(&h, &[]).await, []);
}

pub async fn of_many_who_expect_the_same_one_writes(h: Harness) {
    one(&h, put("k", "0")).await;
    for version in 1..=5 {
        let mut racing = tokio::task::JoinSet::new();
        for number in 0..8 {
            let store = std::sync::Arc::clone(&h.store);
            let own = put("k", &number.to_string()).expect(Expect::Version(version));
            racing.spawn(async move { store.put(&[own]).await.unwrap() });
        }
        let verdicts = racing.join_all().await.concat();
        let written = verdicts.iter().filter(|&&verdict| verdict == done(version + 1)).count();
        let refused = verdicts.iter().filter(|&&verdict| verdict == PutVerdict::Conflict).count();
        assert_eq!((written, refused), (1, 7), "{verdicts:?}");
    }
}

pub async fn documents_are_read_in_the_order_of_the_bytes_of_their_keys(h: Harness) {
    let sorted = ["!", "B", "a", "a b", "a/1", "a/10", "a/2", "b", "ä", "\u{10ffff}"];
    let mut puts: Vec<_> = sorted.iter().map(|key| put(key, key)).collect();
    puts.reverse();
    write(&h, &puts).await;
    let all = DocumentRange::all(SPACE);
    assert_eq!(keys(&h, &all).await, sorted);
    let mut reversed = sorted;
    reversed.reverse();
    assert_eq!(keys(&h, &all.clone().reversed()).await, reversed);
    assert_eq!(keys(&h, &all.clone().limit(3)).await, sorted[..3]);
    assert_eq!(keys(&h, &all.clone().reversed().limit(2)).await, reversed[..2]);
    assert_eq!(keys(&h, &DocumentRange::prefix(SPACE, "a/")).await, ["a/1", "a/10", "a/2"]);
    let between = all.clone().from("a b").to("a/2");
    assert_eq!(keys(&h, &between).await, ["a b", "a/1", "a/10"]);
    assert_eq!(keys(&h, &between.reversed()).await, ["a/10", "a/1", "a b"]);
    assert_eq!(keys(&h, &all.clone().from("b").to("a")).await, [""; 0]);
    assert_eq!(keys(&h, &all.from("x\0").to("ä\0")).await, ["ä"], "bounds may be any text");
}

pub async fn spaces_are_apart(h: Harness) {
    for space in Space::ALL {
        assert_eq!(one(&h, Put::new(space, "k", space.as_str())).await, done(1));
    }
    for space in Space::ALL {
        let found = read(&h, &DocumentRange::all(space)).await;
        let bodies: Vec<_> = found.into_iter().map(|document| document.body).collect();
        assert_eq!(bodies, [space.as_str()]);
    }
}

pub async fn what_expired_is_gone_for_everybody(h: Harness) {
    assert_eq!(one(&h, put("k", "x").expires_at(past())).await, done(1));
    assert_eq!(keys(&h, &DocumentRange::all(SPACE)).await, [""; 0]);
    assert_eq!(one(&h, put("k", "y").expect(Expect::Version(1))).await, PutVerdict::Conflict);
    assert_eq!(one(&h, Put::remove(SPACE, "k").expect(Expect::Absent)).await, done(0));
    assert_eq!(one(&h, put("k", "z").expect(Expect::Absent).expires_at(past())).await, done(1));
    assert_eq!(one(&h, put("k", "z")).await, done(1));
    assert_eq!(body(&h, "k").await.as_deref(), Some(&b"z"[..]));
}

pub async fn a_sweep_removes_what_expired_and_nothing_else(h: Harness) {
    let puts = [
        put("a", "x").expires_at(past()),
        put("b", "x").expires_at(far()),
        put("c", "x"),
        put("d", "x").expires_at(past()),
    ];
    write(&h, &puts).await;
    // Rewritten to stay, and to stay for a while.
    write(&h, &[put("d", "y")]).await;
    assert_eq!(h.prune().await.done, 0, "documents are not counted");
    h.prune().await;
    assert_eq!(keys(&h, &DocumentRange::all(SPACE)).await, ["b", "c", "d"]);
}

pub async fn a_page_of_large_documents_ends_early_and_never_empty(h: Harness) {
    let body = Bytes::from(vec![b'x'; BODY_BYTES_MAX]);
    let fitting = PAGE_BYTES_MAX / BODY_BYTES_MAX;
    let puts: Vec<_> =
        (0..fitting + 5).map(|at| Put::new(SPACE, format!("{at:03}"), body.clone())).collect();
    write(&h, &puts).await;
    let (mut range, mut seen) = (DocumentRange::all(SPACE), Vec::new());
    loop {
        let page = keys(&h, &range).await;
        let Some(last) = page.last() else { break };
        assert!(page.len() <= fitting + 1, "{}", page.len());
        range = range.from(format!("{last}\u{1}"));
        seen.extend(page);
    }
    assert_eq!(seen, puts.iter().map(|put| put.key.clone()).collect::<Vec<_>>());
}

pub async fn bad_writes_are_refused_and_change_nothing(h: Harness) {
    let long = "k".repeat(KEY_BYTES_MAX + 1);
    for bad in [put("", "x"), put("a\0", "x"), put(&long, "x")] {
        let refused = h.store.put(&[put("good", "x"), bad]).await;
        assert!(matches!(rejection(refused), (1, Rejection::InvalidDocumentKey { .. })));
    }
    let large = Put::new(SPACE, "k", vec![0; BODY_BYTES_MAX + 1]);
    let refused = h.store.put(&[put("good", "x"), large]).await;
    assert!(matches!(rejection(refused), (1, Rejection::DocumentTooLarge { .. })));
    let twice = h.store.put(&[put("good", "x"), put("good", "y")]).await;
    assert!(matches!(rejection(twice), (1, Rejection::InvalidDocumentKey { .. })));
    let many: Vec<_> = (0..=BATCH_MAX).map(|at| put(&at.to_string(), "")).collect();
    let refused = h.store.put(&many).await;
    assert!(matches!(refused, Err(StoreError::BatchTooLarge { .. })));
    assert_eq!(keys(&h, &DocumentRange::all(SPACE)).await, [""; 0]);
    for limit in [0, BATCH_MAX + 1] {
        let refused = h.store.documents(&DocumentRange::all(SPACE).limit(limit)).await;
        assert!(matches!(rejection(refused), (_, Rejection::InvalidLimit { .. })));
    }
}

pub async fn the_largest_batch_of_documents_is_written(h: Harness) {
    let puts: Vec<_> = (0..BATCH_MAX).map(|at| put(&format!("{at:05}"), "x")).collect();
    let verdicts = write(&h, &puts).await;
    assert_eq!(verdicts.len(), BATCH_MAX);
    assert!(verdicts.iter().all(|&verdict| verdict == done(1)));
    let found = keys(&h, &DocumentRange::all(SPACE).limit(BATCH_MAX)).await;
    assert_eq!(found.len(), BATCH_MAX);
    assert!(found.is_sorted());
}
