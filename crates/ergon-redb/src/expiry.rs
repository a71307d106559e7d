//! The expiry index: what may be removed when, a row for each commit and instant.

use ergon_core::{StoreError, TaskId};

use crate::{
    codec::{Decoder, Encoder},
    error::corrupt,
    key::{instant_key, parse_instant_key, part},
};

/// What a row of the index names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expiring {
    /// Finished tasks.
    Tasks(Vec<TaskId>),
    /// Unique keys that are held for a time.
    Keys(Vec<[u8; 32]>),
}

/// The key of a row: the instant, and a number that tells rows of the same instant apart.
pub(crate) fn key(at: i64, number: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&instant_key(at));
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

/// The instant of a row.
pub(crate) fn parse_key(key: &[u8; 16]) -> i64 {
    parse_instant_key(part(key, 0))
}

impl Expiring {
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Tasks(ids) => {
                let mut out = Encoder::with_capacity(1 + ids.len() * 16);
                out.u8(0);
                ids.iter().for_each(|id| out.raw(&id.as_u128().to_be_bytes()));
                out.finish()
            }
            Self::Keys(hashes) => {
                let mut out = Encoder::with_capacity(1 + hashes.len() * 32);
                out.u8(1);
                hashes.iter().for_each(|hash| out.raw(hash));
                out.finish()
            }
        }
    }

    pub(crate) fn decode(record: &[u8]) -> Result<Self, StoreError> {
        let mut fields = Decoder::new(record)?;
        match fields.u8()? {
            0 => fields
                .rest()
                .chunks(16)
                .map(|id| TaskId::from_u128(u128::from_be_bytes(part(id, 0))))
                .collect::<Result<_, _>>()
                .map(Self::Tasks)
                .map_err(|error| corrupt(error.to_string())),
            1 => Ok(Self::Keys(fields.rest().chunks(32).map(|hash| part(hash, 0)).collect())),
            tag => Err(corrupt(format!("unknown expiry row {tag}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_round_trip() {
        for row in [
            Expiring::Tasks(vec![TaskId::MIN, TaskId::MAX]),
            Expiring::Keys(vec![[1; 32], [2; 32]]),
        ] {
            assert_eq!(Expiring::decode(&row.encode()).unwrap(), row);
        }
        assert_eq!(parse_key(&key(-5, 7)), -5);
        assert!(key(-5, 7) < key(-5, 8) && key(-5, 8) < key(0, 0));
    }
}
