//! An attempt as middleware sees it that does not depend on the server.

use std::fmt;

use crate::{event::TaskEvent, id::ServerId, outcome::Conclusion, record::ClaimedTask};

/// What a server hands to the middleware around an attempt: what is run, and how to learn what came
/// of it.
///
/// `ergon_server::Call` is one, so that a tower layer over any request that implements this trait can
/// be given to a server without depending on it.
pub trait AttemptInfo {
    /// The task, as it was claimed.
    fn task(&self) -> &ClaimedTask;

    /// The server that runs it.
    fn server(&self) -> ServerId;

    /// Has a follower called once the outcome of the attempt is recorded, with what is told to the
    /// server's [sinks](crate::EventSink) as well. It is dropped uncalled if the outcome is never
    /// recorded, as when the lease was lost or the server gave up.
    ///
    /// Whatever ended the attempt is told so, what middleware cannot see included: a timeout, a panic,
    /// a cancel, a shutdown. The one who calls has work to do: a follower must not block, nor panic.
    fn follow(&self, follower: Follower);
}

/// Is told what came of an attempt.
pub type Follower = Box<dyn FnOnce(&AttemptEnd<'_>) + Send>;

/// What came of an attempt.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct AttemptEnd<'a> {
    /// What the server asked the store to record.
    pub conclusion: &'a Conclusion,
    /// What that made of the task.
    pub event: &'a TaskEvent,
}

impl<'a> AttemptEnd<'a> {
    /// The end of an attempt.
    #[must_use]
    pub const fn new(conclusion: &'a Conclusion, event: &'a TaskEvent) -> Self {
        Self { conclusion, event }
    }
}

/// The followers of an attempt, in the order in which they came.
#[derive(Default)]
pub struct Followers(Vec<Follower>);

impl Followers {
    /// Adds a follower.
    pub fn push(&mut self, follower: Follower) {
        self.0.push(follower);
    }

    /// Says whether nobody follows.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Calls every follower.
    pub fn tell(self, end: &AttemptEnd<'_>) {
        self.0.into_iter().for_each(|follower| follower(end));
    }
}

impl fmt::Debug for Followers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Followers").field(&self.0.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use super::*;

    #[test]
    fn every_follower_is_told_in_order() {
        let (sender, receiver) = mpsc::channel();
        let mut followers = Followers::default();
        for number in [1, 2] {
            let sender = sender.clone();
            let tell = move |end: &AttemptEnd<'_>| {
                sender.send((number, end.event.kind(), end.conclusion.kind())).unwrap();
            };
            followers.push(Box::new(tell));
        }
        assert_eq!((followers.is_empty(), Followers::default().is_empty()), (false, true));
        assert_eq!(format!("{followers:?}"), "Followers(2)");
        drop(sender);
        let (conclusion, ran) = (Conclusion::Complete { result: None }, Duration::ZERO);
        let event = TaskEvent::Completed { ran };
        followers.tell(&AttemptEnd::new(&conclusion, &event));
        let told = |number| (number, event.kind(), conclusion.kind());
        assert_eq!(receiver.iter().collect::<Vec<_>>(), [told(1), told(2)]);
    }
}
