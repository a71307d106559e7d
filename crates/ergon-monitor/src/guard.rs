//! The guard: refuses requests that were meant for another host, or are too long, before anything
//! else looks at them.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use ergon_core::store::CURSOR_BYTES_MAX;
use http::{Method, header::CONTENT_LENGTH};

use crate::{config::MonitorConfig, error::PageError, shared::App, visit::Visit};

/// The names under which a monitor always answers.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// Longest path: room for the longest name of a queue, every byte of it escaped, and then some.
const PATH_BYTES_MAX: usize = 1_024;

/// Says whether a request is taken at all.
///
/// A page of another site can make a browser ask any address under a name of its own choosing, and
/// read the answer; so a name that is not known is refused, also when it leads to this machine.
pub(crate) async fn check(State(app): State<App>, request: Request, next: Next) -> Response {
    let Some(visit) = request.extensions().get::<Visit>() else {
        return PageError::Misdirected.into_response();
    };
    let is_probe = matches!(visit.path.as_str(), "/healthz" | "/readyz" | "/metrics");
    let host = visit.host.as_deref().map(host_of).unwrap_or_default();
    // A probe asks by address, which no other site can do under a name of its own.
    let is_meant = is_known(&app.config, host) || (is_probe && is_address(host));
    if !is_meant {
        return PageError::Misdirected.into_response();
    }
    // A stream may be asked for from any cursor.
    let is_stream = visit.path.ends_with("/events");
    let cursor_bytes = if is_stream { CURSOR_BYTES_MAX } else { 0 };
    if visit.query.len() > app.config.query_bytes_max + cursor_bytes
        || visit.path.len() > PATH_BYTES_MAX
    {
        return PageError::QueryTooLong(app.config.query_bytes_max).into_response();
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD | Method::POST) {
        return PageError::Method.into_response();
    }
    let length = request.headers().get(CONTENT_LENGTH).map(|length| length.to_str());
    let length = length.and_then(Result::ok).and_then(|length| length.parse::<u64>().ok());
    let bytes_max = app.config.body_bytes_max;
    if length.is_some_and(|length| usize::try_from(length).is_ok_and(|length| length > bytes_max)) {
        return PageError::BodyTooLarge(bytes_max).into_response();
    }
    next.run(request).await
}

/// The host without its port.
fn host_of(host: &str) -> &str {
    let (name, port) = match host.find(']') {
        Some(end) => host.split_at(end + 1),
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let is_port = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_digit());
    if port.is_empty() || port.strip_prefix(':').is_some_and(is_port) { name } else { "" }
}

fn is_known(config: &MonitorConfig, host: &str) -> bool {
    let listens_on =
        |address: SocketAddr| !address.ip().is_unspecified() && literal(host) == Some(address.ip());
    let is_public = |public: &String| public.eq_ignore_ascii_case(host);
    LOCAL.iter().any(|local| local.eq_ignore_ascii_case(host))
        || config.public_hosts.iter().any(is_public)
        || config.public_url.as_deref().is_some_and(|url| is_host_of(url, host))
        || listens_on(config.listen)
}

fn is_host_of(url: &str, host: &str) -> bool {
    let authority = url.split_once("://").map_or(url, |(_, authority)| authority);
    host_of(authority).eq_ignore_ascii_case(host)
}

fn literal(host: &str) -> Option<IpAddr> {
    let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    host.parse().ok()
}

fn is_address(host: &str) -> bool {
    literal(host).is_some()
}

/// Reads a body of limited size in limited time.
pub(crate) async fn read_body(
    body: axum::body::Body,
    bytes_max: usize,
    within: Duration,
) -> Result<bytes::Bytes, PageError> {
    match tokio::time::timeout(within, axum::body::to_bytes(body, bytes_max)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        // A body that breaks off is answered alike: nobody is there to read it.
        Ok(Err(_error)) => Err(PageError::BodyTooLarge(bytes_max)),
        Err(_elapsed) => Err(PageError::BodyTooSlow),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Auth;

    #[test]
    fn hosts_are_known_or_not() {
        let config = MonitorConfig::new(Auth::LoopbackOnly)
            .public_host("Ergon.example")
            .public_url("https://tasks.example:8443")
            .listen("192.0.2.7:1".parse().unwrap());
        for (host, expected) in [
            ("localhost:7766", true),
            ("LOCALHOST", true),
            ("127.0.0.1:1", true),
            ("[::1]:7766", true),
            ("ergon.EXAMPLE", true),
            ("tasks.example", true),
            ("192.0.2.7", true),
            ("", false),
            ("evil.example", false),
            ("localhost.evil.example", false),
            ("127.0.0.2", false),
            ("[::2]", false),
            ("[::1].evil.example", false),
            ("localhost:80.evil.example", false),
            ("localhost:x", false),
        ] {
            assert_eq!(is_known(&config, host_of(host)), expected, "{host}");
        }
    }
}
