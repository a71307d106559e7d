//! Documents: small rows under a space and a key.

use ergon_core::{
    StoreError,
    document::{Document, DocumentRange, Expect, Put, PutVerdict, check_puts, check_range},
    limits::PAGE_BYTES_MAX,
};
use sqlx::postgres::PgRow;

use crate::{
    error::corrupt,
    shared::Shared,
    value::{Instant, column, instant, small},
};

/// Documents that one sweep removes at the most.
const PRUNED_MAX: i64 = 10_000;

impl Shared {
    pub(crate) async fn put_documents(&self, puts: &[Put]) -> Result<Vec<PutVerdict>, StoreError> {
        check_puts(puts)?;
        if puts.is_empty() {
            return Ok(Vec::new());
        }
        let (mut spaces, mut keys, mut bodies) = (Vec::new(), Vec::new(), Vec::new());
        let (mut expects, mut versions, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        for put in puts {
            let (expect, version) = match put.expect {
                Expect::Anything => (0_i16, 0),
                Expect::Absent => (1, 0),
                // No version is larger than what is stored.
                Expect::Version(version) => (2, i64::try_from(version).unwrap_or(i64::MAX)),
            };
            spaces.push(i16::from(put.space.index()));
            keys.push(put.key.as_bytes());
            expects.push(expect);
            versions.push(version);
            bodies.push(put.body.as_deref());
            ends.push(put.expires_at.map(Instant));
        }
        let query = self.sql.put.with(spaces).with(keys).with(expects).with(versions);
        let query = query.with(bodies).with(ends);
        let rows = self.database.rows(|| query.query()).await?;
        let mut verdicts = vec![PutVerdict::Conflict; puts.len()];
        for row in &rows {
            let place: usize = small::<usize, i64>(column(row, "place")?)?;
            let version = small::<u64, i64>(column(row, "version")?)?;
            if let Some(verdict) = place.checked_sub(1).and_then(|at| verdicts.get_mut(at)) {
                *verdict = PutVerdict::Done { version };
            }
        }
        Ok(verdicts)
    }

    pub(crate) async fn documents(
        &self,
        range: &DocumentRange,
    ) -> Result<Vec<Document>, StoreError> {
        check_range(range)?;
        let sql = if range.is_reversed { &self.sql.documents_down } else { &self.sql.documents_up };
        let limit = i64::try_from(range.limit).unwrap_or(i64::MAX);
        let bytes_max = i64::try_from(PAGE_BYTES_MAX).unwrap_or(i64::MAX);
        let query = sql
            .with(i16::from(range.space.index()))
            .with(range.from.as_bytes())
            .with(range.to.as_deref().map(str::as_bytes))
            .with(limit)
            .with(bytes_max);
        let rows = self.database.rows(|| query.query()).await?;
        rows.iter().map(document).collect()
    }

    /// Removes documents that have expired.
    pub(crate) async fn prune_documents(&self) -> Result<(), StoreError> {
        let query = self.sql.documents.with(PRUNED_MAX);
        self.database.execute(|| query.query()).await.map(drop)
    }
}

fn document(row: &PgRow) -> Result<Document, StoreError> {
    let key: Vec<u8> = column(row, "key")?;
    let body: Vec<u8> = column(row, "body")?;
    Ok(Document {
        key: String::from_utf8(key).map_err(|error| corrupt(error.to_string()))?,
        version: small::<u64, i64>(column(row, "version")?)?,
        body: body.into(),
        expires_at: instant(row, "expires_at")?,
    })
}
