//! Pages as a browser shows them: live without a reload, whole without scripts, on small screens and
//! in the dark. Skipped where there is no Chromium.

use std::time::Duration;

use ergon_core::State;
use ergon_monitor::Monitor;
use serde_json::json;

use crate::{
    cdp::Browser,
    rig::{Rig, local},
    sse::live,
    stream::{serve, serve_one},
};

/// What the line about the age of the page says.
const FRESHNESS: &str = "document.querySelector('[data-mode]').textContent";

fn says(word: &str) -> String {
    format!("{FRESHNESS}.startsWith('{word}')")
}

#[tokio::test]
async fn pages_load_without_a_complaint_and_fit_every_screen() {
    let Some(mut browser) = Browser::start().await else { return };
    let rig = Rig::with(live());
    let long = "a-name-that-is-as-long-as-names-of-queues-may-be.".repeat(2);
    let id = rig
        .in_state_with(State::Failed, &"word ".repeat(50), |task| {
            task.spec.queue = long.parse().unwrap();
            task.spec.payload = format!("{{\"to\":\"{}\"}}", "x".repeat(500)).into();
        })
        .await;
    rig.in_state(State::Running).await;
    let served = serve(&rig, "127.0.0.1:0").await;
    let own = format!("/tasks/{id}");
    let queue = format!("/queues/{long}");
    for path in [
        "/",
        "/tasks",
        "/tasks?state=failed",
        &own,
        "/queues",
        &queue,
        "/workers",
        "/errors",
        "/audit",
        "/system",
    ] {
        for (width, colours) in [(320, "dark"), (1280, "light")] {
            browser.look(width, colours).await;
            browser.open(&format!("http://{}/monitor{path}", served.address)).await;
            browser.until(&says("Live")).await;
            let wide = browser.eval("document.documentElement.scrollWidth").await;
            assert!(wide.as_u64().unwrap() <= width.into(), "{path} is {wide} wide at {width}");
            let background = browser.eval("getComputedStyle(document.body).backgroundColor").await;
            let is_dark = background == "rgb(16, 21, 27)";
            assert_eq!(is_dark, colours == "dark", "{background}");
        }
        assert_eq!(browser.complaints().await, Vec::<String>::new(), "{path}");
    }
    browser.stop().await;
}

#[tokio::test]
async fn a_row_follows_its_task_and_nobody_is_disturbed() {
    let Some(mut browser) = Browser::start().await else { return };
    let rig = Rig::with(live());
    let ids = [rig.in_state(State::Retrying).await, rig.in_state(State::Failed).await];
    let served = serve(&rig, "127.0.0.1:0").await;
    browser.open(&format!("http://{}/monitor/tasks", served.address)).await;
    browser.until(&says("Live")).await;
    // Somebody is at work: ticks a row, opens what is folded, and writes a filter.
    let at_work = format!(
        "window.stays = true;
         document.querySelector('#t{} input').click();
         document.querySelector('.bulk details').open = true;
         const field = document.querySelector('input[name=kind]');
         field.focus(); field.value = 'mail.send'; field.setSelectionRange(2, 5);",
        ids[0]
    );
    browser.eval(&at_work).await;
    let still = format!(
        "[window.stays, document.querySelector('#t{} input').checked,
          document.querySelector('.bulk details').open, document.activeElement.name,
          document.activeElement.value, document.activeElement.selectionStart,
          document.activeElement.selectionEnd, document.querySelector('#selected').textContent]",
        ids[0]
    );
    let undisturbed = json!([true, true, true, "kind", "mail.send", 2, 5, "1 selected"]);
    // The state of a row, a new row above it, and a row that goes.
    let action = format!("/monitor/tasks/{}/cancel", ids[0]);
    rig.form(&action, "").await.is(303);
    let cancelled = format!("document.querySelector('#t{} .state-cancelled') !== null", ids[0]);
    browser.until(&cancelled).await;
    assert_eq!(browser.eval(&still).await, undisturbed);
    let new = rig.task().await;
    browser.until(&format!("document.getElementById('t{new}') !== null")).await;
    // The focus is now in a row that moves up when the one above it goes.
    let focus = format!("document.querySelector('#t{} a').focus()", ids[0]);
    rig.form(&format!("/monitor/tasks/{}/delete", ids[1]), "confirm=yes").await.is(303);
    browser.eval(&focus).await;
    rig.form(&format!("/monitor/tasks/{new}/delete"), "confirm=yes").await.is(303);
    browser.until(&format!("document.getElementById('t{new}') === null")).await;
    browser.until(&format!("document.getElementById('t{}') === null", ids[1])).await;
    let focused = format!("document.activeElement.closest('tr').id === 't{}'", ids[0]);
    assert_eq!(browser.eval(&focused).await, true);
    // A form that a stream brought can be sent.
    let retried = format!("document.querySelector('#t{} .state-pending') !== null", ids[0]);
    browser.eval("document.querySelector('.bulk [value=retry]').click()").await;
    browser.loaded().await;
    browser.open(&format!("http://{}/monitor/tasks", served.address)).await;
    browser.until(&retried).await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    browser.stop().await;
}

#[tokio::test]
async fn a_monitor_that_comes_back_is_followed_again() {
    let Some(mut browser) = Browser::start().await else { return };
    let rig = Rig::with(live());
    rig.task().await;
    let served = serve(&rig, "127.0.0.1:0").await;
    let address = served.address.to_string();
    browser.open(&format!("http://{address}/monitor/queues")).await;
    browser.until(&says("Live")).await;
    browser.eval("window.stays = true").await;
    // As if it were killed: no last words.
    served.ended.abort();
    assert!(served.ended.await.is_err());
    browser.until(&format!("!{}", says("Live"))).await;
    rig.task().await;
    // Another process on the same store, that knows nothing of the first.
    let again = Monitor::builder(rig.store.clone(), live()).build().unwrap();
    let _served = serve_one(&again, &address).await;
    browser.until(&says("Live")).await;
    browser.until("document.querySelector('tbody data[title=\"2\"]') !== null").await;
    rig.task().await;
    browser.until("document.querySelector('tbody data[title=\"3\"]') !== null").await;
    assert_eq!(browser.eval("window.stays").await, true);
    browser.stop().await;
}

#[tokio::test]
async fn forms_work_without_scripts() {
    let Some(mut browser) = Browser::start().await else { return };
    let rig = Rig::with(live());
    let id = rig.task().await;
    let served = serve(&rig, "127.0.0.1:0").await;
    browser.call("Emulation.setScriptExecutionDisabled", json!({ "value": true })).await;
    browser.open(&format!("http://{}/monitor/queues", served.address)).await;
    assert_eq!(browser.eval("typeof window.ergon").await, "undefined");
    browser.eval("document.querySelector('form[action$=pause] button').click()").await;
    browser.loaded().await;
    browser.eval("document.querySelector('form[action$=resume] button').focus()").await;
    let text = browser.eval("document.body.innerText").await;
    assert!(text.as_str().unwrap().contains("paused"), "{text}");
    browser.open(&format!("http://{}/monitor/tasks/{id}", served.address)).await;
    browser.eval("document.querySelector('form[action$=cancel] button').click()").await;
    browser.loaded().await;
    assert_eq!(rig.state(id).await, State::Cancelled);
    browser.stop().await;
}

#[tokio::test]
async fn without_streams_pages_poll() {
    let Some(mut browser) = Browser::start().await else { return };
    let rig = Rig::with(local().poll_interval(Duration::from_secs(1)));
    let served = serve(&rig, "127.0.0.1:0").await;
    browser.open(&format!("http://{}/monitor/tasks", served.address)).await;
    browser.until(&says("Polling")).await;
    let id = rig.task().await;
    browser.until(&format!("document.getElementById('t{id}') !== null")).await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    browser.stop().await;
}
