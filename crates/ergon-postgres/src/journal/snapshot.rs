//! A snapshot of the server: which transactions had ended.

use std::fmt::{self, Write as _};

/// The characters of numbers in a compact text.
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";

/// How many bits a digit carries beside the one that says that more follow.
const BITS: u32 = 5;
const MORE: u64 = 1 << BITS;

/// Which transactions had ended: all below `xmin`, none from `xmax` on, and of those in between all but
/// `xip`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    xmin: u64,
    xmax: u64,
    xip: Vec<u64>,
}

impl Snapshot {
    /// With parts that the server would take: numbers from 1 on that increase.
    fn new(xmin: u64, xmax: u64, xip: Vec<u64>) -> Option<Self> {
        let is_within = xip.iter().all(|xid| (xmin..xmax).contains(xid));
        let increases = xip.is_sorted_by(|one, next| one < next);
        let is_number = xmin > 0 && xmin <= xmax && i64::try_from(xmax).is_ok();
        (is_number && is_within && increases).then_some(Self { xmin, xmax, xip })
    }

    /// Reads the text of the server.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ':');
        let (xmin, xmax) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let xip = parts.next()?.split(',').filter(|xid| !xid.is_empty());
        let xip = xip.map(|xid| xid.parse().ok()).collect::<Option<_>>()?;
        Self::new(xmin, xmax, xip)
    }

    /// Reads a compact text.
    pub(super) fn parse_compact(text: &str) -> Option<Self> {
        let hex = |text: &str| u64::from_str_radix(text, 16).ok();
        let mut parts = text.splitn(3, ':');
        let xmin = hex(parts.next()?)?;
        let xmax = xmin.checked_add(hex(parts.next()?)?)?;
        let (mut xip, mut last) = (Vec::new(), xmin);
        let (mut step, mut shift) = (0_u64, 0_u32);
        for byte in parts.next()?.bytes() {
            let digit = DIGITS.iter().position(|&digit| digit == byte)?;
            let digit = u64::try_from(digit).ok()?;
            if shift > u64::BITS - BITS {
                return None;
            }
            step |= (digit & (MORE - 1)) << shift;
            shift += BITS;
            if digit & MORE == 0 {
                last = last.checked_add(step)?;
                xip.push(last);
                (step, shift) = (0, 0);
            }
        }
        if shift > 0 { None } else { Self::new(xmin, xmax, xip) }
    }

    /// A text of hexadecimal numbers and one or two characters for most transactions under way.
    pub(super) fn compact(&self) -> String {
        let mut text = format!("{:x}:{:x}:", self.xmin, self.xmax - self.xmin);
        let mut last = self.xmin;
        for &xid in &self.xip {
            let mut step = xid - last;
            last = xid;
            loop {
                let rest = step >> BITS;
                let digit = (step & (MORE - 1)) | if rest > 0 { MORE } else { 0 };
                let digit = usize::try_from(digit).ok().and_then(|at| DIGITS.get(at));
                text.push(digit.map_or('A', |&digit| char::from(digit)));
                step = rest;
                if step == 0 {
                    break;
                }
            }
        }
        text
    }

    /// One that sees less: nothing of what ended after the oldest transaction under way began.
    pub(super) fn narrowed(&self) -> Self {
        Self { xmin: self.xmin, xmax: self.xmin, xip: Vec::new() }
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.xmin, self.xmax)?;
        for (place, xid) in self.xip.iter().enumerate() {
            if place > 0 {
                f.write_char(',')?;
            }
            write!(f, "{xid}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_read_back() {
        let max = i64::MAX.to_string();
        for text in ["1:1:", "10:20:10,11,19", "700:5000:701,4999", &format!("3:{max}:3,4,1000000")]
        {
            let snapshot = Snapshot::parse(text).unwrap();
            assert_eq!(snapshot.to_string(), text);
            assert_eq!(Snapshot::parse_compact(&snapshot.compact()), Some(snapshot));
        }
    }

    #[test]
    fn what_the_server_would_refuse_is_refused() {
        for bad in ["", "1", "1:2", "0:1:", "2:1:", "1:5:5", "1:5:0", "1:5:3,2", "1:5:2,2", "a:b:"]
        {
            assert_eq!(Snapshot::parse(bad), None, "{bad:?}");
        }
        let max = u64::MAX;
        for bad in ["", "1:", "0:1:", "1:0:A", "1:5:g", "1:5:.", "1:5:BA", &format!("{max:x}:1:")] {
            assert_eq!(Snapshot::parse_compact(bad), None, "{bad:?}");
        }
        let long = format!("1:ffffffff:{}A", "-".repeat(20));
        assert_eq!(Snapshot::parse_compact(&long), None);
    }

    #[test]
    fn a_thousand_transactions_under_way_are_short() {
        let xip: Vec<u64> = (0..1_000).map(|number| (1 << 40) + number * 20).collect();
        let snapshot = Snapshot::new(1 << 40, 1 << 41, xip).unwrap();
        assert!(snapshot.compact().len() < 1_100);
        assert_eq!(snapshot.narrowed().to_string(), format!("{0}:{0}:", 1_u64 << 40));
    }
}
