//! A stream that watches the time of its other end: a head has to come soon, silence must not last,
//! and what is sent has to be taken.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) head: Duration,
    pub(super) idle: Duration,
    pub(super) write: Duration,
}

/// Whether requests of a connection are under way: then it is not the turn of the other end.
#[derive(Clone, Debug, Default)]
pub(super) struct Whereabouts(Arc<AtomicUsize>);

impl Whereabouts {
    /// A request begins.
    pub(super) fn enter(&self) -> Busy {
        self.0.fetch_add(1, Ordering::SeqCst);
        Busy(self.clone())
    }

    fn is_busy(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 0
    }
}

/// A request is under way as long as this lives.
#[derive(Debug)]
pub(super) struct Busy(Whereabouts);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The body of a response, with which its request ends.
#[derive(Debug)]
pub(super) struct Guarded {
    body: Body,
    _busy: Busy,
}

impl Guarded {
    pub(super) const fn new(body: Body, busy: Busy) -> Self {
        Self { body, _busy: busy }
    }
}

impl hyper::body::Body for Guarded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What the other end is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// For nothing: a request is under way.
    Nothing,
    /// For the first byte of a request.
    Idle,
    /// For the rest of a head.
    Head,
}

/// The stream of a connection.
#[derive(Debug)]
pub(super) struct Watchful {
    stream: TcpStream,
    times: Times,
    whereabouts: Whereabouts,
    wait: Wait,
    reads_until: Pin<Box<Sleep>>,
    writes_until: Option<Pin<Box<Sleep>>>,
}

impl Watchful {
    pub(super) fn new(stream: TcpStream, times: Times, whereabouts: Whereabouts) -> Self {
        // Whoever connects says at once what for.
        let reads_until = Box::pin(sleep_until(Instant::now() + times.head));
        Self { stream, times, whereabouts, wait: Wait::Head, reads_until, writes_until: None }
    }

    fn wait_for(&mut self, wait: Wait, within: Duration) {
        self.wait = wait;
        self.reads_until.as_mut().reset(Instant::now() + within);
    }
}

fn too_slow(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

impl AsyncRead for Watchful {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        if this.whereabouts.is_busy() {
            this.wait = Wait::Nothing;
            return read;
        }
        if read.is_ready() {
            if buffer.filled().len() > before && this.wait != Wait::Head {
                this.wait_for(Wait::Head, this.times.head);
            }
            return read;
        }
        if this.wait == Wait::Nothing {
            this.wait_for(Wait::Idle, this.times.idle);
        }
        match this.reads_until.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(too_slow("nothing more came in time"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Watchful {
    /// Watches over what is sent: what cannot be for too long breaks the connection.
    fn watch<T>(
        &mut self,
        context: &mut Context<'_>,
        sent: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if sent.is_ready() {
            self.writes_until = None;
            return sent;
        }
        let within = self.times.write;
        let until =
            self.writes_until.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + within)));
        match until.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(too_slow("nothing was taken in time"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncWrite for Watchful {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let sent = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.watch(context, sent)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let sent = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        this.watch(context, sent)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let sent = Pin::new(&mut this.stream).poll_flush(context);
        this.watch(context, sent)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let sent = Pin::new(&mut this.stream).poll_shutdown(context);
        this.watch(context, sent)
    }
}
