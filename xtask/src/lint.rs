//! What the toolchain itself can check: formatting, clippy, rustdoc.

use anyhow::Result;

use crate::command::{cargo, run as run_command};

/// The rustfmt options of the `xfmt` alias; rustfmt takes them by `--config` only on stable.
const FMT_CONFIG: &str = "imports_granularity=Crate,group_imports=StdExternalCrate,\
                          format_code_in_doc_comments=true";

/// All three checks, cheapest first.
pub(crate) fn run() -> Result<()> {
    fmt()?;
    clippy()?;
    rustdoc()
}

/// Fails when `cargo xfmt` would change a file.
pub(crate) fn fmt() -> Result<()> {
    run_command(&mut cargo(["fmt", "--all", "--", "--check", "--config", FMT_CONFIG]))
}

/// Fails on any warning of rustc or clippy, in every target and with every feature.
pub(crate) fn clippy() -> Result<()> {
    run_command(&mut cargo([
        "clippy",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--",
        "-D",
        "warnings",
    ]))
}

/// Fails on any warning of rustdoc, such as a link that leads nowhere.
pub(crate) fn rustdoc() -> Result<()> {
    let mut command = cargo(["doc", "--workspace", "--no-deps", "--all-features"]);
    run_command(command.env("RUSTDOCFLAGS", "-D warnings"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::workspace;

    #[test]
    fn the_alias_formats_what_the_check_checks() -> Result<()> {
        let aliases = fs::read_to_string(workspace::root().join(".cargo/config.toml"))?;
        let expected = format!("xfmt = \"fmt --all -- --config {FMT_CONFIG}\"");
        assert!(aliases.contains(&expected), "expected {expected:?} in .cargo/config.toml");
        Ok(())
    }
}
