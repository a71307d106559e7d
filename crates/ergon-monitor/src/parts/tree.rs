//! JSON as a tree that opens and closes.

use maud::{Markup, html};

use crate::{
    json::Json,
    text::{clean, excerpt},
};

/// Most values that a tree shows.
const VALUES_MAX: usize = 2_000;

/// Longest text that a tree shows, in characters.
const TEXT_MAX: usize = 2_000;

/// How deep a tree is open at first.
const OPEN_DEPTH: usize = 2;

/// Renders a value, up to 2,000 values of it.
pub(crate) fn tree(json: &Json) -> Markup {
    let mut left = VALUES_MAX;
    let markup = value(json, 0, &mut left);
    html! {
        div.json { (markup) }
        @if left == 0 { p.muted { "There is more: download it to see all." } }
    }
}

fn value(json: &Json, depth: usize, left: &mut usize) -> Markup {
    *left = left.saturating_sub(1);
    match json {
        Json::Null => html! { span.json-word { "null" } },
        Json::Bool(value) => html! { span.json-word { (value) } },
        Json::Number(number) => html! { span.json-number { (number) } },
        Json::Text(text) => {
            let (shown, is_whole) = excerpt(text, TEXT_MAX);
            html! { bdi.json-text { "\"" (clean(shown)) @if !is_whole { "…" } "\"" } }
        }
        Json::Deep(raw) => html! { span.mono { (clean(raw)) } },
        Json::Array(items) => {
            let rows = |left: &mut usize| {
                html! {
                    @for item in items { @if *left > 0 { li { (value(item, depth + 1, left)) } } }
                }
            };
            branch('[', items.len(), ']', depth, left, rows)
        }
        Json::Object(entries) => {
            let rows = |left: &mut usize| {
                html! {
                    @for (key, item) in entries { @if *left > 0 {
                        li { bdi.json-key { (clean(key)) } ": " (value(item, depth + 1, left)) }
                    } }
                }
            };
            branch('{', entries.len(), '}', depth, left, rows)
        }
    }
}

fn branch(
    open: char,
    len: usize,
    close: char,
    depth: usize,
    left: &mut usize,
    rows: impl FnOnce(&mut usize) -> Markup,
) -> Markup {
    if len == 0 {
        return html! { span.muted { (open) (close) } };
    }
    let rows = rows(left);
    html! {
        details open[depth < OPEN_DEPTH] {
            summary { (open) " " span.muted { (len) } " " (close) }
            ul { (rows) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_digits_and_text_is_escaped() {
        let json = Json::parse(br#"{"<k>":[12345678901234567890.10,"<b>",{}]}"#).unwrap();
        let markup = tree(&json).into_string();
        for expected in ["&lt;k&gt;", "12345678901234567890.10", "&lt;b&gt;", "{}"] {
            assert!(markup.contains(expected), "{expected} in {markup}");
        }
    }

    #[test]
    fn large_values_are_cut() {
        let text = format!("[{}0]", "0,".repeat(10_000));
        let markup = tree(&Json::parse(text.as_bytes()).unwrap()).into_string();
        assert_eq!(markup.matches("<li>").count(), VALUES_MAX - 1);
        assert!(markup.contains("There is more"));
    }
}
