//! Reads and writes the bytes of records: a version, a checksum, then plain little-endian fields.

use std::time::Duration;

use ergon_core::{StoreError, time::from_micros};
use jiff::Timestamp;

use crate::error::corrupt;

/// The version of the record encoding, the first byte of every record.
const VERSION: u8 = 1;

/// Version and checksum.
const ENVELOPE_LEN: usize = 5;

/// Writes the fields of one record.
#[derive(Debug)]
pub(crate) struct Encoder(Vec<u8>);

impl Encoder {
    pub(crate) fn with_capacity(fields: usize) -> Self {
        let mut bytes = Vec::with_capacity(ENVELOPE_LEN + fields);
        bytes.extend_from_slice(&[VERSION, 0, 0, 0, 0]);
        Self(bytes)
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn i16(&mut self, value: i16) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn instant(&mut self, value: Timestamp) {
        self.i64(ergon_core::time::to_micros(value));
    }

    /// Microseconds, at the most what 64 bits hold.
    pub(crate) fn duration(&mut self, value: Duration) {
        self.u64(u64::try_from(value.as_micros()).unwrap_or(u64::MAX));
    }

    pub(crate) fn raw(&mut self, value: &[u8]) {
        self.0.extend_from_slice(value);
    }

    /// A length and so many bytes. Every field is limited to far less than 4 GiB before it gets
    /// here; a longer one is cut.
    pub(crate) fn bytes(&mut self, value: &[u8]) {
        let len = u32::try_from(value.len()).unwrap_or(u32::MAX);
        self.u32(len);
        self.raw(value.get(..len as usize).unwrap_or(value));
    }

    /// The record, with its checksum.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let checksum = crc32c::crc32c(&self.0[ENVELOPE_LEN..]);
        self.0[1..ENVELOPE_LEN].copy_from_slice(&checksum.to_le_bytes());
        self.0
    }
}

/// Reads the fields of one record.
#[derive(Debug)]
pub(crate) struct Decoder<'r>(&'r [u8]);

impl<'r> Decoder<'r> {
    /// Checks version and checksum.
    pub(crate) fn new(record: &'r [u8]) -> Result<Self, StoreError> {
        let Some((envelope, fields)) = record.split_first_chunk::<ENVELOPE_LEN>() else {
            return Err(corrupt("a record is too short"));
        };
        let [version, checksum @ ..] = *envelope;
        if version != VERSION {
            return Err(corrupt(format!("a record has the unknown version {version}")));
        }
        if crc32c::crc32c(fields) != u32::from_le_bytes(checksum) {
            return Err(corrupt("a record does not match its checksum"));
        }
        Ok(Self(fields))
    }

    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        let (chunk, rest) =
            self.0.split_first_chunk().ok_or_else(|| corrupt("a record ends early"))?;
        self.0 = rest;
        Ok(*chunk)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, StoreError> {
        self.chunk().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, StoreError> {
        self.chunk().map(u16::from_le_bytes)
    }

    pub(crate) fn i16(&mut self) -> Result<i16, StoreError> {
        self.chunk().map(i16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, StoreError> {
        self.chunk().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, StoreError> {
        self.chunk().map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, StoreError> {
        self.chunk().map(i64::from_le_bytes)
    }

    pub(crate) fn instant(&mut self) -> Result<Timestamp, StoreError> {
        self.i64().map(from_micros)
    }

    pub(crate) fn duration(&mut self) -> Result<Duration, StoreError> {
        self.u64().map(Duration::from_micros)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        self.chunk()
    }

    pub(crate) fn bytes(&mut self) -> Result<&'r [u8], StoreError> {
        let len = self.u32()? as usize;
        self.take(len)
    }

    /// So many bytes.
    pub(crate) fn take(&mut self, len: usize) -> Result<&'r [u8], StoreError> {
        let (bytes, rest) =
            self.0.split_at_checked(len).ok_or_else(|| corrupt("a record ends early"))?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(crate) fn text(&mut self) -> Result<&'r str, StoreError> {
        std::str::from_utf8(self.bytes()?).map_err(|error| corrupt(error.to_string()))
    }

    /// Whether nothing is left.
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is left.
    pub(crate) const fn rest(self) -> &'r [u8] {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_is_noticed() {
        let mut encoder = Encoder::with_capacity(16);
        encoder.u64(7);
        encoder.bytes(b"payload");
        let record = encoder.finish();
        assert!(Decoder::new(&record).is_ok());
        for bit in 0..record.len() * 8 {
            let mut flipped = record.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Decoder::new(&flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn every_cut_is_noticed() {
        let mut encoder = Encoder::with_capacity(16);
        encoder.bytes(b"payload");
        let record = encoder.finish();
        for len in 0..record.len() {
            assert!(Decoder::new(&record[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn a_length_beyond_the_end_is_noticed() {
        let mut encoder = Encoder::with_capacity(4);
        encoder.u32(u32::MAX);
        let record = encoder.finish();
        assert!(Decoder::new(&record).and_then(|mut fields| fields.bytes().map(drop)).is_err());
    }
}
