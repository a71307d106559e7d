//! What the page of a task shows.

use std::time::Duration;

use ergon_core::{RetryPolicy, State, TaskId, TaskRecord, Timestamp, explain::explain};
use serde::Serialize;
use utoipa::ToSchema;

use super::{ErrorRow, Part, TaskRow, cursor};
use crate::{
    cache::Reading,
    error::Trouble,
    json::Json,
    redact::{Field, HIDDEN, Origin},
    shared::Shared,
    text::{clean, excerpt},
    value::{At, Whole, span},
};

/// Longest preview in a list, in characters.
const PREVIEW_MAX: usize = 120;

/// Longest reason, in characters: it may name an error.
const REASON_MAX: usize = 300;

/// A task.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TaskView {
    /// What a list says of it.
    #[serde(flatten)]
    pub(crate) row: TaskRow,
    /// Why it stands as it does, the weightiest reason first; none once it has finished.
    pub(crate) reasons: Option<Part<Vec<ReasonRow>>>,
    /// What happened to it, the oldest first.
    pub(crate) timeline: Vec<Moment>,
    /// Its payload.
    pub(crate) payload: Blob,
    /// What its handler answered.
    pub(crate) result: Option<Blob>,
    /// How far it has come, if it runs and its handler told.
    pub(crate) report: Option<ReportView>,
    /// Its newest errors, the oldest first; at most 10.
    pub(crate) errors: Vec<ErrorRow>,
    /// Searchable text by key.
    pub(crate) metadata: Vec<Entry>,
    /// What was chosen for it.
    pub(crate) options: Vec<Entry>,
    /// How often a server died while it ran the task.
    pub(crate) crash_count: u16,
    /// It runs, and was asked to stop.
    pub(crate) is_cancel_requested: bool,
}

/// A key and what stands under it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Entry {
    /// The key.
    pub(crate) key: String,
    /// The value.
    pub(crate) value: String,
}

/// Why a task stands as it does.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReasonRow {
    /// The reason in a word, such as `queue_paused`.
    pub(crate) reason: String,
    /// The same in words.
    pub(crate) text: String,
}

/// Something that happened to a task, or will.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Moment {
    /// When.
    pub(crate) at: At,
    /// What.
    pub(crate) what: String,
}

/// How far a task has come.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReportView {
    /// When the store took it.
    pub(crate) at: At,
    /// How much is done.
    pub(crate) done: Whole,
    /// Of how much, if that is known.
    pub(crate) total: Option<Whole>,
    /// What the handler says to it.
    pub(crate) message: String,
}

/// How a payload or a result is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Encoding {
    /// Whoever asks may not see it.
    Hidden,
    /// As JSON.
    Json,
    /// As the beginning of a text.
    Text,
    /// Not at all: it is not text.
    Binary,
    /// Not at all: it is larger than a page can show, and has to be downloaded.
    TooLarge,
}

/// A payload or a result.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Blob {
    /// Its size.
    pub(crate) bytes: Whole,
    /// How it is shown.
    pub(crate) encoding: Encoding,
    /// The value, if it is JSON, with what is hidden left out.
    #[schema(value_type = Option<Object>)]
    pub(crate) json: Option<Json>,
    /// The text, if it is no JSON.
    pub(crate) text: Option<String>,
}

impl Blob {
    fn of(
        shared: &Shared,
        task: &TaskRecord,
        origin: Origin,
        bytes: &[u8],
        is_shown: bool,
    ) -> Self {
        let size = Whole::of(bytes.len());
        let shown = |encoding, json, text| Self { bytes: size, encoding, json, text };
        if !is_shown {
            return shown(Encoding::Hidden, None, None);
        }
        if bytes.len() > shared.config.preview_bytes_max {
            return shown(Encoding::TooLarge, None, None);
        }
        if let Some(json) = redacted(shared, task, origin, bytes) {
            return shown(Encoding::Json, Some(json), None);
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => shown(Encoding::Text, None, Some(clean(text))),
            Err(_error) => shown(Encoding::Binary, None, None),
        }
    }
}

/// The JSON in these bytes without what is hidden; `None` if they are no JSON.
pub(crate) fn redacted(
    shared: &Shared,
    task: &TaskRecord,
    origin: Origin,
    bytes: &[u8],
) -> Option<Json> {
    let mut json = Json::parse(bytes)?;
    shared.config.redaction.apply(task.spec.kind.as_str(), origin, &mut json);
    Some(json)
}

/// The beginning of a payload, for lists.
pub(crate) fn preview(shared: &Shared, task: &TaskRecord) -> String {
    let blob = Blob::of(shared, task, Origin::Payload, &task.spec.payload, true);
    let text = match blob {
        Blob { json: Some(json), .. } => json.to_string(),
        Blob { text: Some(text), .. } => text,
        Blob { bytes, .. } => format!("{bytes} bytes"),
    };
    let (line, is_whole) = excerpt(&text, PREVIEW_MAX);
    if is_whole { clean(line) } else { format!("{}…", clean(line)) }
}

impl TaskView {
    pub(crate) async fn read(
        shared: &Shared,
        id: TaskId,
        with_payloads: bool,
    ) -> Result<Reading<Option<Self>>, Trouble> {
        let cursor = cursor(shared).await;
        let read_at = shared.clock.now();
        let task = shared.reads.read("tasks", shared.manager.tasks().get(id)).await?;
        let Some(task) = task else { return Ok(Reading::new(None, cursor, read_at)) };
        let reasons = match task.state.is_terminal() {
            true => None,
            false => Some(Part::of(reasons(shared, &task, read_at).await)),
        };
        let view = Self { reasons, ..Self::of(shared, &task, with_payloads) };
        Ok(Reading::new(Some(view), cursor, read_at))
    }

    fn of(shared: &Shared, task: &TaskRecord, with_payloads: bool) -> Self {
        let (spec, progress) = (&task.spec, &task.progress);
        let blob = |origin, bytes: &[u8]| Blob::of(shared, task, origin, bytes, with_payloads);
        let metadata = spec.metadata.iter().map(|(key, value)| {
            let path = [key.as_str()];
            let field = Field { kind: spec.kind.as_str(), origin: Origin::Metadata, path: &path };
            let is_hidden = shared.config.redaction.hides(&field);
            let value = if is_hidden { HIDDEN.to_owned() } else { clean(value) };
            Entry { key: clean(key), value }
        });
        Self {
            row: TaskRow::of(task),
            reasons: None,
            timeline: timeline(task),
            payload: blob(Origin::Payload, &spec.payload),
            result: progress.result.as_ref().map(|result| blob(Origin::Result, result)),
            report: task.report.as_ref().map(|kept| ReportView {
                at: At(kept.at),
                done: Whole(kept.report.done),
                total: kept.report.total.map(Whole),
                message: clean(&kept.report.message),
            }),
            errors: progress
                .errors
                .iter()
                .map(|error| ErrorRow {
                    attempt: error.attempt,
                    at: At(error.at),
                    kind: error.kind.as_str(),
                    message: clean(&error.message),
                })
                .collect(),
            metadata: metadata.collect(),
            options: options(task),
            crash_count: progress.crash_count,
            is_cancel_requested: progress.cancel_requested,
        }
    }
}

/// Why it stands as it does, by what is known of its queue and of the servers.
async fn reasons(
    shared: &Shared,
    task: &TaskRecord,
    now: Timestamp,
) -> Result<Vec<ReasonRow>, Trouble> {
    let (inspector, servers) = (shared.manager.tasks(), shared.manager.servers());
    let (queues, servers) = tokio::try_join!(
        shared.reads.read("queues", inspector.queues()),
        shared.reads.read("servers", servers.list()),
    )?;
    let queue = queues.iter().find(|queue| queue.name == task.spec.queue);
    let explained = explain(task, queue, &servers, now).reasons;
    let row = |reason: &ergon_core::explain::Reason| {
        let written = serde_json::to_value(reason).unwrap_or_default();
        let word = written.get("reason").and_then(|word| word.as_str()).unwrap_or_default();
        let text = clean(&reason.to_string());
        let (text, is_whole) = excerpt(&text, REASON_MAX);
        let text = if is_whole { text.to_owned() } else { format!("{text}…") };
        ReasonRow { reason: word.to_owned(), text }
    };
    Ok(explained.iter().map(row).collect())
}

fn timeline(task: &TaskRecord) -> Vec<Moment> {
    let progress = &task.progress;
    let mut moments = vec![Moment { at: At(task.created_at), what: "enqueued".to_owned() }];
    let mut push = |at, what: String| moments.push(Moment { at: At(at), what });
    for error in &progress.errors {
        push(error.at, format!("attempt {}: {}", error.attempt, error.kind.as_str()));
    }
    if let Some(started_at) = progress.started_at {
        push(started_at, "newest attempt began".to_owned());
    }
    if !task.state.is_terminal() && task.state != State::Running {
        push(progress.run_at, "due".to_owned());
    }
    if let Some(finished_at) = progress.finished_at {
        push(finished_at, task.state.as_str().to_owned());
    }
    if let Some(expires_at) = progress.expires_at {
        push(expires_at, "may be removed".to_owned());
    }
    moments.sort_by_key(|moment| moment.at);
    moments
}

fn options(task: &TaskRecord) -> Vec<Entry> {
    let spec = &task.spec;
    let or = |value: Option<String>, other: &str| value.unwrap_or_else(|| other.to_owned());
    let spans = |value: Option<Duration>, other| or(value.map(span), other);
    [
        ("retry", retry(&spec.retry)),
        ("timeout", spans(spec.timeout, "as the server says")),
        ("deadline", or(spec.deadline.map(|at| at.to_string()), "none")),
        ("retention", spans(spec.retention, "as the store says")),
        ("unique", or(spec.unique.as_ref().map(|_| "yes".to_owned()), "no")),
    ]
    .map(|(key, value)| Entry { key: key.to_owned(), value })
    .to_vec()
}

fn retry(policy: &RetryPolicy) -> String {
    match policy {
        RetryPolicy::Exponential { base, cap, jitter } => {
            format!("exponential from {} to {}, jitter {jitter:?}", span(*base), span(*cap))
                .to_lowercase()
        }
        RetryPolicy::Fixed(delay) => format!("every {}", span(*delay)),
        RetryPolicy::List(steps) => {
            let steps: Vec<_> = steps.iter().map(|step| span(*step)).collect();
            format!("after {}", steps.join(", "))
        }
    }
}
