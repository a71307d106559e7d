//! Finds the claims that the journal has told of, and not of their end.

use std::collections::BTreeMap;

use ergon_core::{StoreError, TaskEvent, TaskId, event::Fact};
use redb::ReadableTable;

use super::{
    entry::decode_header,
    event::{Decoding, NameLists},
};
use crate::{error::backend, table::Record};

/// Tasks that run by what the journal tells, and in which attempt.
pub(crate) type Unended = BTreeMap<TaskId, u16>;

/// Reads the whole journal. What was told before a gap does not count: whoever reads over it looks
/// anew.
pub(crate) fn unended(
    table: &impl ReadableTable<u64, Record>,
    names: NameLists<'_>,
) -> Result<Unended, StoreError> {
    let mut running = Unended::new();
    for row in table.iter().map_err(backend)? {
        let (_, record) = row.map_err(backend)?;
        if !matches!(follow(record.value(), names, &mut running), Ok(true)) {
            running.clear();
        }
    }
    Ok(running)
}

/// Follows the events of an entry; says whether it tells of no gap.
fn follow(record: &[u8], names: NameLists<'_>, running: &mut Unended) -> Result<bool, StoreError> {
    let (header, fields) = decode_header(record)?;
    let mut events = Decoding::new(fields, names);
    while let Some(event) = events.next()? {
        let Fact::Task { task, event } = event.fact else { continue };
        match event {
            TaskEvent::Started { .. } => {
                running.insert(task.id, task.attempt);
            }
            TaskEvent::Progressed { .. } | TaskEvent::CancelRequested => {}
            _ => {
                running.remove(&task.id);
            }
        }
    }
    Ok(!header.is_break)
}
