//! Spans of enqueues, and the contexts that tasks carry.

use ergon_core::{
    Client, EnqueueError, Metadata, NewTask, Now, Unique,
    limits::BATCH_MAX,
    store::{Enqueue as _, Inspect as _},
};
use ergon_otel::{TRACEPARENT_KEY, TRACESTATE_KEY};
use ergon_testing::{Faulty, MemoryStore, Operation};
use opentelemetry::{
    Context, SpanId, TraceFlags, TraceId,
    trace::{
        FutureExt as _, SpanContext, SpanKind, Status, TraceContextExt as _, TraceState,
        Tracer as _, TracerProvider as _,
    },
};
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};

use crate::support::{Lab, What, options, work};

const ENQUEUE: &str = "enqueue mail";

/// What a task carries.
async fn metadata(store: &MemoryStore, id: ergon_core::TaskId) -> Metadata {
    let tasks = store.tasks(&[id], Now::Store).await.unwrap();
    tasks[0].as_ref().unwrap().spec.metadata.clone()
}

fn traceparent(context: &SpanContext) -> String {
    format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), context.trace_flags().to_u8())
}

/// A context of another process.
fn remote(state: &str) -> Context {
    let state = state.parse::<TraceState>().unwrap();
    let (trace, span) = (TraceId::from(7), SpanId::from(8));
    let context = SpanContext::new(trace, span, TraceFlags::SAMPLED, true, state);
    Context::new().with_remote_span_context(context)
}

#[tokio::test]
async fn an_enqueue_outside_of_any_span_begins_a_trace() {
    let lab = Lab::with(|builder| builder.client_id("shop-1"));
    let store = MemoryStore::new();
    let handle = lab.client(store.clone()).enqueue(work(What::Answer)).options(options());
    let handle = handle.await.unwrap();
    let span = lab.only(ENQUEUE);
    assert!(span.is_root());
    assert_eq!(span.0.span_kind, SpanKind::Producer);
    let id = handle.id().to_string();
    for (key, value) in [
        ("messaging.system", "ergon"),
        ("messaging.operation.name", "enqueue"),
        ("messaging.operation.type", "send"),
        ("messaging.destination.name", "mail"),
        ("messaging.message.id", &*id),
        ("messaging.client.id", "shop-1"),
        ("messaging.ergon.task.kind", "work"),
        ("messaging.ergon.task.priority", "3"),
        ("messaging.ergon.task.max_attempts", "2"),
    ] {
        assert_eq!(span.text(key), value, "{key}");
    }
    assert_eq!(span.attributes().len(), 9, "{span:?}");
    assert_eq!(span.0.status, Status::Unset);
    let carried = metadata(&store, handle.id()).await;
    assert_eq!(carried.len(), 1);
    assert_eq!(carried[TRACEPARENT_KEY], traceparent(span.context()));
}

#[tokio::test]
async fn an_enqueue_is_a_child_of_what_is_current() {
    let lab = Lab::new();
    let tracer = lab.tracers.tracer("the application");
    let request = Context::new().with_span(tracer.start("request"));
    let enqueue = lab.client(MemoryStore::new()).enqueue(work(What::Answer));
    enqueue.into_future().with_context(request.clone()).await.unwrap();
    assert!(lab.only(ENQUEUE).is_child_of(request.span().span_context()));
}

#[tokio::test]
async fn the_state_of_a_trace_goes_on() {
    let lab = Lab::new();
    let store = MemoryStore::new();
    let enqueue = lab.client(store.clone()).enqueue(work(What::Answer)).metadata(("own", "kept"));
    let handle = enqueue.into_future().with_context(remote("a=1,b@c=2")).await.unwrap();
    let carried = metadata(&store, handle.id()).await;
    assert_eq!(carried[TRACESTATE_KEY], "a=1,b@c=2");
    assert_eq!(carried["own"], "kept");
    assert!(carried[TRACEPARENT_KEY].starts_with("00-00000000000000000000000000000007-"));
    assert_eq!(carried.len(), 3);
}

#[tokio::test]
async fn tasks_enqueued_together_carry_the_context_of_one_span() {
    let lab = Lab::new();
    let store = MemoryStore::new();
    let count = BATCH_MAX + 1;
    let works = std::iter::repeat_with(|| work(What::Answer)).take(count);
    let handles = lab.client(store.clone()).enqueue_many(works).await.unwrap();
    let span = lab.only(ENQUEUE);
    assert_eq!(span.text("messaging.batch.message_count"), count.to_string());
    assert_eq!(span.text("messaging.message.id"), "");
    for handle in [&handles[0], &handles[1], &handles[count - 1]] {
        let carried = metadata(&store, handle.id()).await;
        assert_eq!(carried[TRACEPARENT_KEY], traceparent(span.context()));
    }
    // Nothing to enqueue is no enqueue.
    lab.client(store).enqueue_many(Vec::<crate::support::Work>::new()).await.unwrap();
    assert_eq!(lab.spans().len(), 1);
}

#[tokio::test]
async fn tasks_that_are_only_made_carry_the_context_of_their_creation() {
    let lab = Lab::new();
    let store = MemoryStore::new();
    let client = lab.client(store.clone());
    let task = client.enqueue(work(What::Answer)).into_new_task().unwrap();
    let span = lab.only("create mail");
    assert_eq!(span.text("messaging.operation.type"), "create");
    assert_eq!(span.0.status, Status::Unset);
    assert_eq!(task.spec.metadata[TRACEPARENT_KEY], traceparent(span.context()));
    let tasks = client.enqueue_many([work(What::Answer), work(What::Answer)]).into_new_tasks();
    for task in tasks.unwrap() {
        let last = lab.spans().pop().unwrap();
        assert_eq!(task.spec.metadata[TRACEPARENT_KEY], traceparent(last.context()));
    }
    assert_eq!(lab.named("create mail").len(), 2);
    store.insert(&[task], Now::Store).await.unwrap();
}

#[tokio::test]
async fn a_context_that_the_application_wrote_is_kept() {
    let (lab, store) = (Lab::new(), MemoryStore::new());
    let own = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let task: NewTask =
        Client::new(store.clone()).enqueue(work(What::Answer)).into_new_task().unwrap();
    let mut task = task;
    task.spec.metadata.insert(TRACEPARENT_KEY.to_owned(), own.to_owned());
    let id = task.id;
    store.insert(&[task], Now::Store).await.unwrap();
    let server = lab.server(store.clone());
    assert!(store.wait_for_finish(id, crate::support::PATIENCE).await.unwrap());
    drop(server.shutdown().await);
    assert_eq!(metadata(&store, id).await[TRACEPARENT_KEY], own);
    let attempt = lab.only("process mail");
    assert_eq!(traceparent(attempt.links()[0]), own);
    // By an option nobody writes what is reserved.
    let refused = lab.client(store).enqueue(work(What::Answer)).metadata((TRACEPARENT_KEY, own));
    assert!(matches!(refused.await, Err(EnqueueError::InvalidOptions { field: "metadata", .. })));
}

#[tokio::test]
async fn a_context_that_finds_no_room_is_left_out() {
    let (lab, store) = (Lab::new(), MemoryStore::new());
    let full = "x".repeat((64 << 10) - "own".len());
    let enqueue = lab.client(store.clone()).enqueue(work(What::Answer));
    let handle = enqueue.metadata(("own", full)).await.unwrap();
    assert_eq!(metadata(&store, handle.id()).await.len(), 1);
    assert_eq!(lab.only(ENQUEUE).0.status, Status::Unset);
}

#[tokio::test]
async fn a_state_that_is_too_long_is_left_out_and_the_context_kept() {
    let (lab, store) = (Lab::new(), MemoryStore::new());
    let long = format!("a={0},b={0},c={0}", "v".repeat(200));
    let enqueue = lab.client(store.clone()).enqueue(work(What::Answer)).into_future();
    let handle = enqueue.with_context(remote(&long)).await.unwrap();
    let carried = metadata(&store, handle.id()).await;
    assert_eq!(carried.keys().collect::<Vec<_>>(), [TRACEPARENT_KEY]);
}

#[tokio::test]
async fn what_is_not_sampled_is_passed_on_as_such() {
    let tracers = SdkTracerProvider::builder().with_sampler(Sampler::AlwaysOff).build();
    let lab = Lab::with(|builder| builder.tracer_provider(&tracers));
    let store = MemoryStore::new();
    let handle = lab.client(store.clone()).enqueue(work(What::Answer)).await.unwrap();
    let carried = metadata(&store, handle.id()).await;
    assert!(carried[TRACEPARENT_KEY].ends_with("-00"), "{carried:?}");
    assert_eq!(lab.spans().len(), 0);
}

#[tokio::test]
async fn without_an_sdk_the_context_of_the_caller_is_passed_on() {
    let telemetry = ergon_otel::Telemetry::builder().build();
    let store = MemoryStore::new();
    let client = Client::builder(store.clone()).propagation(telemetry.propagation()).build();
    let enqueue = client.enqueue(work(What::Answer)).into_future();
    let handle = enqueue.with_context(remote("")).await.unwrap();
    let carried = metadata(&store, handle.id()).await;
    let expected = "00-00000000000000000000000000000007-0000000000000008-01";
    assert_eq!(carried[TRACEPARENT_KEY], expected);
    let handle = client.enqueue(work(What::Answer)).await.unwrap();
    assert_eq!(metadata(&store, handle.id()).await, Metadata::new());
}

#[tokio::test]
async fn an_enqueue_that_fails_says_so() {
    let lab = Lab::new();
    let faulty = Faulty::new(MemoryStore::new());
    let client = lab.client(faulty.clone());
    faulty.fail_before(Operation::Insert, 1);
    assert!(client.enqueue(work(What::Answer)).await.is_err());
    let span = lab.only(ENQUEUE);
    assert_eq!(span.text("error.type"), "unavailable");
    assert_eq!(span.0.status, Status::error("the store is unavailable"));
    // What is refused before it is sent is no span.
    assert!(client.enqueue(work(What::Answer)).queue("no such name").await.is_err());
    assert_eq!(lab.spans().len(), 1);
}

#[tokio::test]
async fn a_duplicate_is_counted_and_is_no_error() {
    let lab = Lab::new();
    let client = lab.client(MemoryStore::new());
    let enqueue = || client.enqueue(work(What::Answer)).unique(Unique::by_payload());
    assert!(!enqueue().await.unwrap().is_duplicate());
    assert!(enqueue().await.unwrap().is_duplicate());
    assert!(matches!(enqueue().or_error().await, Err(EnqueueError::Duplicate { .. })));
    let duplicates: Vec<_> = lab
        .named(ENQUEUE)
        .iter()
        .map(|span| (span.text("messaging.ergon.enqueue.duplicates"), span.text("error.type")))
        .collect();
    let of = |text: &str| (text.to_owned(), String::new());
    assert_eq!(duplicates, [of(""), of("1"), of("1")]);
}

#[tokio::test(start_paused = true)]
async fn an_enqueue_that_is_dropped_ends_its_span() {
    let lab = Lab::new();
    let faulty = Faulty::new(MemoryStore::new());
    faulty.delay(Operation::Insert, crate::support::PATIENCE);
    let enqueue = lab.client(faulty).enqueue(work(What::Answer)).into_future();
    let second = std::time::Duration::from_secs(1);
    assert!(tokio::time::timeout(second, enqueue).await.is_err());
    let span = lab.only(ENQUEUE);
    assert_eq!(span.text("error.type"), "cancelled");
    assert!(matches!(span.0.status, Status::Error { .. }));
}
