//! wip
#![cfg(test)]
#![allow(dead_code, unused_imports)]

#[path = "../it/medium.rs"]
mod medium;
#[path = "../it/reopen.rs"]
mod reopen;
#[path = "../it/rig.rs"]
mod rig;
#[path = "../it/window.rs"]
mod window;
