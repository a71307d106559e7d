//! Addresses within the monitor: nothing else writes one.

use ergon_core::{QueueName, TaskId, operation::OperationId};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Everything that could end or split a part of a path or a value of a query.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Writes addresses for one request: they begin with what the browser sees before the base path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Links {
    base: String,
}

impl Links {
    pub(crate) fn new(outside: &str, base: &str) -> Self {
        Self { base: format!("{outside}{base}") }
    }

    /// The address of a path behind the base path, which begins with `/`.
    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub(crate) fn overview(&self) -> String {
        self.at("/")
    }

    pub(crate) fn task(&self, id: TaskId) -> String {
        self.at(&format!("/tasks/{id}"))
    }

    pub(crate) fn queue(&self, name: &QueueName) -> String {
        self.at(&format!("/queues/{}", queue_part(name.as_str())))
    }

    /// The list of tasks with this query.
    pub(crate) fn tasks<'q>(&self, query: impl IntoIterator<Item = (&'q str, &'q str)>) -> String {
        self.with("/tasks", query)
    }

    /// The address of a path with this query.
    pub(crate) fn with<'q>(
        &self,
        path: &str,
        query: impl IntoIterator<Item = (&'q str, &'q str)>,
    ) -> String {
        let query = encode(query);
        let mark = if query.is_empty() { "" } else { "?" };
        self.at(&format!("{path}{mark}{query}"))
    }

    pub(crate) fn operation(&self, id: OperationId) -> String {
        self.at(&format!("/bulk/{id}"))
    }

    /// The path that cookies are for.
    pub(crate) fn cookie_path(&self) -> &str {
        if self.base.is_empty() { "/" } else { &self.base }
    }

    /// Says whether an address that a form names leads nowhere but to this monitor.
    pub(crate) fn is_ours(&self, address: &str) -> bool {
        let rest = address.strip_prefix(self.base.as_str());
        let is_plain = |rest: &str| {
            (rest.starts_with('/') && !rest.starts_with("//"))
                && rest.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
        };
        rest.is_some_and(is_plain)
    }
}

/// A query as an address has it.
pub(crate) fn encode<'q>(query: impl IntoIterator<Item = (&'q str, &'q str)>) -> String {
    let pairs = query.into_iter().map(|(key, value)| format!("{}={}", escape(key), escape(value)));
    pairs.collect::<Vec<_>>().join("&")
}

pub(crate) fn escape(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

/// A queue as a part of a path. Names of dots alone would mean another place: `~`, which no name
/// has, goes before.
fn queue_part(name: &str) -> String {
    let mark = if name.bytes().all(|byte| byte == b'.') { "~" } else { "" };
    format!("{mark}{}", escape(name))
}

/// The queue that a part of a path names.
pub(crate) fn queue_of(part: &str) -> Option<QueueName> {
    QueueName::new(part.strip_prefix('~').unwrap_or(part)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_survive_their_addresses() {
        let links = Links::new("", "/monitor");
        for (name, expected) in [
            ("mail", "/monitor/queues/mail"),
            ("a/b:c", "/monitor/queues/a%2Fb%3Ac"),
            ("..", "/monitor/queues/~.."),
        ] {
            let name = QueueName::new(name).unwrap();
            assert_eq!(links.queue(&name), expected);
        }
        assert_eq!(queue_of("~..").unwrap().as_str(), "..");
        assert_eq!(queue_of("a/b").unwrap().as_str(), "a/b");
        assert!(queue_of("~~").is_none());
    }

    #[test]
    fn queries_are_escaped() {
        let links = Links::new("/outside", "");
        let address = links.tasks([("tag", "a&b=<c>"), ("state", "failed")]);
        assert_eq!(address, "/outside/tasks?tag=a%26b%3D%3Cc%3E&state=failed");
    }

    #[test]
    fn only_addresses_within_are_ours() {
        let links = Links::new("", "/monitor");
        for (address, expected) in [
            ("/monitor/", true),
            ("/monitor/tasks?state=failed", true),
            ("/monitor", false),
            ("/monitor//evil.example", false),
            ("//evil.example/monitor/", false),
            ("https://evil.example/monitor/", false),
            ("/monitor/\\evil", false),
            ("/monitor/\r\nx", false),
            ("/monitorx/", false),
        ] {
            assert_eq!(links.is_ours(address), expected, "{address}");
        }
        assert!(!Links::new("", "").is_ours("//evil.example"));
    }
}
