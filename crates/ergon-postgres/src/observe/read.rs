//! Reads the journal from place to place.

use ergon_core::{
    StoreError,
    store::{Changes, Cursor, Gap},
};
use sqlx::postgres::PgRow;

use crate::{
    error::corrupt,
    journal::{Entry, Place, Snapshot, Within},
    shared::Shared,
    value::column,
};

/// What one statement read.
struct Page {
    entries: Vec<Entry>,
    /// Where it ends if nothing was left out.
    end: Place,
    /// Why entries may be missing before it.
    gap: Option<Gap>,
    is_watched: bool,
    /// The limit cut entries off.
    rest: bool,
    /// There are entries behind the end.
    later: bool,
}

impl Shared {
    /// The end of the journal.
    pub(super) async fn latest(&self) -> Result<Cursor, StoreError> {
        let query = self.sql.latest.with(true);
        let row = self.database.row(|| query.query()).await?;
        let base = snapshot(&row, "present")?;
        Place { number: number(&row)?, timeline: timeline(&row)?, base, within: None }.cursor()
    }

    pub(super) async fn changes(
        &self,
        after: &Cursor,
        limit: usize,
    ) -> Result<Changes, StoreError> {
        let Some(mut place) = Place::parse(after) else { return self.foreign().await };
        loop {
            let Some(page) = self.page(&place, limit).await? else { return self.foreign().await };
            if place.within.is_some() && page.entries.is_empty() && page.gap.is_none() {
                // What was left of it is gone.
                place = page.end;
                continue;
            }
            return self.answer(after, place, page, limit);
        }
    }

    /// Puts together what was read behind a place.
    fn answer(
        &self,
        after: &Cursor,
        place: Place,
        page: Page,
        limit: usize,
    ) -> Result<Changes, StoreError> {
        let Page { entries, end, mut gap, is_watched, mut rest, later } = page;
        let is_whole = gap.is_none() && place.within.is_none();
        let (mut events, mut reached) = (Vec::new(), None);
        for entry in &entries {
            // What lies before a gap and what lies behind it are two answers.
            if events.len() >= limit || entry.is_break() && !events.is_empty() {
                rest = true;
                break;
            }
            if entry.is_break() {
                gap = gap.or(Some(Gap::Unrecorded));
            } else {
                events.extend(entry.recorded(place.number, &self.names)?);
            }
            reached = Some(entry.id);
        }
        let more = rest || later;
        if events.is_empty() && !more && !is_watched {
            gap = gap.or(Some(Gap::Unrecorded));
        }
        let cursor = match reached {
            Some(reached) if rest => {
                let within = Some(Within { target: end.base, reached });
                Place { within, base: place.base, ..end }.cursor()?
            }
            // Where nothing happened the old snapshot is as good, and on disk.
            None if is_whole => after.clone(),
            Some(_) | None => end.cursor()?,
        };
        Ok(Changes { gap, events, cursor, more })
    }

    /// Reads behind a place; `None` when it is of another store, or of the future.
    async fn page(&self, place: &Place, limit: usize) -> Result<Option<Page>, StoreError> {
        let target = place.within.as_ref().map(|within| within.target.to_string());
        let query = self
            .sql
            .changes
            .with(place.base.to_string())
            .with(target)
            .with(place.within.as_ref().map_or(0, |within| within.reached))
            .with(i64::try_from(limit).unwrap_or(i64::MAX - 1))
            .with(place.number.cast_signed());
        let rows = self.database.rows(|| query.query()).await?;
        let first = rows.first().ok_or_else(|| corrupt("the state of the journal is missing"))?;
        let (number, timeline) = (number(first)?, timeline(first)?);
        if number != place.number || column(first, "is_future")? {
            return Ok(None);
        }
        let mut gap = column::<bool>(first, "is_expired")?.then_some(Gap::Expired);
        // A transaction ended that may have changed tasks unrecorded.
        if column(first, "is_unrecorded")? {
            gap = gap.or(Some(Gap::Unrecorded));
        }
        if timeline != place.timeline {
            gap = gap.or(Some(Gap::Unrecorded));
            // The statement did not see to it that what it saw is on disk.
            self.latest().await?;
        }
        let has_entry =
            |row: &&PgRow| column::<Option<i64>>(row, "id").is_ok_and(|id| id.is_some());
        let entries = rows.iter().filter(has_entry).map(Entry::read);
        let entries = entries.collect::<Result<Vec<_>, _>>()?;
        if !entries.iter().all(|entry| entry.is_known(&self.names)) {
            self.names.refresh(&mut self.each(), &self.sql).await?;
        }
        Ok(Some(Page {
            entries,
            end: Place { number, timeline, base: snapshot(first, "target")?, within: None },
            gap,
            is_watched: column(first, "is_watched")?,
            rest: column(first, "rest")?,
            later: column(first, "later")?,
        }))
    }

    /// What is answered to a cursor of another store.
    async fn foreign(&self) -> Result<Changes, StoreError> {
        let cursor = self.latest().await?;
        Ok(Changes { gap: Some(Gap::Foreign), events: Vec::new(), cursor, more: false })
    }
}

fn number(row: &PgRow) -> Result<u64, StoreError> {
    Ok(column::<i64>(row, "number")?.cast_unsigned())
}

fn timeline(row: &PgRow) -> Result<u32, StoreError> {
    let text: &str = column(row, "timeline")?;
    u32::from_str_radix(text, 16).map_err(|error| corrupt(format!("timeline {text}: {error}")))
}

fn snapshot(row: &PgRow, name: &str) -> Result<Snapshot, StoreError> {
    let text: &str = column(row, name)?;
    Snapshot::parse(text).ok_or_else(|| corrupt(format!("snapshot {text}")))
}
