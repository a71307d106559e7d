//! The names of the messaging conventions of OpenTelemetry, of one version.
//!
//! They are written out, since the conventions are in development and a newer version of them is a
//! change that users see. A test compares them with that version.

/// The version of the semantic conventions that the telemetry of this crate follows.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.42.0";

/// What `messaging.system` says.
pub const SYSTEM: &str = "ergon";

/// What the conventions advise for the buckets of durations, in seconds.
pub const DURATION_BOUNDARIES: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// The same, in seconds, and 30 s, 1 min, 5 min and 30 min beyond: tasks run longer than messages are
/// processed for.
pub const PROCESS_BOUNDARIES: [f64; 18] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0,
    300.0, 1_800.0,
];

/// Names of attributes, without ours.
pub(crate) mod key {
    pub(crate) const BATCH_MESSAGE_COUNT: &str = "messaging.batch.message_count";
    pub(crate) const CLIENT_ID: &str = "messaging.client.id";
    pub(crate) const DESTINATION_NAME: &str = "messaging.destination.name";
    pub(crate) const ERROR_TYPE: &str = "error.type";
    pub(crate) const EXCEPTION_MESSAGE: &str = "exception.message";
    pub(crate) const EXCEPTION_TYPE: &str = "exception.type";
    pub(crate) const MESSAGE_ID: &str = "messaging.message.id";
    pub(crate) const OPERATION_NAME: &str = "messaging.operation.name";
    pub(crate) const OPERATION_TYPE: &str = "messaging.operation.type";
    pub(crate) const SERVER_ADDRESS: &str = "server.address";
    pub(crate) const SERVER_PORT: &str = "server.port";
    pub(crate) const SYSTEM: &str = "messaging.system";
}

/// Names of attributes that the conventions leave to the system.
pub(crate) mod own {
    pub(crate) const ATTEMPT: &str = "messaging.ergon.task.attempt";
    pub(crate) const DUPLICATES: &str = "messaging.ergon.enqueue.duplicates";
    pub(crate) const KIND: &str = "messaging.ergon.task.kind";
    pub(crate) const MAX_ATTEMPTS: &str = "messaging.ergon.task.max_attempts";
    pub(crate) const OUTCOME: &str = "messaging.ergon.task.outcome";
    pub(crate) const PRIORITY: &str = "messaging.ergon.task.priority";
    pub(crate) const WAIT: &str = "messaging.ergon.task.wait";
}

/// Names of metrics.
pub(crate) mod metric {
    pub(crate) const CONSUMED_MESSAGES: &str = "messaging.client.consumed.messages";
    pub(crate) const IGNORED_CONTEXTS: &str = "ergon.trace_context.ignored";
    pub(crate) const OPERATION_DURATION: &str = "messaging.client.operation.duration";
    pub(crate) const PROCESS_DURATION: &str = "messaging.process.duration";
    pub(crate) const SENT_MESSAGES: &str = "messaging.client.sent.messages";
}

/// What `error.type` says when no class fits better.
pub(crate) const OTHER: &str = "_OTHER";

/// The event that tells of a failed attempt.
pub(crate) const PROCESS_EXCEPTION: &str = "messaging.process.exception";

#[cfg(test)]
mod tests {
    use opentelemetry_semantic_conventions as semconv;

    use super::*;

    #[test]
    fn the_names_are_those_of_the_pinned_version() {
        use semconv::{attribute, metric as of};
        assert_eq!(SCHEMA_URL, semconv::SCHEMA_URL);
        for (ours, theirs) in [
            (key::BATCH_MESSAGE_COUNT, attribute::MESSAGING_BATCH_MESSAGE_COUNT),
            (key::CLIENT_ID, attribute::MESSAGING_CLIENT_ID),
            (key::DESTINATION_NAME, attribute::MESSAGING_DESTINATION_NAME),
            (key::ERROR_TYPE, attribute::ERROR_TYPE),
            (key::EXCEPTION_MESSAGE, attribute::EXCEPTION_MESSAGE),
            (key::EXCEPTION_TYPE, attribute::EXCEPTION_TYPE),
            (key::MESSAGE_ID, attribute::MESSAGING_MESSAGE_ID),
            (key::OPERATION_NAME, attribute::MESSAGING_OPERATION_NAME),
            (key::OPERATION_TYPE, attribute::MESSAGING_OPERATION_TYPE),
            (key::SERVER_ADDRESS, attribute::SERVER_ADDRESS),
            (key::SERVER_PORT, attribute::SERVER_PORT),
            (key::SYSTEM, attribute::MESSAGING_SYSTEM),
            (metric::CONSUMED_MESSAGES, of::MESSAGING_CLIENT_CONSUMED_MESSAGES),
            (metric::OPERATION_DURATION, of::MESSAGING_CLIENT_OPERATION_DURATION),
            (metric::PROCESS_DURATION, of::MESSAGING_PROCESS_DURATION),
            (metric::SENT_MESSAGES, of::MESSAGING_CLIENT_SENT_MESSAGES),
        ] {
            assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn what_the_conventions_leave_to_a_system_begins_with_its_name() {
        let prefix = format!("messaging.{SYSTEM}.");
        for name in [
            own::ATTEMPT,
            own::DUPLICATES,
            own::KIND,
            own::MAX_ATTEMPTS,
            own::OUTCOME,
            own::PRIORITY,
            own::WAIT,
        ] {
            assert!(name.starts_with(&prefix), "{name}");
        }
    }

    #[test]
    fn the_longer_buckets_go_on_where_the_advised_ones_end() {
        assert!(PROCESS_BOUNDARIES.starts_with(&DURATION_BOUNDARIES));
        assert!(PROCESS_BOUNDARIES.is_sorted());
    }
}
