//! Runs the benchmark and the crash loop on a small scale.

mod bench;
mod torture;
