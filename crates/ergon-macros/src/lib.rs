//! The derive macro of ergon's Task trait; use it through ergon-core.
