//! The window against a plain sorted list.

use super::*;

const QUEUE: NameId = 1;

fn waiting(priority: i16, kind: NameId, run_at: i64, id: u128) -> Waiting {
    let lane = Lane::new(QUEUE, priority, kind);
    Waiting { lane, place: Place { run_at, id }, flags: Flags::default() }
}

fn take(lanes: &mut Lanes, kinds: &[NameId], now: i64, limit: usize) -> (Vec<u128>, bool) {
    let mut taken = Vec::new();
    let kinds = kinds.iter().copied().collect();
    let is_starved = lanes.take(QUEUE, &kinds, now, limit, &mut taken);
    (taken.into_iter().map(|task| task.place.id).collect(), is_starved)
}

#[test]
fn tasks_are_taken_by_priority_then_due_time_then_id() {
    let mut lanes = Lanes::new(1_000);
    for task in [
        waiting(0, 1, 5, 10),
        waiting(0, 2, 4, 11),
        waiting(0, 1, 5, 9),
        waiting(7, 2, 6, 12),
        waiting(-1, 1, 0, 13),
        waiting(9, 1, 100, 14),
        waiting(8, 3, 0, 15),
    ] {
        lanes.insert(task);
    }
    assert_eq!(take(&mut lanes, &[1, 2], 10, 100).0, [12, 11, 9, 10, 13]);
    assert_eq!(take(&mut lanes, &[1, 2, 3], 99, 100).0, [15]);
    assert_eq!(lanes.next_due(QUEUE, &BTreeSet::from([1, 2, 3])), Some(100));
    assert_eq!(lanes.next_due(QUEUE, &BTreeSet::from([2, 3])), None);
    assert_eq!(take(&mut lanes, &[1], 100, 100).0, [14]);
    assert!(lanes.windows.is_empty());
}

#[test]
fn the_limit_holds() {
    let mut lanes = Lanes::new(1_000);
    (0..10).for_each(|id| lanes.insert(waiting(0, 1, 0, id)));
    assert_eq!(take(&mut lanes, &[1], 0, 3).0, [0, 1, 2]);
    assert_eq!(take(&mut lanes, &[1], 0, 0).0, [0; 0]);
    assert_eq!(lanes.len(), 7);
}

#[test]
fn a_full_window_drops_its_end_and_asks_for_it_later() {
    let mut lanes = Lanes::new(0);
    let all: Vec<_> = (0..200).map(|id| waiting(0, 1, 0, id)).collect();
    all.iter().for_each(|&task| lanes.insert(task));
    assert_eq!(lanes.len(), WINDOW_MIN);
    let (mut seen, is_starved) = take(&mut lanes, &[1], 0, 1_000);
    assert!(is_starved && lanes.has_low());
    while let Some((lane, bound)) = lanes.next_low() {
        let rows: Vec<_> = all
            .iter()
            .filter(|task| task.place > bound)
            .take(50)
            .map(|task| (task.place, task.flags))
            .collect();
        let bound = rows.get(49).map(|&(place, _)| place);
        lanes.refill(lane, rows, bound);
        seen.extend(take(&mut lanes, &[1], 0, 1_000).0);
    }
    assert_eq!(seen, (0..200).collect::<Vec<_>>());
    assert!(lanes.windows.is_empty());
}

#[test]
fn nothing_is_taken_past_a_starved_lane_of_higher_priority() {
    let mut lanes = Lanes::new(0);
    (0..100).for_each(|id| lanes.insert(waiting(1, 1, 0, id)));
    lanes.insert(waiting(0, 1, 0, 1_000));
    let (seen, is_starved) = take(&mut lanes, &[1], 0, 1_000);
    assert_eq!((seen.len(), is_starved), (WINDOW_MIN, true));
    assert_eq!(take(&mut lanes, &[1], 0, 1_000), (vec![], true));
}

#[test]
fn a_removed_task_is_not_taken() {
    let mut lanes = Lanes::new(1_000);
    let task = waiting(0, 1, 0, 1);
    lanes.insert(task);
    lanes.remove(task.lane, task.place);
    lanes.remove(task.lane, task.place);
    assert_eq!(take(&mut lanes, &[1], 0, 9).0, [0; 0]);
}
