//! A reader of streams: over a socket, or straight from the router.

use std::{net::SocketAddr, time::Duration};

use axum::{Router, body::BodyDataStream, extract::ConnectInfo};
use ergon_monitor::{Monitor, MonitorError};
use futures_util::StreamExt as _;
use http::{HeaderMap, Method};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};
use tower::ServiceExt as _;

use crate::rig::{LOCAL, Rig, request};

/// How long something is waited for that should come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// An event as it was received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) name: String,
    pub(crate) id: Option<String>,
    pub(crate) data: String,
    pub(crate) retry: Option<u64>,
}

impl Got {
    fn parse(text: &str) -> Self {
        let mut got = Self::default();
        let mut lines = Vec::new();
        for line in text.lines() {
            let (field, value) = line.split_once(": ").unwrap();
            match field {
                "event" => value.clone_into(&mut got.name),
                "id" => got.id = Some(value.to_owned()),
                "data" => lines.push(value),
                "retry" => got.retry = Some(value.parse().unwrap()),
                other => unreachable!("{other}"),
            }
        }
        got.data = lines.join("\n");
        got
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.data).unwrap()
    }

    #[track_caller]
    pub(crate) fn has(self, text: &str) -> Self {
        assert!(self.data.contains(text), "{text:?} is not in {}", self.data);
        self
    }
}

enum Source {
    Socket(TcpStream),
    Body(Box<BodyDataStream>),
}

/// One stream.
pub(crate) struct Stream {
    source: Source,
    buffer: Vec<u8>,
    pub(crate) headers: HeaderMap,
    pub(crate) status: u16,
}

impl Stream {
    /// Asks the router.
    pub(crate) async fn of(router: Router, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut asked = request(Method::GET, path, headers, "");
        asked.extensions_mut().insert(ConnectInfo(LOCAL.parse::<SocketAddr>().unwrap()));
        let (parts, body) = router.oneshot(asked).await.unwrap().into_parts();
        let source = Source::Body(Box::new(body.into_data_stream()));
        Self { source, buffer: Vec::new(), headers: parts.headers, status: parts.status.as_u16() }
    }

    /// Asks over a socket: in a version of HTTP that sends the body as it is.
    pub(crate) async fn connect(address: SocketAddr, path: &str) -> Self {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let asked = format!("GET {path} HTTP/1.0\r\nhost: localhost\r\n\r\n");
        socket.write_all(asked.as_bytes()).await.unwrap();
        let (source, headers) = (Source::Socket(socket), HeaderMap::new());
        let mut stream = Self { source, buffer: Vec::new(), headers, status: 0 };
        let head = stream.until(b"\r\n\r\n").await.unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        stream.status = status.parse().unwrap();
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            let name: http::HeaderName = name.parse().unwrap();
            stream.headers.insert(name, value.parse().unwrap());
        }
        stream
    }

    async fn more(&mut self) -> bool {
        match &mut self.source {
            Source::Socket(socket) => {
                let mut bytes = vec![0; 64 << 10];
                // A connection that is reset has ended too.
                let read = socket.read(&mut bytes).await.unwrap_or(0);
                self.buffer.extend_from_slice(&bytes[..read]);
                read > 0
            }
            Source::Body(body) => match body.next().await {
                Some(Ok(bytes)) => {
                    self.buffer.extend_from_slice(&bytes);
                    true
                }
                Some(Err(_)) | None => false,
            },
        }
    }

    async fn until(&mut self, mark: &[u8]) -> Option<String> {
        loop {
            let found = self.buffer.windows(mark.len()).position(|window| window == mark);
            if let Some(at) = found {
                let rest = self.buffer.split_off(at + mark.len());
                let text = std::mem::replace(&mut self.buffer, rest);
                return Some(String::from_utf8(text).unwrap().trim_end().to_owned());
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// The next event; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Got> {
        let text = timeout(PATIENCE, self.until(b"\n\n")).await.unwrap_or_default();
        text.map(|text| Got::parse(&text))
    }

    /// The next event, which has this name.
    #[track_caller]
    pub(crate) fn want<'s>(&'s mut self, name: &'s str) -> impl Future<Output = Got> + 's {
        let place = std::panic::Location::caller();
        async move {
            let got = self.next().await;
            let got = got.unwrap_or_else(|| unreachable!("no {name} at {place}"));
            assert_eq!(got.name, name, "at {place}: {got:?}");
            got
        }
    }

    /// The next event of this name, whatever comes before.
    pub(crate) async fn find(&mut self, name: &str) -> Got {
        loop {
            let got = self.next().await.unwrap_or_else(|| unreachable!("no {name}"));
            if got.name == name {
                return got;
            }
        }
    }

    /// What comes within this time.
    pub(crate) async fn within(&mut self, time: Duration) -> Vec<Got> {
        let mut got = Vec::new();
        let end = tokio::time::Instant::now() + time;
        while let Ok(Some(text)) = tokio::time::timeout_at(end, self.until(b"\n\n")).await {
            got.push(Got::parse(&text));
        }
        got
    }
}

impl Rig {
    /// A stream from the router.
    pub(crate) async fn follow(&self, query: &str) -> Stream {
        Stream::of(self.monitor.router(), &format!("/monitor/events?{query}"), &[]).await
    }

    pub(crate) async fn follow_with(&self, query: &str, headers: &[(&str, &str)]) -> Stream {
        Stream::of(self.monitor.router(), &format!("/monitor/events?{query}"), headers).await
    }
}

/// A monitor on a socket.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) stop: oneshot::Sender<()>,
    pub(crate) ended: JoinHandle<Result<(), MonitorError>>,
}

pub(crate) async fn serve(rig: &Rig, address: &str) -> Served {
    serve_one(&rig.monitor, address).await
}

pub(crate) async fn serve_one(monitor: &Monitor, address: &str) -> Served {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async move {
        // A dropped sender means the same.
        let _ = stopped.await;
    };
    let monitor = monitor.clone();
    let served = async move { monitor.serve_on(listener, shutdown).await };
    let ended = tokio_util::task::TaskTracker::new().spawn(served);
    Served { address, stop, ended }
}
