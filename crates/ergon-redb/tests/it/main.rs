//! The embedded store against the laws, the reference store, crashes and bad files.
#![cfg(test)]

mod model;
mod suite;
