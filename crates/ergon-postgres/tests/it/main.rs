//! The Postgres store against a server, which the environment names as `DATABASE_URL`.
#![cfg(test)]
#![expect(clippy::large_futures, reason = "a test is polled by its runtime alone")]

mod attack;
mod connect;
mod doorbell;
mod fault;
mod journal;
mod keeper;
mod migrate;
mod model;
mod plan;
mod role;
mod suite;
mod support;
mod transaction;
