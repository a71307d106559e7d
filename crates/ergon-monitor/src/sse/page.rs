//! The stream of a page.

use axum::Router;
use ergon_core::store::{Cursor, Gap};
use tokio::sync::watch;

use super::{
    client::{Client, Turn, mode},
    feed::{Following, Frame, Key},
    hub::{News, followed},
    topic::Wanted,
    wire,
};

/// Reads of the journal, to find out whether something happened that the page shows; who resumes from
/// farther back is sent the page.
const READS_MAX: usize = 8;

/// Events of one read.
const EVENTS_MAX: usize = 1_000;

/// Which content whoever follows has.
enum Has {
    /// Unknown: whatever comes is new.
    Nothing,
    /// That of the next reading.
    Next,
    /// This one.
    Revision(String),
}

/// Where a stream goes on.
enum Start {
    /// Nothing happened that the page shows, up to there.
    Same(Cursor),
    /// Something happened.
    Changed,
    /// It cannot be told: the end of the journal, and why.
    Unknown(Option<Cursor>, &'static str),
    /// The store does not say.
    Silent,
}

/// Follows a page.
pub(super) async fn run(mut client: Client, after: Option<String>, wanted: Wanted, pages: Router) {
    let app = client.app().clone();
    let (key, topic) = Key::of(&wanted, &client.context.visit, &client.context.principal);
    // From here on no change is missed; only then may be looked at what happened before.
    let mut feed = app.live.follow(&app, key, topic, &pages);
    let mut news = app.live.news();
    let follows = followed(&mut news, app.config.store_timeout).await;
    let start = match &after {
        Some(after) if follows => Some(start(&client, &feed, after).await),
        Some(_) => Some(Start::Silent),
        None => None,
    };
    let known = wanted.since.map(Has::Revision);
    let (has, opening) = match start {
        Some(Start::Same(cursor)) => {
            let hello = client.hello(Some(cursor.as_str()), follows, true);
            let last = || feed.last().map(|frame| Has::Revision(frame.revision.clone()));
            (known.or_else(last).unwrap_or(Has::Next), vec![hello])
        }
        Some(Start::Changed) => {
            feed.mark();
            (known.unwrap_or(Has::Nothing), vec![client.hello(None, follows, true)])
        }
        Some(Start::Unknown(cursor, reason)) => {
            feed.mark();
            let hello = client.hello(None, follows, false);
            let reset = wire::because("reset", cursor.as_ref().map(Cursor::as_str), reason);
            (known.unwrap_or(Has::Nothing), vec![hello, reset])
        }
        Some(Start::Silent) | None => {
            feed.mark();
            (known.unwrap_or(Has::Nothing), vec![client.hello(None, follows, false)])
        }
    };
    for bytes in opening {
        if !client.send(bytes).await {
            return;
        }
    }
    follow(client, feed, news, has, follows).await;
}

/// Sends what is new, until the end.
async fn follow(
    mut client: Client,
    mut feed: Following,
    mut news: watch::Receiver<News>,
    mut has: Has,
    mut follows: bool,
) {
    loop {
        let bytes = tokio::select! {
            biased;
            turn = client.turn() => match turn {
                Turn::Gone => return,
                Turn::Bye(reason) => return client.bye(reason).await,
                Turn::Check => {
                    if client.is_welcome().await {
                        continue;
                    }
                    return client.bye("auth").await;
                }
                Turn::Beat => Some(client.heartbeat(settled(&feed, &news).as_deref())),
            },
            Ok(()) = news.changed() => {
                let now = news.borrow_and_update().follows;
                let changed = now != follows;
                follows = now;
                changed.then(|| wire::json("mode", None, &Mode { mode: mode(now) }))
            }
            frame = feed.next() => match frame {
                Some(frame) => fresh(&mut has, &frame).then(|| frame.bytes.clone()),
                // The feed ended, and so does the stream: its client comes back.
                None => return client.bye("age").await,
            },
        };
        if let Some(bytes) = bytes
            && !client.send(bytes).await
        {
            return;
        }
    }
}

#[derive(serde::Serialize)]
struct Mode {
    mode: &'static str,
}

/// Says whether a reading shows something that whoever follows does not have yet.
fn fresh(has: &mut Has, frame: &Frame) -> bool {
    let is_fresh = match has {
        Has::Nothing => true,
        Has::Next => false,
        Has::Revision(revision) => *revision != frame.revision,
    };
    *has = Has::Revision(frame.revision.clone());
    is_fresh
}

/// The place up to which all is in what was sent, if that is known.
fn settled(feed: &Following, news: &watch::Receiver<News>) -> Option<String> {
    // First the place: what was told up to there has marked the feed before.
    let News { cursor, follows } = news.borrow().clone();
    cursor.filter(|_| follows && feed.is_settled()).map(|cursor| cursor.as_str().to_owned())
}

/// Finds out what happened behind a cursor.
async fn start(client: &Client, feed: &Following, after: &str) -> Start {
    let app = client.app();
    let foreign = |cursor| Start::Unknown(cursor, Gap::Foreign.as_str());
    let Ok(mut cursor) = Cursor::new(after) else {
        let latest = app.reads.read("latest", app.manager.store().latest()).await;
        return foreign(latest.ok());
    };
    for _read in 0..READS_MAX {
        // Most come from a page that was read a moment ago.
        if app.live.is_at(&cursor) {
            return Start::Same(cursor);
        }
        let call = app.manager.store().changes(&cursor, EVENTS_MAX);
        let Ok(changes) = app.reads.read("changes", call).await else { return Start::Silent };
        if let Some(gap) = changes.gap {
            let latest = app.reads.read("latest", app.manager.store().latest()).await;
            return Start::Unknown(latest.ok(), gap.as_str());
        }
        if changes.events.iter().any(|recorded| feed.concerns(&recorded.event)) {
            return Start::Changed;
        }
        cursor = changes.cursor;
        if !changes.more {
            return Start::Same(cursor);
        }
    }
    Start::Changed
}
