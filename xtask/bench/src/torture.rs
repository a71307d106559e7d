//! The crash loop: a process killed again and again, and an audit of what its store kept.
//!
//! The supervisor starts a [`Child`] that opens the store, enqueues and works at full speed, and
//! keeps a ledger beside the store of what it was answered. After a random time it is
//! killed by SIGKILL and started again. At the end one more child works everything off and closes
//! the store, and the audit compares ledger and store.
//!
//! Children take turns in how they work. The *direct* ones speak the store's roles themselves (claim,
//! handler, finish): only so is the verdict on each outcome seen, and only what was answered can be
//! called lost or doubled. The *serving* ones run the real server, whose fetcher, completer and beat
//! are what users run; of them the ledger knows what the handlers saw. The last child is direct.
//!
//! All along the journal is followed, by followers that are killed as well: what they read has to tell
//! the story of every task that is stored, once and without a hole.

use std::{
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde::Deserialize;
use tempfile::TempDir;

use crate::process::{self, Alive};

mod audit;
mod child;
mod chore;
mod direct;
mod enqueuer;
mod follower;
mod ledger;
pub mod postgres;
mod serving;
mod story;

pub use self::child::{Child, Work};

/// How long a child lives, in milliseconds.
const LIFE_MILLIS: std::ops::RangeInclusive<u64> = 50..=800;
/// Every so many children one checks the whole store before it starts.
const CHECK_EVERY: u32 = 5;
/// A store that was killed has to be open again within this.
const REOPEN_MAX: Duration = Duration::from_secs(1);

/// A crash loop to be run.
#[derive(Clone, Debug)]
pub struct Torture {
    /// How often a process is killed.
    pub kills: u32,
    /// What the random choices start from. The same seed makes the same choices; what the machine
    /// makes of them varies.
    pub seed: u64,
    /// Where the store and the ledger are made.
    pub dir: PathBuf,
    /// The program that runs a [`Child`] when its arguments are `child …`.
    pub program: PathBuf,
}

/// What a child says once its store is open.
#[derive(Debug, Deserialize)]
struct Ready {
    open_seconds: f64,
    problems: Vec<String>,
}

/// What a child says that worked everything off.
#[derive(Debug, Deserialize)]
struct Drained {}

/// Makes a place for the store and the ledger, and keeps it if anything is wrong.
fn in_place(dir: &Path, seed: u64, run: impl FnOnce(&Path) -> Result<Report>) -> Result<Report> {
    std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    let place = tempfile::Builder::new().prefix("torture-").tempdir_in(dir)?;
    match run(place.path()) {
        Ok(mut report) => {
            if !report.is_good() {
                report.kept = Some(place.keep());
            }
            Ok(report)
        }
        Err(error) => Err(error.context(kept(place, seed))),
    }
}

impl Torture {
    /// Kills, and audits.
    ///
    /// # Errors
    ///
    /// When the loop itself does not work, or a child ends by itself. What the audit finds is in the
    /// report.
    pub fn run(&self) -> Result<Report> {
        in_place(&self.dir, self.seed, |place| self.run_in(place))
    }

    fn run_in(&self, place: &Path) -> Result<Report> {
        let mut rng = StdRng::seed_from_u64(self.seed);
        let mut report = Report { seed: self.seed, ..Report::default() };
        for round in 1..=self.kills {
            let work = if round % 2 == 1 { Work::Direct } else { Work::Serving };
            self.live_and_die(place, round, work, &mut rng, &mut report)?;
            report.kills = round;
            if round.is_multiple_of(10) {
                tell(&format!("{round} of {} kills", self.kills));
            }
        }
        let began = Instant::now();
        let round = self.kills + 1;
        let arguments = self.arguments(place, round, Work::Drain, Check::Yes);
        let mut last = process::Child::start(&self.program, arguments)?;
        report.hear(last.answer()?);
        let Drained {} = last.answer().context("the last child does not work everything off")?;
        last.wait()?;
        tell(&format!("worked off in {:.1} s", began.elapsed().as_secs_f64()));
        audit::audit(place, round, &mut report)?;
        Ok(report)
    }

    /// One child, from its start to its death.
    fn live_and_die(
        &self,
        place: &Path,
        round: u32,
        work: Work,
        rng: &mut StdRng,
        report: &mut Report,
    ) -> Result<()> {
        let life = Duration::from_millis(rng.random_range(LIFE_MILLIS));
        let check = if round.is_multiple_of(CHECK_EVERY) { Check::Yes } else { Check::No };
        let arguments = self.arguments(place, round, work, check);
        let mut child = process::Child::start(&self.program, arguments)?;
        if check == Check::Yes {
            // A check takes its time, which is not taken off the child's life.
            report.hear(child.answer()?);
        }
        std::thread::sleep(life);
        match child.kill()? {
            Alive::No(status) => bail!("child {round} ended by itself, with {status}"),
            // Killed while it was still opening, it has said nothing.
            Alive::Yes if check == Check::No => {
                child.answer().into_iter().for_each(|ready| report.hear(ready));
            }
            Alive::Yes => {}
        }
        Ok(())
    }

    fn arguments(&self, place: &Path, round: u32, work: Work, check: Check) -> Vec<OsString> {
        let mut arguments: Vec<OsString> =
            vec!["child".into(), place.into(), work.to_string().into()];
        arguments.extend([round.to_string().into(), self.seed.to_string().into()]);
        if check == Check::Yes {
            arguments.push("--check".into());
        }
        arguments
    }
}

/// Whether a child checks the whole store before it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    Yes,
    No,
}

/// What a crash loop found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What the random choices started from.
    pub seed: u64,
    /// How often a process was killed.
    pub kills: u32,
    /// Tasks whose enqueue was acknowledged.
    pub acked: usize,
    /// Times a handler was started.
    pub runs: usize,
    /// The longest time that opening the store took.
    pub slowest_reopen: Duration,
    /// What was acknowledged and is not there.
    pub lost: Vec<String>,
    /// What was done twice and must not be.
    pub doubled: Vec<String>,
    /// Events that were read of the journal.
    pub events: usize,
    /// Where the journal has a hole.
    pub missing: Vec<String>,
    /// Events that were read twice.
    pub duplicate: Vec<String>,
    /// What else is wrong.
    pub wrong: Vec<String>,
    /// Where store and ledger are kept, when anything is wrong.
    pub kept: Option<PathBuf>,
}

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub const fn is_good(&self) -> bool {
        self.lost.is_empty()
            && self.doubled.is_empty()
            && self.missing.is_empty()
            && self.duplicate.is_empty()
            && self.wrong.is_empty()
    }

    /// Everything that is wrong, in words.
    pub fn findings(&self) -> impl Iterator<Item = String> + '_ {
        let named = [
            ("lost", &self.lost),
            ("doubled", &self.doubled),
            ("missing", &self.missing),
            ("duplicate", &self.duplicate),
            ("wrong", &self.wrong),
        ];
        named
            .into_iter()
            .flat_map(|(name, all)| all.iter().map(move |what| format!("{name}: {what}")))
    }

    fn hear(&mut self, ready: Ready) {
        self.reopened(Duration::from_secs_f64(ready.open_seconds));
        self.wrong.extend(ready.problems);
    }

    /// A database was opened, which costs the same whoever was killed.
    fn hear_open(&mut self, ready: Ready) {
        self.opened(Duration::from_secs_f64(ready.open_seconds));
        self.wrong.extend(ready.problems);
    }

    fn opened(&mut self, time: Duration) {
        self.slowest_reopen = std::cmp::max(self.slowest_reopen, time);
    }

    /// A file was opened whose owner was killed.
    fn reopened(&mut self, time: Duration) {
        self.opened(time);
        if time > REOPEN_MAX {
            self.wrong.push(format!("opening the store took {:.2} s", time.as_secs_f64()));
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} kills, {} acked, {} runs, slowest reopen {:.2} s, {} events: missing {}, duplicate {}; {} lost, {} doubled",
            self.kills,
            self.acked,
            self.runs,
            self.slowest_reopen.as_secs_f64(),
            self.events,
            self.missing.len(),
            self.duplicate.len(),
            self.lost.len(),
            self.doubled.len()
        )?;
        if self.wrong.is_empty() { Ok(()) } else { write!(f, ", {} wrong", self.wrong.len()) }
    }
}

/// Keeps what a loop that did not work left behind, and says where.
fn kept(place: TempDir, seed: u64) -> String {
    format!("seed {seed}, kept in {}", place.keep().display())
}

/// Tells how far it is, on stderr.
#[expect(clippy::print_stderr, reason = "stdout is for the result alone")]
fn tell(what: &str) {
    eprintln!("torture: {what}");
}

/// The store of a crash loop.
fn store_file(place: &Path) -> PathBuf {
    place.join("tasks.redb")
}
