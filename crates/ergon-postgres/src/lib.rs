//! The Postgres store of ergon: many processes, one queue.

mod bound;
mod change;
mod connect;
mod control;
mod database;
mod dispatch;
mod document;
mod doorbell;
mod enqueue;
mod error;
mod inspect;
mod journal;
mod keeper;
mod maintain;
mod migrate;
mod name;
mod observe;
mod options;
mod place;
mod range;
mod runner;
mod schema;
mod shared;
mod spec;
mod sql;
mod store;
mod transaction;
mod value;
mod wait;

pub use crate::{
    error::{ConnectError, MigrateError, ServerError},
    keeper::Housekeeping,
    migrate::{AppliedMigration, Migrator, SchemaStatus},
    options::PostgresOptions,
    store::PostgresStore,
    transaction::EnqueueInTransaction,
};
