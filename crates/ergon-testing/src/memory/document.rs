//! Documents of the memory store.

use std::collections::BTreeMap;

use ergon_core::{
    Now, StoreError,
    document::{Document, DocumentRange, Expect, Put, PutVerdict, Space, check_puts, check_range},
    limits::PAGE_BYTES_MAX,
};
use jiff::Timestamp;

use super::{MemoryStore, Model};

/// All documents, by space and key.
pub(super) type Documents = BTreeMap<(Space, String), Document>;

impl MemoryStore {
    pub(super) fn put_documents(&self, puts: &[Put]) -> Result<Vec<PutVerdict>, StoreError> {
        check_puts(puts)?;
        if puts.is_empty() {
            return Ok(Vec::new());
        }
        let now = self.now(Now::Store);
        Ok(self.write(|model, _events| puts.iter().map(|put| model.put(put, now)).collect()))
    }

    pub(super) fn read_documents(
        &self,
        range: &DocumentRange,
    ) -> Result<Vec<Document>, StoreError> {
        check_range(range)?;
        let now = self.now(Now::Store);
        let model = self.read();
        let within = model.documents.iter().filter(|((space, key), document)| {
            *space == range.space && range.contains(key) && !is_expired(document, now)
        });
        let mut found: Vec<_> = within.map(|(_, document)| document.clone()).collect();
        if range.is_reversed {
            found.reverse();
        }
        let mut bytes = 0;
        found.retain(|document| {
            // The document that exceeds the limit is still taken, so that a page is never empty.
            let is_taken = bytes <= PAGE_BYTES_MAX;
            bytes += document.body.len();
            is_taken
        });
        found.truncate(range.limit);
        Ok(found)
    }
}

impl Model {
    /// Writes one document. One that has expired counts as removed.
    fn put(&mut self, put: &Put, now: Timestamp) -> PutVerdict {
        let place = (put.space, put.key.clone());
        let kept = self.documents.get(&place).filter(|kept| !is_expired(kept, now));
        let version = kept.map_or(0, |kept| kept.version);
        let is_expected = match put.expect {
            Expect::Anything => true,
            Expect::Absent => kept.is_none(),
            Expect::Version(expected) => kept.is_some_and(|kept| kept.version == expected),
        };
        if !is_expected {
            return PutVerdict::Conflict;
        }
        let Some(body) = put.body.clone() else {
            self.documents.remove(&place);
            return PutVerdict::Done { version: 0 };
        };
        let (key, version, expires_at) = (put.key.clone(), version + 1, put.expires_at);
        self.documents.insert(place, Document { key, version, body, expires_at });
        PutVerdict::Done { version }
    }

    /// Removes documents that have expired.
    pub(super) fn prune_documents(&mut self, now: Timestamp) {
        self.documents.retain(|_, document| !is_expired(document, now));
    }
}

fn is_expired(document: &Document, now: Timestamp) -> bool {
    document.expires_at.is_some_and(|expires_at| expires_at <= now)
}
