//! Reads the journal behind a cursor.

use std::sync::Arc;

use ergon_core::{
    KindName, QueueName, StoreError,
    store::{Changes, Cursor, EventId, Gap, Recorded},
};

use super::{
    entry::decode_header,
    event::{Decoding, NameLists},
};
use crate::{
    error::{backend, corrupt},
    shared::Shared,
    table::JOURNAL,
};

/// The letter that cursors of this backend begin with.
const LETTER: char = 'r';

/// The cursor behind an entry of a journal.
pub(super) fn cursor(journal: u64, entry: u64) -> Result<Cursor, StoreError> {
    let text = format!("{LETTER}{journal:016x}.{entry}");
    Cursor::new(text).map_err(|error| corrupt(error.to_string()))
}

/// The entry that a cursor lies behind; `None` when it is malformed, or of another journal.
pub(crate) fn parse_cursor(journal: u64, cursor: &Cursor) -> Option<u64> {
    let (number, entry) = cursor.as_str().strip_prefix(LETTER)?.split_once('.')?;
    let is_own = u64::from_str_radix(number, 16) == Ok(journal);
    entry.parse().ok().filter(|_| is_own)
}

/// What memory knows of the journal at the beginning of a read.
struct Known {
    journal: u64,
    newest: u64,
    end: u64,
    queues: Arc<Vec<QueueName>>,
    kinds: Arc<Vec<KindName>>,
}

impl Known {
    fn of(shared: &Shared) -> Self {
        let live = shared.live();
        let journal = &live.journal;
        Self {
            journal: journal.number(),
            newest: journal.window().newest,
            end: journal.end(),
            queues: Arc::clone(live.names.queues()),
            kinds: Arc::clone(live.names.kinds()),
        }
    }
}

/// What was read so far.
struct Reading {
    gap: Option<Gap>,
    events: Vec<Recorded>,
    /// The entry behind which the read goes on.
    place: u64,
}

/// Reads about so many events behind a cursor: whole entries, at least one.
///
/// An entry that does not read back is passed over as something that was not recorded.
pub(crate) fn changes(
    shared: &Shared,
    after: &Cursor,
    limit: usize,
) -> Result<Changes, StoreError> {
    let known = Known::of(shared);
    let place = parse_cursor(known.journal, after).filter(|place| *place <= known.newest);
    let Some(place) = place else {
        let cursor = cursor(known.journal, known.end)?;
        return Ok(Changes { gap: Some(Gap::Foreign), events: Vec::new(), cursor, more: false });
    };
    let mut reading = Reading { gap: None, events: Vec::new(), place };
    // Begun after the look at memory, so that it holds whatever memory knows.
    let snapshot = shared.database.begin_read()?;
    let table = snapshot.open_table(JOURNAL).map_err(backend)?;
    let first = redb::ReadableTable::first(&table).map_err(backend)?;
    let oldest = first.map_or(known.newest + 1, |(number, _)| number.value());
    if place + 1 < oldest {
        reading.gap = Some(Gap::Expired);
        reading.place = oldest - 1;
    }
    for row in table.range(reading.place + 1..=known.newest).map_err(backend)? {
        let (number, record) = row.map_err(backend)?;
        if reading.events.len() >= limit || !reading.take(&known, number.value(), record.value())? {
            break;
        }
    }
    let Reading { gap, events, place } = reading;
    let more = place < known.newest;
    // Behind a break at the end of the journal nobody stands, since more may happen unrecorded.
    let cursor = cursor(known.journal, std::cmp::min(place, known.end))?;
    Ok(Changes { gap, events, cursor, more })
}

impl Reading {
    /// Takes an entry; says whether the read goes on. What lies before a gap and what lies behind it
    /// are two answers.
    fn take(&mut self, known: &Known, number: u64, record: &[u8]) -> Result<bool, StoreError> {
        let had = self.events.len();
        let mut is_whole = number == self.place + 1;
        if is_whole {
            match self.decode(known, number, record) {
                Ok(is_recorded) => is_whole = is_recorded,
                Err(StoreError::Corrupt { .. }) => {
                    self.events.truncate(had);
                    is_whole = false;
                }
                Err(error) => return Err(error),
            }
        }
        if !is_whole {
            if had > 0 {
                return Ok(false);
            }
            self.gap.get_or_insert(Gap::Unrecorded);
            // What lies behind entries that are missing is read as if nothing were.
            if number != self.place + 1 {
                self.place = number - 1;
                return self.take(known, number, record);
            }
        }
        self.place = number;
        Ok(true)
    }

    /// Adds the events of an entry; says whether it is none of those that tell of a gap.
    fn decode(&mut self, known: &Known, number: u64, record: &[u8]) -> Result<bool, StoreError> {
        let (header, fields) = decode_header(record)?;
        let names = NameLists { queues: &known.queues, kinds: &known.kinds };
        let mut decoding = Decoding::new(fields, names);
        let mut index = 0;
        while let Some(event) = decoding.next()? {
            let id = EventId { journal: known.journal, entry: number, index };
            self.events.push(Recorded { id, event });
            index += 1;
        }
        Ok(!header.is_break)
    }
}
