//! A view for the metrics of the SDK.

use opentelemetry_sdk::metrics::{Aggregation, Instrument, Stream};

use crate::semconv::{PROCESS_BOUNDARIES, metric};

/// A view that gives `messaging.process.duration` the [`PROCESS_BOUNDARIES`], which reach to 30
/// minutes instead of 10 seconds.
///
/// ```
/// use opentelemetry_sdk::metrics::SdkMeterProvider;
///
/// let meters = SdkMeterProvider::builder().with_view(ergon_otel::process_duration_view).build();
/// # drop(meters);
/// ```
#[must_use]
pub fn process_duration_view(instrument: &Instrument) -> Option<Stream> {
    if instrument.name() != metric::PROCESS_DURATION {
        return None;
    }
    let boundaries = PROCESS_BOUNDARIES.to_vec();
    let aggregation = Aggregation::ExplicitBucketHistogram { boundaries, record_min_max: true };
    // It fails for names and boundaries that are not valid, and these are.
    Stream::builder().with_aggregation(aggregation).build().ok()
}
