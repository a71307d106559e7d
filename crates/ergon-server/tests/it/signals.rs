//! Signals that ask the process to end.
#![cfg(unix)]

use std::time::Duration;

use ergon_core::{Handle, TaskOptions};
use ergon_server::{Context, Server, ServerConfig, ShutdownReport};
use ergon_testing::{MemoryStore, Signal};
use tokio::{sync::Mutex, time::timeout};

use crate::support::{SECOND, Work, enqueue};

/// A signal reaches every server of the process: one test at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

fn send(signals: &[&str]) {
    let pid = std::process::id().to_string();
    for signal in signals {
        let status = std::process::Command::new("kill").args([*signal, pid.as_str()]).status();
        assert!(status.unwrap().success());
    }
}

/// Runs a server whose handler never ends, and sends it the first signals while it runs and the
/// second ones once the handler was told to stop.
async fn run(first: &[&str], second: &[&str]) -> (ShutdownReport, Handle<u32>) {
    let _alone = ALONE.lock().await;
    let (store, started, told) = (MemoryStore::new(), Signal::new(), Signal::new());
    let (starting, telling) = (started.clone(), told.clone());
    let config = ServerConfig::new().grace_period(Duration::ZERO).abort_period(SECOND * 1_000);
    let server = Server::builder(store.clone()).config(config).handler(
        move |_work: Work, context: Context| {
            let told = telling.clone();
            starting.fire();
            async move {
                context.cancelled().await;
                told.fire();
                std::future::pending().await
            }
        },
    );
    let handle = enqueue(store.clone(), TaskOptions::new()).await;
    let signals = async {
        // The handler runs, so the server listens to signals.
        started.wait().await;
        send(first);
        if !second.is_empty() {
            told.wait().await;
            send(second);
        }
    };
    let ended = async { tokio::join!(server.build().unwrap().run_until_signal(), signals).0 };
    let report = timeout(SECOND * 20, ended).await.expect("the second signal has to end it");
    (report.unwrap(), handle)
}

#[tokio::test]
async fn a_signal_ends_a_server_and_a_second_one_ends_it_at_once() {
    let (report, handle) = run(&["-TERM"], &["-TERM"]).await;
    assert_eq!(report.released, [handle.id()]);
}

#[tokio::test]
async fn a_second_signal_on_the_heels_of_the_first_is_not_lost() {
    // Both have come before the server is polled again.
    for signals in [["-TERM", "-INT"], ["-INT", "-TERM"]] {
        let (report, handle) = run(&signals, &[]).await;
        assert_eq!(report.released, [handle.id()]);
    }
}
