//! Telemetry of real clients and servers, as exporters of the SDK see it.

#[cfg(test)]
mod attempts;
#[cfg(test)]
mod collector;
#[cfg(test)]
mod enqueues;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod otlp;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tracing_spans;
