//! OpenTelemetry spans and metrics of ergon, a durable background-task queue.
