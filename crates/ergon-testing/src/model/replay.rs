//! Replays a history on two stores and compares what they answer and show.

use std::{collections::BTreeMap, fmt::Debug};

use ergon_core::{
    Applied, ClaimedTask, Command, Event, Outcome, ProgressReport, Selection, ServerId, StoreError,
    TaskId, TaskRecord, Token,
    event::Fact,
    report::ClaimReport,
    store::{
        Beat, BeatReply, ClaimRequest, Held, PruneRequest, QueueChange, QueueSlots, Report,
        RescueRequest,
    },
    time::{from_micros, to_micros},
};
use jiff::Timestamp;
use proptest::test_runner::TestCaseError;

use super::{
    op::{Ending, Errand, Op, STEP, Seed, TokenChoice},
    plant::{KINDS, QUEUES, name, plant, server_id, task_filter},
};
use crate::harness::{Harness, Reader, SECOND, Told, by_task, kind, queue};

/// After how many operations everything that the stores show is compared. Chosen without
/// measurement: often enough to name the operation, seldom enough to be quick.
const COMPARE_EVERY: usize = 3;

/// One claim, as both stores gave it.
#[derive(Clone, Copy, Debug)]
struct Claim {
    id: TaskId,
    tokens: [Token; 2],
}

/// A store under test beside the model.
#[derive(Debug)]
pub(super) struct Replay {
    /// The store under test, then the model.
    stores: [Harness; 2],
    /// Every id ever inserted.
    known: Vec<TaskId>,
    /// Every claim, the oldest first.
    claims: Vec<Claim>,
    /// The tokens of each task in the order of its claims, by store.
    tokens: [BTreeMap<TaskId, Vec<Token>>; 2],
    /// Who reads each journal.
    readers: [Reader; 2],
    /// What the journal of the store under test has told.
    told: Told,
}

type Step = Result<(), TestCaseError>;

impl Replay {
    /// Begins with two empty stores, which are watched from now on.
    pub(super) async fn new(store: Harness, model: Harness) -> Self {
        Self {
            readers: [store.watch("model").await, model.watch("model").await],
            told: Told::default(),
            stores: [store, model],
            known: Vec::new(),
            claims: Vec::new(),
            tokens: [BTreeMap::new(), BTreeMap::new()],
        }
    }

    /// Replays a history.
    pub(super) async fn run(&mut self, history: &[Op]) -> Step {
        for (at, op) in history.iter().enumerate() {
            let step = self.step(op).await;
            step.map_err(|error| located(&error, at, op))?;
            self.compare_events().await.map_err(|error| located(&error, at, op))?;
            if at % COMPARE_EVERY == 0 {
                self.compare_projections().await.map_err(|error| located(&error, at, op))?;
            }
        }
        self.compare_projections().await?;
        let [store, _] = &self.stores;
        let told = self.told.check(&store.projection().await, store.instant());
        told.map_err(|error| TestCaseError::fail(format!("the journal: {error}")))?;
        store.check_counters().await;
        Ok(())
    }

    async fn step(&mut self, op: &Op) -> Step {
        match op {
            Op::Insert { tasks, is_pack } => self.insert(tasks, *is_pack).await,
            Op::Claim { server, kinds, queues, limit, lease } => {
                let kinds: Vec<_> = kinds.iter().map(|&at| kind(name(KINDS, at))).collect();
                let queues = queues
                    .iter()
                    .map(|&(at, slots)| QueueSlots { queue: queue(name(QUEUES, at)), slots });
                let request = ClaimRequest::new(server_id(*server), kinds, queues)
                    .limit(*limit)
                    .lease(*lease);
                self.claim(request).await
            }
            Op::Finish(endings) => self.finish(endings).await,
            Op::Report(reports) => self.report(reports).await,
            Op::Beat { server, claims, lease } => {
                self.beat(server_id(*server), claims, *lease).await
            }
            Op::Rescue { limit, deaths_max } => {
                let request = RescueRequest::default().limit(*limit).deaths_max(*deaths_max);
                let [one, two] = &self.stores;
                let request = request.now(one.now());
                let one = one.store.rescue_expired(&request).await.map(sorted_report);
                let two = two.store.rescue_expired(&request).await.map(sorted_report);
                same("rescue", &answer(one), &answer(two))
            }
            Op::Prune { limit } => {
                // Everything else happens at even seconds: what has to be gone by an odd one, a second
                // late, is gone in both stores. Time goes on behind it, as the stores have seen it.
                self.stores.iter().for_each(|harness| harness.advance(SECOND));
                let [one, two] = &self.stores;
                let request = PruneRequest::default().limit(*limit).now(one.now());
                let answers = (one.store.prune(&request).await, two.store.prune(&request).await);
                self.stores.iter().for_each(|harness| harness.advance(SECOND));
                same("prune", &answer(answers.0), &answer(answers.1))
            }
            Op::ApplyIds(numbers, errand) => {
                let ids = numbers.iter().filter_map(|&number| self.task(number)).collect();
                self.apply(Selection::Ids(ids), *errand).await
            }
            Op::ApplyMatching(filter, limit, errand) => {
                let filter = task_filter(filter);
                self.apply(Selection::Matching { filter, limit: *limit }, *errand).await
            }
            Op::SetQueue(at, paused) => {
                let change = match paused {
                    Some(true) => QueueChange::pause(),
                    Some(false) => QueueChange::resume(),
                    None => QueueChange::default(),
                };
                let [one, two] = &self.stores;
                let name = name(QUEUES, *at);
                let changed = one.set_queue(name, change).await;
                same("set_queue", &changed, &two.set_queue(name, change).await)
            }
            Op::Advance(steps) => {
                self.stores.iter().for_each(|harness| harness.advance(STEP * *steps));
                Ok(())
            }
            Op::Read { filter, limit, order } => {
                let filter = task_filter(filter);
                let [one, two] = &self.stores;
                let counts = (one.count(&filter).await, two.count(&filter).await);
                same("count", &counts.0, &counts.1)?;
                let read = one.walk(&filter, *limit, *order).await;
                let expected = two.walk(&filter, *limit, *order).await;
                self.same_tasks("list", read, expected)
            }
        }
    }

    async fn insert(&mut self, seeds: &[Seed], is_pack: bool) -> Step {
        let [one, two] = &self.stores;
        let mut tasks = if is_pack { one.pack(seeds.len()) } else { one.tasks(seeds.len()) };
        for (task, seed) in tasks.iter_mut().zip(seeds) {
            plant(one, task, seed);
            if let Some(known) = seed.known_id.and_then(|number| self.task(number)) {
                task.id = known;
            }
        }
        let inserted = (one.try_insert(&tasks).await, two.try_insert(&tasks).await);
        let ids = tasks.iter().map(|task| task.id);
        let is_stored = inserted.0.is_ok();
        same("insert", &answer(inserted.0), &answer(inserted.1))?;
        if is_stored {
            self.known.extend(ids);
        }
        Ok(())
    }

    async fn claim(&mut self, request: ClaimRequest) -> Step {
        let [one, two] = &self.stores;
        let request = request.now(one.now());
        let (claimed, expected) = (one.claim_by(&request).await, two.claim_by(&request).await);
        let pairs: Vec<_> = claimed.iter().zip(&expected).map(|(a, b)| [a, b]).collect();
        let without_token = |task: &ClaimedTask| ClaimedTask { token: Token::NONE, ..task.clone() };
        let shown = |tasks: &[ClaimedTask]| tasks.iter().map(without_token).collect::<Vec<_>>();
        same("claim", &shown(&claimed), &shown(&expected))?;
        for [a, b] in pairs {
            let (id, tokens) = (a.id, [a.token, b.token]);
            for (of_store, token) in self.tokens.iter_mut().zip(tokens) {
                let earlier = of_store.entry(id).or_default();
                let newest = earlier.last().copied().unwrap_or(Token::NONE);
                if token <= newest {
                    let reason = format!("token {token} of {id} follows {newest}");
                    return Err(TestCaseError::fail(reason));
                }
                earlier.push(token);
            }
            self.claims.push(Claim { id, tokens });
        }
        Ok(())
    }

    async fn finish(&self, endings: &[Ending]) -> Step {
        let mut outcomes = [Vec::new(), Vec::new()];
        for ending in endings {
            let Some(claim) = self.recent_claim(ending.claim) else { continue };
            for (outcomes, own) in outcomes.iter_mut().zip(claim.tokens) {
                let token = ending.token.of(own);
                let conclusion = ending.conclusion.clone();
                outcomes.push(Outcome { id: claim.id, token, conclusion });
            }
        }
        let [one, two] = &self.stores;
        let verdicts = (one.finish_all(&outcomes[0]).await, two.finish_all(&outcomes[1]).await);
        same("finish", &verdicts.0, &verdicts.1)
    }

    async fn report(&self, told: &[(usize, TokenChoice, u64, Option<u64>)]) -> Step {
        let mut reports = [Vec::new(), Vec::new()];
        for &(number, token, done, total) in told {
            let Some(claim) = self.recent_claim(number) else { continue };
            for (reports, own) in reports.iter_mut().zip(claim.tokens) {
                let report = ProgressReport { done, total, message: format!("{done} \0") };
                reports.push(ClaimReport { id: claim.id, token: token.of(own), report });
            }
        }
        let [one, two] = &self.stores;
        let one = one.store.report(&reports[0], one.now()).await;
        let two = two.store.report(&reports[1], two.now()).await;
        same("report", &answer(one), &answer(two))
    }

    async fn beat(&self, server: ServerId, claims: &[usize], lease: std::time::Duration) -> Step {
        let named: Vec<Claim> =
            claims.iter().filter_map(|&number| self.recent_claim(number)).collect();
        let mut replies = Vec::new();
        for (at, harness) in self.stores.iter().enumerate() {
            let held = |claim: &Claim| Held { id: claim.id, token: claim.tokens[at] };
            let held = named.iter().map(held).collect();
            let beat = Beat::new(server, held).lease(lease).now(harness.now());
            let reply = harness.store.beat(&beat).await;
            replies.push(answer(reply.map(|reply| self.rank_reply(at, reply))));
        }
        same("beat", &replies[0], &replies[1])
    }

    async fn apply(&self, selection: Selection, errand: Errand) -> Step {
        let [one, two] = &self.stores;
        let micros = to_micros(one.instant());
        let command = match errand {
            Errand::Cancel => Command::Cancel { reason: "by order".to_owned() },
            Errand::Retry => Command::Retry,
            Errand::Delete => Command::Delete,
            Errand::Reschedule(delay) => {
                Command::Reschedule { run_at: from_micros(micros.saturating_add(delay)) }
            }
            Errand::SetPriority(priority) => Command::SetPriority { priority },
        };
        let applied = sorted_applied(one.apply_to(selection.clone(), command.clone()).await);
        same("apply", &applied, &sorted_applied(two.apply_to(selection, command).await))
    }

    /// The task with this number, if there was any.
    fn task(&self, number: usize) -> Option<TaskId> {
        let at = number.checked_rem(self.known.len())?;
        self.known.get(at).copied()
    }

    /// The claim with this number, counted from the newest.
    fn recent_claim(&self, number: usize) -> Option<Claim> {
        let at = number.checked_rem(self.claims.len())?;
        self.claims.iter().rev().nth(at).copied()
    }

    /// Reads what both have recorded, and has the store under test tell it.
    async fn compare_events(&mut self) -> Step {
        let [one, two] = &mut self.readers;
        let (recorded, expected) = (one.events().await, two.events().await);
        for event in &recorded {
            let told = self.told.hear(event);
            told.map_err(|error| TestCaseError::fail(format!("the journal: {error}")))?;
        }
        let shown = |events: Vec<Event>| by_task(events.into_iter().map(untimed).collect());
        same("events", &shown(recorded), &shown(expected))
    }

    async fn compare_projections(&self) -> Step {
        let [one, two] = &self.stores;
        let (shown, expected) = (one.projection().await, two.projection().await);
        same("queues", &shown.queues, &expected.queues)?;
        self.same_tasks("tasks", shown.tasks, expected.tasks)
    }

    /// Compares tasks, their tokens by rank.
    fn same_tasks(&self, what: &str, shown: Vec<TaskRecord>, expected: Vec<TaskRecord>) -> Step {
        let ids = |tasks: &[TaskRecord]| -> Vec<TaskId> { tasks.iter().map(|t| t.id).collect() };
        same(what, &ids(&shown), &ids(&expected))?;
        for (one, two) in shown.into_iter().zip(expected) {
            same(what, &self.rank_record(0, one), &self.rank_record(1, two))?;
        }
        Ok(())
    }

    fn rank_record(&self, store: usize, mut task: TaskRecord) -> TaskRecord {
        task.progress.token = self.rank(store, task.id, task.progress.token);
        if let Some(settled) = &mut task.progress.settled {
            settled.token = self.rank(store, task.id, settled.token);
        }
        task
    }

    fn rank_reply(&self, store: usize, reply: BeatReply) -> BeatReply {
        let rank = |held: Held| Held { token: self.rank(store, held.id, held.token), ..held };
        BeatReply {
            lost: reply.lost.into_iter().map(rank).collect(),
            cancelled: reply.cancelled.into_iter().map(rank).collect(),
        }
    }

    /// The place of a token among those of the task: 0 for none, the largest for one never given.
    fn rank(&self, store: usize, id: TaskId, token: Token) -> Token {
        if token == Token::NONE {
            return token;
        }
        let given = self.tokens.get(store).and_then(|of_store| of_store.get(&id));
        let place = given.and_then(|given| given.iter().position(|&one| one == token));
        let rank = place.and_then(|place| u64::try_from(place + 1).ok());
        Token::new(rank.unwrap_or(u64::MAX))
    }
}

/// An event that can be compared: what a queue did is told by the clock of each store.
fn untimed(mut event: Event) -> Event {
    if let Fact::Queue { .. } = event.fact {
        event.at = Timestamp::UNIX_EPOCH;
    }
    event
}

fn sorted_report(report: Report) -> Report {
    Report { events: by_task(report.events), ..report }
}

fn sorted_applied(applied: Applied) -> Applied {
    Applied { events: by_task(applied.events), ..applied }
}

/// An answer that can be compared: errors by what they say.
fn answer<T>(answer: Result<T, StoreError>) -> Result<T, String> {
    answer.map_err(|error| format!("{error:?}"))
}

/// Fails unless the store answered what the model answered.
fn same<T: PartialEq + Debug>(what: &str, store: &T, model: &T) -> Step {
    if store == model {
        Ok(())
    } else {
        let reason = format!("{what}:\n store {store:#?}\n model {model:#?}");
        Err(TestCaseError::fail(reason))
    }
}

fn located(error: &TestCaseError, at: usize, op: &Op) -> TestCaseError {
    TestCaseError::fail(format!("operation {at}, {op:?}: {error}"))
}
