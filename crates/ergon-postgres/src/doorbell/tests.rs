//! Doorbells on a real server, also one that falls silent.

#![expect(clippy::large_futures, reason = "the futures of sqlx are large, and these few are tests")]
#![expect(clippy::print_stdout, reason = "a test that is skipped says so")]

use std::{
    str::FromStr as _,
    sync::Arc,
    time::{Duration, Instant},
};

use ergon_core::{KindName, QueueName, Rng as _, SystemRng};
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
    task::JoinSet,
    time::timeout,
};

use super::{Doorbell, DoorbellConfig, GATHER, Rings, Times};

/// Longer than anything here may take.
const LONG: Duration = Duration::from_secs(30);

/// A server, and a name for those who use it here.
struct Rig {
    connect: PgConnectOptions,
    pool: PgPool,
    name: String,
    times: Times,
}

impl Rig {
    /// `None` without a database.
    async fn new() -> Option<Self> {
        let Ok(url) = std::env::var("DATABASE_URL") else {
            println!("skipped: DATABASE_URL is not set");
            return None;
        };
        let connect = PgConnectOptions::from_str(&url).unwrap();
        let pool = PgPoolOptions::new().max_connections(2).connect_with(connect.clone());
        let name = format!("ergon_bell_{:x}", SystemRng.next_u64());
        Some(Self { connect, pool: pool.await.unwrap(), name, times: Times::default() })
    }

    fn doorbell(&self) -> Doorbell {
        self.doorbell_by(self.connect.clone())
    }

    fn doorbell_by(&self, connect: PgConnectOptions) -> Doorbell {
        let connect = connect.application_name(&self.name);
        let mut config = DoorbellConfig::new(Some(connect), self.name.clone());
        config.times = self.times;
        Doorbell::start(config)
    }

    /// How many connections its doorbells have.
    async fn connections(&self) -> i64 {
        let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1";
        let doorbells = format!("{} doorbell", self.name);
        sqlx::query_scalar(count).bind(doorbells).fetch_one(&self.pool).await.unwrap()
    }

    async fn until_connections(&self, expected: i64) {
        let reached = async { while self.connections().await != expected {} };
        timeout(LONG, reached).await.unwrap();
    }

    async fn kill_connections(&self) {
        let kill =
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1";
        let doorbells = format!("{} doorbell", self.name);
        sqlx::query(kill).bind(doorbells).execute(&self.pool).await.unwrap();
    }
}

/// Somebody who waits for one queue.
struct Ear {
    rings: watch::Receiver<Rings>,
}

impl Ear {
    fn new(doorbell: &Doorbell, name: &str) -> Self {
        let kinds = [KindName::new("kind").unwrap()];
        Self { rings: doorbell.bell().watch(&[queue(name)], &kinds).listen() }
    }

    fn rings(&self) -> Rings {
        *self.rings.borrow()
    }

    async fn until(&mut self, is_reached: impl FnMut(&Rings) -> bool) {
        timeout(LONG, self.rings.wait_for(is_reached)).await.unwrap().unwrap();
    }
}

fn queue(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

/// Waits until others are heard, or are not.
async fn until_listening(doorbell: &Doorbell, expected: bool) {
    let mut ear = Ear::new(doorbell, "listening");
    // Each change rings.
    ear.until(|_| doorbell.bell().is_listening() == expected).await;
}

#[tokio::test]
async fn doorbells_hear_each_other_and_themselves_once() {
    let Some(rig) = Rig::new().await else { return };
    let (one, other) = (rig.doorbell(), rig.doorbell());
    let (mut mine, mut theirs) = (Ear::new(&one, "a"), Ear::new(&other, "a"));
    until_listening(&one, true).await;
    until_listening(&other, true).await;
    assert_eq!(rig.connections().await, 2);
    let before = (mine.rings(), theirs.rings());
    one.ring(&[queue("a"), queue("b")]);
    assert_eq!(mine.rings().due, before.0.due + 1, "at once");
    theirs.until(|rings| rings.due == before.1.due + 1).await;
    one.ring_later(&[queue("a")]);
    theirs.until(|rings| rings.look == before.1.look + 1).await;
    // What comes back comes in order: had its own rings been heard, they would have been before this.
    other.ring_later(&[queue("a")]);
    mine.until(|rings| rings.look >= before.0.look + 2).await;
    assert_eq!(mine.rings(), Rings { due: before.0.due + 1, look: before.0.look + 2 });
    one.close().await;
    drop(other);
    rig.until_connections(0).await;
}

#[tokio::test]
async fn a_doorbell_has_no_connection_before_it_is_needed_and_no_ear_unless_it_waits() {
    let Some(rig) = Rig::new().await else { return };
    let (ringing, waiting) = (rig.doorbell(), rig.doorbell());
    let mut ear = Ear::new(&waiting, "a");
    until_listening(&waiting, true).await;
    assert_eq!(rig.connections().await, 1);
    ringing.ring(&[queue("a")]);
    ear.until(|rings| rings.due == 1).await;
    assert_eq!(rig.connections().await, 2);
    assert!(!ringing.bell().is_listening());
    // The last ring is told although its doorbell goes.
    ringing.ring(&[queue("a")]);
    ringing.close().await;
    ear.until(|rings| rings.due == 2).await;
    let brief = rig.doorbell();
    brief.ring(&[queue("a")]);
    brief.close().await;
    ear.until(|rings| rings.due == 3).await;
    waiting.close().await;
    rig.until_connections(0).await;
}

#[tokio::test]
async fn rings_in_a_row_are_few_notifications() {
    let Some(rig) = Rig::new().await else { return };
    let doorbell = rig.doorbell();
    let mut listener = PgListener::connect_with(&rig.pool).await.unwrap();
    listener.listen(&format!("{}.due", rig.name)).await.unwrap();
    doorbell.ring(&[queue("first")]);
    assert_eq!(listener.recv().await.unwrap().payload(), "first");
    let began = Instant::now();
    for _ in 0..20_000 {
        doorbell.ring(&[queue("a"), queue("b")]);
        doorbell.ring_later(&[queue("c")]);
        tokio::task::yield_now().await;
    }
    doorbell.ring(&[queue("last")]);
    let most = began.elapsed().as_millis() / GATHER.as_millis() + 2;
    let mut heard = Vec::new();
    while heard.last().is_none_or(|last| last != "last") {
        heard.push(listener.recv().await.unwrap().payload().to_owned());
    }
    for name in ["a", "b", "c?"] {
        let times = heard.iter().filter(|heard| *heard == name).count();
        assert!((1..=most).contains(&(times as u128)), "{name}: {times} times, at most {most}");
    }
    doorbell.close().await;
}

#[tokio::test]
async fn a_lost_connection_wakes_everybody_and_is_opened_anew() {
    let Some(rig) = Rig::new().await else { return };
    let (one, other) = (rig.doorbell(), rig.doorbell());
    let mut ear = Ear::new(&one, "a");
    until_listening(&one, true).await;
    let before = ear.rings();
    rig.kill_connections().await;
    // Once since nobody is heard, and once since somebody is again.
    ear.until(|rings| rings.look >= before.look + 2).await;
    until_listening(&one, true).await;
    other.ring(&[queue("a")]);
    ear.until(|rings| rings.due == before.due + 1).await;
    // What is rung without a connection is told when there is one.
    rig.kill_connections().await;
    other.ring(&[queue("a")]);
    until_listening(&one, true).await;
    ear.until(|rings| rings.look >= before.look + 4 || rings.due == before.due + 2).await;
    one.close().await;
    other.close().await;
}

/// Stands between doorbell and server, and can fall silent without closing anything.
struct Proxy {
    connect: PgConnectOptions,
    is_silent: Arc<watch::Sender<bool>>,
    _connections: JoinSet<()>,
}

impl Proxy {
    async fn new(server: &PgConnectOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connect = server.clone().host("127.0.0.1").port(port);
        let is_silent = Arc::new(watch::Sender::new(false));
        let (server, silent) = (server.clone(), is_silent.subscribe());
        let mut connections = JoinSet::new();
        connections.spawn(async move {
            let mut passing = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                passing.spawn(pass(client, server.clone(), silent.clone()));
            }
        });
        Self { connect, is_silent, _connections: connections }
    }
}

/// Passes everything on, until it is silent: then what was open stays as it is for ever.
async fn pass(mut client: TcpStream, server: PgConnectOptions, mut silent: watch::Receiver<bool>) {
    let (host, port) = (server.get_host(), server.get_port());
    let socket =
        server.get_socket().cloned().or_else(|| host.starts_with('/').then(|| host.into()));
    let passing = async {
        if let Some(directory) = socket {
            let path = directory.join(format!(".s.PGSQL.{port}"));
            let mut server = UnixStream::connect(path).await.unwrap();
            copy_bidirectional(&mut client, &mut server).await.ok();
        } else {
            let mut server = TcpStream::connect((host, port)).await.unwrap();
            copy_bidirectional(&mut client, &mut server).await.ok();
        }
    };
    let falls_silent = async { drop(silent.wait_for(|&silent| silent).await) };
    tokio::select! {
        () = passing => {}
        () = falls_silent => std::future::pending().await,
    }
}

#[tokio::test]
async fn a_server_that_falls_silent_is_noticed() {
    let Some(mut rig) = Rig::new().await else { return };
    rig.times.ping_interval = Duration::from_millis(20);
    rig.times.ping_deadline = Duration::from_millis(500);
    let proxy = Proxy::new(&rig.connect).await;
    let (one, other) = (rig.doorbell_by(proxy.connect.clone()), rig.doorbell());
    let mut ear = Ear::new(&one, "a");
    until_listening(&one, true).await;
    proxy.is_silent.send_replace(true);
    until_listening(&one, false).await;
    // Found at the next look, or heard from then on.
    one.ring(&[queue("b")]);
    let before = ear.rings();
    proxy.is_silent.send_replace(false);
    until_listening(&one, true).await;
    ear.until(|rings| rings.look > before.look).await;
    other.ring(&[queue("a")]);
    ear.until(|rings| rings.due == before.due + 1).await;
    one.close().await;
    other.close().await;
}

#[tokio::test]
async fn a_server_that_is_not_there_hurts_nobody() {
    let connect = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(1);
    let mut config = DoorbellConfig::new(Some(connect), "ergon");
    config.times.ping_deadline = Duration::from_millis(50);
    let doorbell = Doorbell::start(config);
    let ear = Ear::new(&doorbell, "a");
    doorbell.ring(&[queue("a")]);
    assert_eq!(ear.rings(), Rings { due: 1, look: 0 });
    timeout(LONG, doorbell.close()).await.unwrap();
    let silent = Doorbell::start(DoorbellConfig::new(None, "ergon"));
    silent.ring(&[queue("a")]);
    silent.close().await;
}

#[test]
fn without_a_runtime_it_reaches_this_process() {
    let config = DoorbellConfig::new(Some(PgConnectOptions::new_without_pgpass()), "ergon");
    let doorbell = Doorbell::start(config);
    let ear = Ear::new(&doorbell, "a");
    doorbell.ring(&[queue("a")]);
    assert_eq!(ear.rings(), Rings { due: 1, look: 0 });
}
