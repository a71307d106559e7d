//! The connection of a doorbell: sends what is gathered, hears others, and notices when it is dead.

use std::{sync::Arc, time::Duration};

use ergon_core::{Rng, rng::duration_up_to};
use futures_util::future::BoxFuture;
use sqlx::{
    PgPool, Row as _,
    postgres::{PgConnectOptions, PgListener, PgNotification, PgPoolOptions},
};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Bell, DoorbellConfig, RECONNECT_FIRST, RECONNECT_LONGEST, Rings, Times,
    bell::Wants,
    outgoing::{Message, Outgoing},
};

const BACKEND: &str = include_str!("../queries/doorbell/backend.sql");
pub(crate) const RING: &str = include_str!("../queries/doorbell/ring.sql");

/// How long the end may take: telling the last rings, and closing the connection in good manners.
const FAREWELL: Duration = Duration::from_secs(1);

/// Everything that outlives a connection.
#[derive(Debug)]
pub(super) struct Line {
    connect: PgConnectOptions,
    schema: String,
    /// What all processes listen to that wait for work.
    channel: String,
    /// What all processes listen to that read the journal.
    journal: String,
    rng: Arc<dyn Rng>,
    times: Times,
    bell: Arc<Bell>,
    outgoing: Arc<Outgoing>,
}

/// Why a connection is of no use any more.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("a statement failed")]
    Sql(#[from] sqlx::Error),
    #[error("the connection was closed")]
    Closed,
    #[error("no answer within {0:?}")]
    Silent(Duration),
}

/// Nobody is heard any more, however the line ends.
struct Deaf<'l>(&'l Bell);

impl Drop for Deaf<'_> {
    fn drop(&mut self) {
        self.0.set_listening(false);
    }
}

impl Line {
    pub(super) fn new(
        connect: PgConnectOptions,
        config: &DoorbellConfig,
        bell: Arc<Bell>,
        outgoing: Arc<Outgoing>,
    ) -> Self {
        let name = connect.get_application_name().unwrap_or("ergon");
        let name = format!("{name} doorbell");
        Self {
            connect: connect.application_name(&name),
            channel: config.channel(),
            journal: config.journal_channel(),
            schema: config.schema.clone(),
            rng: Arc::clone(&config.rng),
            times: config.times,
            bell,
            outgoing,
        }
    }

    /// Keeps a connection open, from the first need of one until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut failures = 0;
        while stop.run_until_cancelled(self.needed()).await.is_some() {
            let pool = self.pool();
            let ended = {
                let _deaf = Deaf(&self.bell);
                Box::pin(self.connected(&pool, &mut failures, &stop)).await
            };
            // What is broken is closed behind our back, as soon as the kernel gives it up.
            let patience = if ended.is_ok() { FAREWELL } else { Duration::ZERO };
            let closed = timeout(patience, pool.close()).await.is_ok();
            let Err(lost) = ended else {
                tracing::debug!(closed, "the doorbell ended");
                return;
            };
            failures += 1;
            if failures == 1 {
                let error: &dyn std::error::Error = &lost;
                tracing::warn!(
                    error,
                    "the doorbell lost its connection; until it is back, work is found by polling"
                );
            }
            let pause = sleep(self.pause(failures));
            // Stopping ends the pause, and then the loop.
            let _stopped = stop.run_until_cancelled(pause).await;
        }
        self.farewell().await;
    }

    /// Waits until there is somebody to tell or to hear.
    async fn needed(&self) {
        tokio::select! {
            () = self.outgoing.filled() => {}
            () = self.outgoing.filled_journal() => {}
            () = self.bell.wanted(Wants::default()) => {}
        }
    }

    /// Serves one connection until `stop`, or until it is lost.
    async fn connected(
        &self,
        pool: &PgPool,
        failures: &mut u32,
        stop: &CancellationToken,
    ) -> Result<(), Lost> {
        let Some(session) = stop.run_until_cancelled(Session::open(self, pool)).await else {
            self.farewell().await;
            return Ok(());
        };
        let mut session = session?;
        Box::pin(session.serve(failures, stop)).await?;
        session.send().await
    }

    /// Tells the last rings, when there was no connection at the end.
    async fn farewell(&self) {
        let last = async {
            let pool = self.pool();
            if let Ok(mut session) = Session::open(self, &pool).await {
                session.send().await.ok();
            }
            pool.close().await;
        };
        if !self.outgoing.is_empty() && timeout(FAREWELL, last).await.is_err() {
            tracing::debug!("other processes were not told of the last tasks");
        }
    }

    /// A pool for one connection, since sqlx has no other way to one that hears notifications.
    fn pool(&self) -> PgPool {
        PgPoolOptions::new()
            .max_connections(1)
            .min_connections(0)
            .max_lifetime(None)
            .idle_timeout(None)
            .test_before_acquire(false)
            .acquire_timeout(self.times.ping_deadline)
            .connect_lazy_with(self.connect.clone())
    }

    fn pause(&self, failures: u32) -> Duration {
        let doublings = std::cmp::min(failures.saturating_sub(1), 16);
        let ceiling = std::cmp::min(RECONNECT_FIRST * (1 << doublings), RECONNECT_LONGEST);
        ceiling - duration_up_to(&*self.rng, ceiling / 2)
    }
}

/// One connection.
struct Session<'l> {
    line: &'l Line,
    listener: PgListener,
    /// Who we are for the server: notifications name it.
    pid: u32,
    /// A channel for ourselves, on which pings come back.
    pings: String,
    /// To what this connection was told to listen.
    listens: Wants,
    /// When more may be sent, of work and of the journal.
    send_at: Instant,
    send_journal_at: Instant,
    /// When it is tried next.
    ping_at: Instant,
    /// Until when the last ping has to be heard.
    hear_until: Option<Instant>,
}

impl<'l> Session<'l> {
    async fn open(line: &'l Line, pool: &PgPool) -> Result<Self, Lost> {
        let opening = Box::pin(async {
            let mut listener = Box::pin(PgListener::connect_with(pool)).await?;
            listener.eager_reconnect(false);
            let row = sqlx::query(BACKEND).fetch_one(&mut listener).await?;
            let pid: i32 = row.try_get("pid")?;
            Ok((listener, pid.unsigned_abs()))
        });
        let (listener, pid) = line.in_time(opening).await?;
        let now = Instant::now();
        Ok(Self {
            line,
            listener,
            pid,
            pings: format!("{}.{pid}", line.schema),
            listens: Wants::default(),
            send_at: now,
            send_journal_at: now,
            ping_at: now + line.times.ping_interval,
            hear_until: None,
        })
    }

    async fn serve(&mut self, failures: &mut u32, stop: &CancellationToken) -> Result<(), Lost> {
        let line = self.line;
        loop {
            let (send_at, send_journal_at) = (self.send_at, self.send_journal_at);
            let to_send = async {
                line.outgoing.filled().await;
                sleep_until(send_at).await;
            };
            let to_send_journal = async {
                line.outgoing.filled_journal().await;
                sleep_until(send_journal_at).await;
            };
            let to_send = async {
                tokio::select! {
                    () = to_send => {}
                    () = to_send_journal => {}
                }
            };
            let time = sleep_until(self.hear_until.unwrap_or(self.ping_at));
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                heard = self.listener.try_recv() => {
                    let heard = heard?.ok_or(Lost::Closed)?;
                    if self.hear(&heard) {
                        line.regained(failures);
                    }
                }
                () = to_send => {
                    self.send().await?;
                    line.regained(failures);
                }
                () = line.bell.wanted(self.listens) => self.listen().await?,
                () = time => {
                    if self.hear_until.is_some() {
                        return Err(Lost::Silent(line.times.ping_deadline));
                    }
                    self.ping().await?;
                }
            }
        }
    }

    /// Takes what was heard; says whether it was the answer to a ping.
    fn hear(&mut self, heard: &PgNotification) -> bool {
        let bell = &self.line.bell;
        if heard.process_id() == self.pid {
            // What this process rang its own waits know already.
            let is_ping = heard.channel() == self.pings;
            if is_ping {
                self.hear_until = None;
                bell.set_listening(true);
            }
            return is_ping;
        }
        if heard.channel() == self.line.journal {
            bell.ring_journal();
            return false;
        }
        match Message::parse(heard.payload()) {
            Message::Due(queue) => bell.ring(std::iter::once(queue), Rings::due),
            Message::Look(queue) => bell.ring(std::iter::once(queue), Rings::look),
            Message::LookAtAll => bell.ring_all(Rings::look),
        }
        false
    }

    /// Listens, and tries whether it hears: a pooler between here and the server lets nothing through.
    async fn listen(&mut self) -> Result<(), Lost> {
        let Self { line, listener, pings, .. } = self;
        let wants = line.bell.wants();
        let mut channels = vec![pings.as_str()];
        channels.extend(wants.work.then_some(line.channel.as_str()));
        channels.extend(wants.journal.then_some(line.journal.as_str()));
        line.in_time(Box::pin(listener.listen_all(channels))).await?;
        self.listens = wants;
        self.ping().await
    }

    /// Tries whether the connection is alive. What has no answer within the deadline is dead, even
    /// if nobody says so: the other side may be gone without a word.
    async fn ping(&mut self) -> Result<(), Lost> {
        let now = Instant::now();
        self.ping_at = now + self.line.times.ping_interval;
        self.hear_until = self.listens.any().then(|| now + self.line.times.ping_deadline);
        self.notify(vec![self.pings.clone()], vec![String::new()]).await
    }

    /// Tells others what is gathered.
    async fn send(&mut self) -> Result<(), Lost> {
        let taken = self.line.outgoing.take();
        let mut messages = taken.messages();
        let mut channels = vec![self.line.channel.clone(); messages.len()];
        let now = Instant::now();
        if !messages.is_empty() {
            self.send_at = now + self.line.times.gather;
        }
        if taken.has_journal() {
            self.send_journal_at = now + self.line.times.gather_journal;
            channels.push(self.line.journal.clone());
            messages.push(String::new());
        }
        if messages.is_empty() {
            return Ok(());
        }
        let sent = self.notify(channels, messages).await;
        if sent.is_err() {
            // Told once there is a connection again; twice is no harm.
            self.line.outgoing.put_back(taken);
        }
        sent
    }

    async fn notify(&mut self, channels: Vec<String>, messages: Vec<String>) -> Result<(), Lost> {
        let ring = sqlx::query(RING).bind(channels).bind(messages).execute(&mut self.listener);
        self.line.in_time(Box::pin(ring)).await.map(drop)
    }
}

impl Line {
    /// Gives an answer of the server no longer than the deadline.
    async fn in_time<T>(&self, answer: BoxFuture<'_, Result<T, sqlx::Error>>) -> Result<T, Lost> {
        let deadline = self.times.ping_deadline;
        let answer = timeout(deadline, answer).await;
        Ok(answer.map_err(|_elapsed| Lost::Silent(deadline))??)
    }

    /// The connection works.
    fn regained(&self, failures: &mut u32) {
        if std::mem::take(failures) > 0 {
            tracing::info!("the doorbell has a connection again");
        }
    }
}
