//! The record of an entry: what one commit recorded, or a break.
//!
//! `FORMAT.md` draws its bytes.

use ergon_core::StoreError;

use super::event::Events;
use crate::{
    codec::{Decoder, Encoder},
    error::corrupt,
};

/// What an entry says beside its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Behind here something happened that was not recorded; there are no events.
    pub(crate) is_break: bool,
    /// By store time, in microseconds.
    pub(crate) written_at: i64,
    /// The bytes of this and all earlier entries, also of those that are gone.
    pub(crate) total: u64,
}

/// Bytes of an entry before its events, the envelope included.
const HEAD_LEN: usize = 22;

/// What a batch writes as one entry.
#[derive(Debug)]
pub(crate) enum Entry {
    /// Something happened that nobody watched.
    Break,
    /// Events.
    Events(Events),
}

impl Entry {
    /// The record, and the total behind it.
    pub(super) fn encode(&self, written_at: i64, total_before: u64) -> (Vec<u8>, u64) {
        let (is_break, events) = match self {
            Self::Break => (true, [].as_slice()),
            Self::Events(events) => (false, events.bytes()),
        };
        let len = u64::try_from(HEAD_LEN + events.len()).unwrap_or(u64::MAX);
        let total = total_before.saturating_add(len);
        let mut out = Encoder::with_capacity(HEAD_LEN + events.len());
        out.u8(u8::from(is_break));
        out.i64(written_at);
        out.u64(total);
        out.raw(events);
        (out.finish(), total)
    }
}

/// Reads the head of an entry, and leaves its events.
pub(super) fn decode_header(record: &[u8]) -> Result<(Header, Decoder<'_>), StoreError> {
    let mut fields = Decoder::new(record)?;
    let is_break = match fields.u8()? {
        0 => false,
        1 => true,
        tag => return Err(corrupt(format!("unknown entry {tag} of the journal"))),
    };
    let header = Header { is_break, written_at: fields.i64()?, total: fields.u64()? };
    Ok((header, fields))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_round_trip_and_count_their_bytes() {
        let (first, total) = Entry::Break.encode(-7, 0);
        assert_eq!((first.len(), total), (HEAD_LEN, 22));
        let (second, total) = Entry::Events(Events::default()).encode(7, total);
        assert_eq!(total, 44);
        let (header, rest) = decode_header(&first).unwrap();
        assert_eq!(header, Header { is_break: true, written_at: -7, total: 22 });
        assert!(rest.rest().is_empty());
        let (header, _) = decode_header(&second).unwrap();
        assert_eq!(header, Header { is_break: false, written_at: 7, total: 44 });
    }
}
