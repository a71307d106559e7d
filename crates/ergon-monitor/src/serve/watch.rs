//! A stream that watches the time of its other end: a head has to come soon, silence must not last,
//! and what is sent has to be taken.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::Notify,
    time::{Instant, Sleep, sleep_until},
};

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) head: Duration,
    pub(super) idle: Duration,
    pub(super) write: Duration,
}

/// Whose turn it is on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Ours: so many requests are under way.
    Ours(usize),
    /// The other end's, since then: the first byte of a request is to come.
    Idle(Instant),
    /// The other end's, since then: the rest of a head is to come.
    Head(Instant),
}

/// Follows whose turn it is.
#[derive(Clone, Debug)]
pub(super) struct Turns(Arc<(Mutex<Turn>, Notify)>);

impl Turns {
    /// Whoever connects says at once what for.
    pub(super) fn new() -> Self {
        Self(Arc::new((Mutex::new(Turn::Head(Instant::now())), Notify::new())))
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, change: impl FnOnce(Turn) -> Turn) {
        let mut turn = self.turn();
        let changed = change(*turn);
        if *turn != changed {
            *turn = changed;
            drop(turn);
            self.0.1.notify_one();
        }
    }

    /// A request begins.
    pub(super) fn enter(&self) -> Busy {
        self.set(|turn| match turn {
            Turn::Ours(requests) => Turn::Ours(requests + 1),
            Turn::Idle(_) | Turn::Head(_) => Turn::Ours(1),
        });
        Busy(self.clone())
    }

    /// Waits until the other end has had its turn for too long.
    pub(super) async fn exhausted(&self, times: Times) {
        loop {
            let turn = *self.turn();
            let until = match turn {
                Turn::Ours(_) => None,
                Turn::Idle(since) => Some(since + times.idle),
                Turn::Head(since) => Some(since + times.head),
            };
            let changed = self.0.1.notified();
            match until {
                None => changed.await,
                Some(until) => tokio::select! {
                    () = changed => {}
                    () = sleep_until(until) => return,
                },
            }
        }
    }
}

/// A request is under way as long as this lives.
#[derive(Debug)]
pub(super) struct Busy(Turns);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.set(|turn| match turn {
            Turn::Ours(requests) if requests > 1 => Turn::Ours(requests - 1),
            Turn::Ours(_) | Turn::Idle(_) | Turn::Head(_) => Turn::Idle(Instant::now()),
        });
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

/// The stream of a connection.
#[derive(Debug)]
pub(super) struct Watchful {
    stream: TcpStream,
    write: Duration,
    turns: Turns,
    writes_until: Option<Pin<Box<Sleep>>>,
}

impl Watchful {
    pub(super) const fn new(stream: TcpStream, times: Times, turns: Turns) -> Self {
        Self { stream, write: times.write, turns, writes_until: None }
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
        if buffer.filled().len() > before {
            this.turns.set(|turn| match turn {
                Turn::Idle(_) => Turn::Head(Instant::now()),
                Turn::Ours(_) | Turn::Head(_) => turn,
            });
        }
        read
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
        let within = self.write;
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
