//! Who leads: one row, a lease by the database's clock, a term that is given once.
//!
//! The leader renews its lease every few seconds, and learns by it whether there is something to fold;
//! the others ask when it would be over. A process that keeps nothing and is idle asks the database for
//! nothing else.

use std::{sync::Arc, time::Duration};

use ergon_core::{Clock as _, IdSource as _, StoreError, SystemClock, SystemIds, SystemRng, rng};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{FOLD_INTERVAL, House, LEASE, RENEW_INTERVAL, micros};
use crate::value::column;

/// The first question comes within this time, so that processes that start together, or live for a
/// moment, do not all ask.
const FIRST_WITHIN: Duration = Duration::from_secs(1);

/// The others ask so long after the lead would be over, at random.
const LATE_MAX: Duration = Duration::from_secs(2);

/// How long giving the lead back may take.
const RESIGN_TIME_MAX: Duration = Duration::from_secs(1);

/// What the database says of the lead.
struct Answer {
    /// The term in which we lead; 0 when another does.
    term: i64,
    /// For how long the other leads.
    other: Duration,
    has_deltas: bool,
    has_reports: bool,
    has_journal: bool,
}

/// The place of the leader, as this process sees it.
pub(super) struct Seat {
    house: Arc<House>,
    leads: watch::Sender<bool>,
    server: Uuid,
    /// The term in which we led last; 0 for none.
    term: i64,
    /// Until when we lead for sure.
    until: Option<Instant>,
    next_question: Instant,
    is_folding: bool,
    /// Whether there was a journal to be trimmed when it was asked last.
    had_journal: bool,
}

impl Seat {
    pub(super) fn new(house: Arc<House>, leads: watch::Sender<bool>) -> Self {
        let server = SystemIds::new(SystemRng).next_server(SystemClock.now());
        let first = rng::duration_up_to(&SystemRng, FIRST_WITHIN);
        Self {
            house,
            leads,
            server: Uuid::from_u128(server.as_u128()),
            term: 0,
            until: None,
            next_question: Instant::now() + first,
            is_folding: false,
            had_journal: false,
        }
    }

    /// Leads whenever nobody else does, until it is stopped or the store is closed.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let turns = async { while !matches!(self.turn().await, Err(StoreError::Closed)) {} };
        stop.run_until_cancelled(turns).await;
        if self.term > 0 {
            let query = self.house.sql.resign.with(self.server).with(self.term);
            let resigned = self.house.database.execute(|| query.query());
            // When it fails, the lease ends by itself.
            timeout(RESIGN_TIME_MAX, resigned).await.ok();
        }
    }

    /// Waits until there is something to do, and does it. What failed is tried again at the next turn.
    async fn turn(&mut self) -> Result<(), StoreError> {
        let fold_at = Instant::now() + FOLD_INTERVAL;
        let wake_at = match self.is_folding {
            true => std::cmp::min(fold_at, self.next_question),
            false => self.next_question,
        };
        sleep_until(wake_at).await;
        let asked = if wake_at >= self.next_question { self.ask().await } else { Ok(()) };
        let is_leading = self.until.is_some_and(|until| Instant::now() < until);
        self.leads.send_if_modified(|leads| std::mem::replace(leads, is_leading) != is_leading);
        if !is_leading {
            self.is_folding = false;
        } else if self.is_folding {
            let folded = self.house.fold().await;
            self.is_folding = matches!(folded, Ok(1..));
            self.house.tell("fold counters", folded.map(drop));
        }
        asked
    }

    /// Takes the lead, or renews it, unless another has it.
    async fn ask(&mut self) -> Result<(), StoreError> {
        let asked_at = Instant::now();
        self.next_question = asked_at + RENEW_INTERVAL;
        let answer = self.answer().await?;
        if answer.term == 0 {
            self.until = None;
            let late = rng::duration_up_to(&SystemRng, LATE_MAX);
            self.next_question = Instant::now() + std::cmp::min(answer.other, LEASE) + late;
        } else {
            self.until = Some(asked_at + LEASE);
            self.is_folding |= answer.has_deltas;
            self.tidy(&answer).await;
        }
        self.term = answer.term;
        Ok(())
    }

    /// Removes what nobody needs any more of what comes and goes all the time.
    async fn tidy(&mut self, answer: &Answer) {
        // Once more after the last watcher has gone.
        if std::mem::replace(&mut self.had_journal, answer.has_journal) || answer.has_journal {
            let trimmed = self.house.trim().await;
            self.house.tell("trim the journal", trimmed.map(drop));
        }
        if answer.has_reports {
            let swept = self.house.sweep_reports().await;
            self.house.tell("remove reports", swept.map(drop));
        }
    }

    async fn answer(&self) -> Result<Answer, StoreError> {
        let query = self.house.sql.lead.with(self.server).with(micros(LEASE)).with(self.term);
        let row = self.house.database.row(|| query.query()).await?;
        let other = u64::try_from(column::<i64>(&row, "other")?).unwrap_or(0);
        Ok(Answer {
            term: column(&row, "term")?,
            other: Duration::from_micros(other),
            has_deltas: column(&row, "has_deltas")?,
            has_reports: column(&row, "has_reports")?,
            has_journal: column(&row, "has_journal")?,
        })
    }
}
