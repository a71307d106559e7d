//! The Postgres store against a server, which the environment names as `DATABASE_URL`.
#![cfg(test)]

mod connect;
mod migrate;
mod role;
mod support;
