//! Adds up what servers wrote.

use std::{cmp::Reverse, collections::BTreeMap};

use jiff::Timestamp;

use super::{
    Counts, Key, OTHER,
    query::{Group, Names, SERIES_MAX, Series, Statistics, StatisticsQuery},
    range,
};
use crate::document::{Document, DocumentRange};

/// Adds up the documents of a query, the newest first.
#[derive(Debug)]
pub struct Merge<'q> {
    query: &'q StatisticsQuery,
    starts: Vec<Timestamp>,
    cut_before: Option<Timestamp>,
    found: BTreeMap<Names, BTreeMap<Timestamp, Counts>>,
    documents: usize,
    unreadable: usize,
    /// The beginning of the last document that was taken.
    oldest: Option<Timestamp>,
}

impl<'q> Merge<'q> {
    /// Nothing is added up yet.
    #[must_use]
    pub fn new(query: &'q StatisticsQuery) -> Self {
        let (starts, is_cut) = query.axis();
        let cut_before = starts.first().copied().filter(|_| is_cut);
        let found = BTreeMap::new();
        Self { query, starts, cut_before, found, documents: 0, unreadable: 0, oldest: None }
    }

    /// The documents to take; `None` when the query spans no time.
    #[must_use]
    pub fn range(&self) -> Option<DocumentRange> {
        let (first, last) = (self.starts.first()?, self.starts.last()?);
        let resolution = self.query.resolution;
        Some(range(resolution, *first, resolution.next(*last)))
    }

    /// Takes the next document.
    pub fn take(&mut self, document: &Document) {
        self.documents += 1;
        let Some(key) = Key::read(&document.key) else {
            self.unreadable += 1;
            return;
        };
        self.oldest = Some(key.start);
        let query = self.query;
        let is_other = query.queue.as_ref().is_some_and(|queue| queue.as_str() != key.queue)
            || query.kind.as_ref().is_some_and(|kind| kind.as_str() != key.kind);
        if is_other {
            return;
        }
        let (queue, kind) = match query.group {
            Group::Total => (None, None),
            Group::Queue => (Some(key.queue), None),
            Group::Kind => (None, Some(key.kind)),
            Group::Pair => (Some(key.queue), Some(key.kind)),
        };
        let names = (queue.map(str::parse).transpose(), kind.map(str::parse).transpose());
        let counts = serde_json::from_slice::<Counts>(&document.body);
        let ((Ok(queue), Ok(kind)), Ok(counts)) = (names, counts) else {
            self.unreadable += 1;
            return;
        };
        let points = self.found.entry((queue, kind)).or_default();
        points.entry(key.start).or_default().merge(&counts);
    }

    /// What it comes to. `more` says that there are documents that were not taken.
    #[must_use]
    pub fn finish(mut self, more: bool) -> Statistics {
        if more {
            // Of the point where reading ended some may be missing.
            let whole = self.oldest.map(|oldest| self.query.resolution.next(oldest));
            self.cut_before = whole.or(self.cut_before);
        }
        if self.query.group == Group::Total {
            self.found.entry((None, None)).or_default();
        }
        let (starts, found) = (&self.starts, std::mem::take(&mut self.found));
        let mut series: Vec<_> = found
            .into_iter()
            .map(|(names, points)| {
                let attempts = points.values().map(Counts::ended).fold(0, u64::saturating_add);
                (Reverse(attempts), names, points)
            })
            .collect();
        series.sort_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)));
        let most = self.query.series_max.clamp(1, SERIES_MAX);
        let rest = if series.len() > most { series.split_off(most - 1) } else { Vec::new() };
        let mut series: Vec<_> = series
            .into_iter()
            .map(|(_, names, points)| Series::new(names, points, starts))
            .collect();
        let others = rest.into_iter().map(|(_, _, points)| points).reduce(|mut all, points| {
            for (start, counts) in points {
                all.entry(start).or_default().merge(&counts);
            }
            all
        });
        series.extend(
            others.map(|points| Series::new(other_names(self.query.group), points, starts)),
        );
        Statistics {
            resolution: self.query.resolution,
            series,
            cut_before: self.cut_before,
            documents: self.documents,
            unreadable: self.unreadable,
            starts: self.starts,
        }
    }
}

/// The names of what is not told apart.
fn other_names(group: Group) -> Names {
    let (queue, kind) = (OTHER.parse().ok(), OTHER.parse().ok());
    match group {
        Group::Total => (None, None),
        Group::Queue => (queue, None),
        Group::Kind => (None, kind),
        Group::Pair => (queue, kind),
    }
}
