//! The rings that other processes have not been told of yet.

use std::{
    collections::BTreeMap,
    mem::take,
    sync::{Mutex, MutexGuard, PoisonError},
};

use ergon_core::QueueName;
use tokio::sync::Notify;

/// How many queues are told apart between two notifications; beyond it all are rung. Keeps what is
/// gathered while there is no connection small.
const QUEUES_MAX: usize = 256;

/// What a message says about a queue: its bare name that tasks are due, the name and this sign that
/// it is to be looked at again. No name contains it. An empty message is about every queue.
const LOOK: char = '?';

/// Rings, gathered until they are sent.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    gathered: Mutex<Gathered>,
    more: Notify,
    more_journal: Notify,
}

/// What happened, by queue.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// Whether tasks are due.
    queues: BTreeMap<QueueName, bool>,
    all: bool,
    /// Whether something was recorded in the journal.
    journal: bool,
}

impl Outgoing {
    pub(super) fn add_due(&self, queues: &[QueueName]) {
        self.add(|gathered| gathered.add(queues, true));
    }

    pub(super) fn add_later(&self, queues: &[QueueName]) {
        self.add(|gathered| gathered.add(queues, false));
    }

    pub(super) fn add_journal(&self) {
        self.add(|gathered| gathered.journal = true);
    }

    /// Adds what was taken and could not be sent.
    pub(super) fn put_back(&self, taken: Gathered) {
        self.add(|gathered| gathered.merge(taken));
    }

    /// Waits until there is something to send about work.
    ///
    /// # Cancel safety
    ///
    /// A dropped call loses nothing.
    pub(super) async fn filled(&self) {
        while !self.lock().has_work() {
            self.more.notified().await;
        }
    }

    /// Waits until there is something to send about the journal.
    ///
    /// # Cancel safety
    ///
    /// A dropped call loses nothing.
    pub(super) async fn filled_journal(&self) {
        while !self.lock().journal {
            self.more_journal.notified().await;
        }
    }

    /// Says whether there is nothing to send.
    pub(super) fn is_empty(&self) -> bool {
        let gathered = self.lock();
        !gathered.has_work() && !gathered.journal
    }

    /// Takes what there is to send.
    pub(super) fn take(&self) -> Gathered {
        take(&mut self.lock())
    }

    fn add(&self, add: impl FnOnce(&mut Gathered)) {
        let mut gathered = self.lock();
        let (had_work, had_journal) = (gathered.has_work(), gathered.journal);
        add(&mut gathered);
        let is_first = !had_work && gathered.has_work();
        let is_first_of_journal = !had_journal && gathered.journal;
        drop(gathered);
        if is_first {
            self.more.notify_one();
        }
        if is_first_of_journal {
            self.more_journal.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Gathered> {
        // No change can panic half way, so what a panicking thread left behind is whole.
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gathered {
    fn add(&mut self, queues: &[QueueName], is_due: bool) {
        if self.all {
            return;
        }
        for queue in queues {
            if let Some(known) = self.queues.get_mut(queue) {
                *known |= is_due;
            } else if self.queues.len() == QUEUES_MAX {
                return self.add_all();
            } else {
                self.queues.insert(queue.clone(), is_due);
            }
        }
    }

    fn add_all(&mut self) {
        self.all = true;
        self.queues.clear();
    }

    fn merge(&mut self, other: Self) {
        self.journal |= other.journal;
        if other.all {
            self.add_all();
        }
        for (queue, is_due) in other.queues {
            self.add(&[queue], is_due);
        }
    }

    fn has_work(&self) -> bool {
        self.all || !self.queues.is_empty()
    }

    /// Says whether something was recorded in the journal.
    pub(super) const fn has_journal(&self) -> bool {
        self.journal
    }

    /// The messages that tell others of work.
    pub(super) fn messages(&self) -> Vec<String> {
        if self.all {
            return vec![String::new()];
        }
        let message = |(queue, &is_due): (&QueueName, &bool)| {
            let mut message = String::from(queue.as_str());
            if !is_due {
                message.push(LOOK);
            }
            message
        };
        self.queues.iter().map(message).collect()
    }
}

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message<'m> {
    /// Tasks of this queue are due.
    Due(&'m str),
    /// This queue is to be looked at again.
    Look(&'m str),
    /// All queues are.
    LookAtAll,
}

impl<'m> Message<'m> {
    pub(super) fn parse(text: &'m str) -> Self {
        match text.strip_suffix(LOOK) {
            Some(queue) => Self::Look(queue),
            None if text.is_empty() => Self::LookAtAll,
            None => Self::Due(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn queue(name: &str) -> QueueName {
        QueueName::new(name).unwrap()
    }

    #[test]
    fn rings_of_one_queue_are_one_message_and_being_due_wins() {
        let outgoing = Outgoing::default();
        assert_eq!(outgoing.filled().now_or_never(), None);
        outgoing.add_later(&[queue("b"), queue("a")]);
        outgoing.add_due(&[queue("a"), queue("a")]);
        outgoing.add_later(&[queue("a")]);
        assert_eq!(outgoing.filled().now_or_never(), Some(()));
        let taken = outgoing.take();
        assert_eq!(taken.messages(), ["a", "b?"]);
        assert_eq!(outgoing.filled().now_or_never(), None);
        outgoing.add_due(&[queue("b")]);
        outgoing.put_back(taken);
        assert_eq!(outgoing.take().messages(), ["a", "b"]);
        let parsed = ["a", "b?", ""].map(Message::parse);
        assert_eq!(parsed, [Message::Due("a"), Message::Look("b"), Message::LookAtAll]);
    }

    #[test]
    fn the_journal_rings_by_itself() {
        let outgoing = Outgoing::default();
        assert!(outgoing.is_empty());
        outgoing.add_journal();
        assert_eq!(outgoing.filled().now_or_never(), None);
        assert_eq!(outgoing.filled_journal().now_or_never(), Some(()));
        let taken = outgoing.take();
        assert!(taken.has_journal() && taken.messages().is_empty() && outgoing.is_empty());
        outgoing.put_back(taken);
        assert_eq!(outgoing.filled_journal().now_or_never(), Some(()));
    }

    #[test]
    fn too_many_queues_are_all_queues() {
        let outgoing = Outgoing::default();
        let queues: Vec<_> = (0..QUEUES_MAX).map(|number| queue(&number.to_string())).collect();
        outgoing.add_due(&queues);
        outgoing.add_due(&queues);
        assert_eq!(outgoing.take().messages().len(), QUEUES_MAX);
        outgoing.add_due(&queues);
        outgoing.add_later(&[queue("more")]);
        outgoing.add_due(&queues);
        let taken = outgoing.take();
        assert_eq!(taken.messages(), [""]);
        outgoing.add_due(&[queue("a")]);
        outgoing.put_back(taken);
        assert_eq!(outgoing.take().messages(), [""]);
        outgoing.add_due(&[queue("a")]);
        assert_eq!(outgoing.take().messages(), ["a"]);
    }
}
