//! Sparse lists of counts as short text.
//!
//! Two numbers stand for every count that is not 0: how many places it lies behind the one before, and
//! the count. Both are LEB128, the whole is base64 (URL alphabet, no padding).

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

/// Writes counts by place.
pub(super) fn write(counts: &[u64]) -> String {
    let mut bytes = Vec::new();
    let mut next = 0;
    for (place, &count) in counts.iter().enumerate().filter(|&(_, &count)| count > 0) {
        push(&mut bytes, u64::try_from(place - next).unwrap_or(0));
        push(&mut bytes, count);
        next = place + 1;
    }
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads counts by place; `None` when the text is not of this form or has `places_max` places or more.
pub(super) fn read(text: &str, places_max: usize) -> Option<Vec<u64>> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
    let (mut counts, mut rest) = (Vec::new(), bytes.as_slice());
    while !rest.is_empty() {
        let gap = usize::try_from(take(&mut rest)?).ok()?;
        let count = take(&mut rest)?;
        let place = counts.len().checked_add(gap).filter(|&place| place < places_max)?;
        counts.resize(place, 0);
        counts.push(count);
    }
    Some(counts)
}

fn push(bytes: &mut Vec<u8>, mut number: u64) {
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or(0);
        number >>= 7;
        if number == 0 {
            return bytes.push(low);
        }
        bytes.push(low | 0x80);
    }
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        // The last byte has room for one bit.
        number |= part.checked_shl(shift).filter(|shifted| shifted >> shift == part)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_read_back() {
        for counts in [
            vec![],
            vec![1],
            vec![0, 0, 127, 128],
            vec![u64::MAX, 0, 1],
            (0..300).map(|it| u64::from(it % 7 == 3)).take(298).collect(),
        ] {
            let text = write(&counts);
            let mut read = read(&text, 300).unwrap();
            read.resize(counts.len(), 0);
            assert_eq!(read, counts, "{text}");
        }
    }

    #[test]
    fn other_text_is_refused() {
        let beyond = write(&[0, 0, 1]);
        assert!(read(&beyond, 3).is_some() && read(&beyond, 2).is_none());
        let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let endless = [0x80; 11];
        let overflowing = [0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2];
        for bad in [&[0][..], &[0, 0x80], &endless, &overflowing, &[0xff; 10]] {
            assert_eq!(read(&encode(bad), 10), None, "{bad:?}");
        }
        for bad in ["!", "a", "AAAA=", "äö"] {
            assert_eq!(read(bad, 10), None, "{bad}");
        }
    }
}
