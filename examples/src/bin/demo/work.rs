//! What a shop might have done in the background: kinds of tasks, and handlers that behave as such do.

use std::time::Duration;

use ergon_core::{Client, ProgressReport, RetryPolicy, Task, TaskError, TaskOptions};
use ergon_server::{Context, Queue, Server, ServerBuilder};
use rand::{RngExt as _, rngs::StdRng};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);

#[derive(Serialize, Deserialize, Task)]
#[task(kind = "mail.send", queue = "mail", output = String)]
struct SendMail {
    to: String,
    template: String,
}

#[derive(Serialize, Deserialize, Task)]
#[task(kind = "image.resize", queue = "media")]
struct ResizeImage {
    image: u64,
    widths: Vec<u32>,
}

#[derive(Serialize, Deserialize, Task)]
#[task(kind = "payment.capture", queue = "payments", output = u64, retry = RetryPolicy::Fixed(SECOND))]
struct CapturePayment {
    order: u64,
    cents: u64,
    card_token: String,
}

#[derive(Serialize, Deserialize, Task)]
#[task(kind = "webhook.deliver", queue = "webhooks", output = u16)]
struct DeliverWebhook {
    url: String,
    event: String,
}

#[derive(Serialize, Deserialize, Task)]
#[task(kind = "report.build", queue = "reports")]
struct BuildReport {
    month: String,
}

/// A random time, short most of the time and long now and then, as they are.
async fn take(typical_millis: u64) {
    let factor = rand::rng().random_range(0.0..1.0_f64).powi(3) * 6.0 + 0.3;
    sleep(Duration::from_millis(typical_millis).mul_f64(factor)).await;
}

fn happens(one_in: u32) -> bool {
    rand::rng().random_ratio(1, one_in)
}

async fn send_mail(mail: SendMail) -> Result<String, TaskError> {
    take(30).await;
    if mail.to.starts_with("nobody") {
        return Err(TaskError::fail(format!("550 5.1.1 <{}>: no such user", mail.to)));
    }
    if happens(25) {
        return Err(TaskError::retry("smtp: connection reset by peer"));
    }
    Ok("250 queued".to_owned())
}

async fn resize_image(image: ResizeImage, context: Context) -> Result<(), TaskError> {
    let total = image.widths.len() as u64;
    for (done, width) in (0..).zip(&image.widths) {
        let report = ProgressReport::new(done).of(total);
        context.report(report.message(format!("{width} px wide")));
        take(150).await;
    }
    assert!(!happens(60), "index out of bounds: the len is 3 but the index is 3");
    Ok(())
}

async fn capture_payment(payment: CapturePayment) -> Result<u64, TaskError> {
    take(120).await;
    if happens(40) {
        return Err(TaskError::fail("card_declined: insufficient funds"));
    }
    if happens(12) {
        return Err(TaskError::retry("gateway timed out after 2 s"));
    }
    Ok(payment.cents)
}

async fn deliver_webhook(hook: DeliverWebhook) -> Result<u16, TaskError> {
    take(80).await;
    match (hook.url.contains("flaky"), happens(3)) {
        (true, true) => {
            Err(TaskError::retry(format!("POST {}: 503 Service Unavailable", hook.url)))
        }
        _ => Ok(204),
    }
}

async fn build_report(report: BuildReport, context: Context) -> Result<(), TaskError> {
    for page in 0..20 {
        let progress = ProgressReport::new(page).of(20);
        context.report(progress.message(format!("page {} of {}", page + 1, report.month)));
        sleep(SECOND).await;
        if context.is_cancelled() {
            return Err(TaskError::cancel("nobody waits for it any more"));
        }
    }
    Ok(())
}

/// The handlers, and a queue for each sort of work. Nobody serves `reports` beyond one at a time.
pub(crate) fn register(builder: ServerBuilder) -> ServerBuilder {
    builder
        .handler(send_mail)
        .handler(resize_image)
        .handler(capture_payment)
        .handler(deliver_webhook)
        .handler(build_report)
        .queue(Queue::new("mail").concurrency(8))
        .queue(Queue::new("media").concurrency(3))
        .queue(Queue::new("payments").concurrency(4).priority(1))
        .queue(Queue::new("webhooks").concurrency(4))
        .queue(Queue::new("reports").concurrency(1))
}

/// Enqueues what comes in at a moment like any other.
pub(crate) async fn enqueue(client: &Client, rng: &mut StdRng) -> anyhow::Result<()> {
    let number = rng.random_range(1_000..10_000_u64);
    match rng.random_range(0..20) {
        0..9 => {
            let name = if rng.random_ratio(1, 50) { "nobody" } else { "customer" };
            let (to, template) = (format!("{name}{number}@example.com"), "receipt".to_owned());
            client.enqueue(SendMail { to, template }).tag("receipt").await?;
        }
        9..12 => {
            let widths = vec![320, 640, 1_280];
            client.enqueue(ResizeImage { image: number, widths }).await?;
        }
        12..15 => {
            let (cents, card_token) = (rng.random_range(500..50_000), "tok_4242".to_owned());
            let payment = CapturePayment { order: number, cents, card_token };
            client.enqueue(payment).metadata(("order", number.to_string())).await?;
        }
        15..19 => {
            let host = if rng.random_ratio(1, 4) { "flaky.example" } else { "partner.example" };
            let (url, event) = (format!("https://{host}/hooks"), "order.paid".to_owned());
            let options = TaskOptions::new().max_attempts(5);
            client.enqueue(DeliverWebhook { url, event }).options(options).await?;
        }
        _ => {
            let later = Duration::from_secs(rng.random_range(10..3_600));
            let month = format!("2026-{:02}", rng.random_range(1..=12));
            client.enqueue(BuildReport { month }).delay(later).tag("monthly").await?;
        }
    }
    Ok(())
}

/// A builder of a server of this store, to be [registered](register) with.
pub(crate) fn server(store: &ergon_redb::RedbStore) -> ServerBuilder {
    Server::builder(store.clone())
}
