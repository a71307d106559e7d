//! The row of a unique key: who holds it, and how long.

use ergon_core::{StoreError, TaskId};

use crate::{
    codec::{Decoder, Encoder},
    error::corrupt,
};

/// Who holds a unique key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) task: TaskId,
    /// By store time, in microseconds, when time alone decides.
    pub(crate) until: Option<i64>,
    pub(crate) is_until_started: bool,
}

impl Holder {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::with_capacity(25);
        out.raw(&self.task.as_u128().to_be_bytes());
        out.u8(u8::from(self.is_until_started));
        self.until.into_iter().for_each(|until| out.i64(until));
        out.finish()
    }

    pub(crate) fn decode(record: &[u8]) -> Result<Self, StoreError> {
        let mut fields = Decoder::new(record)?;
        let task = TaskId::from_u128(u128::from_be_bytes(fields.array()?))
            .map_err(|error| corrupt(error.to_string()))?;
        let is_until_started = fields.u8()? != 0;
        let until = match fields.rest() {
            [] => None,
            rest => Some(i64::from_le_bytes(crate::key::part(rest, 0))),
        };
        Ok(Self { task, until, is_until_started })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_round_trip() {
        for until in [None, Some(0), Some(i64::MAX)] {
            for is_until_started in [false, true] {
                let holder = Holder { task: TaskId::MAX, until, is_until_started };
                assert_eq!(Holder::decode(&holder.encode()).unwrap(), holder);
            }
        }
    }
}
