//! Which entries the journal holds, and which of them have to go.

use ergon_core::StoreError;
use redb::{ReadableTable, Table};

use super::entry::decode_header;
use crate::{error::backend, table::Record};

/// How much of the past the journal keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) bytes_max: u64,
    /// In microseconds.
    pub(crate) age_max: i64,
}

/// Which entries the journal holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// The number of the oldest entry; one more than the newest when there is none.
    pub(crate) oldest: u64,
    /// The number of the newest entry; 0 before the first.
    pub(crate) newest: u64,
    /// Bytes of all entries before the oldest.
    bytes_before: u64,
    /// Bytes of all entries up to the newest.
    bytes: u64,
    /// When the oldest entry was written, or one before it.
    oldest_at: i64,
}

impl Default for Window {
    fn default() -> Self {
        Self { oldest: 1, newest: 0, bytes_before: 0, bytes: 0, oldest_at: i64::MAX }
    }
}

/// Entries that one commit removes at the most.
const TRIM_MAX: usize = 4_096;

/// The part of a limit by which it is exceeded before anything is removed, or fallen short of after:
/// so a journal that is full is not trimmed with every commit. Chosen without measurement.
const SLACK: u8 = 16;

impl Window {
    /// Reads it from the file, looking at the first and the last entry; beside it whether the newest
    /// entry is a break. Entries that do not read back count as what they take.
    pub(crate) fn read(
        table: &impl ReadableTable<u64, Record>,
    ) -> Result<(Self, bool), StoreError> {
        let mut window = Self::default();
        let mut is_break = false;
        let mut unread = 0;
        for row in table.iter().map_err(backend)?.rev() {
            let (number, record) = row.map_err(backend)?;
            window.newest = std::cmp::max(window.newest, number.value());
            if let Ok((header, _)) = decode_header(record.value()) {
                window.bytes = header.total.saturating_add(unread);
                is_break = header.is_break && number.value() == window.newest;
                break;
            }
            unread += len(record.value());
            window.bytes = unread;
        }
        let mut passed = 0;
        for row in table.iter().map_err(backend)? {
            let (number, record) = row.map_err(backend)?;
            if passed == 0 {
                window.oldest = number.value();
            }
            passed += len(record.value());
            window.bytes_before = window.bytes.saturating_sub(passed);
            if let Ok((header, _)) = decode_header(record.value()) {
                window.bytes_before = header.total.saturating_sub(passed);
                window.oldest_at = header.written_at;
                break;
            }
        }
        Ok((window, is_break))
    }

    /// Takes up an entry that was written at an instant, up to which all take so many bytes.
    pub(super) fn add(&mut self, written_at: i64, total: u64) {
        if self.newest < self.oldest {
            self.oldest_at = written_at;
        }
        self.newest += 1;
        self.bytes = total;
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    const fn kept_bytes(&self) -> u64 {
        self.bytes.saturating_sub(self.bytes_before)
    }

    pub(super) fn is_over(&self, limits: Limits, now: i64) -> bool {
        let age_max = limits.age_max.saturating_add(limits.age_max / i64::from(SLACK));
        self.oldest < self.newest
            && (self.kept_bytes() > limits.bytes_max
                || self.oldest_at < now.saturating_sub(age_max))
    }

    /// Removes the oldest entries if they exceed the limits at `now`, but never the newest one, whose
    /// number the next one follows. Says whether there were any.
    pub(crate) fn trim(
        &mut self,
        table: &mut Table<'_, u64, Record>,
        limits: Limits,
        now: i64,
    ) -> Result<bool, StoreError> {
        if !self.is_over(limits, now) {
            return Ok(false);
        }
        let is_large = self.kept_bytes() > limits.bytes_max;
        let slack = if is_large { limits.bytes_max / u64::from(SLACK) } else { 0 };
        let bytes_max = limits.bytes_max - slack;
        let earliest = now.saturating_sub(limits.age_max);
        let mut kept = *self;
        for row in table.range(self.oldest..=self.newest).map_err(backend)?.take(TRIM_MAX) {
            let (number, record) = row.map_err(backend)?;
            let number = number.value();
            let written_at = decode_header(record.value()).map(|(header, _)| header.written_at);
            let is_old = written_at.as_ref().is_ok_and(|at| *at < earliest);
            kept.oldest = number;
            kept.oldest_at = written_at.as_ref().map_or(kept.oldest_at, |at| *at);
            // One that does not read back goes with those before it.
            let goes = is_old || written_at.is_err() || kept.kept_bytes() > bytes_max;
            if !goes || number == self.newest {
                break;
            }
            kept.bytes_before = kept.bytes_before.saturating_add(len(record.value()));
            kept.oldest = number + 1;
        }
        table.retain_in(self.oldest..kept.oldest, |_, _| false).map_err(backend)?;
        let has_trimmed = kept.oldest > self.oldest;
        *self = kept;
        Ok(has_trimmed)
    }
}

fn len(record: &[u8]) -> u64 {
    u64::try_from(record.len()).unwrap_or(u64::MAX)
}
