//! How server-sent events are written.

use std::{fmt::Write as _, time::Duration};

use bytes::Bytes;
use ergon_core::{SystemRng, rng::duration_up_to};
use serde::Serialize;

/// When a browser that was refused for want of room should ask again, in milliseconds.
const FALLBACK_RETRY: &str = "30000";

/// An event with this data; lines of the data become lines of the event.
pub(super) fn event(name: &str, id: Option<&str>, data: &str) -> Bytes {
    let mut text = String::with_capacity(data.len() + 128);
    write(&mut text, name, id, data);
    text.into()
}

/// Appends an event.
pub(super) fn write(text: &mut String, name: &str, id: Option<&str>, data: &str) {
    text.extend(["event: ", name, "\n"]);
    write_id(text, id);
    // Whatever ends a line for a reader of the stream ends it here: nothing in the data is a field.
    for line in data.split("\r\n").flat_map(|part| part.split(['\n', '\r'])) {
        text.extend(["data: ", line, "\n"]);
    }
    text.push('\n');
}

/// An event without data is not dispatched, but its id counts.
pub(super) fn place(id: &str) -> Bytes {
    let mut text = String::new();
    write_id(&mut text, Some(id));
    text.push('\n');
    text.into()
}

fn write_id(text: &mut String, id: Option<&str>) {
    // Cursors have no line ends; what has one would not be a cursor.
    if let Some(id) = id.filter(|id| !id.contains(['\n', '\r', '\0'])) {
        text.extend(["id: ", id, "\n"]);
    }
}

/// An event with data as JSON.
pub(super) fn json(name: &str, id: Option<&str>, data: &impl Serialize) -> Bytes {
    event(name, id, &to_json(data))
}

/// As JSON. What has only text as keys can always be written.
pub(super) fn to_json(data: &impl Serialize) -> String {
    serde_json::to_string(data).unwrap_or_default()
}

#[derive(Serialize)]
struct Reason<'r> {
    reason: &'r str,
}

/// An event that says why.
pub(super) fn because(name: &str, id: Option<&str>, reason: &str) -> Bytes {
    json(name, id, &Reason { reason })
}

/// The whole stream of whoever cannot have one.
pub(super) fn fallback(reason: &str) -> Bytes {
    let mut text = format!("retry: {FALLBACK_RETRY}\n");
    write(&mut text, "fallback", None, &to_json(&Reason { reason }));
    text.into()
}

/// The end of a stream: all whose stream ends at once come back apart.
pub(super) fn bye(reason: &str) -> Bytes {
    let retry = 1_000 + duration_up_to(&SystemRng, Duration::from_secs(2)).as_millis();
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "retry: {retry}");
    write(&mut text, "bye", None, &to_json(&Reason { reason }));
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(data: &str, expected: &str) {
        assert_eq!(event("e", Some("c1"), data), format!("event: e\nid: c1\n{expected}\n"));
    }

    #[test]
    fn no_data_ends_an_event_or_becomes_a_field() {
        check("a", "data: a\n");
        check("", "data: \n");
        check("a\n\nevent: b", "data: a\ndata: \ndata: event: b\n");
        check("a\r\nid: 7\rb", "data: a\ndata: id: 7\ndata: b\n");
        assert_eq!(place("c1"), "id: c1\n\n");
        assert_eq!(event("e", Some("a\nb"), ""), "event: e\ndata: \n\n");
    }

    #[test]
    fn ends_say_when_to_come_back() {
        assert_eq!(
            fallback("full"),
            "retry: 30000\nevent: fallback\ndata: {\"reason\":\"full\"}\n\n"
        );
        let text = bye("age");
        let text = std::str::from_utf8(&text).unwrap();
        let retry: u32 =
            text.lines().next().unwrap().strip_prefix("retry: ").unwrap().parse().unwrap();
        assert!((1_000..=3_000).contains(&retry) && text.ends_with("{\"reason\":\"age\"}\n\n"));
    }
}
