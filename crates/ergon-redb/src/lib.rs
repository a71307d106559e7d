//! The embedded store of ergon: one redb file of this process, no server to run.
//!
//! One thread writes. What callers ask for while it commits is carried out together in the next
//! transaction, and acknowledged after the fsync. Claims are served from memory and write nothing:
//! when the process is gone, so are its claims, and the tasks are ready again when the file is next
//! opened. While somebody watches, each commit writes down what it made happen. `FORMAT.md` beside
//! this crate's manifest draws every byte of the file.
//!
//! Use [`RedbStore`] with `ergon_core::Client` and `ergon_server::Server`.

mod batch;
mod codec;
mod control;
mod database;
mod dispatch;
mod document;
mod enqueue;
mod error;
mod expiry;
mod inbox;
mod inspect;
mod integrity;
mod journal;
mod key;
mod live;
mod lock;
mod maintain;
mod names;
mod observe;
mod open;
mod options;
mod queue;
mod reader;
mod ready;
mod record;
mod shared;
mod store;
mod table;
mod transaction;
mod unique;
mod wake;
mod writer;

pub use crate::{
    error::{Holder, OpenError},
    integrity::Integrity,
    options::RedbOptions,
    store::RedbStore,
    transaction::EnqueueInTransaction,
};
