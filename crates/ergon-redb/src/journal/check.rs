//! Looks whether the journal is whole.

use ergon_core::StoreError;
use redb::ReadableTable;

use super::{
    entry::decode_header,
    event::{Decoding, NameLists},
};
use crate::{error::backend, table::Record};

/// Says of each entry that does not follow the one before it, or does not read back, what is wrong.
pub(crate) fn check(
    table: &impl ReadableTable<u64, Record>,
    names: NameLists<'_>,
    mut tell: impl FnMut(String),
) -> Result<(), StoreError> {
    let mut before: Option<(u64, u64)> = None;
    for row in table.iter().map_err(backend)? {
        let (number, record) = row.map_err(backend)?;
        let (number, record) = (number.value(), record.value());
        let total = match read(record, names) {
            Ok(total) => total,
            Err(error) => {
                tell(format!("entry {number} of the journal does not read back: {error}"));
                before = None;
                continue;
            }
        };
        if let Some((last, sum)) = before {
            let len = u64::try_from(record.len()).unwrap_or(u64::MAX);
            if (number, total) != (last + 1, sum.saturating_add(len)) {
                tell(format!("entry {number} of the journal does not follow entry {last}"));
            }
        }
        before = Some((number, total));
    }
    Ok(())
}

/// Reads a whole entry, and answers the bytes of all entries up to it.
fn read(record: &[u8], names: NameLists<'_>) -> Result<u64, StoreError> {
    let (header, fields) = decode_header(record)?;
    let mut events = Decoding::new(fields, names);
    while events.next()?.is_some() {}
    Ok(header.total)
}
