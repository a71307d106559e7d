//! How a cluster is configured.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// What every cluster starts from: nothing is lost that Postgres can keep.
const DURABLE: &[(&str, &str)] = &[
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    ("max_connections", "200"),
    ("shared_buffers", "128MB"),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
    ("log_line_prefix", "%m [%p] %a "),
];

/// Long enough for the recovery after a kill under load on a slow disk.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Long enough for a shutdown checkpoint on a slow disk.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// The configuration of a [`Cluster`](crate::Cluster), fixed at its start.
///
/// The default is durable: `fsync`, `synchronous_commit` and `full_page_writes` are on. Further
/// defaults are `max_connections` 200, `shared_buffers` 128 MB and the time zone UTC; whatever is
/// not named here is Postgres' own default.
#[derive(Clone, Debug)]
pub struct Settings {
    parameters: Vec<(String, String)>,
    directory: Option<PathBuf>,
    start_limit: Duration,
    stop_limit: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            parameters: owned(DURABLE),
            directory: None,
            start_limit: START_LIMIT,
            stop_limit: STOP_LIMIT,
        }
    }
}

impl Settings {
    /// Never waits for the disk: `fsync` and `full_page_writes` are off.
    ///
    /// Commits survive a killed server, but not a crash of the machine. Not for tests of what a
    /// store keeps, and not for measurements.
    #[must_use]
    pub fn fast() -> Self {
        Self::default().set("fsync", "off").set("full_page_writes", "off")
    }

    /// Durable, and sized so that a benchmark measures its statements and not the checkpointer:
    /// `shared_buffers` 1 GB, `max_wal_size` 8 GB, `checkpoint_timeout` 15 min, `autovacuum_naptime`
    /// 15 s.
    #[must_use]
    pub fn bench() -> Self {
        Self::default()
            .set("shared_buffers", "1GB")
            .set("max_wal_size", "8GB")
            .set("checkpoint_timeout", "15min")
            .set("autovacuum_naptime", "15s")
    }

    /// Sets a parameter of the server, as `-c name=value` does; the last value counts.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.parameters.retain(|(known, _)| known != name);
        self.parameters.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The directory to make the cluster's own directory in; the system's temporary one by default.
    ///
    /// The user that the server runs as has to be able to enter it, and its path has to be short
    /// (at most about 70 bytes), because it becomes part of the path of a socket.
    #[must_use]
    pub fn directory(mut self, parent: impl Into<PathBuf>) -> Self {
        self.directory = Some(parent.into());
        self
    }

    /// How long the server may take to accept connections; 60 s by default, chosen without
    /// measurement.
    #[must_use]
    pub const fn start_limit(mut self, limit: Duration) -> Self {
        self.start_limit = limit;
        self
    }

    /// How long the server may take to stop when asked to; 60 s by default, chosen without
    /// measurement.
    #[must_use]
    pub const fn stop_limit(mut self, limit: Duration) -> Self {
        self.stop_limit = limit;
        self
    }

    pub(crate) fn parameters(&self) -> impl Iterator<Item = String> {
        self.parameters.iter().map(|(name, value)| format!("{name}={value}"))
    }

    pub(crate) fn parent(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    pub(crate) const fn limits(&self) -> (Duration, Duration) {
        (self.start_limit, self.stop_limit)
    }
}

fn owned(parameters: &[(&str, &str)]) -> Vec<(String, String)> {
    parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_counts() {
        let settings = Settings::bench().set("shared_buffers", "16MB");
        let parameters: Vec<_> = settings.parameters().collect();
        assert!(parameters.contains(&"shared_buffers=16MB".to_owned()), "{parameters:?}");
        assert!(!parameters.contains(&"shared_buffers=1GB".to_owned()), "{parameters:?}");
    }

    #[test]
    fn only_the_fast_settings_spare_the_disk() {
        let has = |settings: Settings, text: &str| settings.parameters().any(|one| one == text);
        assert!(has(Settings::default(), "fsync=on"));
        assert!(has(Settings::bench(), "fsync=on"));
        assert!(has(Settings::fast(), "fsync=off"));
        assert!(has(Settings::fast(), "synchronous_commit=on"));
    }
}
