//! The crash loop of the Postgres store: many processes over one database, one of which is killed
//! again and again.
//!
//! Some processes enqueue, some work through the store's roles, some run the real server. The
//! supervisor kills one of them at random by SIGKILL every now and then, and starts another in its
//! place. Beside it the process that follows the journal is killed each time. What it left behind is taken back by the others once its leases are over. At the end all
//! are killed, and one more process works everything off; then the audit compares the ledgers of all
//! of them with the store.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use ergon_cluster::{Cluster, Settings};
use ergon_core::{Clock as _, SystemClock, time::to_micros};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::{Drained, Report, in_place, tell};
use crate::process::{self, Alive};

mod audit;
mod child;

pub use self::child::{Child, Role};

/// What the processes do.
const ROLES: [Role; 8] = [
    Role::Enqueue,
    Role::Enqueue,
    Role::Enqueue,
    Role::Enqueue,
    Role::Direct,
    Role::Direct,
    Role::Serving,
    Role::Serving,
];

/// How long it is between two kills, in milliseconds.
const PAUSE_MILLIS: std::ops::RangeInclusive<u64> = 200..=2_000;

/// A crash loop to be run.
#[derive(Clone, Debug)]
pub struct Torture {
    /// How often a process is killed.
    pub kills: u32,
    /// What the random choices start from. The same seed makes the same choices; what the machine
    /// makes of them varies.
    pub seed: u64,
    /// Where the cluster and the ledgers are made.
    pub dir: PathBuf,
    /// The program that runs a [`Child`] when its arguments are `postgres-child …`.
    pub program: PathBuf,
}

/// A process that is alive, or was.
#[derive(Debug)]
struct Life {
    round: u32,
    role: Role,
    process: process::Child,
}

/// When each process was killed, by its round, in microseconds since 1970.
type Deaths = std::collections::BTreeMap<u32, i64>;

impl Torture {
    /// Kills, and audits.
    ///
    /// # Errors
    ///
    /// When there is no Postgres on this machine, the loop itself does not work, or a process ends by
    /// itself. What the audit finds is in the report.
    pub fn run(&self) -> Result<Report> {
        in_place(&self.dir, self.seed, |place| self.run_in(place))
    }

    fn run_in(&self, place: &Path) -> Result<Report> {
        let settings = Settings::default().directory(&self.dir);
        let cluster = Cluster::start(settings).context("start a Postgres server")?;
        let report = self.run_over(&cluster, place);
        report.with_context(|| format!("the log of the server ends with\n{}", cluster.log()))
    }

    fn run_over(&self, cluster: &Cluster, place: &Path) -> Result<Report> {
        let url = cluster.url();
        let mut rng = StdRng::seed_from_u64(self.seed);
        let mut report = Report { seed: self.seed, ..Report::default() };
        let (mut rounds, mut deaths) = (0, Deaths::new());
        let mut start = |role| -> Result<Life> {
            rounds += 1;
            let arguments = self.arguments(place, &url, role, rounds);
            let process = process::Child::start(&self.program, arguments)?;
            Ok(Life { round: rounds, role, process })
        };
        // Watches before anything happens.
        let mut follower = start(Role::Follow)?;
        report.hear_open(follower.process.answer()?);
        let mut lives = Vec::new();
        for role in ROLES {
            lives.push(start(role)?);
        }
        for kill in 1..=self.kills {
            std::thread::sleep(Duration::from_millis(rng.random_range(PAUSE_MILLIS)));
            let victim = lives.swap_remove(rng.random_range(0..lives.len()));
            let role = victim.role;
            victim.end(&mut deaths, &mut report)?;
            lives.push(start(role)?);
            // One at a time: they share a file.
            follower.end(&mut deaths, &mut report)?;
            follower = start(Role::Follow)?;
            report.kills = kill;
            if kill.is_multiple_of(10) {
                tell(&format!("{kill} of {} kills", self.kills));
            }
        }
        for life in lives.into_iter().chain([follower]) {
            life.end(&mut deaths, &mut report)?;
        }
        let began = Instant::now();
        let mut last = start(Role::Drain)?.process;
        report.hear_open(last.answer()?);
        let Drained {} = last.answer().context("the last child does not work everything off")?;
        last.wait()?;
        tell(&format!("worked off in {:.1} s", began.elapsed().as_secs_f64()));
        audit::audit(place, &url, rounds, &deaths, &mut report)?;
        Ok(report)
    }

    fn arguments(&self, place: &Path, url: &str, role: Role, round: u32) -> [OsString; 6] {
        let (role, round) = (role.to_string(), round.to_string());
        let seed = self.seed.to_string();
        ["postgres-child".into(), place.into(), url.into(), role.into(), round.into(), seed.into()]
    }
}

impl Life {
    /// Kills the process, and notes when.
    fn end(mut self, deaths: &mut Deaths, report: &mut Report) -> Result<()> {
        let (round, role) = (self.round, self.role);
        if let Alive::No(status) = self.process.kill()? {
            bail!("child {round}, {role}, ended by itself, with {status}");
        }
        deaths.insert(round, to_micros(SystemClock.now()));
        // Killed while it was still connecting, it has said nothing.
        self.process.answer().into_iter().for_each(|ready| report.hear_open(ready));
        Ok(())
    }
}
