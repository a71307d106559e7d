//! Every check of the repository, in the order in which a failure is cheapest to find.

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    deny, layers, lint,
    step::{self, Outcome, Step},
    test, tidy, torture,
};

const STEPS: &[Step] = &[
    Step { name: "fmt", run: || passed(lint::fmt()) },
    Step { name: "clippy", run: || passed(lint::clippy()) },
    Step { name: "layers", run: || passed(layers::run()) },
    Step { name: "tidy", run: || passed(tidy::run()) },
    Step { name: "rustdoc", run: || passed(lint::rustdoc()) },
    Step { name: "test", run: || test::run(&test::Selection::default()).map(Outcome::Tested) },
    Step { name: "torture", run: || passed(torture::check(&torture::Request::of_ci("redb"))) },
    Step { name: "torture-pg", run: torture_postgres },
    Step { name: "deny", run: deny::policy },
    Step { name: "advisories", run: deny::advisories },
];

/// Runs all steps and closes with a summary, whose last line counts the tests.
pub(crate) fn run() -> Result<ExitCode> {
    let report = step::run_all(STEPS);
    eprintln!("\n{report}");
    println!("{}", report.closing_line());
    Ok(if report.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The crash loop of the Postgres store, where there is a Postgres.
fn torture_postgres() -> Result<Outcome> {
    match ergon_cluster::find_postgres() {
        Ok(_programs) => passed(torture::check(&torture::Request::of_ci("postgres"))),
        Err(missing) => Ok(Outcome::Skipped(missing.to_string())),
    }
}

fn passed(result: Result<()>) -> Result<Outcome> {
    result.map(|()| Outcome::Passed)
}
