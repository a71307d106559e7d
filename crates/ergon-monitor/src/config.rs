//! What can be chosen about a monitor, and which choices are refused.

use std::{net::SocketAddr, time::Duration};

use crate::{
    auth::{Auth, Permissions},
    error::MonitorError,
    network::Network,
    redact::Redaction,
};

mod rule;

pub(crate) use self::rule::is_base_path;
use self::rule::{is_host, is_origin, within};

/// Where a monitor listens when nothing is chosen: this machine alone.
pub const LISTEN_DEFAULT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7766);

/// How the badge beside the name of the environment is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Tone {
    /// Nothing to be careful of.
    #[default]
    Calm,
    /// Be careful, such as of a stage before production.
    Caution,
    /// What is done here is done to customers.
    Danger,
}

impl Tone {
    /// The lower-case name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Caution => "caution",
            Self::Danger => "danger",
        }
    }
}

/// How a [`Monitor`](crate::Monitor) works; fixed once it is built.
///
/// There is no default: [`new`](Self::new) wants an explicit [`Auth`]. Every number is chosen without
/// measurement unless its line says where it comes from.
///
/// ```
/// use std::time::Duration;
///
/// use ergon_monitor::{Auth, MonitorConfig};
///
/// let config = MonitorConfig::new(Auth::LoopbackOnly)
///     .base_path("/ergon")
///     .environment("prod·eu")
///     .poll_interval(Duration::from_secs(10))
///     .read_only(true);
/// assert!(config.check().is_ok());
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MonitorConfig {
    /// Who may come in.
    pub auth: Auth,
    /// Who of them may do what.
    pub permissions: Permissions,
    /// Where [`serve`](crate::Monitor::serve) listens. Default `127.0.0.1:7766`. A monitor that other
    /// machines can reach starts only with an [`Auth`] that asks who comes.
    pub listen: SocketAddr,
    /// What every address begins with: empty, or `/` and letters, digits, `.`, `_`, `-`, in parts, without a
    /// `/` at the end. At most 128 bytes. Default `/monitor`.
    pub base_path: String,
    /// Whether pages are told of changes at once, instead of asking again and again. Default no.
    /// Where a stream cannot be had, pages ask again as they would without.
    pub enable_sse: bool,
    /// How long a page that is open waits before it asks again: 1 s to 5 min. Default 5 s. All who look
    /// at the same view share one reading in this time.
    pub poll_interval: Duration,
    /// How old a reading may be that a newly opened page shows: 0 to 1 min. Default 1 s.
    pub page_age_max: Duration,
    /// What this installation is called, shown on every page: at most 40 bytes. Default nothing.
    pub environment: Option<String>,
    /// How the badge of the environment is coloured. Default calm.
    pub tone: Tone,
    /// Whether nothing can be changed through this monitor. Default no.
    pub read_only: bool,
    /// Names under which browsers reach the monitor, beside `localhost`, `127.0.0.1`, `[::1]` and the
    /// address in `listen`: host names without a port, at most 64. Default none.
    pub public_hosts: Vec<String>,
    /// Where the monitor is seen from outside, if the scheme or the host that it is asked under is not
    /// that of the browser: `https://ergon.example`. Default nothing.
    pub public_url: Option<String>,
    /// Proxies whose `X-Forwarded-For`, `-Proto` and `-Prefix` are believed. Default none.
    pub trusted_proxies: Vec<Network>,
    /// Whether `/metrics` answers without asking who comes. Default no. It never names tasks.
    pub open_metrics: bool,
    /// What is hidden of payloads, results and metadata.
    pub redaction: Redaction,
    /// How often a stream renews its page at most: 250 ms to 1 min. Default 1 s.
    pub sse_interval: Duration,
    /// How long a stream is silent before it says that it lives: 1 s to 1 min. Default 15 s.
    pub sse_heartbeat: Duration,
    /// How often it is asked again whether whoever follows may still come in: 1 s to 1 h. Default 60 s.
    pub sse_check_interval: Duration,
    /// How long a stream lasts, give or take a fifth, before the page asks anew: 10 s to 24 h. Default
    /// 30 min.
    pub sse_age_max: Duration,
    /// Most streams at once: 1 to 4,096. Default 64. One more is told to poll instead.
    pub sse_clients_max: usize,
    /// Most streams of one person or program at once: 1 to 4,096. Default 8.
    pub sse_clients_each_max: usize,
    /// How long one reading of the store may take: 100 ms to 30 s. Default 2 s.
    pub store_timeout: Duration,
    /// How many calls of the store the pages make at once: 1 to 64. Default 4.
    pub store_calls_max: usize,
    /// How long one order may take: 1 s to 1 min. Default 10 s.
    pub action_timeout: Duration,
    /// Rows of a page of tasks: 10 to 200. Default 50.
    pub page_rows: usize,
    /// How much of a payload or result a page shows: 1 KiB to 1 MiB. Default 64 KiB.
    pub preview_bytes_max: usize,
    /// Largest body of a request: 4 KiB to 1 MiB. Default 64 KiB.
    pub body_bytes_max: usize,
    /// Longest query of an address: 256 bytes to 16 KiB. Default 2 KiB.
    pub query_bytes_max: usize,
    /// Most tasks in one order: 1 to 1,000. Default 1,000.
    pub bulk_ids_max: usize,
    /// Most tasks of one export: 1 to 100,000. Default 100,000.
    pub export_rows_max: usize,
    /// Requests a second of one person or program, in the long run: 1 to 10,000. Default 20.
    pub requests_per_second: u32,
    /// Requests of one person or program at once: 1 to 100,000. Default 60.
    pub request_burst: u32,
    /// Wrong credentials a minute of one address, after which it is refused for a minute: 1 to 1,000.
    /// Default 10.
    pub login_failures_max: u32,
    /// How long a form can be sent after it was shown: 10 min to 7 days. Default 12 h.
    pub form_age_max: Duration,
    /// How long a client may take to send the head of a request: 1 s to 1 min. Default 10 s.
    pub header_timeout: Duration,
    /// How long a client may take to send the body of a request: 1 s to 1 min. Default 10 s.
    pub body_timeout: Duration,
    /// How long a connection may be silent between two requests: 5 s to 10 min. Default 60 s.
    pub idle_timeout: Duration,
    /// How long a client may refuse to take what is sent to it: 1 s to 5 min. Default 10 s.
    pub write_timeout: Duration,
    /// Most connections at once: 1 to 65,536. Default 256. One more is answered 503 and closed.
    pub connections_max: usize,
    /// How long a shutdown waits for requests under way: 0 to 5 min. Default 10 s.
    pub grace_period: Duration,
}

impl MonitorConfig {
    /// The defaults, with this answer to the question who may come in.
    #[must_use]
    pub fn new(auth: Auth) -> Self {
        Self {
            auth,
            permissions: Permissions::default(),
            listen: LISTEN_DEFAULT,
            base_path: "/monitor".to_owned(),
            enable_sse: false,
            poll_interval: Duration::from_secs(5),
            page_age_max: Duration::from_secs(1),
            environment: None,
            tone: Tone::Calm,
            read_only: false,
            public_hosts: Vec::new(),
            public_url: None,
            trusted_proxies: Vec::new(),
            open_metrics: false,
            redaction: Redaction::default(),
            sse_interval: Duration::from_secs(1),
            sse_heartbeat: Duration::from_secs(15),
            sse_check_interval: Duration::from_secs(60),
            sse_age_max: Duration::from_secs(30 * 60),
            sse_clients_max: 64,
            sse_clients_each_max: 8,
            store_timeout: Duration::from_secs(2),
            store_calls_max: 4,
            action_timeout: Duration::from_secs(10),
            page_rows: 50,
            preview_bytes_max: 64 << 10,
            body_bytes_max: 64 << 10,
            query_bytes_max: 2 << 10,
            bulk_ids_max: 1_000,
            export_rows_max: 100_000,
            requests_per_second: 20,
            request_burst: 60,
            login_failures_max: 10,
            form_age_max: Duration::from_secs(12 * 3600),
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(10),
            connections_max: 256,
            grace_period: Duration::from_secs(10),
        }
    }

    /// Says whether a monitor can work so; [`build`](crate::MonitorBuilder::build) asks it.
    ///
    /// # Errors
    ///
    /// [`MonitorError::InvalidConfig`] names the first field that is out of its range.
    pub fn check(&self) -> Result<(), MonitorError> {
        self.auth.check()?;
        self.check_texts()?;
        self.check_times()?;
        self.check_sizes()
    }

    fn check_texts(&self) -> Result<(), MonitorError> {
        if !is_base_path(&self.base_path) {
            return Err(MonitorError::invalid("base_path", "not empty, nor like /monitor"));
        }
        if self.environment.as_ref().is_some_and(|name| name.is_empty() || name.len() > 40) {
            return Err(MonitorError::invalid("environment", "not 1 to 40 bytes"));
        }
        if self.public_hosts.len() > 64 || !self.public_hosts.iter().all(|host| is_host(host)) {
            let reason = "not at most 64 names of hosts without scheme and port";
            return Err(MonitorError::invalid("public_hosts", reason));
        }
        if self.public_url.as_ref().is_some_and(|url| !is_origin(url)) {
            return Err(MonitorError::invalid("public_url", "not like https://ergon.example"));
        }
        Ok(())
    }

    fn check_times(&self) -> Result<(), MonitorError> {
        let second = Duration::from_secs(1);
        let minute = second * 60;
        for (field, value, range) in [
            ("poll_interval", self.poll_interval, second..=minute * 5),
            ("page_age_max", self.page_age_max, Duration::ZERO..=minute),
            ("sse_interval", self.sse_interval, second / 4..=minute),
            ("sse_heartbeat", self.sse_heartbeat, second..=minute),
            ("sse_check_interval", self.sse_check_interval, second..=minute * 60),
            ("sse_age_max", self.sse_age_max, second * 10..=minute * 60 * 24),
            ("store_timeout", self.store_timeout, second / 10..=second * 30),
            ("action_timeout", self.action_timeout, second..=minute),
            ("form_age_max", self.form_age_max, minute * 10..=minute * 60 * 24 * 7),
            ("header_timeout", self.header_timeout, second..=minute),
            ("body_timeout", self.body_timeout, second..=minute),
            ("idle_timeout", self.idle_timeout, second * 5..=minute * 10),
            ("write_timeout", self.write_timeout, second..=minute * 5),
            ("grace_period", self.grace_period, Duration::ZERO..=minute * 5),
        ] {
            if !range.contains(&value) {
                let (least, most) = range.into_inner();
                let reason = format!("{value:?} is not within {least:?} and {most:?}");
                return Err(MonitorError::invalid(field, reason));
            }
        }
        Ok(())
    }

    fn check_sizes(&self) -> Result<(), MonitorError> {
        within("store_calls_max", self.store_calls_max, 1..=64)?;
        within("sse_clients_max", self.sse_clients_max, 1..=4_096)?;
        within("sse_clients_each_max", self.sse_clients_each_max, 1..=4_096)?;
        within("page_rows", self.page_rows, 10..=200)?;
        within("preview_bytes_max", self.preview_bytes_max, 1 << 10..=1 << 20)?;
        within("body_bytes_max", self.body_bytes_max, 4 << 10..=1 << 20)?;
        within("query_bytes_max", self.query_bytes_max, 256..=16 << 10)?;
        within("bulk_ids_max", self.bulk_ids_max, 1..=1_000)?;
        within("export_rows_max", self.export_rows_max, 1..=100_000)?;
        within("requests_per_second", self.requests_per_second, 1..=10_000)?;
        within("request_burst", self.request_burst, 1..=100_000)?;
        within("login_failures_max", self.login_failures_max, 1..=1_000)?;
        within("connections_max", self.connections_max, 1..=65_536)
    }
}

/// Writes setters that are chained by value.
macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident($arg:ident: $type:ty) => |$config:ident| $set:expr;)*) => {
        impl MonitorConfig {
            $($(#[$doc])*
            #[must_use]
            pub fn $name(mut self, $arg: $type) -> Self {
                let $config = &mut self;
                $set;
                self
            })*
        }
    };
}

setters! {
    /// Who of those that come in may do what.
    permissions(permissions: Permissions) => |config| config.permissions = permissions;
    /// Where [`serve`](crate::Monitor::serve) listens.
    listen(address: SocketAddr) => |config| config.listen = address;
    /// What every address begins with.
    base_path(path: impl Into<String>) => |config| config.base_path = path.into();
    /// Whether pages are told of changes at once.
    enable_sse(enable: bool) => |config| config.enable_sse = enable;
    /// How long an open page waits before it asks again.
    poll_interval(interval: Duration) => |config| config.poll_interval = interval;
    /// What this installation is called.
    environment(name: impl Into<String>) => |config| config.environment = Some(name.into());
    /// How the badge of the environment is coloured.
    tone(tone: Tone) => |config| config.tone = tone;
    /// Whether nothing can be changed through this monitor.
    read_only(read_only: bool) => |config| config.read_only = read_only;
    /// A name under which browsers reach the monitor, beside those chosen before.
    public_host(host: impl Into<String>) => |config| config.public_hosts.push(host.into());
    /// Where the monitor is seen from outside.
    public_url(url: impl Into<String>) => |config| config.public_url = Some(url.into());
    /// A proxy that is believed, beside those chosen before.
    trusted_proxy(proxy: Network) => |config| config.trusted_proxies.push(proxy);
    /// Whether `/metrics` answers without asking who comes.
    open_metrics(open: bool) => |config| config.open_metrics = open;
    /// What is hidden of payloads, results and metadata.
    redaction(redaction: Redaction) => |config| config.redaction = redaction;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> MonitorConfig {
        MonitorConfig::new(Auth::LoopbackOnly)
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut MonitorConfig), expected: Option<&str>) {
        let mut config = config();
        change(&mut config);
        let field = match config.check() {
            Ok(()) => None,
            Err(MonitorError::InvalidConfig { field, .. }) => Some(field),
            Err(other) => unreachable!("{other}"),
        };
        assert_eq!(field, expected);
    }

    #[test]
    fn the_defaults_are_good() {
        check(|_| {}, None);
    }

    #[test]
    fn base_paths_are_plain() {
        for good in ["", "/monitor", "/a/b-c/d_e.f"] {
            check(|config| config.base_path = good.to_owned(), None);
        }
        for bad in ["/", "monitor", "/monitor/", "/a//b", "/a b", "/{x}", "/..", "/a/../b", "/ä"] {
            check(|config| config.base_path = bad.to_owned(), Some("base_path"));
        }
    }

    #[test]
    fn hosts_and_origins_are_told_from_addresses() {
        for good in ["ergon.example", "10.0.0.1", "[::1]", "host_1"] {
            check(|config| config.public_hosts = vec![good.to_owned()], None);
        }
        for bad in ["", "https://x", "x:80", "a b", "[x]", "*"] {
            check(|config| config.public_hosts = vec![bad.to_owned()], Some("public_hosts"));
        }
        check(|config| config.public_url = Some("https://x.example:8443".to_owned()), None);
        for bad in ["x.example", "https://", "https://x/y", "ftp://x", "https://a@b"] {
            check(|config| config.public_url = Some(bad.to_owned()), Some("public_url"));
        }
    }

    #[test]
    fn numbers_have_ranges() {
        check(|config| config.poll_interval = Duration::ZERO, Some("poll_interval"));
        check(|config| config.store_timeout = Duration::MAX, Some("store_timeout"));
        check(|config| config.page_rows = 201, Some("page_rows"));
        check(|config| config.bulk_ids_max = 1_001, Some("bulk_ids_max"));
        check(|config| config.connections_max = 0, Some("connections_max"));
        check(|config| config.request_burst = 0, Some("request_burst"));
        check(|config| config.sse_interval = Duration::ZERO, Some("sse_interval"));
        check(|config| config.sse_clients_max = 0, Some("sse_clients_max"));
        check(|config| config.environment = Some("x".repeat(41)), Some("environment"));
    }
}
