//! The audit of processes that worked at the same time.

use std::{path::Path, time::Duration};

use anyhow::{Result, ensure};
use ergon_core::{
    Now, Page, State, Store, TaskFilter, TaskId, TaskRecord,
    limits::PAGE_MAX,
    store::{IntoStore as _, StateCounts},
};
use ergon_postgres::PostgresStore;

use super::Deaths;
use crate::{
    torture::{
        Report,
        audit::compare_all,
        child::shared_keys,
        follower, ledger,
        story::{Start, Stories, Story},
    },
    workload::{block_on, counts},
};

/// A process records the outcome of a run within this time, or it was killed: many times what a
/// busy machine makes of some milliseconds.
const UNDER_WAY_MAX: Duration = Duration::from_secs(5);

/// Adds what is wrong to the report. Nothing is alive any more that writes.
pub(super) fn audit(
    place: &Path,
    url: &str,
    rounds: u32,
    deaths: &Deaths,
    report: &mut Report,
) -> Result<()> {
    let mut stories = Stories::default();
    let mut ledgers = Vec::new();
    for round in 1..=rounds {
        ledgers.push((round, ledger::read(place, round)?));
    }
    stories.read_together(ledgers, report);
    report.acked = stories.of.values().filter(|story| story.acked.is_some()).count();
    report.wrong.extend(stories.shared_keys());
    block_on(async {
        let own = PostgresStore::connect(url).await?;
        let store = own.clone().into_store();
        compare_all(&stories, &*store, report, |id, story, record, report| {
            check_starts(id, story, record, deaths, report);
        })
        .await?;
        follower::audit(place, &*store, report).await?;
        report.wrong.extend(shared_keys(&*store).await?);
        check_counts(&*store, report).await?;
        own.close().await;
        Ok(())
    })
}

/// Finds starts that nothing explains: a task is started once, and once more for each outcome by
/// which it was to be tried again, for each lease that was over, and for each process that was killed
/// while it held the task.
fn check_starts(
    id: TaskId,
    story: &Story,
    record: &TaskRecord,
    deaths: &Deaths,
    report: &mut Report,
) {
    // The last claim is the one whose outcome stands.
    let others = story.unanswered.iter().filter(|start| start.token != record.progress.token);
    let (killed, alive): (Vec<&Start>, Vec<&Start>) =
        others.partition(|start| is_killed(start, deaths));
    // Outcomes that were applied without anybody having been told, as those of a server.
    let retries = u32::from(record.progress.attempt.saturating_sub(1));
    let untold = usize::try_from(retries.saturating_sub(story.retries)).unwrap_or(usize::MAX);
    if alive.len() > untold {
        let (starts, kills) = (story.starts, killed.len());
        report.doubled.push(format!(
            "{id} was started {starts} times, with {kills} kills and {retries} retries: {alive:?}"
        ));
    }
    if let Some(start) = story.unanswered.iter().find(|start| start.token > record.progress.token) {
        let token = record.progress.token;
        report.doubled.push(format!("{id} was finished by {token}, and then {start:?}"));
    }
}

/// Whether the process of a start was killed soon after.
fn is_killed(start: &Start, deaths: &Deaths) -> bool {
    deaths.get(&start.round).is_some_and(|death| {
        let lived = u64::try_from(death - start.at).map(Duration::from_micros);
        lived.unwrap_or(Duration::ZERO) <= UNDER_WAY_MAX
    })
}

/// Compares the counters with a scan.
async fn check_counts(store: &dyn Store, report: &mut Report) -> Result<()> {
    let counted = counts(store).await?;
    let mut scanned = StateCounts::default();
    let mut page = Page::of(PAGE_MAX);
    loop {
        let found = store.list(&TaskFilter::all(), &page, Now::Store).await?;
        found.tasks.iter().for_each(|task| scanned.add(task.state, 1));
        let Some(next) = found.next else { break };
        page = page.after(next);
    }
    ensure!(scanned.total() > 0, "the scan found nothing");
    for state in State::ALL {
        let (counted, scanned) = (counted.get(state), scanned.get(state));
        if counted != scanned {
            report.wrong.push(format!("{counted} tasks are counted as {state}, {scanned} are"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ergon_core::{KindName, Progress, TaskSpec, Timestamp, Token};

    use super::*;
    use crate::torture::ledger::{Ending, Entry, Noted, What};

    /// How many findings there are about a task that was claimed last by `token`, and spent so many
    /// attempts. Of its two processes, the first was killed after ten seconds.
    fn findings(rounds: &[&[(i64, What)]], token: u64, attempt: u16) -> usize {
        let id = TaskId::from_parts(1, 0, 0);
        let noted = |&(second, what): &(i64, What)| Noted {
            at: second * 1_000_000,
            entry: Entry { id, what },
        };
        let ledgers = (1..).zip(rounds.iter().map(|all| all.iter().map(noted).collect())).collect();
        let (mut stories, mut report) = (Stories::default(), Report::default());
        stories.read_together(ledgers, &mut report);
        let now = Timestamp::UNIX_EPOCH;
        let mut progress = Progress::fresh(0, 25, now);
        (progress.token, progress.attempt) = (Token::new(token), attempt);
        let spec = TaskSpec::new(KindName::new("k").unwrap(), "{}");
        let record = TaskRecord {
            id,
            spec,
            created_at: now,
            progress,
            state: State::Completed,
            report: None,
        };
        let deaths = Deaths::from([(1, 10_000_000)]);
        check_starts(id, &stories.of[&id], &record, &deaths, &mut report);
        report.doubled.len() + report.wrong.len()
    }

    #[test]
    fn every_start_but_one_needs_a_reason() {
        let start = |at, token| (at, What::Start(Token::new(token)));
        let end = |at, token, ending| (at, What::End(Token::new(token), ending));
        assert_eq!(findings(&[&[], &[start(1, 1)]], 1, 1), 0);
        assert_eq!(findings(&[&[start(9, 1)], &[start(12, 2)]], 2, 1), 0, "killed");
        assert_eq!(findings(&[&[start(1, 1)], &[start(12, 2)]], 2, 1), 1, "long before its kill");
        assert_eq!(findings(&[&[], &[start(1, 1), start(2, 2)]], 2, 1), 2, "for no reason");
        let retried = end(2, 1, Ending::Retried);
        let ran = (2, What::Ran(Token::new(1)));
        assert_eq!(findings(&[&[], &[start(1, 1), ran, retried, start(3, 2)]], 2, 2), 0, "retried");
        assert_eq!(findings(&[&[start(1, 1)], &[start(3, 2)]], 2, 2), 0, "retried, nobody told");
        let late = (4, What::Late(Token::new(1)));
        assert_eq!(findings(&[&[start(1, 1), late], &[start(3, 2)]], 2, 1), 0, "too late");
        assert_eq!(findings(&[&[start(9, 3)]], 2, 1), 1, "after its end");
    }
}
