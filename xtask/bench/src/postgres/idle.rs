//! What a server costs that has nothing to do.

use std::ffi::OsString;

use anyhow::{Context, Result};
use serde::{Deserialize, de::IgnoredAny};

use super::{Host, Name, Plan, host::Database};
use crate::{
    measure::{Goal, Measure},
    plan::progress,
    process::Child,
};

#[derive(Debug, Deserialize)]
struct Idled {
    cpu_percent: f64,
}

/// Transactions a second in the database, and part of a core of the server's process.
pub(super) fn idle(plan: &Plan, host: &Host) -> Result<Vec<Measure>> {
    if !plan.common.wants(Name::Idle) {
        return Ok(Vec::new());
    }
    let millis = plan.common.scaled(30_000, 1_000);
    let measure = |name, unit, goal| {
        Measure::new(name, unit).with("millis", millis).with_goal(Goal::AtMost(goal))
    };
    let mut statements = measure("idle_statements", "1/s", 2.0);
    let mut cpu = measure("idle_cpu", "%", 0.5);
    // It is steady, and takes its time.
    for run in 1..=std::cmp::min(plan.common.runs, 1) {
        let database = host.database()?;
        let arguments: [OsString; 4] = [
            "postgres-child".into(),
            "idle".into(),
            database.url().into(),
            millis.to_string().into(),
        ];
        let mut child = Child::start(&plan.common.program, arguments)?;
        child.answer::<IgnoredAny>()?;
        let before = transactions(&database)?;
        child.answer::<IgnoredAny>()?;
        let after = transactions(&database)?;
        let idled: Idled = child.answer()?;
        child.wait()?;
        // Counts are far below 2^53.
        let rate = (after - before) as f64 / (millis as f64 / 1_000.0);
        progress("idle", run, &format!("{rate:.2} statements/s, {:.2} %", idled.cpu_percent));
        statements.push(rate);
        cpu.push(idled.cpu_percent);
    }
    Ok(vec![statements, cpu])
}

/// Transactions that ended in the database; each statement of the store is one.
fn transactions(database: &Database<'_>) -> Result<i64> {
    let name = database.name();
    let sql = format!(
        "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = '{name}'"
    );
    database.ask(&sql)?.first().copied().context("no such database")
}
