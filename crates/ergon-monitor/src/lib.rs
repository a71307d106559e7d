//! The web monitor of ergon: pages for people, a JSON API and health for programs.
//!
//! A [`Monitor`] shows what stands in a store and gives an operator's orders. It reads and writes
//! nothing but the store, so it can run beside the servers or on its own, once or many times.
//!
//! # Using it
//!
//! 1. Choose who may come in: [`Auth`] has no default.
//! 2. Make a [`MonitorConfig`], and a monitor by [`Monitor::builder`].
//! 3. [Merge](Monitor::router) it into an axum application, or [`serve`](Monitor::serve) it.
//!
//! ```no_run
//! use ergon_monitor::{Auth, Monitor, MonitorConfig, Role, Secret, User};
//! use ergon_testing::MemoryStore;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let ana = User::new("ana", Secret::new(std::env::var("ANA_PASSWORD")?), Role::Operator);
//! let config = MonitorConfig::new(Auth::Basic(vec![ana])).environment("prod·eu");
//! let monitor = Monitor::builder(MemoryStore::new(), config).build()?;
//! monitor.serve(std::future::pending()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What it is careful of
//!
//! Nothing is open by accident: without a check of who comes it answers this machine alone, it knows the
//! names it may be asked under, what changes something has to come from its own pages, and what browsers
//! may load is its own styles and scripts. Payloads are shown to those who may see them, without what
//! [`Redaction`] hides.
//!
//! Every order is written into the audit trail of the store before it is carried out, and again with what
//! came of it; what is refused is written down too. The log is told the same under `ergon::audit`.
//!
//! Looking costs the store little: readings are few at once and short, all who look at the same view
//! share one, and no page reads more than some hundred tasks.

mod actions;
mod api;
mod assets;
mod audit;
pub mod auth;
mod bound;
mod bulk;
mod cache;
pub mod config;
mod csrf;
pub mod error;
mod export;
mod fields;
mod frame;
mod guard;
mod health;
mod json;
mod limit;
mod link;
pub mod monitor;
pub mod network;
mod notice;
mod pages;
mod parts;
pub mod redact;
mod respond;
mod router;
mod serve;
mod service;
mod shared;
mod sse;
mod text;
mod value;
mod view;
mod visit;

#[doc(inline)]
pub use crate::{
    auth::{
        AccessToken, Acknowledge, Action, Auth, Authenticate, Denial, Permissions, Principal, Role,
        Roles, Secret, User,
    },
    config::MonitorConfig,
    error::MonitorError,
    monitor::{Monitor, MonitorBuilder},
    network::Network,
    redact::Redaction,
};
