//! Which values a choice may have.

use std::ops::RangeInclusive;

use crate::error::MonitorError;

pub(super) fn within<T: PartialOrd + std::fmt::Display>(
    field: &'static str,
    value: T,
    range: RangeInclusive<T>,
) -> Result<(), MonitorError> {
    if range.contains(&value) {
        return Ok(());
    }
    let reason = format!("{value} is not within {} and {}", range.start(), range.end());
    Err(MonitorError::invalid(field, reason))
}

/// Says whether every address may begin so.
pub(crate) fn is_base_path(path: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let is_part = |part: &str| {
        !part.is_empty() && part.bytes().all(is_plain) && part.bytes().any(|byte| byte != b'.')
    };
    match path.strip_prefix('/') {
        Some(rest) => path.len() <= 128 && rest.split('/').all(is_part),
        None => path.is_empty(),
    }
}

pub(super) fn is_host(host: &str) -> bool {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let is_v6 = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match is_v6 {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.len() <= 253 && host.bytes().all(is_good),
    }
}

pub(super) fn is_origin(url: &str) -> bool {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let Some(rest) = rest else { return false };
    rest.parse::<http::uri::Authority>().is_ok_and(|authority| !authority.as_str().contains('@'))
}
