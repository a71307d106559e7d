//! The producer's side: a span for each enqueue, whose context its tasks carry.

use std::time::{Instant, SystemTime};

use ergon_core::{
    Metadata, NewTask, StoreError,
    client::{Propagation, Purpose, Sent, Underway},
};
use opentelemetry::{
    Context, KeyValue,
    global::BoxedSpan,
    trace::{Span as _, SpanBuilder, SpanKind, Status, Tracer as _},
};

use crate::{
    exception::error_type,
    semconv::{OTHER, key, own},
    telemetry::Telemetry,
    trace_context,
};

/// Follows the enqueues of a client.
#[derive(Debug)]
pub(crate) struct Enqueues(pub(crate) Telemetry);

impl Propagation for Enqueues {
    fn begin(
        &self,
        purpose: Purpose,
        tasks: &[NewTask],
        metadata: &mut Metadata,
    ) -> Box<dyn Underway> {
        let Self(telemetry) = self;
        let inner = &telemetry.inner;
        let (name, of_type) = match purpose {
            Purpose::Send => ("enqueue", "send"),
            Purpose::Create => ("create", "create"),
        };
        let Some(first) = tasks.first() else {
            return Box::new(Nothing);
        };
        let queue = &first.spec.queue;
        let common = inner.attributes(name, queue, 1);
        let began = inner.now();
        let builder = SpanBuilder::from_name(format!("{name} {queue}"))
            .with_kind(SpanKind::Producer)
            .with_start_time(began)
            .with_attributes(attributes(&common, of_type, first, tasks.len(), inner.client_id()));
        let span = Context::map_current(|parent| inner.tracer.build_with_context(builder, parent));
        inner.instruments.ignored(trace_context::inject(span.span_context(), metadata));
        Box::new(Following {
            telemetry: telemetry.clone(),
            purpose,
            span,
            common,
            tasks: tasks.len(),
            began,
            since: Instant::now(),
            is_ended: false,
        })
    }
}

fn attributes(
    common: &[KeyValue],
    of_type: &'static str,
    first: &NewTask,
    tasks: usize,
    client_id: Option<KeyValue>,
) -> Vec<KeyValue> {
    let mut attributes = Vec::with_capacity(common.len() + 6);
    attributes.extend_from_slice(common);
    attributes.push(KeyValue::new(key::OPERATION_TYPE, of_type));
    attributes.push(KeyValue::new(own::KIND, first.spec.kind.as_str().to_owned()));
    attributes.push(KeyValue::new(own::PRIORITY, i64::from(first.priority)));
    attributes.push(KeyValue::new(own::MAX_ATTEMPTS, i64::from(first.max_attempts)));
    attributes.push(if tasks == 1 {
        KeyValue::new(key::MESSAGE_ID, first.id.to_string())
    } else {
        KeyValue::new(key::BATCH_MESSAGE_COUNT, i64::try_from(tasks).unwrap_or(i64::MAX))
    });
    attributes.extend(client_id);
    attributes
}

/// An enqueue without tasks.
#[derive(Debug)]
struct Nothing;

impl Underway for Nothing {
    fn end(self: Box<Self>, _sent: &Sent<'_>) {}
}

/// An enqueue under way.
#[derive(Debug)]
struct Following {
    telemetry: Telemetry,
    purpose: Purpose,
    span: BoxedSpan,
    /// What measurements are told by.
    common: Vec<KeyValue>,
    tasks: usize,
    began: SystemTime,
    since: Instant,
    is_ended: bool,
}

impl Following {
    /// Ends the span, with the class and the description of what went wrong, if anything did.
    fn finish(&mut self, created: usize, answered: usize, failed: Option<(&'static str, String)>) {
        self.is_ended = true;
        let took = self.since.elapsed();
        let instruments = &self.telemetry.inner.instruments;
        // Whether and when tasks are stored that were only made, nobody says here.
        let is_sent = self.purpose == Purpose::Send;
        if is_sent {
            instruments.sent(created, &self.common);
        }
        if let Some((class, description)) = failed {
            self.span.set_status(Status::error(description));
            self.span.set_attribute(error_type(class));
            self.common.push(error_type(class));
            instruments.sent(self.tasks.saturating_sub(answered), &self.common);
        }
        if is_sent {
            instruments.operation(took, &self.common);
        }
        self.span.end_with_timestamp(self.began + took);
    }
}

impl Underway for Following {
    fn end(mut self: Box<Self>, sent: &Sent<'_>) {
        if sent.duplicates > 0 {
            let duplicates = i64::try_from(sent.duplicates).unwrap_or(i64::MAX);
            self.span.set_attribute(KeyValue::new(own::DUPLICATES, duplicates));
        }
        let answered = sent.created + sent.repeated + sent.duplicates;
        let failed = sent.error.map(|error| (class_of(error), error.to_string()));
        self.finish(sent.created, answered, failed);
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        if self.is_ended {
            return;
        }
        let failed = match self.purpose {
            Purpose::Send => {
                Some(("cancelled", "the enqueue was dropped before it was answered".to_owned()))
            }
            Purpose::Create => None,
        };
        self.finish(0, 0, failed);
    }
}

/// The class of what a store reports.
const fn class_of(error: &StoreError) -> &'static str {
    match error {
        StoreError::Unavailable { .. } => "unavailable",
        StoreError::Conflict => "conflict",
        StoreError::Rejected { .. } => "rejected",
        StoreError::BatchTooLarge { .. } => "batch_too_large",
        StoreError::Corrupt { .. } => "corrupt",
        StoreError::Closed => "closed",
        StoreError::Failed { .. } => "failed",
        _ => OTHER,
    }
}
