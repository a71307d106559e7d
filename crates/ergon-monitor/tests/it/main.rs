//! The monitor as browsers and programs meet it: its routes on a store in memory, and a real socket.
#![cfg(test)]

mod access;
mod audit;
mod browser;
mod bulk;
mod cdp;
mod content;
mod export;
mod guard;
mod limits;
mod orders;
mod pages;
mod polling;
mod rig;
mod sse;
mod sse_end;
mod sse_journal;
mod standalone;
mod stream;
mod views;
