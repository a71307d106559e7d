//! How streams end, and who gets one: caps, permissions, shutdowns, slow clients, a store that fails.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use ergon_core::State;
use ergon_monitor::{Auth, Authenticate, Denial, Principal, Role};
use ergon_testing::Operation;
use http::request::Parts;
use tokio::net::TcpStream;

use crate::{
    rig::Rig,
    sse::live,
    stream::{PATIENCE, Stream, serve},
};

const SECOND: Duration = Duration::from_secs(1);

/// Lets everybody in under the name they say, with the rights that it is told.
#[derive(Debug, Default)]
struct Door(AtomicU8);

impl Door {
    const CLOSED: u8 = 1;
    const VIEWER: u8 = 2;
    const SLOW: u8 = 3;
}

#[async_trait]
impl Authenticate for Door {
    async fn authenticate(&self, request: &Parts, _: Option<IpAddr>) -> Result<Principal, Denial> {
        let name = request.headers.get("x-name").map_or("ana", |name| name.to_str().unwrap());
        let role = match self.0.load(Ordering::SeqCst) {
            Self::CLOSED => return Err(Denial::Unauthenticated { challenge: None }),
            Self::VIEWER => Role::Viewer,
            Self::SLOW => std::future::pending().await,
            _ if name == "vic" => Role::Viewer,
            _ => Role::Admin,
        };
        Ok(Principal::new(name, role))
    }
}

fn guarded(change: impl FnOnce(&mut ergon_monitor::MonitorConfig)) -> (Rig, Arc<Door>) {
    let door = Arc::new(Door::default());
    let mut config = live();
    config.auth = Auth::Custom(Arc::clone(&door) as Arc<dyn Authenticate>);
    change(&mut config);
    (Rig::with(config), door)
}

#[tokio::test(start_paused = true)]
async fn one_too_many_is_told_to_poll() {
    let (rig, _door) = guarded(|config| {
        config.sse_clients_max = 3;
        config.sse_clients_each_max = 2;
    });
    let ask = |name| {
        let rig = &rig;
        async move { rig.follow_with("view=overview", &[("x-name", name)]).await }
    };
    let mut first = ask("ana").await;
    let _second = ask("ana").await;
    first.want("hello").await;
    let check = |mut stream: Stream, reason: &'static str| async move {
        assert_eq!(
            (stream.status, &stream.headers["content-type"]),
            (200, &"text/event-stream".parse().unwrap())
        );
        let told = stream.want("fallback").await;
        assert_eq!((told.retry, told.json()["reason"].as_str()), (Some(30_000), Some(reason)));
        assert_eq!(stream.next().await, None);
    };
    check(ask("ana").await, "too many of yours").await;
    let _third = ask("ben").await;
    check(ask("cleo").await, "full").await;
    // A place becomes free when its stream has gone.
    drop(first);
    tokio::time::sleep(SECOND).await;
    ask("ana").await.want("hello").await;
}

#[tokio::test(start_paused = true)]
async fn who_may_not_come_in_any_more_is_sent_away() {
    for (now, expected) in
        [(Door::CLOSED, true), (Door::VIEWER, true), (Door::SLOW, true), (0, false)]
    {
        let (rig, door) = guarded(|_| {});
        let mut stream = rig.follow("view=overview").await;
        stream.want("hello").await;
        door.0.store(now, Ordering::SeqCst);
        let got = stream.within(SECOND * 70).await;
        let bye = got.iter().find(|got| got.name == "bye");
        assert_eq!(bye.is_some(), expected, "{now} {got:?}");
        if let Some(bye) = bye {
            assert_eq!(bye.json()["reason"], "auth");
            assert_eq!(stream.next().await, None);
        }
    }
    let (rig, door) = guarded(|_| {});
    door.0.store(Door::CLOSED, Ordering::SeqCst);
    assert_eq!(rig.follow("view=overview").await.status, 401);
    let forged = rig.follow_with("view=overview", &[("host", "evil.example")]).await;
    assert_eq!(forged.status, 421);
}

#[tokio::test(start_paused = true)]
async fn what_is_shared_is_nobodys_and_shows_no_more_than_each_may_see() {
    let (rig, _door) = guarded(|_| {});
    rig.task().await;
    let mut pages = Vec::new();
    for name in ["ana", "ben", "vic"] {
        let mut stream = rig.follow_with("view=tasks", &[("x-name", name)]).await;
        let token = stream.want("hello").await.json()["token"].as_str().unwrap().to_owned();
        let page = stream.want("main").await;
        assert!(!page.data.contains(&token) && !page.data.contains(name), "{}", page.data);
        pages.push((page.data, token));
    }
    assert_eq!(pages[0].0, pages[1].0);
    assert_ne!(pages[0].1, pages[1].1);
    assert!(pages[0].0.contains("&quot;ada&quot;") && !pages[2].0.contains("&quot;ada&quot;"));
    assert!(
        pages[0].0.contains("name=\"_token\" value=\"\"")
            && !pages[2].0.contains("value=\"retry\"")
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_does_not_last_for_ever() {
    let mut config = live();
    config.sse_age_max = SECOND * 100;
    let rig = Rig::with(config);
    let begun = tokio::time::Instant::now();
    let mut stream = rig.follow("view=overview").await;
    let bye = stream.find("bye").await;
    assert_eq!(bye.json()["reason"], "age");
    assert!(bye.retry.is_some_and(|retry| (1_000..=3_000).contains(&retry)));
    assert!((80..=121).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    assert_eq!(stream.next().await, None);
}

#[tokio::test]
async fn a_shutdown_ends_streams_before_it_waits() {
    let rig = Rig::with(live());
    let served = serve(&rig, "127.0.0.1:0").await;
    let mut stream = Stream::connect(served.address, "/monitor/events?view=overview").await;
    let mut program = Stream::connect(served.address, "/monitor/api/v1/events").await;
    stream.want("hello").await;
    stream.want("main").await;
    program.want("hello").await;
    let begun = Instant::now();
    served.stop.send(()).unwrap();
    for stream in [&mut stream, &mut program] {
        let bye = stream.want("bye").await;
        assert_eq!(bye.json()["reason"], "shutdown");
        assert!(bye.retry.is_some_and(|retry| retry >= 1_000));
        assert_eq!(stream.next().await, None);
    }
    served.ended.await.unwrap().unwrap();
    assert!(begun.elapsed() < SECOND * 5, "{:?}", begun.elapsed());
    assert_eq!(rig.faulty.calls(Operation::Unwatch), 1);
    // Whoever embeds the router may ask a little longer.
    let mut late = rig.follow("view=overview").await;
    assert_eq!(late.want("fallback").await.json()["reason"], "shutdown");
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_off() {
    let mut config = live();
    config.write_timeout = SECOND;
    config.sse_interval = SECOND / 4;
    config.sse_clients_max = 1;
    config.page_rows = 200;
    let rig = Rig::with(config);
    let long = "x".repeat(100);
    for _ in 0..200 {
        rig.in_state_with(State::Failed, &long, |_| {}).await;
    }
    let served = serve(&rig, "127.0.0.1:0").await;
    let deaf = {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4 << 10).unwrap();
        socket.connect(served.address).await.unwrap()
    };
    ask(&deaf, "/monitor/events?view=tasks").await;
    // While it is there, there is no room.
    let until = Instant::now() + PATIENCE;
    let mut was_full = false;
    loop {
        let mut other = Stream::connect(served.address, "/monitor/events?view=tasks").await;
        let first = other.next().await.unwrap();
        if first.name == "hello" && was_full {
            break;
        }
        was_full |= first.name == "fallback";
        assert!(Instant::now() < until, "the deaf client is still there");
        // Something new for it to be sent.
        rig.in_state_with(State::Failed, &long, |_| {}).await;
    }
    drop(deaf);
}

async fn ask(socket: &TcpStream, path: &str) {
    let asked = format!("GET {path} HTTP/1.0\r\nhost: localhost\r\n\r\n");
    socket.writable().await.unwrap();
    assert_eq!(socket.try_write(asked.as_bytes()).unwrap(), asked.len());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_is_told_of_and_so_is_its_return() {
    let rig = Rig::with(live());
    let mut stream = rig.follow("view=queues").await;
    stream.want("hello").await;
    stream.want("main").await;
    // The journal alone: the page is read all the same, now and then.
    rig.faulty.fail_before(Operation::Changes, usize::MAX);
    rig.task().await;
    assert_eq!(stream.want("mode").await.json()["mode"], "polling");
    stream.want("main").await.has("default");
    rig.faulty.heal();
    assert_eq!(stream.find("mode").await.json()["mode"], "live");
    // The page: what was read before is shown as what it is.
    rig.faulty.fail_before(Operation::Queues, usize::MAX);
    rig.task().await;
    stream.find("main").await.has("Stale: ").has("reference");
    rig.faulty.heal();
    let main = stream.find("main").await;
    assert!(!main.data.contains("Stale: "));
    main.has("title=\"2\"");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_is_waited_for() {
    let rig = Rig::with(live());
    for operation in [Operation::Watch, Operation::Queues, Operation::Latest, Operation::Changes] {
        rig.faulty.fail_before(operation, usize::MAX);
    }
    rig.task().await;
    let mut stream = rig.follow("view=queues&after=m1.1").await;
    let hello = stream.want("hello").await.json();
    assert_eq!((&hello["mode"], &hello["resumed"]), (&"polling".into(), &false.into()));
    stream.find("stale").await.has("reference");
    rig.faulty.heal();
    stream.find("main").await.has("default");
    let id = rig.task().await;
    let mut task = rig.follow(&format!("view=task:{id}")).await;
    assert_eq!(task.want("hello").await.json()["mode"], "live");
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_is_told_and_what_comes_back_too() {
    let rig = Rig::with(live());
    let id = rig.task().await;
    let mut stream = rig.follow(&format!("view=task:{id}")).await;
    stream.want("hello").await;
    stream.want("main").await;
    rig.form(&format!("/monitor/tasks/{id}/delete"), "confirm=yes").await.is(303);
    assert_eq!(stream.want("gone").await.json()["status"], 404);
}
