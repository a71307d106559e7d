//! The embedded store against the laws, the reference store, crashes and bad files.
#![cfg(test)]

mod concurrency;
mod fault;
mod file;
mod journal;
mod journal_damage;
mod journal_race;
mod medium;
mod misuse;
mod model;
mod power;
mod quarantine;
mod race;
mod reopen;
mod rig;
mod suite;
mod transaction;
mod transaction_journal;
mod window;
mod workload;
