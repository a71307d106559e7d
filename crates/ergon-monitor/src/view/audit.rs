//! What the page of the audit trail shows.

use ergon_core::audit::{AuditEntry, AuditId, AuditOutcome};
use serde::Serialize;
use utoipa::ToSchema;

use super::cursor;
use crate::{
    cache::Reading,
    error::Trouble,
    shared::Shared,
    text::clean,
    value::{At, Whole},
};

/// A page of the audit trail.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditView {
    /// The entries, the newest first.
    pub(crate) entries: Vec<AuditRow>,
    /// Ask with `after` for the entries behind these; none at the end.
    pub(crate) older: Option<String>,
    /// Entries that could not be read, as those of a newer version.
    pub(crate) unreadable: usize,
}

/// Who did what.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditRow {
    /// Its id.
    pub(crate) id: String,
    /// When it began.
    pub(crate) at: At,
    /// Who did it.
    pub(crate) actor: String,
    /// In which role.
    pub(crate) role: String,
    /// Where they called from.
    pub(crate) address: String,
    /// What they did, such as `task.cancel`.
    pub(crate) action: String,
    /// To what.
    pub(crate) target: String,
    /// To how many.
    pub(crate) count: Option<Whole>,
    /// `begun` (under way, or whoever did it died), `done`, `failed` or `denied`.
    pub(crate) outcome: &'static str,
    /// What was said to it, or what went wrong.
    pub(crate) note: String,
}

impl AuditRow {
    fn of(entry: &AuditEntry) -> Self {
        Self {
            id: entry.id.to_string(),
            at: At(entry.at),
            actor: clean(&entry.actor.name),
            role: clean(&entry.actor.role),
            address: clean(&entry.actor.address),
            action: clean(&entry.action),
            target: clean(&entry.target),
            count: entry.count.map(Whole),
            outcome: match entry.outcome {
                AuditOutcome::Begun => "begun",
                AuditOutcome::Done => "done",
                AuditOutcome::Failed => "failed",
                AuditOutcome::Denied => "denied",
            },
            note: clean(&entry.note),
        }
    }
}

impl AuditView {
    pub(crate) async fn read(
        shared: &Shared,
        after: Option<AuditId>,
    ) -> Result<Reading<Self>, Trouble> {
        let cursor = cursor(shared).await;
        let read_at = shared.clock.now();
        let trail = shared.manager.audit();
        let page = trail.page(shared.config.page_rows, after);
        let page = shared.reads.read("audit", page).await?;
        let view = Self {
            entries: page.entries.iter().map(AuditRow::of).collect(),
            older: page.next.map(|next| next.to_string()),
            unreadable: page.unreadable,
        };
        Ok(Reading::new(view, cursor, read_at))
    }
}
