//! What can be written on the command line.

use std::net::SocketAddr;

use clap::{Parser, Subcommand};

use crate::{access::Access, store::Address};

/// Watches and steers the tasks of a store
#[derive(Debug, Parser)]
#[command(name = "ergon", version)]
pub(crate) struct Args {
    /// The store: `redb:PATH`, or `postgres://USER:PASSWORD@HOST/DATABASE`. A store in a file is used by
    /// one process at a time
    #[arg(long, env = "ERGON_STORE", hide_env_values = true)]
    pub(crate) store: Address,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve the web monitor, until Ctrl-C
    Monitor(Monitor),
}

/// How the monitor is served.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub(crate) struct Monitor {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:7766")]
    pub(crate) listen: SocketAddr,
    /// What every address begins with
    #[arg(long, default_value = "/monitor")]
    pub(crate) base_path: String,
    /// Who may come in: `loopback` (this machine alone), `basic:FILE` and `bearer:FILE` (a line `NAME:ROLE:SECRET`
    /// each, roles are viewer, operator and admin), `forwarded:HEADER:ROLE` (whoever a trusted proxy
    /// names), `none`
    #[arg(long, default_value = "loopback")]
    pub(crate) auth: Access,
    /// A proxy that is believed, as an address or a network such as `10.0.0.0/8`; may be repeated
    #[arg(long, value_name = "NETWORK")]
    pub(crate) trusted_proxy: Vec<ergon_monitor::Network>,
    /// A host name under which browsers reach the monitor; may be repeated
    #[arg(long, value_name = "HOST")]
    pub(crate) public_host: Vec<String>,
    /// What this installation is called, shown on every page
    #[arg(long)]
    pub(crate) environment: Option<String>,
    /// Tell pages of changes at once
    #[arg(long)]
    pub(crate) sse: bool,
    /// Let nobody change anything
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Answer `/metrics` without asking who comes
    #[arg(long)]
    pub(crate) open_metrics: bool,
    /// Let everybody in who reaches the address, as an administrator: says that `--auth none` is meant
    #[arg(long)]
    pub(crate) insecure_no_auth: bool,
}
