//! The runtime of ergon: claims tasks, runs handlers, records outcomes.
