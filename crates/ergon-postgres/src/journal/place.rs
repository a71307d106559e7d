//! Places in the journal, and the text of cursors.

use ergon_core::{StoreError, store::Cursor};

use super::Snapshot;
use crate::error::corrupt;

/// What the cursors of this store begin with.
const LETTER: char = 'p';

/// A place between what was read and what was not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Of which journal.
    pub(crate) number: u64,
    /// In which history of the database: another one begins when a standby takes over, or a backup is
    /// restored.
    pub(crate) timeline: u32,
    /// What it sees was read.
    pub(crate) base: Snapshot,
    /// What was read beyond that.
    pub(crate) within: Option<Within>,
}

/// A part of what a later snapshot sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Within {
    /// The later snapshot.
    pub(crate) target: Snapshot,
    /// The id of the last entry that was read; larger than 0.
    pub(crate) reached: i64,
}

impl Place {
    /// Reads the text of a cursor; `None` for one that no store of this kind wrote.
    pub(crate) fn parse(cursor: &Cursor) -> Option<Self> {
        let mut parts = cursor.as_str().strip_prefix(LETTER)?.split('.');
        let mut next = || parts.next();
        let number = u64::from_str_radix(next()?, 16).ok()?;
        let timeline = u32::from_str_radix(next()?, 16).ok()?;
        let base = Snapshot::parse_compact(next()?)?;
        let within = match next() {
            None => None,
            Some(target) => {
                let target = Snapshot::parse_compact(target)?;
                let reached = i64::from_str_radix(next()?, 16).ok()?;
                Some(Within { target, reached: (reached > 0).then_some(reached)? })
            }
        };
        next().is_none().then_some(Self { number, timeline, base, within })
    }

    /// The cursor.
    ///
    /// When so many transactions are under way that they do not fit, it sees less than was read: what is
    /// read then may be read again. They fit up to a thousand, and most often up to twice as many.
    pub(crate) fn cursor(&self) -> Result<Cursor, StoreError> {
        Cursor::new(self.text()).or_else(|_too_long| {
            let mut less = self.clone();
            less.base = less.base.narrowed();
            if let Some(within) = &mut less.within {
                within.target = within.target.narrowed();
            }
            Cursor::new(less.text()).map_err(|error| corrupt(error.to_string()))
        })
    }

    fn text(&self) -> String {
        let Self { number, timeline, base, within } = self;
        let base = base.compact();
        match within {
            None => format!("{LETTER}{number:016x}.{timeline:x}.{base}"),
            Some(Within { target, reached }) => {
                let target = target.compact();
                format!("{LETTER}{number:016x}.{timeline:x}.{base}.{target}.{reached:x}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(under_way: u64) -> Snapshot {
        let xip: Vec<String> = (0..under_way).map(|xid| (10 + xid * 7).to_string()).collect();
        Snapshot::parse(&format!("10:1000000:{}", xip.join(","))).unwrap()
    }

    fn place(under_way: u64, reached: Option<i64>) -> Place {
        let within = reached.map(|reached| Within { target: snapshot(under_way / 2), reached });
        Place { number: u64::MAX, timeline: 7, base: snapshot(under_way), within }
    }

    #[test]
    fn cursors_read_back() {
        for place in [place(0, None), place(3, Some(1)), place(1_000, Some(i64::MAX))] {
            assert_eq!(Place::parse(&place.cursor().unwrap()), Some(place));
        }
    }

    #[test]
    fn a_cursor_that_would_be_too_long_sees_less() {
        let less = place(5_000, Some(9));
        let read = Place::parse(&less.cursor().unwrap()).unwrap();
        assert_eq!(read.base, less.base.narrowed());
        assert_eq!(read.within.unwrap().reached, 9);
    }

    #[test]
    fn other_texts_are_of_no_store_of_this_kind() {
        let good = place(3, Some(1)).cursor().unwrap();
        let parse = |text: &str| Place::parse(&Cursor::new(text).unwrap());
        assert!(parse(good.as_str()).is_some());
        for bad in ["p", "m0.0", "p1.1", "p1.1.1:1:.1", "p1.1.1:1:.1:1:.0", "p1.1.1:1:.1:1:.-1"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(parse(&format!("{good}.1")), None);
        assert_eq!(parse(&good.as_str().replacen('p', "x", 1)), None);
    }
}
