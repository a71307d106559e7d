//! The metrics, as those see them who publish events, and those who scrape.

#![cfg(test)]

mod documents;
mod hostile;
mod promtool;
mod publish;
mod sampler;
mod scrape;
mod store;
