//! Numbers of tests, and the two summary lines they are read from.

use std::fmt;

/// How many tests passed, failed, and were not run although they were asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

/// A test that ended early because it could not do its work here, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Skip {
    pub(crate) test: String,
    pub(crate) reason: String,
}

/// What one run of a test runner came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Results {
    pub(crate) counts: Counts,
    pub(crate) skips: Vec<Skip>,
}

/// What the tests of the workspace came to.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    pub(crate) units: Counts,
    pub(crate) doctests: Counts,
    pub(crate) skips: Vec<Skip>,
}

impl Counts {
    /// Reads nextest's `Summary [ 0.140s] 4 tests run: 3 passed, 1 failed, 1 skipped`.
    pub(crate) fn of_nextest(line: &str) -> Option<Self> {
        let rest = line.trim_start().strip_prefix("Summary [")?;
        let (_, counts) = rest.split_once(" run: ")?;
        Some(Self::of_list(&without_brackets(counts), ", "))
    }

    /// Reads libtest's `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; …`.
    pub(crate) fn of_libtest(line: &str) -> Option<Self> {
        let rest = line.strip_prefix("test result: ")?;
        let (_, counts) = rest.split_once(". ")?;
        Some(Self::of_list(counts, "; "))
    }

    /// What a run says about a test that printed its reason to skip is that it passed.
    pub(crate) fn with_skips(self, skips: usize) -> Self {
        let skips = u64::try_from(skips).unwrap_or(u64::MAX);
        Self {
            passed: self.passed.saturating_sub(skips),
            failed: self.failed,
            skipped: self.skipped.saturating_add(skips),
        }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            passed: self.passed.saturating_add(other.passed),
            failed: self.failed.saturating_add(other.failed),
            skipped: self.skipped.saturating_add(other.skipped),
        }
    }

    fn of_list(list: &str, separator: &str) -> Self {
        let mut counts = Self::default();
        for item in list.split(separator) {
            let Some((number, what)) = item.trim().split_once(' ') else {
                continue;
            };
            let Ok(number) = number.parse::<u64>() else {
                continue;
            };
            match what.trim() {
                "passed" => counts.passed += number,
                "failed" | "exec failed" | "timed out" => counts.failed += number,
                "skipped" | "ignored" => counts.skipped += number,
                _ => {}
            }
        }
        counts
    }
}

impl Tally {
    pub(crate) fn new(units: Results, doctests: Results) -> Self {
        let mut skips = units.skips;
        let in_units = skips.len();
        let in_doctests = doctests.skips.len();
        skips.extend(doctests.skips);
        Self {
            units: units.counts.with_skips(in_units),
            doctests: doctests.counts.with_skips(in_doctests),
            skips,
        }
    }

    pub(crate) fn is_success(&self) -> bool {
        self.total().failed == 0
    }

    /// Whether not a single test was run.
    pub(crate) fn is_empty(&self) -> bool {
        self.total() == Counts::default()
    }

    fn total(&self) -> Counts {
        self.units.plus(self.doctests)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { passed, failed, skipped } = self.total();
        let (units, doctests) = (self.units.passed, self.doctests.passed);
        write!(
            f,
            "ergon: {passed} tests passed, {failed} failed, {skipped} skipped \
             ({units} unit and integration, {doctests} doctests)"
        )
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "skipped: {}: {}", self.test, self.reason)
    }
}

/// Drops remarks such as `(2 slow, 1 flaky)`, whose tests are counted already.
fn without_brackets(text: &str) -> String {
    let mut depth = 0_usize;
    let mut kept = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ if depth == 0 => kept.push(c),
            _ => {}
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn counts(passed: u64, failed: u64, skipped: u64) -> Counts {
        Counts { passed, failed, skipped }
    }

    #[test]
    fn nextest_summaries_are_read() {
        #[track_caller]
        fn check(line: &str, expected: Option<Counts>) {
            assert_eq!(Counts::of_nextest(line), expected, "{line}");
        }
        check(
            "     Summary [   0.140s] 4 tests run: 3 passed, 1 failed, 1 skipped",
            Some(counts(3, 1, 1)),
        );
        check("     Summary [   0.006s] 1 test run: 1 passed, 4 skipped", Some(counts(1, 0, 4)));
        check("Summary [1.0s] 0 tests run: 0 passed, 5 skipped", Some(counts(0, 0, 5)));
        check(
            "Summary [ 9.1s] 9/10 tests run: 5 passed (2 slow, 1 flaky), 1 failed, \
             1 exec failed, 2 timed out, 0 skipped",
            Some(counts(5, 4, 0)),
        );
        check("    Starting 4 tests across 1 binary", None);
    }

    #[test]
    fn libtest_summaries_are_read() {
        let line = "test result: FAILED. 3 passed; 1 failed; 1 ignored; 0 measured; 7 filtered out";
        assert_eq!(Counts::of_libtest(line), Some(counts(3, 1, 1)));
        assert_eq!(Counts::of_libtest("test tests::good ... ok"), None);
    }

    #[test]
    fn a_skip_counts_as_skipped_and_not_as_passed() {
        let skip = Skip { test: "a::b".to_owned(), reason: "no server".to_owned() };
        let units = Results { counts: counts(5, 0, 0), skips: vec![skip] };
        let doctests = Results { counts: counts(2, 0, 1), skips: Vec::new() };
        let tally = Tally::new(units, doctests);
        assert_eq!(
            tally.to_string(),
            "ergon: 6 tests passed, 0 failed, 2 skipped (4 unit and integration, 2 doctests)"
        );
        assert_eq!(tally.skips[0].to_string(), "skipped: a::b: no server");
    }
}
