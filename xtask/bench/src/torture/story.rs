//! What the ledger says of each task, and what of it must not have happened.

use std::collections::BTreeMap;

use ergon_core::{TaskId, Token};

use super::{
    Report,
    ledger::{Ending, Entry, What},
};

/// What the ledger says of one task.
#[derive(Debug, Default)]
pub(super) struct Story {
    /// Where in the ledger its enqueue was acknowledged, and its unique key.
    pub(super) acked: Option<(usize, Option<u32>)>,
    /// Where its handler was last started, and by which claim.
    last_start: Option<(usize, Token)>,
    pub(super) starts: u32,
    /// The round and the claim of a handler that was started and has not ended.
    running: Option<(u32, Token)>,
    /// Outcomes that were applied.
    pub(super) ends: u32,
    /// The one after which the task was finished.
    pub(super) last_end: Option<(Token, Ending)>,
    /// An operator called it off while it waited.
    pub(super) is_called: bool,
}

/// All stories, and where the ledger ends.
#[derive(Debug, Default)]
pub(super) struct Stories {
    pub(super) of: BTreeMap<TaskId, Story>,
    at: usize,
}

impl Stories {
    /// Reads on, in the order of the ledger.
    pub(super) fn read(&mut self, round: u32, entries: &[Entry], report: &mut Report) {
        for entry in entries {
            self.at += 1;
            let story = self.of.entry(entry.id).or_default();
            story.read(self.at, round, *entry, report);
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
    from: usize,
    to: usize,
    id: TaskId,
}

impl Story {
    fn read(&mut self, at: usize, round: u32, entry: Entry, report: &mut Report) {
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
                if ending != Ending::Retried {
                    if let Some((other, _)) = self.last_end.replace((token, ending)) {
                        report.doubled.push(format!("{id} was finished by {other} and {token}"));
                    }
                    self.check_one_end(id, report);
                }
            }
            What::Stale(token) => {
                report.wrong.push(format!("{id}: the outcome of {token} was refused as stale"));
            }
        }
    }

    fn start(&mut self, at: usize, round: u32, id: TaskId, token: Token, report: &mut Report) {
        report.runs += 1;
        self.starts += 1;
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
            let entries: Vec<_> =
                entries.iter().map(|&(number, what)| Entry { id: id(number), what }).collect();
            stories.read(round, &entries, &mut report);
        }
        (stories, report)
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
