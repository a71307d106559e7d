//! Works through the store's roles, and notes the verdict on every outcome.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use ergon_core::{
    ClaimedTask, Conclusion, KindName, Now, Outcome, QueueName, ServerId, Store, Task as _,
    Verdict,
    store::{ClaimRequest, QueueSlots},
};
use rand::{RngExt as _, rngs::StdRng};

use super::{
    chore::Chore,
    enqueuer::unless_transient,
    ledger::{Ending, Entry, Ledger, What},
};

const CLAIM_MAX: usize = 8;
/// How long a worker waits for a hint.
const WAIT: Duration = Duration::from_millis(50);

/// One worker; there are as many as a server would have slots.
pub(super) struct Worker {
    pub(super) store: Arc<dyn Store>,
    pub(super) ledger: Ledger,
    pub(super) server: ServerId,
    pub(super) rng: StdRng,
    /// How long its claims live. It does not renew them.
    pub(super) lease: Duration,
}

impl Worker {
    /// Works until it is killed.
    pub(super) async fn run(mut self) -> Result<()> {
        let queue = QueueName::default();
        let kinds: Arc<[KindName]> = [KindName::new(Chore::KIND)?].into();
        loop {
            let slots = self.rng.random_range(1..=CLAIM_MAX);
            let queues = [QueueSlots { queue: queue.clone(), slots }];
            let request =
                ClaimRequest::new(self.server, Arc::clone(&kinds), queues).lease(self.lease);
            let claimed_after = Instant::now();
            let claimed = self.store.claim(&request).await.map_err(Into::into);
            // What was claimed without an answer comes back when its lease is over.
            let Some(claimed) = unless_transient(claimed).await? else { continue };
            ensure!(claimed.len() <= slots, "{} tasks for {slots} slots", claimed.len());
            if claimed.is_empty() {
                self.store.wait_for_work(std::slice::from_ref(&queue), &kinds, WAIT).await;
            } else {
                self.handle(&claimed, claimed_after).await?;
            }
        }
    }

    async fn handle(&self, claimed: &[ClaimedTask], claimed_after: Instant) -> Result<()> {
        self.ledger.note(claimed.iter().map(|it| entry(it, What::Start(it.token)))).await?;
        let mut outcomes = Vec::new();
        for task in claimed {
            let payload = &task.spec.payload;
            let chore: Chore =
                serde_json::from_slice(payload).context("a payload does not read back")?;
            chore.work().await;
            let (id, token) = (task.id, task.token);
            outcomes.push(Outcome { id, token, conclusion: chore.conclusion(task.attempt) });
        }
        // On its way before the outcomes are, so that no later start of the task overtakes it.
        self.ledger.pass(claimed.iter().map(|it| entry(it, What::Ran(it.token))))?;
        let verdicts = loop {
            let verdicts = self.store.finish(&outcomes, Now::Store).await.map_err(Into::into);
            // What was recorded without an answer is not recorded twice.
            if let Some(verdicts) = unless_transient(verdicts).await? {
                break verdicts;
            }
        };
        ensure!(verdicts.len() == outcomes.len(), "{} verdicts", verdicts.len());
        let ends = outcomes.iter().zip(verdicts).map(|(outcome, verdict)| {
            let Outcome { id, token, ref conclusion } = *outcome;
            let what = match verdict {
                Verdict::Applied | Verdict::AlreadyApplied => What::End(token, ending(conclusion)),
                Verdict::CancelRequested => What::End(token, Ending::Cancelled),
                // The lease began after the claim was sent and was over before this.
                Verdict::Stale if claimed_after.elapsed() >= self.lease => What::Late(token),
                Verdict::Stale => What::Stale(token),
            };
            Entry { id, what }
        });
        self.ledger.note(ends).await
    }
}

const fn entry(task: &ClaimedTask, what: What) -> Entry {
    Entry { id: task.id, what }
}

const fn ending(conclusion: &Conclusion) -> Ending {
    match conclusion {
        Conclusion::Complete { .. } => Ending::Completed,
        Conclusion::Fail { .. } => Ending::Failed,
        Conclusion::Cancel { .. } => Ending::Cancelled,
        // A chore has attempts left when it is tried again.
        Conclusion::Retry { .. } | Conclusion::Snooze { .. } | Conclusion::Release => {
            Ending::Retried
        }
    }
}
