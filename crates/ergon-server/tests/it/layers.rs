//! The application's middleware.

use std::{
    sync::{Arc, Mutex, mpsc},
    task,
};

use ergon_core::{
    ErrorKind, EventKind, RetryPolicy, State, TaskError, TaskOptions,
    attempt::{AttemptEnd, AttemptInfo as _},
    outcome::ConclusionKind,
};
use ergon_server::{AttemptService, Call, Done, HandlerError, Server};
use tower::{Layer, Service, ServiceExt as _, layer::layer_fn, util::BoxCloneSyncService};

use crate::support::{PATIENCE, SECOND, Work, enqueue, finished, memory, start};

type Log = Arc<Mutex<Vec<String>>>;

/// Notes when an attempt passes it.
#[derive(Clone)]
struct Noting {
    name: &'static str,
    log: Log,
}

impl Layer<AttemptService> for Noting {
    type Service = AttemptService;

    fn layer(&self, inner: AttemptService) -> AttemptService {
        let (before, after) = (self.clone(), self.clone());
        let service = inner
            .map_request(move |call: Call| {
                before.note(&format!("begins {}", call.context().kind()));
                call
            })
            .map_response(move |done: Done| {
                after.note("ends");
                done
            });
        BoxCloneSyncService::new(service)
    }
}

impl Noting {
    fn note(&self, what: &str) {
        self.log.lock().unwrap().push(format!("{} {what}", self.name));
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_layer_is_the_outermost() {
    let (store, log) = (memory(), Log::default());
    let noting = |name| Noting { name, log: Arc::clone(&log) };
    let handler_log = Arc::clone(&log);
    let server =
        start(Server::builder(store.clone()).layer(noting("one")).layer(noting("two")).handler(
            move |work: Work| {
                handler_log.lock().unwrap().push("handler".to_owned());
                async move { Ok(work.number) }
            },
        ));
    let handle = enqueue(store, TaskOptions::new()).await;
    assert_eq!(handle.result().within(PATIENCE).await.unwrap(), 7);
    drop(server.shutdown().await);
    let expected = ["one begins work", "two begins work", "handler", "two ends", "one ends"];
    assert_eq!(*log.lock().unwrap(), expected);
}

/// Refuses the first attempt with an error of its own, and passes the others on.
#[derive(Clone)]
struct Refusing(AttemptService);

impl Service<Call> for Refusing {
    type Response = Done;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Done, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> task::Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        if call.context().attempt() == 1 {
            assert_eq!(&call.payload()[..], br#"{"number":7}"#);
            return Box::pin(async { Err("refused".into()) });
        }
        let answer = self.0.call(call);
        Box::pin(async move { Ok(answer.await?) })
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_of_a_layer_is_retried_and_one_of_the_handler_keeps_its_meaning() {
    let store = memory();
    let server = start(
        Server::builder(store.clone())
            .layer(layer_fn(Refusing))
            .handler(async |_work: Work| Err(TaskError::cancel("not wanted"))),
    );
    let options = TaskOptions::new().retry(RetryPolicy::Fixed(SECOND));
    let handle = enqueue(store.clone(), options).await;
    let task = finished(&handle, store).await;
    assert_eq!(task.state, State::Cancelled);
    let errors: Vec<_> = task.progress.errors.iter().map(|it| (it.kind, &*it.message)).collect();
    assert_eq!(errors, [(ErrorKind::Error, "refused"), (ErrorKind::Cancelled, "not wanted")]);
    drop(server.shutdown().await);
}

#[tokio::test(start_paused = true)]
async fn a_layer_can_say_what_a_task_error_says() {
    let store = memory();
    let failing = layer_fn(|inner: AttemptService| {
        inner.map_request(|call: Call| call).and_then(|_done| async {
            Err::<Done, _>(HandlerError::from(TaskError::fail("inspected and refused")))
        })
    });
    let server = start(
        Server::builder(store.clone()).layer(failing).handler(async |work: Work| Ok(work.number)),
    );
    let handle = enqueue(store.clone(), TaskOptions::new()).await;
    let task = finished(&handle, store).await;
    assert_eq!(task.state, State::Failed);
    assert_eq!(task.progress.errors[0].message, "inspected and refused");
    drop(server.shutdown().await);
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_a_layer_is_a_failed_attempt() {
    let store = memory();
    let panicking = layer_fn(|inner: AttemptService| {
        inner.map_request(|call: Call| {
            assert!(call.context().attempt() > 1, "a bad layer");
            call
        })
    });
    let server = start(
        Server::builder(store.clone()).layer(panicking).handler(async |work: Work| Ok(work.number)),
    );
    let options = TaskOptions::new().retry(RetryPolicy::Fixed(SECOND));
    let handle = enqueue(store.clone(), options).await;
    let task = finished(&handle, store).await;
    assert_eq!((task.state, task.progress.errors[0].kind), (State::Completed, ErrorKind::Panic));
    drop(server.shutdown().await);
}

#[tokio::test(start_paused = true)]
async fn a_layer_can_have_itself_told_what_came_of_an_attempt() {
    let store = memory();
    let (sender, receiver) = mpsc::channel();
    let following = layer_fn(move |inner: AttemptService| {
        let sender = sender.clone();
        inner.map_request(move |call: Call| {
            let (sender, server, attempt) = (sender.clone(), call.server(), call.task().attempt);
            call.follow(Box::new(move |end: &AttemptEnd<'_>| {
                let told = (server, attempt, end.conclusion.kind(), end.event.kind());
                sender.send(told).unwrap();
            }));
            // It is code of others: what it panics with hurts nobody.
            call.follow(Box::new(|_end| panic!("a bug in a follower")));
            call
        })
    });
    let server = start(
        Server::builder(store.clone())
            .layer(following)
            .handler(async |_work: Work| std::future::pending::<Result<u32, TaskError>>().await),
    );
    let options = TaskOptions::new().max_attempts(2).retry(RetryPolicy::Fixed(SECOND));
    let handle = enqueue(store.clone(), options.timeout(SECOND)).await;
    assert_eq!(finished(&handle, store).await.state, State::Failed);
    let id = server.id();
    let report = server.shutdown().await;
    assert_eq!((report.retried, report.failed), (1, 1));
    assert!(report.is_clean());
    let told: Vec<_> = receiver.iter().collect();
    let retry = ConclusionKind::Retry;
    let expected = [(id, 1, retry, EventKind::TaskRetried), (id, 2, retry, EventKind::TaskFailed)];
    assert_eq!(told, expected);
}
