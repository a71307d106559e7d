//! Prometheus metrics of ergon, a durable background-task queue.
