//! What does not compile, and what the compiler says then.

/// Each file stands for one group of mistakes; the messages beside it are part of the interface.
/// After a change of a message: `TRYBUILD=overwrite cargo test -p ergon-macros`.
#[test]
fn mistakes_are_errors_that_say_what_to_do() {
    trybuild::TestCases::new().compile_fail("tests/fail/*.rs");
}
