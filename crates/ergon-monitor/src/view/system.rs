//! What the page of the system shows.

use serde::Serialize;
use utoipa::ToSchema;

use super::{Part, cursor, task::Entry};
use crate::{
    cache::Reading,
    error::Trouble,
    shared::Shared,
    value::{At, bytes, grouped, span},
};

/// The store behind the monitor, who watches it, and how the monitor works.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SystemView {
    /// The version of the monitor.
    pub(crate) version: &'static str,
    /// When the monitor started.
    pub(crate) started_at: At,
    /// What the store can do.
    pub(crate) store: Vec<Entry>,
    /// Who has events recorded.
    pub(crate) watchers: Part<Vec<WatcherRow>>,
    /// What was chosen about the monitor; nothing secret.
    pub(crate) settings: Vec<Entry>,
}

/// Somebody who has events recorded.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WatcherRow {
    /// Its name.
    pub(crate) name: String,
    /// When its lease ends; none for a durable one.
    pub(crate) until: Option<At>,
    /// Whether it keeps its place for its next start.
    pub(crate) keeps_place: bool,
}

impl SystemView {
    pub(crate) async fn read(shared: &Shared) -> Result<Reading<Self>, Trouble> {
        let cursor = cursor(shared).await;
        let read_at = shared.clock.now();
        let watchers = shared.reads.read("watchers", shared.manager.store().watchers()).await;
        let watchers = watchers.map(|watchers| {
            let rows = watchers.into_iter().map(|watcher| WatcherRow {
                name: watcher.name.to_string(),
                until: watcher.until.map(At),
                keeps_place: watcher.reached.is_some(),
            });
            rows.collect()
        });
        let view = Self {
            version: env!("CARGO_PKG_VERSION"),
            started_at: At(shared.started_at),
            store: store(shared),
            watchers: Part::of(watchers),
            settings: settings(shared),
        };
        Ok(Reading::new(view, cursor, read_at))
    }
}

fn entries<const N: usize>(pairs: [(&str, String); N]) -> Vec<Entry> {
    pairs.map(|(key, value)| Entry { key: key.to_owned(), value }).to_vec()
}

fn yes(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

fn size(value: usize) -> String {
    bytes(u64::try_from(value).unwrap_or(u64::MAX))
}

fn store(shared: &Shared) -> Vec<Entry> {
    let able = shared.manager.store().capabilities();
    entries([
        ("survives a crash of the machine", yes(able.durable)),
        ("can be shared by processes", yes(able.multi_process)),
        ("largest payload", size(able.limits.payload_bytes_max)),
        ("largest result", size(able.limits.result_bytes_max)),
        ("largest metadata", size(able.limits.metadata_bytes_max)),
        ("longest error", size(able.limits.error_bytes_max)),
    ])
}

/// Names of users and proxies, hosts and secrets are left out: who sees this page need not be who set
/// the monitor up.
fn settings(shared: &Shared) -> Vec<Entry> {
    let config = &shared.config;
    let number = |value: usize| grouped(u64::try_from(value).unwrap_or(u64::MAX));
    entries([
        ("who may come in", config.auth.as_str().to_owned()),
        ("read-only", yes(config.read_only)),
        ("environment", config.environment.clone().unwrap_or_else(|| "–".to_owned())),
        ("pages are told of changes", yes(config.enable_sse)),
        ("pages ask again after", span(config.poll_interval)),
        ("one reading of the store takes at most", span(config.store_timeout)),
        ("readings of the store at once", number(config.store_calls_max)),
        ("rows of a page", number(config.page_rows)),
        ("a page shows of a payload", size(config.preview_bytes_max)),
        ("keys that are hidden", config.redaction.words().join(", ")),
        ("a hook hides more", yes(config.redaction.has_hook())),
        ("requests a second", grouped(config.requests_per_second.into())),
        ("metrics", if shared.metrics.is_some() { "served" } else { "not served" }.to_owned()),
    ])
}
