//! The monitor on a real socket: slow, large and many connections, and how it stops.

use std::time::{Duration, Instant};

use ergon_monitor::{Auth, Monitor, MonitorConfig, MonitorError};
use ergon_testing::MemoryStore;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};

/// How long a connection is waited for that should end.
const PATIENCE: Duration = Duration::from_secs(30);

struct Served {
    address: std::net::SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), MonitorError>>,
}

async fn serve(change: impl FnOnce(&mut MonitorConfig)) -> Served {
    let mut config = MonitorConfig::new(Auth::LoopbackOnly);
    change(&mut config);
    let monitor = Monitor::builder(MemoryStore::new(), config).build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async move {
        // A dropped sender means the same.
        let _ = stopped.await;
    };
    let ended = tokio_util::task::TaskTracker::new()
        .spawn(async move { monitor.serve_on(listener, shutdown).await });
    Served { address, stop, ended }
}

impl Served {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends this over a new connection, and reads until the other end closes it.
    async fn exchange(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        // The other end may close before it has read everything.
        let _ = stream.write_all(request.as_bytes()).await;
        rest(&mut stream).await
    }
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A connection that is reset has ended too; one that does not end is told by what is missing.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
}

#[tokio::test]
async fn it_answers_and_stops() {
    let served = serve(|_| {}).await;
    let page = served.exchange(&get("/monitor/")).await;
    assert!(
        page.starts_with("HTTP/1.1 200 OK") && page.contains("There are no tasks yet"),
        "{page}"
    );
    assert!(served.exchange(&get("/")).await.contains("location: /monitor/"));
    let elsewhere = served.exchange(&get("/other")).await;
    assert!(elsewhere.starts_with("HTTP/1.1 404") && elsewhere.contains("content-security-policy"));
    // A connection that is open and silent does not hold up the end.
    let silent = served.connect().await;
    served.stop.send(()).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(11), served.ended).await;
    ended.unwrap().unwrap().unwrap();
    drop(silent);
    assert!(TcpStream::connect(served.address).await.is_err());
}

#[tokio::test]
async fn a_slow_head_is_cut_off_and_so_is_silence() {
    let served = serve(|config| {
        config.header_timeout = Duration::from_secs(1);
        config.idle_timeout = Duration::from_secs(5);
    })
    .await;
    let begun = Instant::now();
    let slow = async {
        let mut stream = served.connect().await;
        stream.write_all(b"GET /monitor/ HTTP/1.1\r\nhost: local").await.unwrap();
        rest(&mut stream).await
    };
    let mute = async {
        let mut stream = served.connect().await;
        rest(&mut stream).await
    };
    let (slow, mute) = tokio::join!(slow, mute);
    assert!(!slow.contains("200 OK") && mute.is_empty(), "{slow} {mute}");
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(4), "{took:?}");
    // After an answer a connection may be silent for longer, and is used again.
    let mut stream = served.connect().await;
    let ask = b"GET /monitor/healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    for _ in 0..2 {
        stream.write_all(ask).await.unwrap();
        let mut buffer = vec![0; 4_096];
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(String::from_utf8_lossy(&buffer[..read]).contains("200 OK"));
    }
    let begun = Instant::now();
    assert!(rest(&mut stream).await.is_empty());
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(4) && took < Duration::from_secs(8), "{took:?}");
}

#[tokio::test]
async fn a_huge_body_is_refused_before_it_is_sent() {
    let served = serve(|_| {}).await;
    let head = "POST /monitor/queues/default/pause HTTP/1.1\r\nhost: localhost\r\nsec-fetch-site: same-origin\r\n\
                content-type: application/json\r\nconnection: close\r\ncontent-length: 999999999\r\n\r\n";
    let answer = served.exchange(head).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let many =
        format!("GET /monitor/ HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "x: y\r\n".repeat(100));
    assert!(served.exchange(&many).await.starts_with("HTTP/1.1 431"));
    let long = format!(
        "GET /{} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        "x".repeat(40 << 10)
    );
    let answer = served.exchange(&long).await;
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    assert!(served.exchange(&get("/monitor/")).await.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn a_connection_too_many_is_told_so() {
    let served = serve(|config| config.connections_max = 2).await;
    let ask = b"GET /monitor/healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = served.connect().await;
        stream.write_all(ask).await.unwrap();
        let mut buffer = [0; 4_096];
        assert!(stream.read(&mut buffer).await.unwrap() > 0);
        open.push(stream);
    }
    let mut one_more = served.connect().await;
    assert!(rest(&mut one_more).await.contains("503 Service Unavailable"));
    drop(open);
    // Its place becomes free as soon as the other end is seen to be gone.
    let mut answer = String::new();
    for _ in 0..100 {
        answer = served.exchange(&get("/monitor/healthz")).await;
        if answer.contains("200 OK") {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert!(answer.contains("200 OK"), "{answer}");
}

#[tokio::test]
async fn a_forged_host_is_refused_on_the_wire_too() {
    let served = serve(|_| {}).await;
    let answer = served
        .exchange("GET /monitor/ HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 421"), "{answer}");
}
