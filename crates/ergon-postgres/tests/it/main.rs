//! The Postgres store against a server, which the environment names as `DATABASE_URL`.
#![cfg(test)]

mod connect;
mod doorbell;
mod fault;
mod keeper;
mod migrate;
mod model;
mod plan;
mod role;
mod suite;
mod support;
mod transaction;
