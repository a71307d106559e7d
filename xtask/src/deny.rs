//! What cargo-deny checks: bans, licenses, sources, and known vulnerabilities.

use anyhow::{Result, bail};

use crate::{
    command::{Echo, Pipe, cargo, is_installed, run, stream},
    step::Outcome,
};

const MISSING: &str = "cargo-deny is not installed (cargo install --locked cargo-deny)";

/// What cargo-deny prints when the network, not a dependency, is at fault.
const NOT_FETCHED: &str = "failed to fetch advisory database";

/// Bans, licenses and sources, which need no network.
pub(crate) fn policy() -> Result<Outcome> {
    if !is_installed("deny") {
        return Ok(skipped(MISSING));
    }
    run(&mut cargo(["deny", "check", "bans", "licenses", "sources"]))?;
    Ok(Outcome::Passed)
}

/// Known vulnerabilities; skipped when their database is out of reach.
pub(crate) fn advisories() -> Result<Outcome> {
    if !is_installed("deny") {
        return Ok(skipped(MISSING));
    }
    let mut is_fetched = true;
    let status = stream(&mut cargo(["deny", "check", "advisories"]), Pipe::Stderr, |line| {
        is_fetched &= !line.contains(NOT_FETCHED);
        Echo::Show
    })?;
    match (status.success(), is_fetched) {
        (true, _) => Ok(Outcome::Passed),
        (false, false) => Ok(skipped("the advisory database cannot be fetched")),
        (false, true) => bail!("cargo deny check advisories ended with {status}"),
    }
}

fn skipped(reason: &str) -> Outcome {
    eprintln!("skipped: {reason}");
    Outcome::Skipped(reason.to_owned())
}
