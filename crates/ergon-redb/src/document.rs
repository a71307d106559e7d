//! Documents: rows under a space and a key, and an index of when they may go.

use ergon_core::{
    StoreError,
    document::{Document, DocumentRange, Expect, Put, PutVerdict, Space},
    limits::PAGE_BYTES_MAX,
    time::{from_micros, to_micros},
};
use redb::{ReadTransaction, ReadableTable};

use crate::{
    batch::Batch,
    codec::{Decoder, Encoder},
    error::backend,
    key::{instant_key, part},
    table::{DOCUMENT, DOCUMENT_EXPIRY},
};

/// Documents that one sweep removes at the most.
const PRUNED_MAX: usize = 10_000;

/// A document as the file holds it.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    version: u64,
    /// In microseconds; the end of time when it stays.
    expires_at: i64,
    body: Vec<u8>,
}

impl Row {
    fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::with_capacity(16 + self.body.len());
        out.u64(self.version);
        out.i64(self.expires_at);
        out.raw(&self.body);
        out.finish()
    }

    fn decode(record: &[u8]) -> Result<Self, StoreError> {
        let mut fields = Decoder::new(record)?;
        let (version, expires_at) = (fields.u64()?, fields.i64()?);
        Ok(Self { version, expires_at, body: fields.rest().to_vec() })
    }

    /// What is to be read of it; nothing once it has expired.
    fn document(self, key: &[u8], now: i64) -> Option<Document> {
        (self.expires_at > now).then(|| Document {
            key: String::from_utf8_lossy(key).into_owned(),
            version: self.version,
            body: self.body.into(),
            expires_at: (self.expires_at != i64::MAX).then(|| from_micros(self.expires_at)),
        })
    }
}

fn row_key(space: Space, key: &str) -> Vec<u8> {
    let mut row = Vec::with_capacity(1 + key.len());
    row.push(space.index());
    row.extend_from_slice(key.as_bytes());
    row
}

fn expiry_key(expires_at: i64, row: &[u8]) -> Vec<u8> {
    let mut key = instant_key(expires_at).to_vec();
    key.extend_from_slice(row);
    key
}

/// Writes documents, each by itself.
pub(crate) fn put(
    batch: &mut Batch<'_>,
    puts: &[Put],
    now: i64,
) -> Result<Vec<PutVerdict>, StoreError> {
    let transaction = batch.tables().transaction();
    let mut documents = transaction.open_table(DOCUMENT).map_err(backend)?;
    let mut expiries = transaction.open_table(DOCUMENT_EXPIRY).map_err(backend)?;
    let mut verdicts = Vec::with_capacity(puts.len());
    let mut is_dirty = false;
    for put in puts {
        let key = row_key(put.space, &put.key);
        let found = documents.get(key.as_slice()).map_err(backend)?;
        let found = found.map(|row| Row::decode(row.value())).transpose()?;
        // One that has expired counts as removed.
        let live = found.as_ref().filter(|row| row.expires_at > now);
        let is_expected = match put.expect {
            Expect::Anything => true,
            Expect::Absent => live.is_none(),
            Expect::Version(version) => live.is_some_and(|row| row.version == version),
        };
        if !is_expected {
            verdicts.push(PutVerdict::Conflict);
            continue;
        }
        let before = live.map_or(0, |row| row.version);
        if let Some(Row { expires_at, .. }) = found
            && expires_at != i64::MAX
        {
            expiries.remove(expiry_key(expires_at, &key).as_slice()).map_err(backend)?;
        }
        is_dirty |= put.body.is_some() || found.is_some();
        let version = if let Some(body) = &put.body {
            let expires_at = put.expires_at.map_or(i64::MAX, to_micros);
            let row = Row { version: before + 1, expires_at, body: body.to_vec() };
            documents.insert(key.as_slice(), row.encode().as_slice()).map_err(backend)?;
            if expires_at != i64::MAX {
                expiries.insert(expiry_key(expires_at, &key).as_slice(), ()).map_err(backend)?;
            }
            row.version
        } else {
            documents.remove(key.as_slice()).map_err(backend)?;
            0
        };
        verdicts.push(PutVerdict::Done { version });
    }
    drop((documents, expiries));
    if is_dirty {
        batch.mark_dirty();
    }
    Ok(verdicts)
}

/// Reads the documents of a range that have not expired. One that does not read back is left out.
pub(crate) fn read(
    transaction: &ReadTransaction,
    range: &DocumentRange,
    now: i64,
) -> Result<Vec<Document>, StoreError> {
    let table = transaction.open_table(DOCUMENT).map_err(backend)?;
    let from = row_key(range.space, &range.from);
    let to = match &range.to {
        Some(to) => row_key(range.space, to),
        None => vec![range.space.index() + 1],
    };
    if from >= to {
        return Ok(Vec::new());
    }
    let mut rows = table.range(from.as_slice()..to.as_slice()).map_err(backend)?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    while found.len() < range.limit && bytes <= PAGE_BYTES_MAX {
        let row = if range.is_reversed { rows.next_back() } else { rows.next() };
        let Some(row) = row else { break };
        let (key, record) = row.map_err(backend)?;
        let Ok(row) = Row::decode(record.value()) else { continue };
        let key = key.value().get(1..).unwrap_or_default();
        if let Some(document) = row.document(key, now) {
            bytes += document.body.len();
            found.push(document);
        }
    }
    Ok(found)
}

/// Removes documents that have expired, a bounded number of them.
pub(crate) fn prune(batch: &mut Batch<'_>, now: i64) -> Result<(), StoreError> {
    let transaction = batch.tables().transaction();
    let mut expiries = transaction.open_table(DOCUMENT_EXPIRY).map_err(backend)?;
    let mut expired = Vec::new();
    for row in expiries.range(..=expiry_key(now, &[u8::MAX]).as_slice()).map_err(backend)? {
        expired.push(row.map_err(backend)?.0.value().to_vec());
        if expired.len() == PRUNED_MAX {
            break;
        }
    }
    if expired.is_empty() {
        return Ok(());
    }
    let mut documents = transaction.open_table(DOCUMENT).map_err(backend)?;
    for row in &expired {
        documents
            .remove(row.get(part::<8>(row, 0).len()..).unwrap_or_default())
            .map_err(backend)?;
        expiries.remove(row.as_slice()).map_err(backend)?;
    }
    drop((documents, expiries));
    batch.mark_dirty();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_round_trip() {
        for expires_at in [0, 7, i64::MAX] {
            let row = Row { version: 3, expires_at, body: b"body".to_vec() };
            assert_eq!(Row::decode(&row.encode()).unwrap(), row);
        }
    }

    #[test]
    fn what_expired_is_not_read() {
        let row = |expires_at| Row { version: 1, expires_at, body: Vec::new() };
        assert_eq!(row(5).document(b"k", 5), None);
        assert_eq!(row(6).document(b"k", 5).unwrap().expires_at, Some(from_micros(6)));
        assert_eq!(row(i64::MAX).document(b"k", 5).unwrap().expires_at, None);
    }
}
