//! What to measure, and how: common to the benchmarks of all stores.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Result, ensure};
use tempfile::TempDir;

/// A measure that can be asked for by its name.
pub trait Listed: Copy + PartialEq {
    /// Whether it is taken only when it is asked for, because it is long.
    fn is_long(self) -> bool;
}

/// What to measure, and how.
#[derive(Clone, Debug)]
pub struct Plan<N> {
    /// Which measures; none means every one that is not long.
    pub only: Vec<N>,
    /// How often each of them is measured; at least 1.
    pub runs: u32,
    /// By how much all counts are multiplied, for a quick look. 1 measures.
    pub scale: f64,
    /// Where the files are made.
    pub dir: PathBuf,
    /// The program that runs a child when its arguments say so.
    pub program: PathBuf,
}

impl<N: Listed> Plan<N> {
    /// Says whether everything is within its range.
    pub(crate) fn check(&self) -> Result<()> {
        ensure!(self.runs > 0, "nothing is measured in 0 runs");
        ensure!(self.scale > 0.0 && self.scale <= 1.0, "a scale is more than 0 and at most 1");
        Ok(())
    }

    pub(crate) fn wants(&self, name: N) -> bool {
        if self.only.is_empty() { !name.is_long() } else { self.only.contains(&name) }
    }

    pub(crate) fn wants_one_of(&self, names: &[N]) -> bool {
        names.iter().any(|&name| self.wants(name))
    }

    /// So many, at this scale; at least `least`.
    pub(crate) fn scaled(&self, count: u32, least: u64) -> u64 {
        let scaled = format!("{:.0}", f64::from(count) * self.scale);
        std::cmp::max(scaled.parse().unwrap_or(least), least)
    }
}

impl<N> Plan<N> {
    /// A place for a fresh file.
    pub(crate) fn scratch(&self) -> Result<Scratch> {
        let dir = tempfile::Builder::new().prefix("bench-").tempdir_in(&self.dir)?;
        let file = dir.path().join("tasks.redb");
        Ok(Scratch { _dir: dir, file })
    }
}

/// A file that is removed when the run is over.
pub(crate) struct Scratch {
    _dir: TempDir,
    file: PathBuf,
}

impl Scratch {
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }
}

/// Tells how far it is, on stderr.
#[expect(clippy::print_stderr, reason = "stdout is for the results alone")]
pub(crate) fn progress(measure: &str, run: u32, what: &str) {
    eprintln!("{measure}: run {run}: {what}");
}

/// So many a second.
pub(crate) fn rate(count: u64, time: Duration) -> f64 {
    // Counts are far below 2^53.
    count as f64 / time.as_secs_f64()
}

pub(crate) fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
