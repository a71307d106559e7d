//! The trace context that a task carries, by the W3C recommendation *Trace Context*.

use ergon_core::Metadata;
use opentelemetry::{
    SpanId, TraceFlags, TraceId,
    trace::{SpanContext, TraceState},
};

/// The metadata key under which a task carries the `traceparent` of its enqueue.
pub const TRACEPARENT_KEY: &str = "ergon.traceparent";

/// The metadata key under which a task carries the `tracestate` of its enqueue.
pub const TRACESTATE_KEY: &str = "ergon.tracestate";

/// Longest `tracestate` that is written or read, in bytes: what the recommendation asks everybody to
/// pass on at least.
pub const TRACESTATE_BYTES_MAX: usize = 512;

/// Why a context, or a part of it, was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ignored {
    /// The `traceparent` is none, and so nothing is left.
    Traceparent,
    /// The `tracestate` is none; the `traceparent` holds without it.
    Tracestate,
    /// The `tracestate` is too long; the `traceparent` holds without it.
    TracestateTooLong,
}

impl Ignored {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Traceparent => "traceparent_invalid",
            Self::Tracestate => "tracestate_invalid",
            Self::TracestateTooLong => "tracestate_too_long",
        }
    }
}

/// Writes a context, unless it is invalid or there is one already, and says what was left out.
pub(crate) fn inject(context: &SpanContext, metadata: &mut Metadata) -> Option<Ignored> {
    if !context.is_valid() || metadata.contains_key(TRACEPARENT_KEY) {
        return None;
    }
    metadata.insert(TRACEPARENT_KEY.to_owned(), traceparent(context));
    // A state that belongs to another parent.
    metadata.remove(TRACESTATE_KEY);
    let state = context.trace_state().header();
    if state.len() > TRACESTATE_BYTES_MAX {
        return Some(Ignored::TracestateTooLong);
    }
    if !state.is_empty() {
        if parse_tracestate(&state).is_none() {
            return Some(Ignored::Tracestate);
        }
        metadata.insert(TRACESTATE_KEY.to_owned(), state);
    }
    None
}

/// Reads a context, if there is a valid one, and says what was left out.
pub(crate) fn extract(metadata: &Metadata) -> (Option<SpanContext>, Option<Ignored>) {
    let Some(parent) = metadata.get(TRACEPARENT_KEY) else {
        return (None, None);
    };
    let Some((trace, span, flags)) = parse_traceparent(parent) else {
        return (None, Some(Ignored::Traceparent));
    };
    let (state, ignored) = match metadata.get(TRACESTATE_KEY) {
        None => (TraceState::NONE, None),
        Some(text) if text.len() > TRACESTATE_BYTES_MAX => {
            (TraceState::NONE, Some(Ignored::TracestateTooLong))
        }
        Some(text) => match parse_tracestate(text) {
            Some(state) => (state, None),
            None => (TraceState::NONE, Some(Ignored::Tracestate)),
        },
    };
    (Some(SpanContext::new(trace, span, flags, true, state)), ignored)
}

/// Writes a `traceparent` of version 00. By hand, as it is the most of what an enqueue pays.
fn traceparent(context: &SpanContext) -> String {
    let mut text = String::with_capacity(55);
    text.push_str("00-");
    push_hex(&mut text, &context.trace_id().to_bytes());
    text.push('-');
    push_hex(&mut text, &context.span_id().to_bytes());
    text.push_str(if context.is_sampled() { "-01" } else { "-00" });
    text
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let digits = [byte >> 4, byte & 0xf].map(|digit| char::from_digit(digit.into(), 16));
        text.extend(digits.into_iter().flatten());
    }
}

/// Reads the 55 characters `00-<trace id>-<span id>-<flags>`. Only lower-case digits are valid, and
/// ids of zeros are not. Of a version that is still to come the same 55 characters are read, as the
/// recommendation has it, but what may follow them is not: nobody else writes here.
fn parse_traceparent(text: &str) -> Option<(TraceId, SpanId, TraceFlags)> {
    let mut parts = text.split('-');
    let version = hex(parts.next()?, 2)?;
    let trace = TraceId::from(hex(parts.next()?, 32)?);
    let span = SpanId::from(u64::try_from(hex(parts.next()?, 16)?).ok()?);
    let flags = u8::try_from(hex(parts.next()?, 2)?).ok()?;
    let is_valid = version != 0xff
        && parts.next().is_none()
        && trace != TraceId::INVALID
        && span != SpanId::INVALID;
    is_valid.then(|| (trace, span, TraceFlags::new(flags) & TraceFlags::SAMPLED))
}

/// Reads so many lower-case hexadecimal digits.
fn hex(text: &str, len: usize) -> Option<u128> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let is_number = text.len() == len && text.bytes().all(is_digit);
    is_number.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

/// Reads list members `key=value`; stricter than the API, which lets empty keys and control
/// characters through and drops what follows the 32nd member.
fn parse_tracestate(text: &str) -> Option<TraceState> {
    const MEMBERS_MAX: usize = 32;
    let members = || text.split(',').map(|member| member.trim_matches([' ', '\t']));
    let is_member = |member: &str| match member.split_once('=') {
        Some((key, value)) => {
            let is_printable = value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
            !key.is_empty() && !value.is_empty() && is_printable && !value.contains('=')
        }
        None => member.is_empty(),
    };
    let is_valid = members().all(is_member)
        && members().filter(|member| !member.is_empty()).count() <= MEMBERS_MAX;
    is_valid.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    fn metadata(parent: &str, state: Option<&str>) -> Metadata {
        let mut metadata = Metadata::from([(TRACEPARENT_KEY.to_owned(), parent.to_owned())]);
        if let Some(state) = state {
            metadata.insert(TRACESTATE_KEY.to_owned(), state.to_owned());
        }
        metadata
    }

    fn context(flags: u8, state: &str) -> SpanContext {
        let (trace, span) = (u128::from_str_radix(TRACE, 16), u64::from_str_radix(SPAN, 16));
        let flags = TraceFlags::new(flags);
        let state = state.parse().unwrap();
        SpanContext::new(trace.unwrap().into(), span.unwrap().into(), flags, false, state)
    }

    #[test]
    fn what_is_written_is_read() {
        for (flags, state) in [(1, ""), (0, ""), (1, "vendor=a,t@v=b c"), (0, "k=v")] {
            let mut metadata = Metadata::new();
            let written = context(flags, state);
            assert_eq!(inject(&written, &mut metadata), None);
            let text = format!("00-{TRACE}-{SPAN}-{flags:02x}");
            assert_eq!(metadata[TRACEPARENT_KEY], text);
            let (read, ignored) = extract(&metadata);
            let read = read.unwrap();
            assert!(read.is_remote());
            assert_eq!(ignored, None);
            assert_eq!((read.trace_id(), read.span_id()), (written.trace_id(), written.span_id()));
            assert_eq!(read.trace_flags(), written.trace_flags());
            assert_eq!(read.trace_state(), written.trace_state());
        }
    }

    #[test]
    fn a_context_that_is_there_already_is_kept_whole() {
        let own = metadata("whatever the application put here", Some("k=v"));
        let mut kept = own.clone();
        assert_eq!(inject(&context(1, "other=1"), &mut kept), None);
        assert_eq!(kept, own);
    }

    #[test]
    fn no_context_is_written_outside_of_a_trace() {
        let mut metadata = Metadata::new();
        assert_eq!(inject(&SpanContext::NONE, &mut metadata), None);
        assert_eq!(metadata, Metadata::new());
        assert_eq!(extract(&metadata), (None, None));
    }

    #[test]
    fn a_state_without_a_parent_is_nothing() {
        let orphan = Metadata::from([(TRACESTATE_KEY.to_owned(), "k=v".to_owned())]);
        assert_eq!(extract(&orphan), (None, None));
        let mut written = orphan;
        assert_eq!(inject(&context(1, ""), &mut written), None);
        assert_eq!(written.len(), 1, "the state of another parent is not kept beside ours");
    }

    #[test]
    fn invalid_parents_are_ignored() {
        let good = format!("00-{TRACE}-{SPAN}-01");
        assert!(extract(&metadata(&good, None)).0.is_some());
        let bad = [
            String::new(),
            "-".repeat(55),
            "0".repeat(55),
            "é".repeat(28),
            good.to_uppercase(),
            format!(" {good}"),
            format!("{good}\n"),
            format!("{good}-"),
            format!("{good}-00"),
            good[..54].to_owned(),
            good.replace('-', "_"),
            good.replace(TRACE, &"0".repeat(32)),
            good.replace(SPAN, &"0".repeat(16)),
            good.replace(TRACE, &TRACE[1..]),
            good.replace(SPAN, "+7ad6b7169203331"),
            good.replace(SPAN, "0x7ad6b716920333"),
            good.replacen("00", "ff", 1),
            good.replacen("00", "0g", 1),
            format!("00-{TRACE}-{SPAN}-0\0"),
            format!("00-{TRACE}-{SPAN}-"),
            good.repeat(1_000),
        ];
        for parent in bad {
            let read = extract(&metadata(&parent, Some("k=v")));
            assert_eq!(read, (None, Some(Ignored::Traceparent)), "{parent:?}");
        }
    }

    #[test]
    fn flags_and_versions_to_come_are_read_as_far_as_they_are_known() {
        for (text, is_sampled) in [("00", false), ("01", true), ("ff", true), ("fe", false)] {
            let read = extract(&metadata(&format!("00-{TRACE}-{SPAN}-{text}"), None)).0.unwrap();
            assert_eq!(read.trace_flags().to_u8(), u8::from(is_sampled), "{text}");
        }
        assert!(extract(&metadata(&format!("cc-{TRACE}-{SPAN}-01"), None)).0.is_some());
    }

    #[test]
    fn a_bad_state_does_not_spoil_its_parent() {
        let parent = format!("00-{TRACE}-{SPAN}-01");
        let long = format!("k={}", "v".repeat(255));
        let member = |number: usize| format!("k{number}=v");
        let list = |len| (0..len).map(member).collect::<Vec<_>>().join(",");
        let exact = format!("a={},b={}", "v".repeat(256), "v".repeat(251));
        assert_eq!(exact.len(), TRACESTATE_BYTES_MAX);
        for (state, expected) in [
            ("k=v".to_owned(), None),
            (String::new(), None),
            (" k=v ,, l=w".to_owned(), None),
            (long, None),
            (list(32), None),
            (exact.clone(), None),
            (list(33), Some(Ignored::Tracestate)),
            (format!("{exact}v"), Some(Ignored::TracestateTooLong)),
            ("x".repeat(60_000), Some(Ignored::TracestateTooLong)),
            ("k".to_owned(), Some(Ignored::Tracestate)),
            ("=v".to_owned(), Some(Ignored::Tracestate)),
            ("k=".to_owned(), Some(Ignored::Tracestate)),
            ("k=v=w".to_owned(), Some(Ignored::Tracestate)),
            ("K=v".to_owned(), Some(Ignored::Tracestate)),
            ("k=a\nb".to_owned(), Some(Ignored::Tracestate)),
            ("k=\u{e4}".to_owned(), Some(Ignored::Tracestate)),
        ] {
            let (read, ignored) = extract(&metadata(&parent, Some(&state)));
            assert_eq!(ignored, expected, "{state:?}");
            let kept = read.unwrap().trace_state().header();
            assert_eq!(kept.is_empty(), expected.is_some() || state.is_empty(), "{state:?}");
        }
    }

    #[test]
    fn a_state_that_is_too_long_is_not_written() {
        let members = ["a", "b", "c"].map(|key| (key, "v".repeat(200)));
        let state = TraceState::from_key_value(members).unwrap();
        let short = context(1, "");
        let (trace, span, flags) = (short.trace_id(), short.span_id(), short.trace_flags());
        let mut metadata = Metadata::new();
        let long = SpanContext::new(trace, span, flags, false, state);
        assert_eq!(inject(&long, &mut metadata), Some(Ignored::TracestateTooLong));
        assert_eq!(metadata.keys().collect::<Vec<_>>(), [TRACEPARENT_KEY]);
    }
}
