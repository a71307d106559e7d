//! The audit: compares what the ledger says with what the store says.

use std::{path::Path, time::Instant};

use anyhow::{Context, Result, ensure};
use ergon_core::{Now, Phase, Store, TaskId, TaskRecord, transition::POISON_DEATHS_MAX};
use ergon_redb::RedbStore;

use super::{
    Report, child,
    chore::Chore,
    follower,
    ledger::{self, Ending},
    store_file,
    story::{Stories, Story},
};
use crate::workload::block_on;

/// Tasks read at once.
const BATCH: usize = 1_000;

/// Adds what is wrong to the report. The store was closed by the last child, which was of the round
/// `last`.
pub(super) fn audit(place: &Path, last: u32, report: &mut Report) -> Result<()> {
    let mut stories = Stories::default();
    for round in 1..=last {
        stories.read(round, &ledger::read(place, round)?, report);
    }
    report.acked = stories.of.values().filter(|story| story.acked.is_some()).count();
    report.wrong.extend(stories.shared_keys());
    block_on(async {
        let began = Instant::now();
        let store = RedbStore::open(store_file(place)).await?;
        report.reopened(began.elapsed());
        report.wrong.extend(child::check(&store).await?);
        compare_all(&stories, &store, report, |_, _, _, _| {}).await?;
        follower::audit(place, &store, report).await?;
        store.close().await.context("close the audited store")
    })
}

/// Compares all stories with what is stored, and lets `more` compare further each task that is
/// stored.
pub(super) async fn compare_all(
    stories: &Stories,
    store: &dyn Store,
    report: &mut Report,
    mut more: impl FnMut(TaskId, &Story, &TaskRecord, &mut Report),
) -> Result<()> {
    let all: Vec<(&TaskId, &Story)> = stories.of.iter().collect();
    for batch in all.chunks(BATCH) {
        let ids: Vec<TaskId> = batch.iter().map(|(id, _)| **id).collect();
        let records = store.tasks(&ids, Now::Store).await?;
        ensure!(records.len() == ids.len(), "{} records for {}", records.len(), ids.len());
        for ((id, story), record) in batch.iter().zip(records) {
            compare(**id, story, record.as_ref(), report)?;
            if let Some(record) = &record {
                more(**id, story, record, report);
            }
        }
    }
    Ok(())
}

/// Compares one task. Whatever the ledger knows of has been stored once.
fn compare(
    id: TaskId,
    story: &Story,
    record: Option<&TaskRecord>,
    report: &mut Report,
) -> Result<()> {
    let Some(record) = record else {
        report.lost.push(format!("{id} is not in the store"));
        return Ok(());
    };
    let progress = &record.progress;
    let phase = progress.phase;
    if !phase.is_terminal() {
        report.lost.push(format!("{id} is not finished: {phase:?}"));
        return Ok(());
    }
    if let Some((token, ending)) = story.last_end
        && (phase_of(ending) != phase || progress.token != token)
    {
        let found = format!("{phase:?} by {}", progress.token);
        report.lost.push(format!("{id} was finished as {ending} by {token}, now it is {found}"));
    }
    if story.is_called && phase != Phase::Cancelled {
        report.lost.push(format!("{id} was called off, now it is {phase:?}"));
    }
    // Every outcome that was applied spent an attempt, and every handler that wrote one was started.
    let attempt = u32::from(progress.attempt);
    if !(story.ends..=story.starts).contains(&attempt) {
        let (starts, ends) = (story.starts, story.ends);
        let words = format!("{id} spent {attempt} attempts by {ends} ends and {starts} starts");
        report.wrong.push(words);
    }
    if u32::from(progress.crash_count) > report.kills {
        let deaths = progress.crash_count;
        report.wrong.push(format!("{id} saw {deaths} deaths in {} kills", report.kills));
    }
    let chore: Chore = serde_json::from_slice(&record.spec.payload)
        .with_context(|| format!("the payload of {id} does not read back"))?;
    let is_poison = phase == Phase::Failed && progress.crash_count >= POISON_DEATHS_MAX;
    if !chore.may_end_in(phase) && !is_poison {
        report.wrong.push(format!("{id} ended as {phase:?}: {chore:?}"));
    }
    Ok(())
}

const fn phase_of(ending: Ending) -> Phase {
    match ending {
        Ending::Completed => Phase::Completed,
        Ending::Failed => Phase::Failed,
        Ending::Cancelled => Phase::Cancelled,
        Ending::Retried => Phase::Waiting,
    }
}

#[cfg(test)]
mod tests {
    use ergon_core::{KindName, Progress, State, TaskSpec, Token, time::whole_micros};

    use super::*;
    use crate::torture::ledger::{Entry, Noted, What};

    const TOKEN: Token = Token::new(3);

    /// Audits a task of this story that is stored so, and says how much was lost and wrong.
    fn audited(entries: &[What], phase: Phase, attempt: u16) -> (usize, usize) {
        let id = TaskId::from_parts(1, 0, 0);
        let (mut stories, mut report) = (Stories::default(), Report::default());
        let entries: Vec<_> =
            (1..).zip(entries).map(|(at, &what)| Noted { at, entry: Entry { id, what } }).collect();
        stories.read(1, &entries, &mut report);
        let payload = r#"{"ends":"Well","key":null,"may_be_called":false,"work_millis":0}"#;
        let now = whole_micros("2026-01-01T00:00:00Z".parse().unwrap());
        let mut progress = Progress::fresh(0, 25, now);
        (progress.phase, progress.attempt, progress.token) = (phase, attempt, TOKEN);
        let record = TaskRecord {
            id,
            spec: TaskSpec::new(KindName::new("k").unwrap(), payload),
            created_at: now,
            progress,
            state: State::Completed,
            report: None,
        };
        compare(id, &stories.of[&id], Some(&record), &mut report).unwrap();
        assert_eq!(report.doubled, Vec::<String>::new());
        (report.lost.len(), report.wrong.len())
    }

    #[test]
    fn what_ledger_and_store_agree_on_is_good() {
        let end = What::End(TOKEN, Ending::Completed);
        let all = [What::Acked(None), What::Start(TOKEN), What::Ran(TOKEN), end];
        assert_eq!(audited(&all, Phase::Completed, 1), (0, 0));
        // The child was killed between the answer and the ledger.
        assert_eq!(audited(&all[..2], Phase::Completed, 1), (0, 0));
    }

    #[test]
    fn what_was_acknowledged_and_is_not_finished_is_lost() {
        assert_eq!(audited(&[What::Acked(None)], Phase::Waiting, 0), (1, 0));
        let mut report = Report::default();
        compare(TaskId::MIN, &Story::default(), None, &mut report).unwrap();
        assert_eq!(report.lost.len(), 1);
    }

    #[test]
    fn an_end_that_the_store_does_not_know_is_lost() {
        let by_other = Token::new(2);
        let other = [What::Start(by_other), What::End(by_other, Ending::Completed)];
        assert_eq!(audited(&other, Phase::Completed, 1), (1, 0));
        let retried = [What::Start(TOKEN), What::End(TOKEN, Ending::Failed)];
        assert_eq!(audited(&retried, Phase::Completed, 1), (1, 0));
        assert_eq!(audited(&[What::Called], Phase::Failed, 0), (1, 1));
    }

    #[test]
    fn attempts_that_nobody_made_are_wrong() {
        assert_eq!(audited(&[What::Start(TOKEN)], Phase::Completed, 2), (0, 1));
    }
}
