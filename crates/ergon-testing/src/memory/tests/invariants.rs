//! What holds in the model whatever is done to it, in whatever order.

use std::collections::BTreeSet;

use ergon_core::{ErrorKind, ProgressReport, Rng, report::ClaimReport};

use super::*;
use crate::SeededRng;

/// Does something at random; claims are remembered in `held`, and so become stale in time.
async fn step(store: &MemoryStore, clock: &VirtualClock, rng: &SeededRng, held: &mut Vec<Held>) {
    let below = |ceiling: u64| rng.next_u64() % ceiling;
    let some_id = || id(below(40));
    let pick = |held: &[Held]| {
        let index = usize::try_from(below(1 << 16)).unwrap() % std::cmp::max(1, held.len());
        held.get(index).copied().unwrap_or(Held { id: some_id(), token: Token::NONE })
    };
    match below(10) {
        0 | 1 => drop(insert(store, &[some_task(&below)]).await),
        2 | 3 => held.extend(claim(store, 2).await),
        4 => {
            let conclusion = some_conclusion(below(6));
            finish(store, pick(held), conclusion).await;
        }
        5 => {
            let command = some_command(below(5), clock.now());
            let ids = Selection::Ids(vec![some_id(), pick(held).id]);
            store.apply(&ids, &command, Now::Store).await.unwrap();
        }
        6 => {
            store.rescue_expired(&RescueRequest::default().limit(1)).await.unwrap();
            store.prune(&PruneRequest::default().limit(1)).await.unwrap();
        }
        7 => {
            let Held { id, token } = pick(held);
            let report = ProgressReport::new(below(9));
            store.report(&[ClaimReport { id, token, report }], Now::Store).await.unwrap();
        }
        8 => drop(store.beat(&Beat::new(SERVER, vec![pick(held)])).await.unwrap()),
        _ => clock.advance(SECOND * u32::try_from(below(40)).unwrap()),
    }
}

fn some_task(below: &impl Fn(u64) -> u64) -> NewTask {
    let mut task = task(below(40));
    let scope = match below(5) {
        0 => UniqueScope::UntilStarted,
        1 => UniqueScope::UntilFinished,
        2 => UniqueScope::While(StateSet::ALL),
        3 => UniqueScope::For(SECOND * 60),
        _ => return task,
    };
    let hash = [u8::try_from(below(4)).unwrap(); 32];
    task.spec.unique = Some(UniqueKey { hash, scope });
    task.spec.retention = Some(SECOND * 30);
    task
}

fn some_conclusion(choice: u64) -> Conclusion {
    let (delay, kind, error) = (SECOND, ErrorKind::Error, String::new());
    match choice {
        0 => Conclusion::Complete { result: None },
        1 => Conclusion::Retry { delay, kind, error },
        2 => Conclusion::Fail { kind, error },
        3 => Conclusion::Cancel { reason: error },
        4 => Conclusion::Snooze { delay },
        _ => Conclusion::Release,
    }
}

fn some_command(choice: u64, now: Timestamp) -> Command {
    match choice {
        0 => Command::Cancel { reason: String::new() },
        1 => Command::Retry,
        2 => Command::Delete,
        3 => Command::Reschedule { run_at: now },
        _ => Command::SetPriority { priority: 1 },
    }
}

fn check(model: &Model) {
    let mut tokens = BTreeSet::new();
    for (id, entry) in &model.tasks {
        let progress = &entry.progress;
        let is_running = progress.phase == Phase::Running;
        assert_eq!(entry.lease.is_some(), is_running, "{id} has a lease exactly while it runs");
        assert!(entry.report.is_none() || is_running, "{id} has a report only while it runs");
        assert_eq!(progress.finished_at.is_some(), progress.phase.is_terminal(), "{id}");
        assert_eq!(progress.expires_at.is_some(), progress.phase.is_terminal(), "{id}");
        assert!(progress.token.get() <= model.newest_token, "{id}");
        assert!(progress.token == Token::NONE || tokens.insert(progress.token), "{id}");
        assert!(model.queues.contains_key(&entry.spec.queue), "{id}");
    }
    for (hash, holder) in &model.keys {
        let task = model.tasks.get(&holder.id);
        let key = task.and_then(|entry| entry.spec.unique);
        // A key that is held for a time may outlive its task.
        if holder.until.is_none() {
            let is_its_own = key.is_some_and(|key| key.hash == *hash);
            assert!(is_its_own, "{} holds a key that it has", holder.id);
            let is_left = task
                .zip(key)
                .is_some_and(|(entry, key)| transition::has_left_scope(key.scope, &entry.progress));
            assert!(!is_left, "{} holds a key only within its scope", holder.id);
        }
    }
}

#[tokio::test]
async fn the_model_is_whole_after_every_step() {
    for seed in 0..20 {
        let (store, clock) = store();
        let rng = SeededRng::new(seed);
        let mut held = Vec::new();
        for _ in 0..1_000 {
            step(&store, &clock, &rng, &mut held).await;
            check(&store.read());
        }
        let tokens: Vec<_> = held.iter().map(|held| held.token).collect();
        assert!(tokens.is_sorted_by(|one, next| one < next), "tokens increase over claims");
        assert!(tokens.len() > 100, "the steps of seed {seed} come to something");
    }
}
