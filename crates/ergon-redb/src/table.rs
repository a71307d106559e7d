//! The tables of the file; `FORMAT.md` draws their keys and values.

use ergon_core::StoreError;
use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};

use crate::{error::backend, key::READY_KEY_LEN};

/// The format of the file, raised by every change that an older version would misread.
pub(crate) const FORMAT: u32 = 2;
/// The oldest format that is read, and becomes the present one.
pub(crate) const FORMAT_MIN: u32 = 1;

pub(crate) type Definition<K, V> = TableDefinition<'static, K, V>;
type Id = &'static [u8; 16];
pub(crate) type Record = &'static [u8];

/// Format, incarnation, whether the store was closed, the number of the journal.
pub(crate) const META: Definition<&str, u64> = TableDefinition::new("ergon.meta");
/// Namespace and number → name.
pub(crate) const NAME: Definition<&[u8; 5], &str> = TableDefinition::new("ergon.name");
/// Id → what never changes; behind every id, queue → whether it is paused, and its counters.
pub(crate) const BODY: Definition<Id, Record> = TableDefinition::new("ergon.body");
/// Id → what has changed since the enqueue.
pub(crate) const HEAD: Definition<Id, Record> = TableDefinition::new("ergon.head");
/// Lane and place → flags, for every waiting or running task.
pub(crate) const READY: Definition<&[u8; READY_KEY_LEN], u8> = TableDefinition::new("ergon.ready");
/// Id → when it was claimed, for tasks that have been running for a while.
pub(crate) const STARTED: Definition<Id, Record> = TableDefinition::new("ergon.started");
/// Phase and id, for failed and cancelled tasks.
pub(crate) const MARKED: Definition<&[u8; 17], ()> = TableDefinition::new("ergon.marked");
/// Hash of a unique key → its holder.
pub(crate) const UNIQUE: Definition<&[u8; 32], Record> = TableDefinition::new("ergon.unique");
/// When, and a running number → the ids, or the unique keys, that may go then.
pub(crate) const EXPIRY: Definition<&[u8; 16], Record> = TableDefinition::new("ergon.expiry");
/// Id → why the task was set aside: its record does not read back.
pub(crate) const QUARANTINE: Definition<Id, &str> = TableDefinition::new("ergon.quarantine");
/// Number → what one commit recorded.
pub(crate) const JOURNAL: Definition<u64, Record> = TableDefinition::new("ergon.journal");
/// Name of a watcher → how long it watches, and its place.
pub(crate) const WATCHER: Definition<&str, Record> = TableDefinition::new("ergon.watcher");

/// Space and key → a document.
pub(crate) const DOCUMENT: Definition<&[u8], Record> = TableDefinition::new("ergon.document");
/// When a document may go, its space and its key.
pub(crate) const DOCUMENT_EXPIRY: Definition<&[u8], ()> =
    TableDefinition::new("ergon.document_expiry");

/// The tables of one write transaction, each opened when it is first needed.
pub(crate) struct Tables<'t> {
    transaction: &'t WriteTransaction,
    body: Option<Table<'t, Id, Record>>,
    head: Option<Table<'t, Id, Record>>,
    ready: Option<Table<'t, &'static [u8; READY_KEY_LEN], u8>>,
    started: Option<Table<'t, Id, Record>>,
    marked: Option<Table<'t, &'static [u8; 17], ()>>,
    unique: Option<Table<'t, &'static [u8; 32], Record>>,
    expiry: Option<Table<'t, &'static [u8; 16], Record>>,
    journal: Option<Table<'t, u64, Record>>,
}

macro_rules! tables {
    ($($field:ident: $definition:ident<$key:ty, $value:ty>;)*) => {
        impl<'t> Tables<'t> {
            pub(crate) const fn new(transaction: &'t WriteTransaction) -> Self {
                Self { transaction, $($field: None),* }
            }

            $(pub(crate) fn $field(&mut self) -> Result<&mut Table<'t, $key, $value>, StoreError> {
                let table = match self.$field.take() {
                    Some(table) => table,
                    None => self.transaction.open_table($definition).map_err(backend)?,
                };
                Ok(self.$field.insert(table))
            })*
        }
    };
}

tables! {
    body: BODY<Id, Record>;
    head: HEAD<Id, Record>;
    ready: READY<&'static [u8; READY_KEY_LEN], u8>;
    started: STARTED<Id, Record>;
    marked: MARKED<&'static [u8; 17], ()>;
    unique: UNIQUE<&'static [u8; 32], Record>;
    expiry: EXPIRY<&'static [u8; 16], Record>;
    journal: JOURNAL<u64, Record>;
}

impl Tables<'_> {
    pub(crate) const fn transaction(&self) -> &WriteTransaction {
        self.transaction
    }

    /// Reads a value as owned bytes.
    pub(crate) fn read<K: redb::Key + 'static>(
        table: &Table<'_, K, Record>,
        key: K::SelfType<'_>,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let found = table.get(key).map_err(backend)?;
        Ok(found.map(|guard| guard.value().to_vec()))
    }
}

/// Creates every table, so that readers find them.
pub(crate) fn create_all(transaction: &WriteTransaction) -> Result<(), redb::TableError> {
    transaction.open_table(META)?;
    transaction.open_table(NAME)?;
    transaction.open_table(BODY)?;
    transaction.open_table(HEAD)?;
    transaction.open_table(READY)?;
    transaction.open_table(STARTED)?;
    transaction.open_table(MARKED)?;
    transaction.open_table(UNIQUE)?;
    transaction.open_table(EXPIRY)?;
    transaction.open_table(QUARANTINE)?;
    transaction.open_table(JOURNAL)?;
    transaction.open_table(WATCHER)?;
    transaction.open_table(DOCUMENT)?;
    transaction.open_table(DOCUMENT_EXPIRY)?;
    Ok(())
}
