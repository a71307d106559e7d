//! Servers as others see them: what they run, and whether they live.
//!
//! A server writes a document about itself when it begins, now and then while it lives, and when it
//! drains; at a clean end it removes it. One that is not heard of for three intervals is lost, and
//! stays visible for a day. All of this is for people: who holds a task is decided by leases alone.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    document::{Document, Put, Space},
    id::ServerId,
    name::{KindName, QueueName},
    serial::is_false,
    text::storable,
    time::{after, between},
};

/// Time between two signs of life when nothing is chosen. Chosen without measurement.
pub const INTERVAL_DEFAULT: Duration = Duration::from_secs(10);

/// So many intervals without a sign of life, and a server is lost.
pub const LOST_AFTER: u32 = 3;

/// How long a server stays visible after its last sign of life.
pub const KEPT: Duration = Duration::from_secs(24 * 3600);

/// Most queues and kinds that are told of a server, so that its document stays small.
const LISTED_MAX: usize = 500;

/// Longest name, host and version, in bytes.
const TEXT_BYTES_MAX: usize = 255;

/// What does not change while a server lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServerProfile {
    /// What people call it. Default: `host:pid`.
    pub name: String,
    /// The machine that it runs on.
    pub host: String,
    /// Its process on that machine.
    pub pid: u32,
    /// The version of the program.
    pub version: String,
    /// When it began, by its own clock.
    pub started_at: Timestamp,
    /// The queues it serves; the first 500.
    #[serde(default)]
    pub queues: Vec<ServedQueue>,
    /// The kinds it handles; the first 500.
    #[serde(default)]
    pub kinds: Vec<KindName>,
    /// There are more queues or kinds than are listed.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_cut: bool,
}

/// A queue that a server serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedQueue {
    /// Its name.
    pub queue: QueueName,
    /// How many of its tasks run at once on this server.
    pub concurrency: u64,
}

impl ServerProfile {
    /// A server of this process, named `host:pid`.
    #[must_use]
    pub fn new(host: impl Into<String>, pid: u32, started_at: Timestamp) -> Self {
        let host = storable(host, TEXT_BYTES_MAX);
        Self {
            name: storable(format!("{host}:{pid}"), TEXT_BYTES_MAX),
            host,
            pid,
            version: String::new(),
            started_at,
            queues: Vec::new(),
            kinds: Vec::new(),
            is_cut: false,
        }
    }

    /// What people call it, at most 255 bytes.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = storable(name, TEXT_BYTES_MAX);
        self
    }

    /// The version of the program, at most 255 bytes.
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = storable(version, TEXT_BYTES_MAX);
        self
    }

    /// The queues it serves.
    #[must_use]
    pub fn queues(mut self, queues: impl IntoIterator<Item = ServedQueue>) -> Self {
        let mut queues = queues.into_iter();
        self.queues = queues.by_ref().take(LISTED_MAX).collect();
        self.is_cut |= queues.next().is_some();
        self
    }

    /// The kinds it handles.
    #[must_use]
    pub fn kinds(mut self, kinds: impl IntoIterator<Item = KindName>) -> Self {
        let mut kinds = kinds.into_iter();
        self.kinds = kinds.by_ref().take(LISTED_MAX).collect();
        self.is_cut |= kinds.next().is_some();
        self
    }

    /// Says whether it serves the queue, as far as is known.
    #[must_use]
    pub fn serves(&self, queue: &QueueName) -> bool {
        self.is_cut || self.queues.iter().any(|served| served.queue == *queue)
    }

    /// Says whether it handles the kind, as far as is known.
    #[must_use]
    pub fn handles(&self, kind: &KindName) -> bool {
        self.is_cut || self.kinds.contains(kind)
    }
}

/// A sign of life: what a server writes about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Presence {
    /// What does not change.
    #[serde(flatten)]
    pub profile: ServerProfile,
    /// When this was written, by the clock of the server.
    pub beat_at: Timestamp,
    /// How long it is at the most until the next one, in milliseconds.
    pub interval_ms: u64,
    /// How long its claims live unless it renews them, in milliseconds.
    pub lease_ms: u64,
    /// Tasks that it holds.
    pub held: u64,
    /// Attempts that it runs at once at the most.
    pub slots: u64,
    /// It claims nothing any more, and ends once its handlers do.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_draining: bool,
}

impl Presence {
    /// A sign of life at `beat_at`.
    #[must_use]
    pub fn new(profile: ServerProfile, beat_at: Timestamp, interval: Duration) -> Self {
        let interval_ms = millis(interval);
        let (lease_ms, held, slots, is_draining) = (0, 0, 0, false);
        Self { profile, beat_at, interval_ms, lease_ms, held, slots, is_draining }
    }

    /// How long its claims live.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease_ms = millis(lease);
        self
    }

    /// It holds so many tasks, and can run so many at once.
    #[must_use]
    pub const fn held(mut self, held: u64, slots: u64) -> Self {
        (self.held, self.slots) = (held, slots);
        self
    }

    /// Whether it is about to end.
    #[must_use]
    pub const fn draining(mut self, is_draining: bool) -> Self {
        self.is_draining = is_draining;
        self
    }

    /// The write that tells others.
    ///
    /// # Errors
    ///
    /// What serde reports; nothing here gives it a reason to.
    pub fn put(&self, server: ServerId) -> Result<Put, serde_json::Error> {
        let put = Put::new(Space::Server, server.to_string(), serde_json::to_vec(self)?);
        Ok(put.expires_at(after(self.beat_at, KEPT)))
    }

    /// The write that takes it back, at a clean end.
    #[must_use]
    pub fn remove(server: ServerId) -> Put {
        Put::remove(Space::Server, server.to_string())
    }

    /// Reads a sign of life; `None` when it is none, or one that this version cannot read.
    #[must_use]
    pub fn read(document: &Document) -> Option<(ServerId, Self)> {
        let server = document.key.parse().ok()?;
        Some((server, serde_json::from_slice(&document.body).ok()?))
    }

    /// What it says of the server at `now`.
    #[must_use]
    pub fn info(self, id: ServerId, now: Timestamp) -> ServerInfo {
        let patience = Duration::from_millis(self.interval_ms).saturating_mul(LOST_AFTER);
        let state = if between(self.beat_at, now) > patience {
            ServerState::Lost
        } else if self.is_draining {
            ServerState::Draining
        } else {
            ServerState::Running
        };
        let Self { profile, beat_at, held, slots, .. } = self;
        ServerInfo { id, profile, state, beat_at, held, slots }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How a server fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerState {
    /// It claims and runs.
    Running,
    /// It claims nothing any more, and ends once its handlers do.
    Draining,
    /// It was not heard of for three intervals, or ended and left tasks behind.
    Lost,
}

impl ServerState {
    /// The lower-case name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Draining => "draining",
            Self::Lost => "lost",
        }
    }
}

/// A server as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ServerInfo {
    /// The id of its run.
    pub id: ServerId,
    /// What does not change.
    pub profile: ServerProfile,
    /// How it fares, by the clock of whoever asks: clocks that are apart by more than two intervals
    /// make a server look lost that is not.
    pub state: ServerState,
    /// Its last sign of life, by its own clock.
    pub beat_at: Timestamp,
    /// Tasks that it held then. It may hold more than it runs, as some are claimed ahead.
    pub held: u64,
    /// Attempts that it runs at once at the most.
    pub slots: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEAT: Timestamp = Timestamp::UNIX_EPOCH;
    const SECOND: Duration = Duration::from_secs(1);

    fn presence() -> Presence {
        let queue = |name: &str| ServedQueue { queue: name.parse().unwrap(), concurrency: 4 };
        let profile = ServerProfile::new("host", 7, BEAT)
            .version("1.2.3")
            .queues([queue("mail"), queue("default")])
            .kinds(["send".parse().unwrap()]);
        Presence::new(profile, BEAT, SECOND * 10).lease(SECOND * 30).held(2, 8)
    }

    #[test]
    fn a_server_is_lost_after_three_intervals_without_a_word() {
        for (seconds, is_draining, expected) in [
            (0, false, ServerState::Running),
            (30, false, ServerState::Running),
            (31, false, ServerState::Lost),
            (30, true, ServerState::Draining),
            (31, true, ServerState::Lost),
        ] {
            let now = after(BEAT, SECOND * seconds);
            let info = presence().draining(is_draining).info(ServerId::from_u128(1), now);
            assert_eq!(info.state, expected, "{seconds} {is_draining}");
        }
        // A clock that is behind does not matter.
        let early = Timestamp::from_second(-60).unwrap();
        let info = presence().info(ServerId::from_u128(1), early);
        assert_eq!((info.state, info.held, info.slots), (ServerState::Running, 2, 8));
    }

    #[test]
    fn a_sign_of_life_reads_back_and_expires_after_a_day() {
        let put = presence().put(ServerId::from_u128(1)).unwrap();
        assert_eq!(put.expires_at, Some(after(BEAT, KEPT)));
        let (key, body) = (put.key, put.body.unwrap());
        let document = Document { key, version: 1, body, expires_at: None };
        assert_eq!(Presence::read(&document), Some((ServerId::from_u128(1), presence())));
        for (key, body) in [("x", &document.body), (&document.key, &b"{}"[..].into())] {
            let bad = Document { key: key.into(), body: body.clone(), ..document.clone() };
            assert_eq!(Presence::read(&bad), None);
        }
    }

    #[test]
    fn a_server_with_very_many_kinds_says_that_it_lists_some() {
        let kinds = |count: u32| (0..count).map(|it| KindName::new(format!("k{it}")).unwrap());
        let profile = ServerProfile::new("h", 1, BEAT);
        let (few, many) = (profile.clone().kinds(kinds(500)), profile.kinds(kinds(501)));
        assert_eq!((few.is_cut, many.is_cut, many.kinds.len()), (false, true, 500));
        let unknown = KindName::new("unknown").unwrap();
        assert!(!few.handles(&unknown) && many.handles(&unknown));
    }

    #[test]
    fn the_largest_document_fits() {
        let long = |it: usize| format!("{it:0>128}");
        let queue = |it| ServedQueue { queue: long(it).parse().unwrap(), concurrency: 10_000 };
        let profile = ServerProfile::new("\u{1}".repeat(300), 1, BEAT).name("\u{1}".repeat(300));
        let profile = profile.queues((0..600).map(queue));
        let profile = profile.kinds((0..600).map(|it| long(it).parse().unwrap()));
        let put = Presence::new(profile, BEAT, SECOND).put(ServerId::from_u128(1)).unwrap();
        assert!(crate::document::check_puts(&[put]).is_ok());
    }
}
