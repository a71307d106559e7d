//! What the derive writes, and what it refuses.

#![cfg(test)]

mod accept;
mod refuse;
