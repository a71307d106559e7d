//! Benchmarks and the crash loop of ergon.
