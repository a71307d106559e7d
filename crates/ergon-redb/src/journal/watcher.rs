//! The row of a watcher: how long it watches, and which place it has kept.

use ergon_core::{StoreError, store::Cursor};

use crate::{
    codec::{Decoder, Encoder},
    error::corrupt,
};

/// Somebody who watches.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Watcher {
    /// By store time, in microseconds; `None` for one that watches until told otherwise.
    pub(crate) until: Option<i64>,
    pub(crate) reached: Option<Cursor>,
}

impl Watcher {
    pub(crate) fn is_live(&self, now: i64) -> bool {
        self.until.is_none_or(|until| until > now)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::with_capacity(64);
        out.u8(u8::from(self.until.is_some()));
        out.i64(self.until.unwrap_or(0));
        let reached = self.reached.as_ref().map_or("", Cursor::as_str);
        out.raw(reached.as_bytes());
        out.finish()
    }

    pub(crate) fn decode(record: &[u8]) -> Result<Self, StoreError> {
        let mut fields = Decoder::new(record)?;
        let has_end = fields.u8()? != 0;
        let until = fields.i64()?;
        let text = std::str::from_utf8(fields.rest()).map_err(|it| corrupt(it.to_string()))?;
        let reached = match text {
            "" => None,
            text => Some(Cursor::new(text).map_err(|error| corrupt(error.to_string()))?),
        };
        Ok(Self { until: has_end.then_some(until), reached })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_round_trip() {
        for until in [None, Some(0), Some(i64::MAX)] {
            for reached in [None, Some(Cursor::new("r1.2").unwrap())] {
                let watcher = Watcher { until, reached };
                assert_eq!(Watcher::decode(&watcher.encode()).unwrap(), watcher);
            }
        }
    }

    #[test]
    fn a_lease_is_over_at_its_end() {
        let watcher = Watcher { until: Some(5), reached: None };
        assert!(watcher.is_live(4) && !watcher.is_live(5));
        assert!(Watcher::default().is_live(i64::MAX));
    }
}
