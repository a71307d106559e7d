//! The near end of a stream: what is sent to one browser or program, and when that ends.

use std::{
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context as Waker, Poll},
    time::Duration,
};

use bytes::Bytes;
use ergon_core::{SystemRng, rng::duration_up_to};
use http::request::Parts;
use hyper::body::{Body, Frame};
use serde::Serialize;
use tokio::{
    sync::mpsc,
    time::{Instant, Interval, MissedTickBehavior, interval_at, sleep, sleep_until, timeout},
};

use super::{hub::Place, wire};
use crate::{shared::App, visit::Context};

/// What is handed over at once: with two of these under way, and as much again with the connection, a
/// client that takes nothing holds at most 64 KiB.
const CHUNK_BYTES: usize = 16 << 10;

/// Chunks under way to the connection.
const CHUNKS: usize = 2;

/// How long the last words of a stream may take.
const BYE_WITHIN: Duration = Duration::from_secs(1);

/// Something that a stream has to do beside what it is for.
pub(super) enum Turn {
    /// To say that it lives.
    Beat,
    /// To ask whether whoever follows may still come in.
    Check,
    /// To end, for this reason.
    Bye(&'static str),
    /// To end: nobody is there any more.
    Gone,
}

/// Whoever follows, as its stream sees it.
pub(super) struct Client {
    pub(super) context: Context,
    parts: Parts,
    sender: mpsc::Sender<Bytes>,
    is_broken: Arc<AtomicBool>,
    beat: Interval,
    check: Interval,
    ends_at: Instant,
    _place: Place,
}

impl Client {
    /// A client, and the body that it reads.
    pub(super) fn new(context: Context, parts: Parts, place: Place) -> (Self, Outgoing) {
        let (sender, receiver) = mpsc::channel(CHUNKS);
        let is_broken = Arc::new(AtomicBool::new(false));
        let body = Outgoing { receiver, is_broken: Arc::clone(&is_broken) };
        let config = &context.app.config;
        let now = Instant::now();
        let every = |period: Duration| {
            let mut ticks = interval_at(now + period, period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        };
        // Streams that began at once do not end at once.
        let age = config.sse_age_max.mul_f64(0.8)
            + duration_up_to(&SystemRng, config.sse_age_max.mul_f64(0.4));
        let (beat, check) = (every(config.sse_heartbeat), every(config.sse_check_interval));
        let ends_at = now + age;
        (Self { context, parts, sender, is_broken, beat, check, ends_at, _place: place }, body)
    }

    pub(super) fn app(&self) -> &App {
        &self.context.app
    }

    /// Waits for the next thing to be done.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub(super) async fn turn(&mut self) -> Turn {
        let Self { context, sender, beat, check, ends_at, .. } = self;
        tokio::select! {
            biased;
            () = context.app.streams.cancelled() => Turn::Bye("shutdown"),
            () = sender.closed() => Turn::Gone,
            () = sleep_until(*ends_at) => Turn::Bye("age"),
            _ = check.tick() => Turn::Check,
            _ = beat.tick() => Turn::Beat,
        }
    }

    /// Says whether whoever follows may still come in, with the same rights.
    pub(super) async fn is_welcome(&self) -> bool {
        let Context { app, visit, principal } = &self.context;
        app.gate.still(&self.parts, visit, principal).await
    }

    /// Sends; says whether it was taken in time, so that the stream may go on.
    pub(super) async fn send(&mut self, bytes: Bytes) -> bool {
        let streams = self.context.app.streams.clone();
        let within = self.context.app.config.write_timeout;
        let hurried = async {
            streams.cancelled().await;
            sleep(BYE_WITHIN).await;
        };
        let mut hurried = pin!(hurried);
        let mut rest = bytes;
        while !rest.is_empty() {
            let chunk = rest.split_to(std::cmp::min(rest.len(), CHUNK_BYTES));
            let sent = tokio::select! {
                biased;
                sent = timeout(within, self.sender.send(chunk)) => sent.ok(),
                () = &mut hurried => None,
            };
            match sent {
                Some(Ok(())) => {}
                Some(Err(_gone)) => return false,
                None => {
                    // Half an event is none: the connection breaks off.
                    self.is_broken.store(true, Ordering::Release);
                    return false;
                }
            }
        }
        // What was sent shows as well that the stream lives.
        self.beat.reset();
        true
    }

    /// Sends the last words.
    pub(super) async fn bye(self, reason: &str) {
        // Whoever does not hear them notices the end.
        let _ = timeout(BYE_WITHIN, self.sender.send(wire::bye(reason))).await;
    }

    /// What a stream begins with.
    pub(super) fn hello(&self, cursor: Option<&str>, follows: bool, resumed: bool) -> Bytes {
        let Context { app, principal, .. } = &self.context;
        let now = app.clock.now();
        let hello = Hello {
            cursor,
            server_ms: now.as_millisecond(),
            hb_s: app.config.sse_heartbeat.as_secs_f64(),
            mode: mode(follows),
            resumed,
            token: app.forms.token(principal, now),
        };
        wire::json("hello", cursor, &hello)
    }

    /// What says that the stream lives.
    pub(super) fn heartbeat(&self, cursor: Option<&str>) -> Bytes {
        let server_ms = self.context.app.clock.now().as_millisecond();
        wire::json("hb", cursor, &Beat { server_ms })
    }
}

#[derive(Serialize)]
struct Hello<'c> {
    cursor: Option<&'c str>,
    server_ms: i64,
    hb_s: f64,
    mode: &'static str,
    resumed: bool,
    token: String,
}

#[derive(Serialize)]
struct Beat {
    server_ms: i64,
}

/// How a page is kept up to date.
pub(super) const fn mode(follows: bool) -> &'static str {
    if follows { "live" } else { "polling" }
}

/// The far end of a stream: the body of a response.
#[derive(Debug)]
pub(super) struct Outgoing {
    receiver: mpsc::Receiver<Bytes>,
    is_broken: Arc<AtomicBool>,
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        waker: &mut Waker<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let this = self.get_mut();
        if this.is_broken.load(Ordering::Acquire) {
            let error =
                std::io::Error::new(std::io::ErrorKind::TimedOut, "nothing was taken in time");
            return Poll::Ready(Some(Err(error)));
        }
        this.receiver.poll_recv(waker).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}
