//! Where the workspace is and what `cargo metadata` says about it.

use std::{env, path::PathBuf};

use anyhow::{Context, Result};
use cargo_metadata::{Metadata, MetadataCommand};

/// The folder of the root manifest.
///
/// Cargo says at run time where this package is. What it said at build time is second, because
/// checkouts that share a target directory also share the binary.
pub(crate) fn root() -> PathBuf {
    let own =
        env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let mut root = PathBuf::from(own);
    root.pop();
    root
}

/// The packages of the workspace and what their manifests declare, without resolving anything.
pub(crate) fn metadata() -> Result<Metadata> {
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .context("read the workspace with cargo metadata")
}
