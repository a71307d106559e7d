//! Reads what a test runner prints: its summaries, and the reasons of tests that skip.
//!
//! A test skips by printing `skipped: <reason>` and returning. Runners swallow what a passing test
//! prints, so they are asked for all of it, and what is no such reason is hidden again here.

use super::tally::{Counts, Results, Skip};
use crate::command::Echo;

/// A reader of one runner's output.
pub(crate) trait Output {
    /// Takes one line and answers whether to show it.
    fn read(&mut self, line: &str) -> Echo;

    /// What the lines came to.
    fn into_results(self) -> Results;
}

/// The output of `cargo nextest run --success-output=immediate`.
#[derive(Debug)]
pub(crate) struct NextestOutput {
    results: Results,
    is_filtered: bool,
    /// The test that passed and whose output is being read.
    passed: Option<String>,
}

/// The output of `cargo test -- --show-output`.
#[derive(Debug, Default)]
pub(crate) struct LibtestOutput {
    results: Results,
    section: Section,
}

#[derive(Debug, Default)]
enum Section {
    #[default]
    Progress,
    /// Among the outputs of tests that passed, within that of the one named.
    Successes(String),
}

impl NextestOutput {
    /// With a filter, what nextest calls skipped are the tests that nobody asked for.
    pub(crate) fn new(is_filtered: bool) -> Self {
        Self { results: Results::default(), is_filtered, passed: None }
    }
}

impl Output for NextestOutput {
    fn read(&mut self, line: &str) -> Echo {
        if let Some((status, test)) = nextest_status(line) {
            let is_passed = status.ends_with("PASS") || status.ends_with("LEAK");
            self.passed = is_passed.then(|| test.to_owned());
            return Echo::Show;
        }
        let is_output = line.is_empty() || line.starts_with("  ");
        if let Some(test) = self.passed.as_ref().filter(|_| is_output) {
            if let Some(printed) = line.strip_prefix("    ") {
                note_skip(&mut self.results, test, printed);
            }
            return Echo::Hide;
        }
        self.passed = None;
        if let Some(counts) = Counts::of_nextest(line) {
            let skipped = if self.is_filtered { 0 } else { counts.skipped };
            self.results.counts = self.results.counts.plus(Counts { skipped, ..counts });
        }
        Echo::Show
    }

    fn into_results(self) -> Results {
        self.results
    }
}

impl Output for LibtestOutput {
    fn read(&mut self, line: &str) -> Echo {
        if line == "successes:" {
            self.section = Section::Successes(String::new());
            return Echo::Hide;
        }
        let counts = Counts::of_libtest(line);
        if line == "failures:" || counts.is_some() {
            self.section = Section::Progress;
        }
        if let Some(counts) = counts {
            self.results.counts = self.results.counts.plus(counts);
        }
        let Section::Successes(test) = &mut self.section else {
            return Echo::Show;
        };
        let header = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----"));
        match header {
            Some(name) => name.clone_into(test),
            None => note_skip(&mut self.results, test, line),
        }
        Echo::Hide
    }

    fn into_results(self) -> Results {
        self.results
    }
}

/// Splits `PASS [   0.004s] (1/4) demo tests::good` into the status and the test.
fn nextest_status(line: &str) -> Option<(&str, &str)> {
    let (status, rest) = line.trim_start().split_once(" [")?;
    let (time, test) = rest.split_once("] ")?;
    let is_status = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || " /-+".contains(c);
    let is_time = time.trim_start_matches([' ', '>']).strip_suffix('s')?.parse::<f64>().is_ok();
    let test = test.split_once(") ").map_or(test, |(_, test)| test);
    (is_time && status.chars().all(is_status)).then_some((status, test))
}

/// Notes the first reason a test prints: at the start of a line, or after libtest's `test x ...`.
fn note_skip(results: &mut Results, test: &str, printed: &str) {
    let after_progress = || printed.strip_prefix("test ")?.split_once(" ... skipped: ");
    let reason = printed
        .strip_prefix("skipped: ")
        .or_else(|| after_progress().map(|(_, reason)| reason))
        .map(str::trim);
    if let Some(reason) = reason
        && results.skips.iter().all(|skip| skip.test != test)
    {
        results.skips.push(Skip { test: test.to_owned(), reason: reason.to_owned() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEXTEST: &str = "\
    Starting 4 tests across 1 binary (1 test skipped)
        PASS [   0.004s] (1/4) demo tests::good
  stdout ───

    running 1 test
    noise
      skipped: 0,
    test tests::good ... ok

        PASS [   0.004s] (2/4) demo tests::skips
  stderr ───
    skipped: no server

        FAIL [   0.139s] (3/4) demo tests::bad
  stdout ───
    skipped: not a skip, for it failed
────────────
     Summary [   0.140s] 3 tests run: 2 passed, 1 failed, 1 skipped";

    const LIBTEST: &str = "\
running 3 tests
test tests::good ... ok

successes:

---- tests::good stdout ----
noise

---- tests::skips stdout ----
skipped: no server

successes:
    tests::good
    tests::skips

failures:

---- tests::bad stdout ----
why

test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.06s";

    fn read(mut output: impl Output, text: &str) -> (Vec<&str>, Results) {
        let shown = text.lines().filter(|line| output.read(line) == Echo::Show).collect();
        (shown, output.into_results())
    }

    fn expected(test: &str) -> Results {
        let skip = Skip { test: test.to_owned(), reason: "no server".to_owned() };
        Results { counts: Counts { passed: 2, failed: 1, skipped: 1 }, skips: vec![skip] }
    }

    #[test]
    fn nextest_shows_what_failing_tests_print_and_notes_why_others_skip() {
        let (shown, results) = read(NextestOutput::new(false), NEXTEST);
        assert_eq!(results, expected("demo tests::skips"));
        assert_eq!(shown.len(), 8, "{shown:#?}");
        assert!(shown.contains(&"    skipped: not a skip, for it failed"));
        assert!(!shown.contains(&"    noise"));
    }

    #[test]
    fn nextest_does_not_count_what_a_filter_left_out() {
        let (_, results) = read(NextestOutput::new(true), NEXTEST);
        assert_eq!(results.counts.skipped, 0);
    }

    #[test]
    fn libtest_shows_what_failing_tests_print_and_notes_why_others_skip() {
        let (shown, results) = read(LibtestOutput::default(), LIBTEST);
        assert_eq!(results, expected("tests::skips"));
        assert!(shown.contains(&"why"));
        assert!(!shown.contains(&"noise"));
    }

    #[test]
    fn libtest_adds_up_the_summaries_of_all_binaries() {
        let twice = format!("{LIBTEST}\n{LIBTEST}");
        let (_, results) = read(LibtestOutput::default(), &twice);
        assert_eq!(results.counts, Counts { passed: 4, failed: 2, skipped: 2 });
    }

    #[test]
    fn statuses_are_told_from_output() {
        #[track_caller]
        fn check(line: &str, expected: Option<(&str, &str)>) {
            assert_eq!(nextest_status(line), expected, "{line}");
        }
        check("        PASS [   0.004s] (1/4) demo a::b", Some(("PASS", "demo a::b")));
        check("  TRY 1 FAIL [   0.004s] (1/4) demo a::b", Some(("TRY 1 FAIL", "demo a::b")));
        check("        SLOW [> 60.000s] demo a::b", Some(("SLOW", "demo a::b")));
        check("        PASS trick", None);
        check("     Summary [   0.140s] 4 tests run: 4 passed", None);
    }
}
