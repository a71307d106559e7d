//! Which metrics there are: the one list from which they are made, documented and checked.

/// What a metric is to Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MetricType {
    /// It only grows, and begins at 0 with the process.
    Counter,
    /// It goes up and down.
    Gauge,
    /// How often values fell in which range.
    Histogram,
}

impl MetricType {
    /// The lower-case name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric: what all its series have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub metric_type: MetricType,
    /// The unit of its values.
    pub unit: &'static str,
    /// The names of its labels, in the order in which they are written.
    pub labels: &'static [&'static str],
    /// What it says, in a sentence.
    pub help: &'static str,
}

macro_rules! families {
    ($($const:ident: $type:ident of $unit:literal {$($label:literal),*} = $name:literal, $help:literal;)*) => {
        $(pub(crate) const $const: Family = Family {
            name: $name,
            metric_type: MetricType::$type,
            unit: $unit,
            labels: &[$($label),*],
            help: $help,
        };)*

        /// Every metric that this crate makes, whether or not it has a series yet.
        pub const FAMILIES: &[Family] = &[$($const),*];
    };
}

families! {
    TASKS_ENQUEUED: Counter of "tasks" {"queue", "kind", "outcome"} = "ergon_tasks_enqueued_total",
        "Tasks that this process asked to store, by what came of it.";
    ATTEMPTS_STARTED: Counter of "attempts" {"queue", "kind"} = "ergon_attempts_started_total",
        "Attempts that this process claimed.";
    ATTEMPTS_FINISHED: Counter of "attempts" {"queue", "kind", "outcome"} = "ergon_attempts_finished_total",
        "Attempts that ended, by how.";
    TASKS_FINALIZED: Counter of "tasks" {"queue", "kind", "state"} = "ergon_tasks_finalized_total",
        "Tasks that reached a terminal state.";
    TASKS_RESCUED: Counter of "tasks" {"queue"} = "ergon_tasks_rescued_total",
        "Tasks taken back from servers whose leases were over, those given up as poison included.";
    TASKS_DELETED: Counter of "tasks" {"reason"} = "ergon_tasks_deleted_total",
        "Tasks removed from the store.";
    TASK_WAIT: Histogram of "seconds" {"queue", "kind"} = "ergon_task_wait_seconds",
        "How long tasks had been due when they were claimed, delays and backoffs left aside.";
    TASK_RUN: Histogram of "seconds" {"queue", "kind", "outcome"} = "ergon_task_run_seconds",
        "How long attempts ran.";
    TASK_ATTEMPTS: Histogram of "attempts" {"queue"} = "ergon_task_attempts",
        "Attempts that tasks had spent when they reached a terminal state.";
    EVENTS: Counter of "events" {"type"} = "ergon_events_total",
        "Events that this process published, by kind.";
    QUEUE_TASKS: Gauge of "tasks" {"queue", "state"} = "ergon_queue_tasks",
        "Tasks in the store.";
    QUEUE_OLDEST_READY_AGE: Gauge of "seconds" {"queue"} = "ergon_queue_oldest_ready_age_seconds",
        "How long the task has been due that waits for longest, 0 when none is due.";
    QUEUE_PAUSED: Gauge of "queues" {"queue"} = "ergon_queue_paused",
        "1 while claims pass the queue by.";
    SAMPLER_LAST_SUCCESS: Gauge of "seconds" {} = "ergon_sampler_last_success_timestamp_seconds",
        "When the queues were read last, 0 before the first time.";
    SAMPLER_ERRORS: Counter of "reads" {"reason"} = "ergon_sampler_errors_total",
        "Times when the queues could not be read.";
    EVENT_BUS_LAG: Gauge of "events" {"observer"} = "ergon_event_bus_lag_events",
        "Events that an observer has still to take.";
    EVENT_MISSED: Counter of "events" {"observer"} = "ergon_event_missed_total",
        "Events that an observer was too slow for.";
    EVENT_GAPS: Counter of "gaps" {"observer"} = "ergon_event_gaps_total",
        "Times when events were missing, which an observer was told.";
    OBSERVER_PANICS: Counter of "panics" {"observer"} = "ergon_observer_panics_total",
        "Panics of an observer; it goes on.";
    OBSERVER_SECONDS: Counter of "seconds" {"observer"} = "ergon_observer_seconds_total",
        "Time that an observer spent at work.";
    LABEL_OVERFLOW: Counter of "values" {"label"} = "ergon_metrics_label_overflow_total",
        "Values counted under _other, as there are more names than the metrics tell apart.";
    BUILD_INFO: Gauge of "constant" {"version", "backend", "revision"} = "ergon_build_info",
        "Always 1; the labels say what runs.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions() {
        for Family { name, metric_type, unit, help, .. } in FAMILIES {
            assert!(name.starts_with("ergon_"), "{name}");
            assert_eq!(name.ends_with("_total"), *metric_type == MetricType::Counter, "{name}");
            if *unit == "seconds" {
                assert!(name.trim_end_matches("_total").ends_with("_seconds"), "{name}");
            }
            assert!(help.ends_with('.') && !help.contains('\n'), "{name}");
        }
        let mut names: Vec<_> = FAMILIES.iter().map(|family| family.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FAMILIES.len());
    }
}
