//! The stream of every event, for programs.

use std::time::Duration;

use ergon_core::{
    event::EventKindSet,
    store::{Changes, Cursor, Gap, Recorded},
};
use serde::Serialize;
use tokio::time::sleep;

use super::{
    client::{Client, Turn},
    event::EventView,
    hub::followed,
    wire,
};

/// Events of one read: about as much as is sent in one go.
const READ_MAX: usize = 100;

/// When a read that failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// A program that follows the journal.
struct Reader {
    client: Client,
    kinds: EventKindSet,
    /// All before was sent, or is of no interest.
    place: Cursor,
    /// The place that the program knows.
    told: Cursor,
    /// The gap behind which nothing was read yet: it was told.
    open: Option<Gap>,
    /// The store did not answer: it is asked again soon.
    has_failed: bool,
}

/// Tells a program what happened behind a cursor, or from now on.
pub(super) async fn run(mut client: Client, after: Option<String>, kinds: EventKindSet) {
    let app = client.app().clone();
    let mut news = app.live.news();
    // From when it follows, everything is recorded.
    let follows = followed(&mut news, app.config.store_timeout).await;
    let known = after.as_deref().and_then(|after| Cursor::new(after).ok());
    let is_malformed = after.is_some() && known.is_none();
    let place = match known {
        Some(place) => Ok(place),
        None => app.reads.read("latest", app.manager.store().latest()).await,
    };
    let Ok(place) = place else {
        // The program asks again, and loses nothing.
        return client.bye("store").await;
    };
    let resumed = after.is_some() && !is_malformed;
    let hello = client.hello(Some(place.as_str()), follows, resumed);
    if !client.send(hello).await {
        return;
    }
    let told = place.clone();
    let mut reader = Reader { client, kinds, place, told, open: None, has_failed: false };
    if is_malformed && !reader.gap(Gap::Foreign).await {
        return;
    }
    loop {
        let Some(more) = reader.read().await else { return };
        if more {
            // Whoever reads much must not miss its end.
            let turn = tokio::select! {
                biased;
                turn = reader.client.turn() => turn,
                () = std::future::ready(()) => continue,
            };
            match reader.answer(turn).await {
                Some(next) => reader = next,
                None => return,
            }
            continue;
        }
        tokio::select! {
            biased;
            turn = reader.client.turn() => match reader.answer(turn).await {
                Some(next) => reader = next,
                None => return,
            },
            Ok(()) = news.changed() => {}
            () = sleep(AGAIN), if reader.has_failed => {}
        }
    }
}

#[derive(Serialize)]
struct Missing<'c> {
    reason: &'static str,
    from: &'c str,
}

impl Reader {
    /// Does what its turn is; `None` when the stream has ended.
    async fn answer(mut self, turn: Turn) -> Option<Self> {
        match turn {
            Turn::Gone => return None,
            Turn::Bye(reason) => {
                self.client.bye(reason).await;
                return None;
            }
            Turn::Check => {
                if !self.client.is_welcome().await {
                    self.client.bye("auth").await;
                    return None;
                }
            }
            Turn::Beat => {
                let beat = self.client.heartbeat(Some(self.place.as_str()));
                self.told = self.place.clone();
                if !self.client.send(beat).await {
                    return None;
                }
            }
        }
        Some(self)
    }

    /// Sends what happened next; says whether there is more, `None` when the stream has ended.
    async fn read(&mut self) -> Option<bool> {
        let app = self.client.app().clone();
        let call = app.manager.store().changes(&self.place, READ_MAX);
        let read = app.reads.read("changes", call).await;
        self.has_failed = read.is_err();
        let Ok(changes) = read else { return Some(false) };
        let Changes { gap, events, cursor, more } = changes;
        if gap.is_some() && app.streams.is_cancelled() {
            // The monitor itself has just stopped to watch: whoever resumes is told what is missing.
            return Some(false);
        }
        if let Some(gap) = gap.filter(|gap| self.open != Some(*gap))
            && !self.gap(gap).await
        {
            return None;
        }
        self.open = if events.is_empty() { gap.or(self.open) } else { None };
        self.place = cursor;
        let wanted = events.iter().filter(|recorded| self.kinds.contains(recorded.event.kind()));
        let wanted: Vec<&Recorded> = wanted.collect();
        let is_sent = if wanted.is_empty() {
            // A place costs little, but not nothing: while there is more, a later one will do.
            more || self.told == self.place || events.is_empty() || self.skip().await
        } else {
            self.send(&wanted).await
        };
        is_sent.then_some(more)
    }

    async fn gap(&mut self, gap: Gap) -> bool {
        let missing = Missing { reason: gap.as_str(), from: self.told.as_str() };
        let bytes = wire::json("gap", None, &missing);
        self.client.send(bytes).await
    }

    async fn skip(&mut self) -> bool {
        self.told = self.place.clone();
        let bytes = wire::place(self.place.as_str());
        self.client.send(bytes).await
    }

    /// Sends events, the last of them with the place behind them all.
    async fn send(&mut self, events: &[&Recorded]) -> bool {
        let mut text = String::new();
        let last = events.len().saturating_sub(1);
        for (index, recorded) in events.iter().enumerate() {
            let id = (index == last).then_some(self.place.as_str());
            let view = EventView::of(recorded);
            wire::write(&mut text, view.kind, id, &wire::to_json(&view));
        }
        self.told = self.place.clone();
        self.client.send(text.into()).await
    }
}
