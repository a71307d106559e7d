//! MemoryStore, the conformance suite and helpers for testing ergon tasks and stores.
