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
    head: Head,
    entries: Vec<Entry>,
}

/// What it says of the journal.
struct Head {
    /// Where the page ends if nothing was left out, but for what ended later.
    end: Place,
    is_future: bool,
    is_expired: bool,
    /// A transaction ended that may have changed tasks unrecorded.
    is_unrecorded: bool,
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
            let Page { head, entries } = self.page(&place, limit).await?;
            if head.end.number != place.number || head.is_future {
                return self.foreign().await;
            }
            let mut gap = head.is_expired.then_some(Gap::Expired);
            let is_elsewhere = head.end.timeline != place.timeline;
            if head.is_unrecorded || is_elsewhere {
                gap = gap.or(Some(Gap::Unrecorded));
            }
            if is_elsewhere {
                // The page did not see to it that what it saw is on disk.
                self.latest().await?;
            }
            if place.within.is_some() && entries.is_empty() && gap.is_none() {
                // What was left of it is gone.
                place = head.end;
                continue;
            }
            return self.answer(after, place, gap, Page { head, entries }, limit).await;
        }
    }

    /// Puts together what was read behind a place.
    async fn answer(
        &self,
        after: &Cursor,
        place: Place,
        mut gap: Option<Gap>,
        page: Page,
        limit: usize,
    ) -> Result<Changes, StoreError> {
        let Page { head, entries } = page;
        let (mut events, mut reached) = (Vec::new(), None);
        let mut rest = head.rest;
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
        let more = rest || head.later;
        if events.is_empty() && !more && !head.is_watched {
            gap = gap.or(Some(Gap::Unrecorded));
        }
        let Place { number, timeline, .. } = head.end;
        let cursor = match reached.filter(|_| rest) {
            Some(reached) => {
                let (base, target) = (place.base, head.end.base);
                let within = Some(Within { target, reached });
                Place { number, timeline, base, within }.cursor()?
            }
            // Where nothing happened the old snapshot is as good, and on disk.
            None if reached.is_none()
                && gap.is_none_or(|gap| gap == Gap::Unrecorded)
                && place.within.is_none()
                && place.timeline == timeline
                && !head.is_unrecorded =>
            {
                after.clone()
            }
            None => head.end.cursor()?,
        };
        Ok(Changes { gap, events, cursor, more })
    }

    async fn page(&self, place: &Place, limit: usize) -> Result<Page, StoreError> {
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
        let end = Place {
            number: number(first)?,
            timeline: timeline(first)?,
            base: snapshot(first, "target")?,
            within: None,
        };
        let head = Head {
            end,
            is_future: column(first, "is_future")?,
            is_expired: column(first, "is_expired")?,
            is_unrecorded: column(first, "is_unrecorded")?,
            is_watched: column(first, "is_watched")?,
            rest: column(first, "rest")?,
            later: column(first, "later")?,
        };
        let has_entry =
            |row: &&PgRow| column::<Option<i64>>(row, "id").is_ok_and(|id| id.is_some());
        let entries = rows.iter().filter(has_entry).map(Entry::read);
        let entries = entries.collect::<Result<Vec<_>, _>>()?;
        if !entries.iter().all(|entry| entry.is_known(&self.names)) {
            self.names.refresh(&mut self.each(), &self.sql).await?;
        }
        Ok(Page { head, entries })
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
