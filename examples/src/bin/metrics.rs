//! What Prometheus sees: a server at work, its metrics over HTTP. `--stay` goes on until Ctrl-C.
#![expect(clippy::print_stdout, reason = "a program talks to its terminal")]

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::ensure;
use axum::{
    Router, extract::State, http::header::CONTENT_TYPE, response::IntoResponse, routing::get,
};
use clap::Parser;
use ergon_core::{Client, RetryPolicy, Task, TaskError};
use ergon_prometheus::Metrics;
use ergon_redb::RedbStore;
use ergon_server::{Context, Queue, Server};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

#[derive(Parser)]
struct Args {
    /// Where /metrics is served
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Go on until Ctrl-C, for a Prometheus to scrape
    #[arg(long)]
    stay: bool,
}

const PAUSE: Duration = Duration::from_millis(20);

#[derive(Serialize, Deserialize, Task)]
#[task(kind = "email.send", queue = "mail", retry = RetryPolicy::Fixed(PAUSE))]
struct SendEmail {
    to: String,
}

async fn send_email(mail: SendEmail, context: Context) -> Result<(), TaskError> {
    match mail.to.as_str() {
        "slow" => tokio::time::sleep(Duration::from_millis(60)).await,
        "shaky" if context.attempt() == 1 => return Err(TaskError::retry("connection reset")),
        "gone" => return Err(TaskError::fail("550 no such user")),
        _ => {}
    }
    Ok(())
}

/// Answers a scrape: from memory, whatever the store is doing.
async fn scrape(State(metrics): State<Metrics>) -> impl IntoResponse {
    ([(CONTENT_TYPE, ergon_prometheus::CONTENT_TYPE)], metrics.encode())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let directory = tempfile::tempdir()?;
    let store = RedbStore::open(directory.path().join("tasks.redb")).await?;

    // Whoever commits tells the metrics; what the queues hold is read now and then.
    let metrics = Metrics::builder().backend("redb").build()?;
    let client = Client::builder(store.clone()).events(metrics.sink()).build();
    let server = Server::builder(store.clone())
        .handler(send_email)
        .queue(Queue::new("mail"))
        .events(metrics.sink())
        .build()?;
    let sampling = metrics.sampler(store.clone()).period(Duration::from_millis(50)).start(); // 5 s

    let listener = TcpListener::bind(args.listen).await?;
    let address = listener.local_addr()?;
    let app = Router::new().route("/metrics", get(scrape)).with_state(metrics);
    let http = tokio::spawn(async { axum::serve(listener, app).await });

    let mails = ["ada", "grace", "edsger", "slow", "shaky", "gone"];
    let mails = mails.map(|to| SendEmail { to: to.to_owned() });
    let tasks = client.enqueue_many(mails).await?;
    if args.stay {
        println!("http://{address}/metrics until Ctrl-C");
        server.run_until_signal().await?;
    } else {
        let running = server.start();
        for task in tasks {
            // One of them fails, which the metrics tell.
            let _ = task.result().await;
        }
        running.shutdown().await;
        for line in interesting(&scraped(address).await?) {
            println!("{line}");
        }
    }

    http.abort();
    sampling.stop().await;
    store.close().await?;
    Ok(())
}

/// Asks as Prometheus does, until the queues were read after the last task had ended.
async fn scraped(address: SocketAddr) -> anyhow::Result<String> {
    let began = Instant::now();
    loop {
        let mut connection = TcpStream::connect(address).await?;
        let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        connection.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await?;
        ensure!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        if answer.contains(r#"ergon_queue_tasks{queue="mail",state="completed"} 5"#) {
            return Ok(answer);
        }
        ensure!(began.elapsed() < Duration::from_secs(30), "the queues are not read: {answer}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The counts that are not zero; times differ from run to run.
fn interesting(scrape: &str) -> Vec<&str> {
    let is_interesting = |line: &&str| {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        let is_count = name.ends_with("_total") || name.ends_with("seconds_count");
        (is_count || name == "ergon_queue_tasks")
            && !name.starts_with("ergon_events")
            && !line.starts_with('#')
            && !line.ends_with(" 0")
    };
    scrape.lines().filter(is_interesting).collect()
}
