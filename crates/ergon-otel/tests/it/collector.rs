//! A collector as small as can be: takes OTLP over HTTP, and keeps what it was sent.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
    trace::v1::ExportTraceServiceRequest,
};
use prost::Message as _;

/// What was received.
#[derive(Debug, Default)]
pub(crate) struct Received {
    pub(crate) traces: Vec<ExportTraceServiceRequest>,
    pub(crate) metrics: Vec<ExportMetricsServiceRequest>,
    pub(crate) logs: Vec<ExportLogsServiceRequest>,
}

/// How a collector answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Takes what it gets.
    Polite,
    /// Takes connections, and never answers.
    Silent,
}

/// A listener in a thread of its own, until it is dropped.
#[derive(Debug)]
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Received>>,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    pub(crate) fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::new(Mutex::new(Received::default()));
        let taking = Arc::clone(&received);
        let thread = thread::spawn(move || {
            // Those that are never answered stay open.
            let mut kept = Vec::new();
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                if manner == Manner::Silent {
                    kept.push(stream.try_clone().unwrap());
                }
                match take(stream, manner, &taking) {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(error) => unreachable!("{error}"),
                }
            }
        });
        Self { address, received, thread: Some(thread) }
    }

    /// Ends it, and answers what it was sent.
    pub(crate) fn end(mut self) -> Received {
        self.stop();
        std::mem::take(&mut self.received.lock().unwrap())
    }

    fn stop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // An empty request ends it.
            let stream = TcpStream::connect(self.address).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            thread.join().unwrap();
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Takes one request of a connection; answers whether it goes on.
fn take(stream: TcpStream, manner: Manner, received: &Mutex<Received>) -> io::Result<bool> {
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    if reader.read_line(&mut request)? == 0 {
        return Ok(false);
    }
    if manner == Manner::Silent {
        return Ok(true);
    }
    let mut len = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        match header.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                len = value.parse().map_err(io::Error::other)?;
            }
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; len];
    reader.read_exact(&mut body)?;
    let mut received = received.lock().unwrap();
    let path = request.split(' ').nth(1).unwrap_or_default();
    let body = &*body;
    match path {
        "/v1/traces" => received.traces.push(ExportTraceServiceRequest::decode(body)?),
        "/v1/metrics" => received.metrics.push(ExportMetricsServiceRequest::decode(body)?),
        "/v1/logs" => received.logs.push(ExportLogsServiceRequest::decode(body)?),
        other => return Err(io::Error::other(format!("nobody asks for {other:?}"))),
    }
    reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
    Ok(true)
}

/// A blocking client of one request a connection, for exporters in threads of their own.
#[derive(Debug)]
pub(crate) struct Blocking {
    pub(crate) timeout: Duration,
}

#[async_trait]
impl HttpClient for Blocking {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let uri = request.uri();
        let authority = uri.authority().ok_or("no authority")?.as_str();
        let address: SocketAddr = authority.parse()?;
        let mut stream = TcpStream::connect_timeout(&address, self.timeout)?;
        stream.set_read_timeout(Some(self.timeout))?;
        let (path, len) = (uri.path(), request.body().len());
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nhost: {authority}\r\ncontent-length: {len}\r\n\r\n"
        )?;
        stream.write_all(request.body())?;
        let mut status = String::new();
        BufReader::new(stream).read_line(&mut status)?;
        let code: u16 = status.split(' ').nth(1).ok_or("no status")?.parse()?;
        Ok(Response::builder().status(code).body(Bytes::new())?)
    }
}
