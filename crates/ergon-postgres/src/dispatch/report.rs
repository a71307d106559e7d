//! Keeps how far running tasks have come.

use ergon_core::{Now, ProgressReport, StoreError, Verdict, report::ClaimReport};

use crate::{
    shared::{Shared, given},
    value::{column, small, split},
};

impl Shared {
    pub(super) async fn report(
        &self,
        reports: &[ClaimReport],
        now: Now,
    ) -> Result<Vec<Verdict>, StoreError> {
        if reports.is_empty() {
            return Ok(Vec::new());
        }
        let (packs, offsets): (Vec<_>, Vec<_>) = reports.iter().map(|it| split(it.id)).unzip();
        // A token beyond the range of the sequence was never given; nor is the last of it.
        let token = |it: &ClaimReport| i64::try_from(it.token.get()).unwrap_or(i64::MAX);
        // The setter makes a message storable, whoever wrote it into the field.
        let message = |it: &ClaimReport| {
            ProgressReport::default().message(it.report.message.as_str()).message
        };
        let query = self
            .sql
            .report
            .with(given(now))
            .with(packs)
            .with(offsets)
            .with(reports.iter().map(token).collect::<Vec<_>>())
            .with(reports.iter().map(|it| it.report.done.cast_signed()).collect::<Vec<_>>())
            .with(
                reports.iter().map(|it| it.report.total.map(u64::cast_signed)).collect::<Vec<_>>(),
            )
            .with(reports.iter().map(message).collect::<Vec<_>>());
        let rows = self.database.rows(|| query.query()).await?;
        if let Some(row) = rows.first() {
            self.tell_readers(row)?;
        }
        let mut verdicts = vec![Verdict::Stale; reports.len()];
        for row in &rows {
            let place = small::<usize, i64>(column(row, "ord")?)?;
            if let Some(verdict) = place.checked_sub(1).and_then(|at| verdicts.get_mut(at)) {
                *verdict = Verdict::Applied;
            }
        }
        Ok(verdicts)
    }
}
