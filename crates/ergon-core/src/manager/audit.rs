//! Writes and reads the audit trail.

use super::reading::unwritable;
use crate::{
    audit::{Audit, AuditEntry, AuditId, AuditOutcome, AuditPage, TEXT_BYTES_MAX},
    document::{DocumentRange, Space},
    error::StoreError,
    id::IdSource,
    limits::PAGE_MAX,
    outcome::check_limit,
    store::Store,
    text::storable,
    time::Clock,
};

/// Writes and reads the audit trail.
///
/// Nothing is written by itself: whoever acts for people begins an entry, acts, and completes it.
///
/// ```
/// use ergon_core::{
///     Manager,
///     audit::{Actor, Audit, AuditOutcome},
/// };
/// use ergon_testing::MemoryStore;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let manager = Manager::new(MemoryStore::new());
/// let queue = "mail".parse()?;
///
/// let audit = Audit::new(Actor::new("ana").role("operator"), "queue.pause", "mail");
/// let entry = manager.audit().begin(audit).await?;
/// let paused = manager.control().pause_queue(&queue).await;
/// let outcome = if paused.is_ok() { AuditOutcome::Done } else { AuditOutcome::Failed };
/// manager.audit().complete(entry, outcome, None, "").await?;
///
/// let newest = manager.audit().page(20, None).await?.entries;
/// assert_eq!((newest[0].actor.name.as_str(), newest[0].outcome), ("ana", AuditOutcome::Done));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct AuditTrail<'m> {
    store: &'m dyn Store,
    clock: &'m dyn Clock,
    ids: &'m dyn IdSource,
}

impl<'m> AuditTrail<'m> {
    pub(super) const fn new(
        store: &'m dyn Store,
        clock: &'m dyn Clock,
        ids: &'m dyn IdSource,
    ) -> Self {
        Self { store, clock, ids }
    }

    /// Writes an action down that is about to be done; do it only if this succeeds.
    ///
    /// # Errors
    ///
    /// What the store reports.
    ///
    /// # Cancel safety
    ///
    /// It is written, or not.
    pub async fn begin(&self, audit: Audit) -> Result<AuditEntry, StoreError> {
        self.write(audit, AuditOutcome::Begun).await
    }

    /// Writes an action down that was refused.
    ///
    /// # Errors
    ///
    /// What the store reports.
    pub async fn denied(&self, audit: Audit) -> Result<AuditEntry, StoreError> {
        self.write(audit, AuditOutcome::Denied).await
    }

    /// Writes down what came of an action: to how many it was done, if that is known now, and a word to
    /// it, if there is one, at most 4 KiB.
    ///
    /// # Errors
    ///
    /// What the store reports. The action is done all the same, and its entry stays begun.
    pub async fn complete(
        &self,
        entry: AuditEntry,
        outcome: AuditOutcome,
        count: Option<u64>,
        note: impl Into<String>,
    ) -> Result<AuditEntry, StoreError> {
        let note = storable(note, TEXT_BYTES_MAX);
        let note = if note.is_empty() { entry.note } else { note };
        let count = count.or(entry.count);
        self.put(AuditEntry { outcome, count, note, ..entry }).await
    }

    /// Reads a page of 1 to 1,000 entries, the newest first: behind the entry `after`, or from the newest
    /// on.
    ///
    /// # Errors
    ///
    /// [`StoreError::Rejected`] when the limit is out of range; what the store reports.
    pub async fn page(
        &self,
        limit: usize,
        after: Option<AuditId>,
    ) -> Result<AuditPage, StoreError> {
        check_limit(limit, PAGE_MAX)?;
        let range = DocumentRange::all(Space::Audit).reversed();
        let mut range = match after {
            Some(after) => range.to(after.to_string()),
            None => range,
        };
        let mut page = AuditPage::default();
        let mut last = None;
        while page.entries.len() < limit {
            let documents = self.store.documents(&range.clone().limit(limit)).await?;
            let Some(oldest) = documents.last() else { return Ok(page) };
            range = range.to(oldest.key.clone());
            for document in &documents {
                if page.entries.len() == limit {
                    break;
                }
                last = document.key.parse().ok().or(last);
                match AuditEntry::read(document) {
                    Some(entry) => page.entries.push(entry),
                    None => page.unreadable += 1,
                }
            }
        }
        page.next = last;
        Ok(page)
    }

    async fn write(&self, audit: Audit, outcome: AuditOutcome) -> Result<AuditEntry, StoreError> {
        let now = self.clock.now();
        self.put(audit.entry(AuditId::make(self.ids, now), now, outcome)).await
    }

    async fn put(&self, entry: AuditEntry) -> Result<AuditEntry, StoreError> {
        let put = entry.put().map_err(unwritable)?;
        // Nothing is expected, so that nothing can conflict.
        self.store.put(&[put]).await?;
        Ok(entry)
    }
}
