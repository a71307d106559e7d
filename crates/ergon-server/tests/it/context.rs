//! What handlers get: context, state, own extractors.

use std::sync::Arc;

use ergon_core::{Client, ResultError, TaskError, TaskOptions};
use ergon_server::{Context, Extract, FromRef, Queue, Server, State};
use ergon_testing::Signal;

use crate::support::{Chore, PATIENCE, SECOND, Work, enqueue, memory, start};

#[tokio::test(start_paused = true)]
async fn a_context_knows_the_attempt() {
    let store = memory();
    let server = start(Server::builder(store.clone()).queue(Queue::new("q")).handler(
        async |work: Work, context: Context| {
            assert_eq!(context.kind().as_str(), "work");
            assert_eq!(context.queue().as_str(), "q");
            assert_eq!((context.attempt(), context.max_attempts()), (1, 5));
            assert_eq!((context.priority(), context.crash_count()), (3, 0));
            assert_eq!(context.metadata()["tenant"], "acme");
            assert_eq!(context.tags()[0].as_str(), "blue");
            assert_eq!(context.idempotency_key(), context.id().to_string());
            assert!(context.token().get() > 0);
            assert_eq!(context.remaining(), SECOND * 9);
            assert!(context.created_at() <= context.scheduled_at());
            assert!(context.scheduled_at() <= context.claimed_at());
            assert!(!context.is_cancelled() && context.cancel_reason().is_none());
            Ok(work.number)
        },
    ));
    let options = TaskOptions::new().queue("q").max_attempts(5).priority(3).timeout(SECOND * 9);
    let options = options.metadata(("tenant", "acme")).tag("blue");
    let handle = enqueue(store, options).await;
    assert_eq!(handle.result().within(PATIENCE).await.unwrap(), 7);
    drop(server.shutdown().await);
}

#[tokio::test(start_paused = true)]
async fn a_handler_enqueues_follow_up_tasks() {
    let store = memory();
    let done = Signal::new();
    let doing = done.clone();
    let server = start(
        Server::builder(store.clone())
            .handler(async |work: Work, context: Context| {
                context.client().enqueue(Chore).await?;
                Ok(work.number)
            })
            .handler(move |_chore: Chore| {
                doing.fire();
                async { Ok(()) }
            }),
    );
    enqueue(store, TaskOptions::new()).await;
    done.wait().await;
    assert_eq!(server.shutdown().await.completed, 2);
}

#[derive(Clone)]
struct Factor(u32);

struct App {
    factor: Factor,
    name: Arc<str>,
}

impl FromRef<App> for Factor {
    fn from_ref(app: &App) -> Self {
        app.factor.clone()
    }
}

impl FromRef<App> for Arc<str> {
    fn from_ref(app: &App) -> Self {
        Self::clone(&app.name)
    }
}

struct Tenant(String);

impl<S> Extract<S> for Tenant {
    fn extract(context: &Context, _state: &S) -> Result<Self, TaskError> {
        let tenant = context.metadata().get("tenant");
        tenant.cloned().map(Self).ok_or_else(|| TaskError::fail("no tenant"))
    }
}

async fn multiply(
    work: Work,
    State(factor): State<Factor>,
    tenant: Tenant,
    State(name): State<Arc<str>>,
    context: Context,
) -> Result<u32, TaskError> {
    assert_eq!((&*tenant.0, &*name, context.attempt()), ("acme", "app", 1));
    Ok(work.number * factor.0)
}

#[tokio::test(start_paused = true)]
async fn handlers_take_parts_of_the_state_and_own_extractors() {
    let store = memory();
    let app = App { factor: Factor(6), name: "app".into() };
    let server = start(Server::builder(store.clone()).state(app).handler(multiply));
    let client = Client::new(store);
    let work = || client.enqueue(Work { number: 7 });
    let good = work().metadata(("tenant", "acme")).await.unwrap();
    assert_eq!(good.result().within(PATIENCE).await.unwrap(), 42);
    let result = work().await.unwrap().result().within(PATIENCE).await;
    assert!(matches!(result, Err(ResultError::Failed { error, .. }) if error == "no tenant"));
    drop(server.shutdown().await);
}

#[tokio::test(start_paused = true)]
async fn the_whole_state_is_a_part_of_itself() {
    let store = memory();
    let work = async |work: Work, State(factor): State<Factor>| Ok(work.number * factor.0);
    let server = start(Server::builder(store.clone()).state(Factor(2)).handler(work));
    let handle = enqueue(store, TaskOptions::new()).await;
    assert_eq!(handle.result().within(PATIENCE).await.unwrap(), 14);
    drop(server.shutdown().await);
}
