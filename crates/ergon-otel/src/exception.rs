//! Exceptions as log events.

use std::{fmt, time::SystemTime};

use ergon_core::ErrorKind;
use opentelemetry::{
    Context, KeyValue,
    logs::{LogRecord as _, Logger, Severity},
    trace::TraceContextExt as _,
};

use crate::semconv::{PROCESS_EXCEPTION, key};

/// Writes exceptions down; a logger without its type.
pub(crate) trait Exceptions: fmt::Debug + Send + Sync {
    /// An attempt failed, whose span this context holds.
    fn failed(&self, context: &Context, at: SystemTime, failure: &Failure<'_>);
}

/// How an attempt failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure<'a> {
    pub(crate) kind: ErrorKind,
    message: &'a str,
}

impl<'a> Failure<'a> {
    /// A failure with what the handler said, unless that quotes the payload.
    pub(crate) const fn new(kind: ErrorKind, message: &'a str) -> Self {
        match kind {
            ErrorKind::Decode => Self { kind, message: "the payload could not be decoded" },
            ErrorKind::Error
            | ErrorKind::Panic
            | ErrorKind::Timeout
            | ErrorKind::Result
            | ErrorKind::Deadline
            | ErrorKind::Cancelled
            | ErrorKind::Poison => Self { kind, message },
        }
    }

    pub(crate) const fn message(&self) -> &'a str {
        self.message
    }
}

/// Exceptions that a logger writes down.
pub(crate) struct Logged<L>(pub(crate) L);

impl<L> fmt::Debug for Logged<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logged").finish_non_exhaustive()
    }
}

impl<L: Logger + Send + Sync> Exceptions for Logged<L> {
    fn failed(&self, context: &Context, at: SystemTime, failure: &Failure<'_>) {
        let Self(logger) = self;
        if !logger.event_enabled(Severity::Error, env!("CARGO_PKG_NAME"), Some(PROCESS_EXCEPTION)) {
            return;
        }
        let mut record = logger.create_log_record();
        record.set_event_name(PROCESS_EXCEPTION);
        record.set_target(env!("CARGO_PKG_NAME"));
        record.set_timestamp(at);
        record.set_severity_number(Severity::Error);
        record.set_severity_text(Severity::Error.name());
        // What a handler answers has no type that is known here.
        if failure.kind != ErrorKind::Error {
            record.add_attribute(key::EXCEPTION_TYPE, failure.kind.as_str());
        }
        record.add_attribute(key::EXCEPTION_MESSAGE, failure.message.to_owned());
        let span = context.span();
        let span = span.span_context();
        record.set_trace_context(span.trace_id(), span.span_id(), Some(span.trace_flags()));
        logger.emit(record);
    }
}

/// The class of a failure, as `error.type` says it.
pub(crate) fn error_type(class: &'static str) -> KeyValue {
    KeyValue::new(key::ERROR_TYPE, class)
}
