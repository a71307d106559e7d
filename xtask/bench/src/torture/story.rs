//! What the ledger says of each task, and what of it must not have happened.

use std::collections::BTreeMap;

use ergon_core::{TaskId, Token};

use super::{
    Report,
    ledger::{Ending, Entry, Noted, What},
};

/// What the ledger says of one task.
#[derive(Debug, Default)]
pub(super) struct Story {
    /// Where in the ledger its enqueue was acknowledged, and its unique key.
    pub(super) acked: Option<(i64, Option<u32>)>,
    /// Where its handler was last started, and by which claim.
    last_start: Option<(i64, Token)>,
    pub(super) starts: u32,
    /// The round and the claim of a handler that was started and has not ended.
    running: Option<(u32, Token)>,
    /// Outcomes that were applied.
    pub(super) ends: u32,
    /// The one after which the task was finished.
    pub(super) last_end: Option<(Token, Ending)>,
    /// An operator called it off while it waited.
    pub(super) is_called: bool,
    /// Starts whose outcome nobody was told of.
    pub(super) unanswered: Vec<Start>,
    /// Outcomes that were applied and let it be tried again.
    pub(super) retries: u32,
}

/// One start of a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    /// Where in the ledger.
    pub(super) at: i64,
    pub(super) round: u32,
    pub(super) token: Token,
}

/// All stories, and where the ledger ends.
#[derive(Debug, Default)]
pub(super) struct Stories {
    pub(super) of: BTreeMap<TaskId, Story>,
    at: i64,
}

impl Stories {
    /// Reads on, in the order of the ledger, when one child lived after the other.
    pub(super) fn read(&mut self, round: u32, noted: &[Noted], report: &mut Report) {
        for noted in noted {
            self.at += 1;
            let story = self.of.entry(noted.entry.id).or_default();
            story.read(self.at, round, noted.entry, report);
        }
    }

    /// Reads the ledgers of children that lived at the same time.
    ///
    /// An entry may be written some time after what it tells of, so that instants do not order those
    /// of different children. Tokens do: of two claims of a task the later one has the larger.
    pub(super) fn read_together(&mut self, ledgers: Vec<(u32, Vec<Noted>)>, report: &mut Report) {
        let mut all: Vec<(u32, Noted)> = ledgers
            .into_iter()
            .flat_map(|(round, noted)| noted.into_iter().map(move |one| (round, one)))
            .collect();
        all.sort_by_key(|(_, noted)| (noted.entry.id, noted.entry.what.place()));
        for (round, Noted { at, entry }) in all {
            self.of.entry(entry.id).or_default().read(at, round, entry, report);
        }
    }

    /// Unique keys that two tasks held at once: both were acknowledged, and both still had a start
    /// before them. A task that was called off is left out, since it may not have one.
    pub(super) fn shared_keys(&self) -> Vec<String> {
        let mut lives: Vec<_> = self.of.iter().filter_map(|(id, it)| it.keyed_life(*id)).collect();
        lives.sort_unstable();
        let pairs = lives.iter().zip(lives.iter().skip(1));
        // Sorted by their beginnings: when any two overlap, then two neighbours do, or the longest
        // one overlaps its neighbour.
        let overlap = pairs.filter(|(one, next)| one.key == next.key && next.from < one.to);
        let words = |(one, next): (&Life, &Life)| {
            format!("{} and {} held the unique key {} at once", one.id, next.id, one.key)
        };
        overlap.map(words).collect()
    }
}

/// A time in which a task surely held its key.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Life {
    key: u32,
    from: i64,
    to: i64,
    id: TaskId,
}

impl What {
    /// Where it belongs among what happened to its task: by the claim that it is of.
    const fn place(self) -> (Token, u8) {
        match self {
            Self::Acked(_) => (Token::NONE, 0),
            Self::Held => (Token::NONE, 1),
            Self::Start(token) => (token, 2),
            Self::Ran(token) => (token, 3),
            Self::End(token, _) => (token, 4),
            Self::Stale(token) => (token, 5),
            Self::Late(token) => (token, 6),
            // Last, as whoever called it off did not see a token.
            Self::Called => (Token::new(u64::MAX), 7),
        }
    }
}

impl Story {
    fn read(&mut self, at: i64, round: u32, entry: Entry, report: &mut Report) {
        let id = entry.id;
        match entry.what {
            What::Acked(key) => {
                if self.acked.replace((at, key)).is_some() {
                    report.doubled.push(format!("{id} was acknowledged twice"));
                }
            }
            What::Held => {}
            What::Called => {
                self.is_called = true;
                self.check_one_end(id, report);
            }
            What::Start(token) => self.start(at, round, id, token, report),
            What::Ran(token) => {
                if self.running.take() != Some((round, token)) {
                    report.wrong.push(format!("{id} ended a run of {token} it did not start"));
                }
            }
            What::End(token, ending) => {
                self.ends += 1;
                self.answered(token);
                if ending == Ending::Retried {
                    self.retries += 1;
                } else {
                    if let Some((other, _)) = self.last_end.replace((token, ending)) {
                        report.doubled.push(format!("{id} was finished by {other} and {token}"));
                    }
                    self.check_one_end(id, report);
                }
            }
            What::Late(token) => self.answered(token),
            What::Stale(token) => {
                self.answered(token);
                report.wrong.push(format!("{id}: the outcome of {token} was refused as stale"));
            }
        }
    }

    fn start(&mut self, at: i64, round: u32, id: TaskId, token: Token, report: &mut Report) {
        report.runs += 1;
        self.starts += 1;
        self.unanswered.push(Start { at, round, token });
        if self.last_end.is_some() {
            report.doubled.push(format!("{id} was started by {token} after it was finished"));
        }
        if self.is_called {
            report.doubled.push(format!("{id} was started by {token} after it was called off"));
        }
        if let Some((_, last)) = self.last_start.replace((at, token))
            && last >= token
        {
            report.wrong.push(format!("{id} was claimed with token {token} after {last}"));
        }
        // A handler that was killed has not ended, but its round has.
        if let Some((running, other)) = self.running.replace((round, token))
            && running == round
        {
            report.doubled.push(format!("{id} was run by {other} and {token} at once"));
        }
    }

    fn answered(&mut self, token: Token) {
        self.unanswered.retain(|start| start.token != token);
    }

    fn check_one_end(&self, id: TaskId, report: &mut Report) {
        if let (true, Some((token, _))) = (self.is_called, self.last_end) {
            report.doubled.push(format!("{id} was called off and finished by {token}"));
        }
    }

    fn keyed_life(&self, id: TaskId) -> Option<Life> {
        let (from, key) = self.acked?;
        let (to, _) = self.last_start?;
        (from < to).then_some(Life { key: key?, from, to, id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Token = Token::new(1);
    const TWO: Token = Token::new(2);

    fn id(number: u64) -> TaskId {
        TaskId::from_parts(number, 0, 0)
    }

    /// Rounds of entries, each a task and what happened to it.
    fn told(rounds: &[&[(u64, What)]]) -> (Stories, Report) {
        let (mut stories, mut report) = (Stories::default(), Report::default());
        for (round, entries) in (1..).zip(rounds) {
            stories.read(round, &noted(entries), &mut report);
        }
        (stories, report)
    }

    fn noted(entries: &[(u64, What)]) -> Vec<Noted> {
        let entry = |(number, what)| Entry { id: id(number), what };
        (1..).zip(entries).map(|(at, &it)| Noted { at, entry: entry(it) }).collect()
    }

    /// The same, when the children of the rounds lived at the same time.
    #[track_caller]
    fn check_together(rounds: &[&[(u64, What)]], doubled: usize, wrong: usize) -> Stories {
        let (mut stories, mut report) = (Stories::default(), Report::default());
        let ledgers = (1..).zip(rounds.iter().map(|entries| noted(entries))).collect();
        stories.read_together(ledgers, &mut report);
        assert_eq!((report.doubled.len(), report.wrong.len()), (doubled, wrong), "{report:?}");
        stories
    }

    #[test]
    fn claims_are_put_in_order_by_their_tokens() {
        let (end, start) =
            (|token| (1, What::End(token, Ending::Completed)), |t| (1, What::Start(t)));
        let retried = (1, What::End(ONE, Ending::Retried));
        // The first child noted the end of its claim after the second had started.
        check_together(&[&[start(TWO), end(TWO)], &[start(ONE), retried]], 0, 0);
        check_together(&[&[start(TWO)], &[start(ONE), end(ONE)]], 1, 0);
        check_together(&[&[start(TWO), end(TWO)], &[start(ONE), end(ONE)]], 2, 0);
        check_together(&[&[start(ONE)], &[start(ONE)]], 0, 1);
        check_together(&[&[start(ONE), (1, What::Stale(ONE))]], 0, 1);
    }

    #[test]
    fn a_start_without_an_answer_is_remembered() {
        let late = (1, What::Late(ONE));
        let start = |token| (1, What::Start(token));
        let stories = check_together(&[&[start(ONE), late], &[start(TWO)]], 0, 0);
        let unanswered = &stories.of[&id(1)].unanswered;
        assert_eq!(unanswered[..], [Start { at: 1, round: 2, token: TWO }]);
    }

    #[track_caller]
    fn check(rounds: &[&[(u64, What)]], doubled: usize, wrong: usize) {
        let (_, report) = told(rounds);
        assert_eq!((report.doubled.len(), report.wrong.len()), (doubled, wrong), "{report:?}");
    }

    #[test]
    fn a_run_repeated_after_a_kill_is_no_double() {
        let end = What::End(TWO, Ending::Completed);
        let acked = What::Acked(None);
        check(&[&[(1, acked), (1, What::Start(ONE))], &[(1, What::Start(TWO)), (1, end)]], 0, 0);
    }

    #[test]
    fn a_task_that_is_tried_again_is_no_double() {
        let first = [(1, What::Start(ONE)), (1, What::Ran(ONE))];
        let then = [(1, What::Start(TWO)), (1, What::End(ONE, Ending::Retried))];
        let last = [(1, What::Ran(TWO)), (1, What::End(TWO, Ending::Completed))];
        check(&[&[first, then, last].concat()], 0, 0);
    }

    #[test]
    fn what_happens_after_the_end_is_a_double() {
        let end = |token| (1, What::End(token, Ending::Completed));
        check(&[&[(1, What::Start(ONE)), end(ONE)], &[(1, What::Start(TWO))]], 1, 0);
        check(&[&[(1, What::Start(ONE)), end(ONE), end(TWO)]], 1, 0);
        check(&[&[(1, What::Called)], &[(1, What::Start(ONE))]], 1, 0);
        check(&[&[(1, What::Called), end(ONE)]], 1, 0);
        check(&[&[end(ONE), (1, What::Called)]], 1, 0);
    }

    #[test]
    fn two_runs_at_once_are_a_double() {
        check(&[&[(1, What::Start(ONE)), (1, What::Start(TWO))]], 1, 0);
    }

    #[test]
    fn tokens_that_do_not_rise_are_wrong() {
        check(&[&[(1, What::Start(TWO))], &[(1, What::Start(ONE))]], 0, 1);
        check(&[&[(1, What::Start(ONE))], &[(1, What::Start(ONE))]], 0, 1);
        check(&[&[(1, What::Stale(ONE))]], 0, 1);
    }

    #[test]
    fn a_key_that_two_tasks_hold_at_once_is_found() {
        let acked = |number| (number, What::Acked(Some(7)));
        let start = |number| (number, What::Start(ONE));
        let shared = |entries: &[(u64, What)]| told(&[entries]).0.shared_keys().len();
        assert_eq!(shared(&[acked(1), start(1), acked(2), start(2)]), 0);
        assert_eq!(shared(&[acked(1), acked(2), start(1), start(2)]), 1);
        // The first may have been finished before the second was enqueued.
        assert_eq!(shared(&[acked(1), start(1), start(2), acked(2)]), 0);
        let other = (2, What::Acked(Some(8)));
        assert_eq!(shared(&[acked(1), other, start(1), start(2)]), 0);
    }
}
