//! What can go wrong when metrics are made.

/// Why metrics cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A bound is out of its range.
    #[error("{field} is {value}, which is not within 1..={max}")]
    InvalidBound {
        /// Which one.
        field: &'static str,
        /// What was chosen.
        value: usize,
        /// The most.
        max: usize,
    },
    /// The library refuses a metric of this crate.
    #[error("cannot register the metrics")]
    Register {
        /// What it says.
        #[from]
        source: prometheus::Error,
    },
}
