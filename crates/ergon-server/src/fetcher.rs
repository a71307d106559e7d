//! Claims tasks: as many as can be started, a few ahead where that would be too late, and starts
//! them as slots come free.

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use ergon_core::{ClaimedTask, StoreError, store::ClaimRequest};
use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_util::task::TaskTracker;

use crate::{
    attempt::flag,
    call::{Backoff, Restarts, caught_async, guarded, step_back},
    executor,
    heartbeat::lease_end,
    hint::Hints,
    pace::Pace,
    shared::{BACKOFF_CAP, Finished, Shared},
    slots::Plan,
    stock::{Ready, Stock, released},
    telling,
};

/// How long a saturated server waits for more slots to come free before it claims for those that
/// are, when it claims nothing ahead: one claim for many tasks costs little more than one for a
/// single task.
const GATHER_MAX: Duration = Duration::from_millis(1);

/// Claims until the server stops. A claim under way is awaited, and what it took is given back.
pub(crate) async fn run(shared: Arc<Shared>, attempts: TaskTracker) {
    // Outlives a panic, so that what is held is started or given back all the same.
    let mut stock = Stock::new(shared.slots.len(), &shared.config);
    let mut restarts = Restarts::new(&shared.gauges.fetch, &shared.signals.stop);
    while let Err(panic) = caught_async(fetch(&shared, &attempts, &mut stock)).await
        && restarts.wait(panic).await
    {}
    hand_in(&shared, released(&shared, stock.take_all())).await;
}

async fn fetch(shared: &Arc<Shared>, attempts: &TaskTracker, stock: &mut Stock) {
    let mut fetcher = Fetcher::new(shared, attempts, stock);
    // A step can be dropped wherever it waits; a claim outlives it.
    while let Some(misplaced) = shared.signals.stop.run_until_cancelled(fetcher.step()).await {
        hand_in(shared, misplaced).await;
    }
    fetcher.end().await;
}

struct Fetcher<'f> {
    shared: &'f Arc<Shared>,
    attempts: &'f TaskTracker,
    stock: &'f mut Stock,
    pace: Pace,
    /// By place of the queue: how many tasks are worth claiming ahead.
    ahead: Vec<usize>,
    /// By place of the queue: it may hold more tasks than were taken by the last claim.
    maybe_more: Vec<bool>,
    /// By place of the queue: what it is owed by its weight when claims are planned.
    credits: Vec<i64>,
    /// The same when slots are given to what is in stock.
    turns: Vec<i64>,
    /// The last claim returned all that it asked for.
    was_full: bool,
    /// The claim under way.
    flight: Option<Flight>,
    hints: Hints,
    /// Nothing is claimed before.
    resume_at: Option<Instant>,
    /// Rings before the oldest task in stock has waited for too long.
    alarm: Pin<Box<Sleep>>,
    backoff: Backoff,
}

/// A claim under way.
struct Flight {
    plan: Plan,
    /// When it was sent, in the server's life.
    sent: Duration,
    call: BoxFuture<'static, Result<Vec<ClaimedTask>, StoreError>>,
}

impl<'f> Fetcher<'f> {
    fn new(shared: &'f Arc<Shared>, attempts: &'f TaskTracker, stock: &'f mut Stock) -> Self {
        let (places, now) = (shared.slots.len(), Instant::now());
        Self {
            pace: Pace::new(shared.config.claim_ahead_max, now, &shared.slots),
            ahead: vec![0; places],
            maybe_more: vec![true; places],
            credits: vec![0; places],
            turns: vec![0; places],
            was_full: false,
            flight: None,
            hints: Hints::new(),
            resume_at: None,
            alarm: Box::pin(sleep_until(now)),
            backoff: Backoff::new(BACKOFF_CAP),
            shared,
            attempts,
            stock,
        }
    }

    /// Starts and claims what can be, and waits until something changes. Answers what was claimed
    /// and cannot be run.
    async fn step(&mut self) -> Vec<Finished> {
        // Before the look, so that no slot that comes free after it is missed.
        self.shared.slots.listen();
        self.dispense();
        self.pace.ahead(Instant::now(), &self.shared.slots, &mut self.ahead);
        if self.is_claim_due() {
            self.gather().await;
            self.send();
        }
        self.change().await
    }

    /// Starts tasks in stock in the slots that are free.
    fn dispense(&mut self) {
        if self.stock.is_empty() || self.shared.slots.room() == 0 {
            return;
        }
        let (now, age) = (Instant::now(), self.shared.age());
        let (mut started, mut expired) = (0, Vec::new());
        loop {
            let in_stock = |place| self.stock.len_of(place) > 0;
            let place = self.shared.slots.prefer(in_stock, &mut self.turns);
            let Some(ready) = place.and_then(|place| self.stock.take(place)) else { break };
            // Another server may have the task, or be about to take it.
            if ready.attempt.has(flag::DISOWNED) || age >= lease_end(self.shared, &ready.attempt) {
                expired.push(ready);
                continue;
            }
            executor::start(self.shared, self.attempts, ready, now);
            started += 1;
        }
        self.shared.tally.started.fetch_add(started, Relaxed);
        self.give_back(expired);
    }

    /// Says whether a claim is to be sent now.
    fn is_claim_due(&self) -> bool {
        if self.flight.is_some() || self.resume_at.is_some() {
            return false;
        }
        let mut places = self.maybe_more.iter().zip(&self.ahead).enumerate();
        places.any(|(place, (&maybe, &ahead))| {
            let is_low = ahead > 0 && self.stock.len_of(place) <= ahead / 2;
            maybe && (is_low || self.shared.slots.has_room(place))
        })
    }

    /// Lets more slots come free when nothing is claimed ahead.
    async fn gather(&mut self) {
        if self.was_full && self.ahead.iter().all(|&ahead| ahead == 0) {
            // A slow handler does not hold the others up for longer than this.
            let gathered = timeout(GATHER_MAX, self.shared.slots.quarter_free()).await;
            drop(gathered);
            self.shared.slots.listen();
            self.dispense();
        }
    }

    /// Sends a claim for every free slot and for what is worth claiming ahead.
    fn send(&mut self) {
        let shared = Arc::clone(self.shared);
        if shared.cannot_hold.load(Relaxed) {
            self.resume_at = Some(Instant::now() + shared.config.poll_interval);
            return;
        }
        let stocked: Vec<_> = (0..shared.slots.len()).map(|it| self.stock.len_of(it)).collect();
        let mut plan = shared.slots.plan(&self.ahead, &stocked, &mut self.credits);
        if plan.limit == 0 {
            return;
        }
        let queues = std::mem::take(&mut plan.queues);
        let request = ClaimRequest::new(shared.id, Arc::clone(shared.registry.kinds()), queues)
            .limit(plan.limit)
            .lease(shared.config.lease);
        let sent = shared.age();
        self.pace.claim_sent(Instant::now(), &shared.slots);
        let call = async move { guarded(shared.store.claim(&request)).await }.boxed();
        self.hints.stop();
        self.flight = Some(Flight { plan, sent, call });
    }

    /// Waits until something changes, and takes note of it.
    async fn change(&mut self) -> Vec<Finished> {
        let shared = Arc::clone(self.shared);
        let may_claim = self.flight.is_none() && self.resume_at.is_none();
        let has_stock = !self.stock.is_empty();
        let queues = if may_claim && shared.slots.room() > 0 {
            shared.slots.with_room()
        } else {
            Vec::new()
        };
        let is_idle = self.hints.wait_for(&shared, queues);
        // Slots that come free matter to what is in stock, and to queues that may hold more.
        let minds_slots = has_stock || may_claim && (!is_idle || self.maybe_more.contains(&true));
        if !minds_slots {
            shared.slots.ignore();
        }
        let resume_at = self.resume_at;
        tokio::select! {
            biased;
            Some(answer) = landed(&mut self.flight) => return self.land(answer),
            () = shared.slots.freed(), if minds_slots => step_back().await,
            Some(()) = self.hints.work(shared.config.poll_interval) => {
                self.maybe_more.fill(true);
                self.was_full = false;
            }
            () = &mut self.alarm, if has_stock => self.clear_out(),
            () = sleep_until(resume_at.unwrap_or_else(Instant::now)), if resume_at.is_some() => {
                self.resume_at = None;
            }
        }
        Vec::new()
    }

    /// Takes note of the answer to a claim. Answers what cannot be run.
    fn land(&mut self, Landed { plan, sent, answer }: Landed) -> Vec<Finished> {
        let claimed = match answer {
            Ok(claimed) => claimed,
            Err(error) => {
                self.backoff.report("claim tasks", &error);
                self.shared.gauges.fetch.failed();
                self.resume_at = Some(Instant::now() + self.backoff.next(&*self.shared.rng));
                return Vec::new();
            }
        };
        self.backoff.reset();
        self.shared.gauges.fetch.succeeded(claimed.len(), 0);
        self.pace.claim_answered(self.shared.age() - sent);
        self.learn(&plan, &claimed);
        telling::started(self.shared, &claimed);
        let now = Instant::now();
        if self.alarm.deadline() <= now {
            self.alarm.as_mut().reset(now + self.stock.age_max());
        }
        self.stock.take_in(self.shared, claimed, sent)
    }

    /// Learns from what came which queues are empty.
    fn learn(&mut self, plan: &Plan, claimed: &[ClaimedTask]) {
        if !claimed.is_empty() {
            self.hints.found(self.shared.config.poll_interval);
        }
        self.was_full = claimed.len() >= plan.limit;
        if self.was_full {
            self.maybe_more.fill(true);
            return;
        }
        let mut left = plan.asked.clone();
        for task in claimed {
            let place = self.shared.slots.place(&task.spec.queue);
            if let Some(left) = place.and_then(|place| left.get_mut(place)) {
                *left = left.saturating_sub(1);
            }
        }
        for (maybe, left) in self.maybe_more.iter_mut().zip(left) {
            // A queue without slots was not asked, and one that filled them may hold more.
            *maybe = left == 0;
        }
    }

    /// Gives back what has waited for a slot too long: the handlers have become slow.
    fn clear_out(&mut self) {
        let now = Instant::now();
        let old = self.stock.take_old(now);
        for ready in &old {
            self.pace.forget(ready.attempt.queue, &self.shared.slots);
        }
        self.give_back(old);
        let next = self.stock.next_old().unwrap_or(now);
        self.alarm.as_mut().reset(next);
    }

    /// Gives tasks back that were not started, without waiting for it.
    fn give_back(&self, stocked: Vec<Ready>) {
        let finished = released(self.shared, stocked);
        if !finished.is_empty() {
            let shared = Arc::clone(self.shared);
            self.attempts.spawn(async move { hand_in(&shared, finished).await });
        }
    }

    /// Gives everything back: what is in stock at once, and what a claim under way takes.
    async fn end(&mut self) {
        let stocked = released(self.shared, self.stock.take_all());
        let landing = async {
            let Some(Landed { sent, answer, .. }) = landed(&mut self.flight).await else { return };
            match answer {
                Ok(claimed) => {
                    self.shared.gauges.fetch.succeeded(claimed.len(), 0);
                    telling::started(self.shared, &claimed);
                    let misplaced = self.stock.take_in(self.shared, claimed, sent);
                    let taken = released(self.shared, self.stock.take_all());
                    hand_in(self.shared, misplaced).await;
                    hand_in(self.shared, taken).await;
                }
                Err(error) => {
                    self.backoff.report("claim tasks", &error);
                    self.shared.gauges.fetch.failed();
                }
            }
        };
        tokio::join!(hand_in(self.shared, stocked), landing);
    }
}

/// A claim that was answered.
struct Landed {
    plan: Plan,
    sent: Duration,
    answer: Result<Vec<ClaimedTask>, StoreError>,
}

/// Waits for the answer to the claim under way; none when there is no such claim.
async fn landed(flight: &mut Option<Flight>) -> Option<Landed> {
    let answer = flight.as_mut()?.call.as_mut().await;
    let Flight { plan, sent, .. } = flight.take()?;
    Some(Landed { plan, sent, answer })
}

/// Hands outcomes in for tasks that were not started.
async fn hand_in(shared: &Shared, finished: Vec<Finished>) {
    for finished in finished {
        if shared.outcomes.send(finished).await.is_err() {
            tracing::warn!(
                "claimed tasks were not given back; others take them when their leases end"
            );
            return;
        }
    }
}
