//! A named and timed sequence of checks that stops at the first failure.

use std::{
    fmt,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::test::tally::Tally;

/// One check.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) run: fn() -> Result<Outcome>,
}

/// What a check that did not fail has to say.
#[derive(Debug)]
pub(crate) enum Outcome {
    Passed,
    Tested(Tally),
    Skipped(String),
}

/// How a sequence went, step by step.
#[derive(Debug, Default)]
pub(crate) struct Report {
    lines: Vec<Line>,
    tally: Option<Tally>,
    failed: Option<&'static str>,
}

#[derive(Debug)]
struct Line {
    name: &'static str,
    verdict: Verdict,
    elapsed: Duration,
}

#[derive(Debug)]
enum Verdict {
    Ok,
    Skipped(String),
    Failed,
    NotRun,
}

/// Runs the steps in order; those after a failure are reported as not run.
pub(crate) fn run_all(steps: &[Step]) -> Report {
    let mut report = Report::default();
    for step in steps {
        let (verdict, elapsed) = if report.failed.is_some() {
            (Verdict::NotRun, Duration::ZERO)
        } else {
            eprintln!("\n=== {} ===", step.name);
            let start = Instant::now();
            let verdict = report.verdict_of(step);
            let elapsed = start.elapsed();
            eprintln!("=== {}: {verdict} in {:.1} s ===", step.name, elapsed.as_secs_f64());
            (verdict, elapsed)
        };
        report.lines.push(Line { name: step.name, verdict, elapsed });
    }
    report
}

impl Report {
    pub(crate) fn is_success(&self) -> bool {
        self.failed.is_none()
    }

    /// The last line of all: the tests that ran, and which step failed if one did.
    pub(crate) fn closing_line(&self) -> String {
        let tests = match &self.tally {
            Some(tally) => tally.to_string(),
            None => "ergon: no tests ran".to_owned(),
        };
        match self.failed {
            Some(name) => format!("{tests}; the step `{name}` failed"),
            None => tests,
        }
    }

    fn verdict_of(&mut self, step: &Step) -> Verdict {
        match (step.run)() {
            Ok(Outcome::Passed) => Verdict::Ok,
            Ok(Outcome::Skipped(reason)) => Verdict::Skipped(reason),
            Ok(Outcome::Tested(tally)) => {
                let is_success = tally.is_success();
                self.tally = Some(tally);
                if is_success { Verdict::Ok } else { self.fail(step) }
            }
            Err(error) => {
                eprintln!("error: {error:#}");
                self.fail(step)
            }
        }
    }

    fn fail(&mut self, step: &Step) -> Verdict {
        self.failed = Some(step.name);
        Verdict::Failed
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total: Duration = self.lines.iter().map(|line| line.elapsed).sum();
        writeln!(f, "=== summary ===")?;
        for line in &self.lines {
            let seconds = line.elapsed.as_secs_f64();
            writeln!(f, "{:<12}{seconds:>8.1} s  {}", line.name, line.verdict)?;
        }
        write!(f, "{:<12}{:>8.1} s", "total", total.as_secs_f64())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("ok"),
            Self::Skipped(reason) => write!(f, "skipped: {reason}"),
            Self::Failed => f.write_str("FAILED"),
            Self::NotRun => f.write_str("not run"),
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;
    use crate::test::tally::Counts;

    const PASSES: Step = Step { name: "passes", run: || Ok(Outcome::Passed) };
    const SKIPS: Step = Step { name: "skips", run: || Ok(Outcome::Skipped("no moon".to_owned())) };
    const FAILS: Step = Step { name: "fails", run: || bail!("as told") };
    const TESTS: Step = Step { name: "test", run: || Ok(Outcome::Tested(tally(0))) };
    const BROKEN_TESTS: Step = Step { name: "test", run: || Ok(Outcome::Tested(tally(1))) };

    const fn tally(failed: u64) -> Tally {
        let units = Counts { passed: 7, failed, skipped: 0 };
        let doctests = Counts { passed: 2, failed: 0, skipped: 0 };
        Tally { units, doctests, skips: Vec::new() }
    }

    #[test]
    fn a_success_closes_with_the_number_of_tests() {
        let report = run_all(&[PASSES, SKIPS, TESTS]);
        assert!(report.is_success());
        assert!(report.to_string().contains("skipped: no moon"));
        assert_eq!(
            report.closing_line(),
            "ergon: 9 tests passed, 0 failed, 0 skipped (7 unit and integration, 2 doctests)"
        );
    }

    #[test]
    fn the_first_failure_stops_the_rest() {
        let report = run_all(&[PASSES, FAILS, TESTS]);
        assert!(!report.is_success());
        assert!(report.to_string().contains("not run"));
        assert_eq!(report.closing_line(), "ergon: no tests ran; the step `fails` failed");
    }

    #[test]
    fn a_failing_test_fails_its_step() {
        let report = run_all(&[BROKEN_TESTS, PASSES]);
        assert!(!report.is_success());
        assert!(report.closing_line().contains("1 failed"));
        assert!(report.closing_line().ends_with("the step `test` failed"));
    }
}
