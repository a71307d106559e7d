//! Cases of `list`: filters and pages.

use ergon_core::{
    Command, NewTask, Order, Page, Rejection, State, StateSet, TaskFilter, TaskId,
    limits::PAGE_BYTES_MAX,
};

use super::rejection;
use crate::harness::{
    Harness, MICROSECOND, REACHABLE, SECOND, cancel_command, kind, queue, record_ids, tag,
};

const BOTH: [Order; 2] = [Order::OldestFirst, Order::NewestFirst];

fn ordered(mut ids: Vec<TaskId>, order: Order) -> Vec<TaskId> {
    ids.sort_unstable();
    if order == Order::NewestFirst {
        ids.reverse();
    }
    ids
}

pub async fn pages_of_any_size_show_every_task_once_in_order(h: Harness) {
    let ids = h.create(&[h.tasks(10), h.pack(17), h.tasks(3), h.pack(1)].concat()).await;
    for order in BOTH {
        for limit in [1, 2, 7, 30, 31, 32, 1_000] {
            let walked = record_ids(&h.walk(&TaskFilter::all(), limit, order).await);
            assert_eq!(walked, ordered(ids.clone(), order), "{order:?}, pages of {limit}");
        }
    }
}

pub async fn a_page_of_no_or_too_many_rows_is_refused(h: Harness) {
    h.create(&h.tasks(3)).await;
    for limit in [0, 1_001, usize::MAX] {
        let answer = h.store.list(&TaskFilter::all(), &Page::of(limit), h.now()).await;
        let expected = Rejection::InvalidLimit { limit, max: 1_000 };
        assert_eq!(rejection(answer), (0, expected));
    }
}

pub async fn the_largest_page_holds_a_thousand(h: Harness) {
    h.create(&h.tasks(1_001)).await;
    let page = Page::of(1_000).order(Order::OldestFirst);
    let read = h.store.list(&TaskFilter::all(), &page, h.now()).await.unwrap();
    assert_eq!((read.tasks.len(), read.next), (1_000, read.tasks.last().map(|task| task.id)));
}

pub async fn a_page_that_holds_the_rest_is_the_last(h: Harness) {
    let ids = h.create(&h.tasks(4)).await;
    for (limit, is_last) in [(3, false), (4, true), (5, true)] {
        let page = Page::of(limit).order(Order::OldestFirst);
        let read = h.store.list(&TaskFilter::all(), &page, h.now()).await.unwrap();
        assert_eq!(read.next.is_none(), is_last, "{limit} of {}", ids.len());
    }
}

pub async fn an_empty_store_has_one_empty_page(h: Harness) {
    for order in BOTH {
        let page = Page::of(10).order(order);
        let read = h.store.list(&TaskFilter::all(), &page, h.now()).await.unwrap();
        assert_eq!(read, ergon_core::TaskPage::default());
    }
}

pub async fn a_page_continues_behind_a_task_that_is_gone(h: Harness) {
    let ids = h.create(&[h.tasks(4), h.pack(4)].concat()).await;
    for (order, gone, expected) in
        [(Order::OldestFirst, 4, &ids[5..]), (Order::NewestFirst, 2, &ids[..2])]
    {
        h.apply(ids[gone], Command::Delete).await;
        let page = Page::of(100).order(order).after(ids[gone]);
        let read = h.store.list(&TaskFilter::all(), &page, h.now()).await.unwrap();
        let expected = ordered(expected.to_vec(), order);
        assert_eq!(record_ids(&read.tasks), expected, "{order:?}");
    }
}

pub async fn a_page_continues_behind_an_id_that_never_was(h: Harness) {
    let before = h.create(&h.tasks(2)).await;
    let between = h.id();
    let after = h.create(&h.tasks(2)).await;
    for (order, cursor, expected) in [
        (Order::OldestFirst, between, &after),
        (Order::NewestFirst, between, &before),
        (Order::OldestFirst, TaskId::MAX, &Vec::new()),
        (Order::NewestFirst, TaskId::MIN, &Vec::new()),
    ] {
        let page = Page::of(100).order(order).after(cursor);
        let read = h.store.list(&TaskFilter::all(), &page, h.now()).await.unwrap();
        assert_eq!(record_ids(&read.tasks), ordered(expected.clone(), order));
        assert_eq!(read.next, None);
    }
}

pub async fn inserts_and_deletes_between_pages_repeat_and_miss_nothing(h: Harness) {
    for order in BOTH {
        let early = h.tasks(5);
        let kept = h.create(&h.tasks(20)).await;
        let doomed = h.create(&h.tasks(20)).await;
        let mut seen = Vec::new();
        let mut page = Page::of(6).order(order);
        let mut early = early.into_iter();
        let mut doomed_left = doomed.iter();
        loop {
            let read = h.store.list(&TaskFilter::all(), &page, h.now()).await.unwrap();
            seen.extend(record_ids(&read.tasks));
            let Some(next) = read.next else { break };
            page = page.after(next);
            // In front of the cursor, behind it, and the cursor itself.
            h.create(&early.next().into_iter().chain([h.task()]).collect::<Vec<_>>()).await;
            if doomed.contains(&next) {
                h.apply(next, Command::Delete).await;
            }
            for id in doomed_left.by_ref().take(2) {
                h.apply(*id, Command::Delete).await;
            }
            assert!(seen.len() < 1_000, "the list does not end");
        }
        assert_eq!(ordered(seen.clone(), order), seen, "in order");
        let distinct: std::collections::BTreeSet<_> = seen.iter().collect();
        assert_eq!(distinct.len(), seen.len(), "a task was repeated");
        assert!(kept.iter().all(|id| distinct.contains(id)), "a task was missed");
    }
}

pub async fn pages_end_early_when_they_grow_large(h: Harness) {
    let payload = bytes::Bytes::from(vec![b'x'; 1 << 20]);
    let large = |_| h.task_with(|task| task.spec.payload = payload.clone());
    let tasks: Vec<NewTask> = (0..20).map(large).collect();
    let ids = h.create(&tasks).await;
    for order in BOTH {
        let (mut seen, mut page) = (Vec::new(), Page::of(1_000).order(order));
        loop {
            let read = h.store.list(&TaskFilter::all(), &page, h.now()).await.unwrap();
            let sizes = read.tasks.iter().map(ergon_core::TaskRecord::bytes);
            let without_last: usize = sizes.rev().skip(1).sum();
            assert!(without_last <= PAGE_BYTES_MAX, "a page of more than {without_last} bytes");
            seen.extend(record_ids(&read.tasks));
            let Some(next) = read.next else { break };
            page = page.after(next);
        }
        assert_eq!(seen, ordered(ids.clone(), order));
    }
}

pub async fn a_filter_by_states_shows_these_states_alone(h: Harness) {
    let mut ids = Vec::new();
    for state in REACHABLE {
        let id = h.in_state(state).await;
        if state == State::Pending {
            h.apply(id, Command::SetPriority { priority: 0 }).await;
        }
        ids.push((state, id));
    }
    for bits in 0..=StateSet::ALL.bits() {
        let set = StateSet::from_bits(bits);
        let wanted = if set.is_empty() { StateSet::ALL } else { set };
        let shown = |state| wanted.contains(state);
        let expected: Vec<_> =
            ids.iter().filter(|(state, _)| shown(*state)).map(|&(_, id)| id).collect();
        let filter = TaskFilter::all().states(set);
        let found = record_ids(&h.walk(&filter, 3, Order::OldestFirst).await);
        assert_eq!(found, expected, "{set:?}");
    }
}

pub async fn filters_narrow_each_other(h: Harness) {
    let mut expected = Vec::new();
    for (at, (kind_name, queue_name)) in
        [("k1", "q1"), ("k1", "q2"), ("k2", "q1"), ("k2", "q2"), ("k3", "q3")]
            .into_iter()
            .enumerate()
    {
        for labels in [vec![], vec![tag("red")], vec![tag("red"), tag("big")]] {
            let id = h
                .add(|task| {
                    task.spec.kind = kind(kind_name);
                    task.spec.queue = queue(queue_name);
                    task.spec.metadata.insert("n".to_owned(), at.to_string());
                    task.spec.tags = labels.clone();
                })
                .await;
            expected.push((id, kind_name, queue_name, at, labels.len()));
        }
    }
    let all = TaskFilter::all;
    let check = async |filter: TaskFilter, matches: &dyn Fn(&str, &str, usize, usize) -> bool| {
        let ids: Vec<_> = expected
            .iter()
            .filter(|(_, kind, queue, at, tags)| matches(kind, queue, *at, *tags))
            .map(|&(id, ..)| id)
            .collect();
        for order in BOTH {
            let found = record_ids(&h.walk(&filter, 2, order).await);
            assert_eq!(found, ordered(ids.clone(), order), "{filter:?}");
        }
    };
    check(all().kind(kind("k1")), &|k, _, _, _| k == "k1").await;
    check(all().kind(kind("k1")).kind(kind("k3")), &|k, _, _, _| k != "k2").await;
    check(all().queue(queue("q2")), &|_, q, _, _| q == "q2").await;
    check(all().queue(queue("q2")).queue(queue("q1")), &|_, q, _, _| q != "q3").await;
    check(all().kind(kind("k2")).queue(queue("q1")), &|k, q, _, _| (k, q) == ("k2", "q1")).await;
    check(all().tag(tag("red")), &|_, _, _, tags| tags >= 1).await;
    check(all().tag(tag("red")).tag(tag("big")), &|_, _, _, tags| tags == 2).await;
    check(all().tag(tag("big")).kind(kind("k1")), &|k, _, _, t| k == "k1" && t == 2).await;
    check(all().metadata("n", "3"), &|_, _, at, _| at == 3).await;
    check(all().metadata("n", "3").queue(queue("q1")), &|_, _, _, _| false).await;
    check(all().metadata("m", "3"), &|_, _, _, _| false).await;
    check(all().states(State::Failed), &|_, _, _, _| false).await;
    check(all().states(State::Pending).kind(kind("k3")), &|k, _, _, _| k == "k3").await;
}

pub async fn a_filter_by_time_of_enqueue_is_exact_to_the_microsecond(h: Harness) {
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(h.insert_one(h.task()).await);
        h.advance(MICROSECOND);
    }
    let third = h.get(ids[2]).await.created_at;
    let from = TaskFilter::all().created_from(third);
    assert_eq!(record_ids(&h.walk(&from, 10, Order::OldestFirst).await), ids[2..]);
    let before = TaskFilter::all().created_before(third);
    assert_eq!(record_ids(&h.walk(&before, 10, Order::OldestFirst).await), ids[..2]);
    let both = from.created_before(h.get(ids[4]).await.created_at);
    assert_eq!(record_ids(&h.walk(&both, 1, Order::OldestFirst).await), ids[2..4]);
}

pub async fn few_of_many_are_found_on_every_page(h: Harness) {
    let mut tasks = h.tasks(2_000);
    let (mut red, mut cancelled) = (Vec::new(), Vec::new());
    for (at, task) in tasks.iter_mut().enumerate() {
        if at % 501 == 7 {
            task.spec.tags = vec![tag("red")];
            red.push(task.id);
        }
    }
    h.create(&tasks).await;
    for task in tasks.iter().skip(300).step_by(600) {
        h.apply(task.id, cancel_command()).await;
        cancelled.push(task.id);
    }
    for order in BOTH {
        let by_tag = record_ids(&h.walk(&TaskFilter::all().tag(tag("red")), 1, order).await);
        assert_eq!(by_tag, ordered(red.clone(), order));
        let by_state = TaskFilter::all().states(State::Cancelled);
        let by_state = record_ids(&h.walk(&by_state, 2, order).await);
        assert_eq!(by_state, ordered(cancelled.clone(), order));
    }
}

pub async fn pages_do_not_skip_a_task_that_changes_its_state_between_them(h: Harness) {
    let ids = h.create(&h.tasks(30)).await;
    let (mut seen, mut page) = (Vec::new(), Page::of(4).order(Order::OldestFirst));
    loop {
        let read = h.store.list(&TaskFilter::all(), &page, h.now()).await.unwrap();
        seen.extend(record_ids(&read.tasks));
        let Some(next) = read.next else { break };
        page = page.after(next);
        for claimed in h.claim(3).await {
            h.conclude(&claimed, crate::harness::retry(SECOND)).await;
        }
        h.advance(SECOND);
    }
    assert_eq!(seen, ids);
}
