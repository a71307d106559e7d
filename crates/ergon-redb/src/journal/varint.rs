//! Whole numbers in few bytes: seven bits a byte, the low ones first; signed ones in zigzag.

use ergon_core::StoreError;

use crate::{codec::Decoder, error::corrupt};

/// Appends a number.
pub(super) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(low_bits(value) | 0x80);
        value >>= 7;
    }
    out.push(low_bits(value));
}

/// Appends a number that may be negative.
pub(super) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

/// Appends a long number that may be negative.
pub(super) fn put_long(out: &mut Vec<u8>, value: i128) {
    let mut value = ((value << 1) ^ (value >> 127)).cast_unsigned();
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value & 0x7f).unwrap_or(0));
}

fn low_bits(value: u64) -> u8 {
    u8::try_from(value & 0x7f).unwrap_or(0)
}

/// Reads a number.
pub(super) fn get(fields: &mut Decoder<'_>) -> Result<u64, StoreError> {
    let long = unsigned(fields, 64)?;
    u64::try_from(long).map_err(|_too_large| too_large())
}

/// Reads a number that may be negative.
pub(super) fn get_signed(fields: &mut Decoder<'_>) -> Result<i64, StoreError> {
    let value = get(fields)?;
    Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
}

/// Reads a long number that may be negative.
pub(super) fn get_long(fields: &mut Decoder<'_>) -> Result<i128, StoreError> {
    let value = unsigned(fields, 128)?;
    Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
}

fn unsigned(fields: &mut Decoder<'_>, bits: u32) -> Result<u128, StoreError> {
    let mut value = 0;
    let mut shift = 0;
    loop {
        let byte = fields.u8()?;
        value |= u128::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
        shift += 7;
        if shift >= bits {
            return Err(too_large());
        }
    }
}

fn too_large() -> StoreError {
    corrupt("a number of a record is too large")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Encoder;

    /// Puts the bytes in a record and reads them back.
    #[track_caller]
    fn check<T: PartialEq + std::fmt::Debug>(
        bytes: &[u8],
        get: fn(&mut Decoder<'_>) -> Result<T, StoreError>,
        expected: Option<T>,
    ) {
        let mut record = Encoder::with_capacity(bytes.len());
        record.raw(bytes);
        let record = record.finish();
        let mut fields = Decoder::new(&record).unwrap();
        let found = get(&mut fields).ok();
        assert_eq!(found, expected, "{bytes:?}");
        assert!(found.is_none() || fields.rest().is_empty());
    }

    #[test]
    fn numbers_round_trip_and_small_ones_are_short() {
        let of = |put: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = Vec::new();
            put(&mut bytes);
            bytes
        };
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            check(&of(&|out| put(out, value)), get, Some(value));
        }
        for value in [0, -1, 1, 63, -64, 64, i64::MIN, i64::MAX] {
            check(&of(&|out| put_signed(out, value)), get_signed, Some(value));
        }
        for value in [0, -1, 1, 1 << 70, i128::MIN, i128::MAX] {
            check(&of(&|out| put_long(out, value)), get_long, Some(value));
        }
        assert_eq!(of(&|out| put_long(out, 1)), [2]);
        assert_eq!(of(&|out| put(out, 127)).len(), 1);
    }

    #[test]
    fn what_is_no_number_is_refused() {
        check(&[], get, None);
        check(&[0x80], get, None);
        check(&[0xff; 20], get, None);
        check(&[0xff; 20], get_long, None);
        // The tenth byte goes beyond 64 bits.
        check(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], get, None);
    }
}
