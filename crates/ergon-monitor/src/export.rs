//! Lists of tasks as files: one task a line, sent as it is read, and written down in the audit trail.
//!
//! Payloads and results are never exported.

use std::sync::Arc;

use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use ergon_core::audit::{AuditEntry, AuditOutcome};
use futures_util::stream;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    audit::{self, Order},
    auth::Action,
    error::{PageError, Trouble},
    service::allowed,
    shared::App,
    view::{
        TaskRow,
        filter::{Place, Query},
        tasks::list,
    },
    visit::Context,
};

/// Exports at once: each keeps the store reading.
pub(crate) const EXPORTS_MAX: usize = 2;

/// Tasks of one reading.
const PAGE: usize = 500;

/// How tasks are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Ndjson,
    Csv,
}

/// Answers all tasks that match, as a line of JSON each.
#[utoipa::path(
    get, path = "/api/v1/tasks/export.ndjson", tag = "reading",
    responses(
        (status = 200, content_type = "application/x-ndjson", body = String,
         description = "The tasks that match the query, which is that of the list, the newest first; at most 100,000, \
                        after which ask again with `after` set to the last id. Without payloads"),
        (status = 403, body = crate::frame::Problem),
        (status = 429, body = crate::frame::Problem),
    )
)]
pub(crate) async fn ndjson(context: Context) -> Result<Response, PageError> {
    export(&context, Format::Ndjson).await
}

/// Answers all tasks that match, as a table.
#[utoipa::path(
    get, path = "/api/v1/tasks/export.csv", tag = "reading",
    responses(
        (status = 200, content_type = "text/csv", body = String,
         description = "As of NDJSON. Text that a spreadsheet would take for a formula begins with an apostrophe"),
        (status = 403, body = crate::frame::Problem),
        (status = 429, body = crate::frame::Problem),
    )
)]
pub(crate) async fn csv(context: Context) -> Result<Response, PageError> {
    export(&context, Format::Csv).await
}

async fn export(context: &Context, format: Format) -> Result<Response, PageError> {
    let mut query = Query::parse(&context.visit.query)?;
    if matches!(query.place, Place::NewerThan(_)) {
        return Err(PageError::Malformed("before: an export goes from new to old".to_owned()));
    }
    let wanted = query.limit.take();
    let app = &context.app;
    let order = Order::new(Action::Export, query.words());
    if let Err(denied) = allowed(context, Action::Export) {
        audit::deny(context, order, &denied.to_string()).await;
        return Err(denied);
    }
    let busy = |_| PageError::TooMany { what: "exports at once", seconds: 10 };
    let permit = Arc::clone(&app.exports).try_acquire_owned().map_err(busy)?;
    let entry = audit::begin(context, order).await?;
    let rows_max = app.config.export_rows_max;
    let export = Export {
        app: App::clone(app),
        query,
        format,
        left: wanted.map_or(rows_max, |wanted| std::cmp::min(wanted, rows_max)),
        written: 0,
        is_begun: false,
        is_over: false,
        trouble: None,
        entry: Some(entry),
        _permit: permit,
    };
    let body = Body::from_stream(stream::unfold(export, async |mut export| {
        let next = export.next().await?;
        Some((next, export))
    }));
    let (media_type, name) = match format {
        Format::Ndjson => ("application/x-ndjson", "tasks.ndjson"),
        Format::Csv => ("text/csv; charset=utf-8", "tasks.csv"),
    };
    let disposition = format!("attachment; filename=\"{name}\"");
    let headers = [(CONTENT_TYPE, media_type.to_owned()), (CONTENT_DISPOSITION, disposition)];
    Ok((headers, body).into_response())
}

/// An export under way; what came of it is written down when it goes.
struct Export {
    app: App,
    query: Query,
    format: Format,
    left: usize,
    written: u64,
    is_begun: bool,
    is_over: bool,
    trouble: Option<Trouble>,
    entry: Option<AuditEntry>,
    _permit: OwnedSemaphorePermit,
}

impl Export {
    /// The next part, or what ends it too early, which whoever reads sees as a connection that breaks off;
    /// `None` at the end.
    async fn next(&mut self) -> Option<Result<Bytes, Trouble>> {
        if self.is_over {
            return None;
        }
        let mut part = String::new();
        if self.format == Format::Csv && !self.is_begun {
            part.push_str(&HEAD.join(","));
            part.push_str("\r\n");
        }
        self.is_begun = true;
        self.query.limit = Some(std::cmp::min(self.left, PAGE));
        let page = match list(&self.app, &self.query).await {
            Ok(page) => page,
            Err(trouble) => {
                self.is_over = true;
                self.trouble = Some(trouble.clone());
                return Some(Err(trouble));
            }
        };
        for task in &page.tasks {
            match self.format {
                Format::Ndjson => json_line(&TaskRow::of(task), &mut part),
                Format::Csv => csv_line(&TaskRow::of(task), &mut part),
            }
        }
        self.left -= std::cmp::min(page.tasks.len(), self.left);
        self.written += u64::try_from(page.tasks.len()).unwrap_or(u64::MAX);
        match page.older.filter(|_| self.left > 0) {
            Some(older) => self.query.place = Place::OlderThan(older),
            None => self.is_over = true,
        }
        Some(Ok(Bytes::from(part)))
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        let (Some(entry), Ok(runtime)) = (self.entry.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        let (outcome, note) = match (&self.trouble, self.is_over) {
            (Some(trouble), _) => (AuditOutcome::Failed, trouble.to_string()),
            (None, true) => (AuditOutcome::Done, String::new()),
            (None, false) => (AuditOutcome::Failed, "broken off".to_owned()),
        };
        let (app, written) = (App::clone(&self.app), self.written);
        let tell = async move { audit::complete(&app, entry, outcome, Some(written), note).await };
        // The shutdown waits for it; nobody else does.
        drop(self.app.tasks.spawn_on(tell, &runtime));
    }
}

fn json_line(row: &TaskRow, line: &mut String) {
    // What can be ordered now says nothing in a file.
    let row = TaskRow { actions: Vec::new(), ..row.clone() };
    match serde_json::to_string(&row) {
        Ok(json) => {
            line.push_str(&json);
            line.push('\n');
        }
        Err(error) => tracing::error!(error = %error, "a task could not be written"),
    }
}

const HEAD: [&str; 15] = [
    "id",
    "kind",
    "queue",
    "state",
    "attempt",
    "max_attempts",
    "priority",
    "tags",
    "created_at",
    "run_at",
    "started_at",
    "finished_at",
    "error_kind",
    "error_at",
    "error_message",
];

fn csv_line(row: &TaskRow, line: &mut String) {
    let time = |at: Option<crate::value::At>| at.map(|at| at.to_string()).unwrap_or_default();
    let error = row.error.as_ref();
    let cells: [String; 15] = [
        cell(&row.id),
        cell(&row.kind),
        cell(&row.queue),
        row.state.to_owned(),
        row.attempt.to_string(),
        row.max_attempts.to_string(),
        row.priority.to_string(),
        cell(&row.tags.join(" ")),
        row.created_at.to_string(),
        row.run_at.to_string(),
        time(row.started_at),
        time(row.finished_at),
        error.map(|error| error.kind.to_owned()).unwrap_or_default(),
        time(error.map(|error| error.at)),
        error.map(|error| cell(&error.message)).unwrap_or_default(),
    ];
    line.push_str(&cells.join(","));
    line.push_str("\r\n");
}

/// A text as a cell: in quotes, and with an apostrophe before what a spreadsheet would compute.
fn cell(text: &str) -> String {
    const TELLING: [char; 11] = ['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠'];
    let mark = if text.trim_start_matches([' ', '"']).starts_with(TELLING) { "'" } else { "" };
    format!("\"{mark}{}\"", text.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_computed_or_ends_early() {
        for (text, expected) in [
            ("", "\"\""),
            ("plain", "\"plain\""),
            ("a,b\"c\nd", "\"a,b\"\"c\nd\""),
            ("=1+1", "\"'=1+1\""),
            ("+1", "\"'+1\""),
            ("-1", "\"'-1\""),
            ("@x", "\"'@x\""),
            ("\t=1", "\"'\t=1\""),
            ("  =1", "\"'  =1\""),
            ("\"=1", "\"'\"\"=1\""),
            ("＝1", "\"'＝1\""),
            ("1=1", "\"1=1\""),
        ] {
            assert_eq!(cell(text), expected, "{text:?}");
        }
    }
}
