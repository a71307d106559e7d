//! What users wrote is shown as what it is, never as markup; and what is to be hidden is not there.

use bytes::Bytes;
use ergon_core::State;
use ergon_monitor::Redaction;

use crate::rig::{MARKUP, Rig, local, metadata, tag};

/// Every element that pages are made of.
const ELEMENTS: &str = "a bdi body button caption code data dd details div dl dt figcaption figure footer \
    form h1 h2 head header html input label li line link main meta meter nav ol p polyline pre progress rect script section \
    span strong summary svg table tbody td textarea th thead time title tr ul";

/// Every attribute that they have. Scripts in attributes and styles are not among them.
const ATTRIBUTES: &str = "action aria-current aria-hidden aria-label aria-live autocomplete charset class content \
    data-age data-ago data-all data-cursor data-events data-interval data-label data-mode data-poll \
    data-revision data-theme data-view \
    datetime defer download focusable height href id integrity lang max maxlength method min name open \
    pattern placeholder points preserveaspectratio rel required role rx scope size spellcheck src step stroke-dasharray tabindex \
    title type value viewbox width x x1 x2 y y1 y2";

/// Takes a page apart as a browser does, and knows every element and attribute of it.
#[track_caller]
pub(crate) fn check(page: &str, place: &str) {
    assert!(
        !page.contains('\u{1b}') && !page.contains('\u{202e}'),
        "control characters in {place}"
    );
    let mut rest = page.strip_prefix("<!DOCTYPE html>").unwrap_or(page);
    while let Some(begin) = rest.find('<') {
        rest = &rest[begin + 1..];
        let is_end = rest.starts_with('/');
        rest = rest.strip_prefix('/').unwrap_or(rest);
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap();
        let element = rest[..end].to_ascii_lowercase();
        assert!(
            ELEMENTS.split_whitespace().any(|known| known == element),
            "<{element}> in {place}"
        );
        rest = &rest[end..];
        while let Some(attribute) = rest.strip_prefix(' ') {
            assert!(!is_end, "an attribute of an end in {place}");
            let end = attribute.find(['=', '>', ' ']).unwrap();
            let name = attribute[..end].to_ascii_lowercase();
            assert!(ATTRIBUTES.split_whitespace().any(|known| known == name), "{name}= in {place}");
            rest = &attribute[end..];
            if let Some(value) = rest.strip_prefix("=\"") {
                let (value, behind) = value.split_once('"').unwrap();
                let is_address = matches!(name.as_str(), "href" | "src" | "action");
                let is_ours = value.is_empty() || value == "#main" || value.starts_with("/monitor");
                assert!(!is_address || is_ours, "{value} in {place}");
                rest = behind;
            }
        }
        assert!(rest.starts_with('>'), "{place}: {rest}");
    }
}

#[tokio::test]
async fn no_text_of_users_is_markup() {
    for text in MARKUP {
        let rig = Rig::new();
        let json =
            serde_json::to_string(&serde_json::json!({ text: [text, {"a": text}] })).unwrap();
        let payloads = [json, text.to_owned()];
        for payload in payloads {
            for state in [State::Failed, State::Retrying, State::Running] {
                let id = rig
                    .in_state_with(state, text, |task| {
                        task.spec.payload = Bytes::from(payload.clone());
                        task.spec.tags = tag(text).into_iter().collect();
                        task.spec.metadata = metadata(text);
                    })
                    .await;
                let page = rig.get(&format!("/monitor/tasks/{id}")).await.is(200);
                check(&page.body, &format!("the page of {text}"));
                let raw = rig.get(&format!("/monitor/tasks/{id}/payload")).await.is(200);
                assert!(raw.header("content-disposition").starts_with("attachment"));
                assert!(!raw.header("content-type").contains("html"));
            }
        }
        for path in ["/", "/tasks", "/tasks?state=failed", "/queues/default", "/queues"] {
            let page = rig.get(&format!("/monitor{path}")).await.is(200);
            check(&page.body, &format!("{path} with {text}"));
        }
    }
}

#[tokio::test]
async fn no_text_of_an_address_is_markup() {
    let rig = Rig::new();
    for text in MARKUP {
        let escaped: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
        for path in [
            format!("/tasks?tag={escaped}"),
            format!("/tasks?meta=a:{escaped}"),
            format!("/tasks?kind={escaped}"),
            format!("/tasks?state={escaped}"),
            format!("/tasks?id={escaped}"),
            format!("/tasks?notice={escaped}"),
            format!("/tasks/{escaped}"),
            format!("/queues/{escaped}"),
            format!("/{escaped}"),
            format!("/bulk/{escaped}"),
            format!("/bulk/new?action=retry&tag={escaped}"),
            format!("/bulk/new?action={escaped}"),
            format!("/outcomes/{escaped}"),
            format!("/errors/{escaped}"),
            format!("/errors?kind={escaped}"),
            format!("/audit?after={escaped}"),
            format!("/?range={escaped}"),
        ] {
            let page = rig.get(&format!("/monitor{path}")).await;
            check(&page.body, &path);
        }
    }
    rig.get("/monitor/?notice=retry").await.has("Done: set to run again.");
    rig.get("/monitor/?notice=whatever").await.has_not("whatever");
}

#[tokio::test]
async fn secrets_are_hidden_everywhere() {
    let redaction =
        Redaction::default().word("iban").hook(|field| field.path.last() == Some(&"odd"));
    let rig = Rig::with(local().redaction(redaction));
    let payload = r#"{"user":"ada","Password":"hush-1","nested":[{"api_key":"hush-2","iban":"hush-3"}],"odd":{"x":"hush-4"}}"#;
    let id = rig
        .in_state_with(State::Completed, "", |task| {
            task.spec.payload = Bytes::from(payload);
            task.spec.metadata.insert("x-auth-token".to_owned(), "hush-5".to_owned());
        })
        .await;
    for path in [
        format!("/tasks/{id}"),
        format!("/tasks/{id}/payload"),
        format!("/api/v1/tasks/{id}"),
        "/tasks".to_owned(),
        "/api/v1/tasks".to_owned(),
    ] {
        rig.get(&format!("/monitor{path}"))
            .await
            .is(200)
            .has("[hidden]")
            .has("ada")
            .has_not("hush");
    }
}

#[tokio::test]
async fn numbers_keep_their_digits() {
    let rig = Rig::new();
    let payload = r#"{"id":12345678901234567890,"price":1.10,"a":1,"a":2}"#;
    let id = rig.task_with(|task| task.spec.payload = Bytes::from(payload)).await;
    rig.get(&format!("/monitor/tasks/{id}")).await.has("12345678901234567890").has("1.10");
    rig.get(&format!("/monitor/api/v1/tasks/{id}")).await.has(payload);
    let raw = rig.get(&format!("/monitor/tasks/{id}/payload")).await;
    assert_eq!(raw.body, payload);
}

#[tokio::test]
async fn large_and_odd_payloads_do_not_break_a_page() {
    let rig = Rig::new();
    let large = format!("\"{}\"", "x".repeat(900_000));
    let id = rig.task_with(|task| task.spec.payload = Bytes::from(large)).await;
    let page = rig.get(&format!("/monitor/tasks/{id}")).await.is(200).has("too large to be shown");
    assert!(page.body.len() < 30_000);
    let raw = rig.get(&format!("/monitor/tasks/{id}/payload")).await.is(200);
    assert_eq!(raw.body.len(), 900_002);
    let json = rig.json(&format!("/monitor/api/v1/tasks/{id}")).await;
    assert_eq!(
        (&json["payload"]["encoding"], &json["payload"]["bytes"]),
        (&"too_large".into(), &"900002".into())
    );
    let binary =
        rig.task_with(|task| task.spec.payload = Bytes::from_static(b"\xff\x00\xfe")).await;
    rig.get(&format!("/monitor/tasks/{binary}")).await.is(200).has("not text");
    let deep = rig.task_with(|task| task.spec.payload = Bytes::from("[".repeat(50_000))).await;
    rig.get(&format!("/monitor/tasks/{deep}")).await.is(200);
    let wide = format!("[{}0]", "0,".repeat(20_000));
    let wide = rig.task_with(|task| task.spec.payload = Bytes::from(wide)).await;
    rig.get(&format!("/monitor/tasks/{wide}")).await.is(200).has("There is more");
    rig.get("/monitor/tasks").await.is(200);
}

#[test]
fn nothing_is_loaded_from_elsewhere() {
    let files = [
        include_str!("../../assets/ergon.css"),
        include_str!("../../assets/ergon.js"),
        include_str!("../../src/parts/layout.rs"),
        include_str!("../../src/parts/table.rs"),
        include_str!("../../src/pages/task.rs"),
    ];
    for file in files {
        for telltale in ["http://", "https://", "PreEscaped", "eval(", "innerHTML", "style="] {
            assert!(!file.contains(telltale), "{telltale}");
        }
    }
}
