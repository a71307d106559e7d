//! What the page of the workers shows.

use ergon_core::servers::{ServerInfo, ServerState};
use serde::Serialize;
use utoipa::ToSchema;

use super::cursor;
use crate::{
    cache::Reading,
    error::Trouble,
    shared::Shared,
    text::clean,
    value::{At, Whole},
};

/// Most workers that are shown.
const WORKERS_MAX: usize = 500;

/// The servers that run tasks.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkersView {
    /// How many claim and run.
    pub(crate) running: usize,
    /// How many claim nothing any more, and end once their handlers do.
    pub(crate) draining: usize,
    /// How many were not heard of for three intervals, within the last day.
    pub(crate) lost: usize,
    /// Tasks that those hold that are not lost.
    pub(crate) held: Whole,
    /// Attempts that they run at once at the most.
    pub(crate) slots: Whole,
    /// The servers: those that run, then those that drain, then lost ones; of each, the one that began
    /// first comes first. At most 500.
    pub(crate) workers: Vec<WorkerRow>,
}

/// A server that runs tasks.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkerRow {
    /// The id of its run.
    pub(crate) id: String,
    /// What people call it.
    pub(crate) name: String,
    /// The machine that it runs on.
    pub(crate) host: String,
    /// Its process on that machine.
    pub(crate) pid: u32,
    /// The version of the program.
    pub(crate) version: String,
    /// `running`, `draining` or `lost`.
    pub(crate) state: &'static str,
    /// When it began.
    pub(crate) started_at: At,
    /// Its last sign of life.
    pub(crate) beat_at: At,
    /// Tasks that it held then; it may hold more than it runs, as some are claimed ahead.
    pub(crate) held: Whole,
    /// Attempts that it runs at once at the most.
    pub(crate) slots: Whole,
    /// The queues it serves.
    pub(crate) queues: Vec<ServedRow>,
    /// The kinds it handles.
    pub(crate) kinds: Vec<String>,
    /// There are more queues or kinds than are listed.
    pub(crate) is_cut: bool,
}

/// A queue that a server serves.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ServedRow {
    /// Its name.
    pub(crate) queue: String,
    /// How many of its tasks run at once on this server.
    pub(crate) concurrency: Whole,
}

impl WorkersView {
    pub(crate) async fn read(shared: &Shared) -> Result<Reading<Self>, Trouble> {
        let cursor = cursor(shared).await;
        let read_at = shared.clock.now();
        let servers = shared.reads.read("servers", shared.manager.servers().list()).await?;
        Ok(Reading::new(Self::of(servers), cursor, read_at))
    }

    fn of(mut servers: Vec<ServerInfo>) -> Self {
        servers.sort_by_key(|server| rank(server.state));
        let count = |state| servers.iter().filter(|server| server.state == state).count();
        let alive = || servers.iter().filter(|server| server.state != ServerState::Lost);
        Self {
            running: count(ServerState::Running),
            draining: count(ServerState::Draining),
            lost: count(ServerState::Lost),
            held: Whole(alive().map(|server| server.held).fold(0, u64::saturating_add)),
            slots: Whole(alive().map(|server| server.slots).fold(0, u64::saturating_add)),
            workers: servers.iter().take(WORKERS_MAX).map(WorkerRow::of).collect(),
        }
    }

    /// All of them, those beyond the first 500 too.
    pub(crate) const fn total(&self) -> usize {
        self.running + self.draining + self.lost
    }
}

const fn rank(state: ServerState) -> u8 {
    match state {
        ServerState::Running => 0,
        ServerState::Draining => 1,
        ServerState::Lost => 2,
    }
}

impl WorkerRow {
    fn of(server: &ServerInfo) -> Self {
        let profile = &server.profile;
        let queues = profile.queues.iter().map(|served| ServedRow {
            queue: served.queue.to_string(),
            concurrency: Whole(served.concurrency),
        });
        Self {
            id: server.id.to_string(),
            name: clean(&profile.name),
            host: clean(&profile.host),
            pid: profile.pid,
            version: clean(&profile.version),
            state: server.state.as_str(),
            started_at: At(profile.started_at),
            beat_at: At(server.beat_at),
            held: Whole(server.held),
            slots: Whole(server.slots),
            queues: queues.collect(),
            kinds: profile.kinds.iter().map(ToString::to_string).collect(),
            is_cut: profile.is_cut,
        }
    }
}
