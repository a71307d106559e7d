//! Which tasks are started when there is not room for all.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use ergon_core::{Client, Manager, QueueName, State, TaskOptions};
use ergon_server::{Context, Queue, Server, ServerConfig};
use ergon_testing::Signal;

use crate::support::{
    PATIENCE, SECOND, Work, enqueue, enqueue_many, finished, memory, pass, read, serve, start,
};

#[tokio::test(start_paused = true)]
async fn never_more_attempts_run_than_the_queue_and_the_server_allow() {
    for (of_queue, of_server, expected) in [(4, None, 4), (8, Some(3), 3), (1, None, 1)] {
        let store = memory();
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (busy, peak) = (Arc::clone(&running), Arc::clone(&most));
        let mut config = ServerConfig::new();
        config.concurrency = of_server;
        let server = start(
            Server::builder(store.clone())
                .config(config)
                .queue(Queue::new("default").concurrency(of_queue))
                .handler(move |work: Work| {
                    let (busy, peak) = (Arc::clone(&busy), Arc::clone(&peak));
                    async move {
                        peak.fetch_max(busy.fetch_add(1, SeqCst) + 1, SeqCst);
                        pass(SECOND * (1 + work.number % 3)).await;
                        busy.fetch_sub(1, SeqCst);
                        Ok(work.number)
                    }
                }),
        );
        for handle in enqueue_many(store.clone(), 40, TaskOptions::new()).await {
            finished(&handle, store.clone()).await;
        }
        assert_eq!(most.load(SeqCst), expected);
        assert_eq!(server.shutdown().await.completed, 40);
    }
}

/// Runs 24 tasks of each queue one after another, and says from which queue each came.
async fn order(queues: &[Queue]) -> Vec<String> {
    let store = memory();
    for queue in queues {
        enqueue_many(store.clone(), 24, TaskOptions::new().queue(queue.name())).await;
    }
    let order = Arc::new(Mutex::new(Vec::new()));
    let noting = Arc::clone(&order);
    let all = Signal::new();
    let counting = all.clone();
    let builder = Server::builder(store).config(ServerConfig::new().concurrency(1)).handler(
        move |work: Work, context: Context| {
            noting.lock().unwrap().push(context.queue().to_string());
            counting.fire();
            async move { Ok(work.number) }
        },
    );
    let builder = queues.iter().cloned().fold(builder, |builder, queue| builder.queue(queue));
    let server = start(builder);
    all.wait_for(24 * queues.len()).await;
    drop(server.shutdown().await);
    order.lock().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn a_queue_of_higher_priority_is_emptied_first() {
    let queues = [Queue::new("low"), Queue::new("high").priority(1)];
    let order = order(&queues).await;
    assert!(order[..24].iter().all(|queue| queue == "high"), "{order:?}");
    assert!(order[24..].iter().all(|queue| queue == "low"), "{order:?}");
}

#[tokio::test(start_paused = true)]
async fn weights_share_the_room_among_queues_of_one_priority() {
    let queues = [Queue::new("a").weight(3), Queue::new("b")];
    let order = order(&queues).await;
    let of_a = order[..32].iter().filter(|queue| *queue == "a").count();
    assert_eq!(of_a, 24, "{order:?}");
    // Each of the first rounds of four has three of the one and one of the other.
    for round in order[..32].chunks(4) {
        assert_eq!(round.iter().filter(|queue| *queue == "a").count(), 3, "{order:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_one_queue_does_not_need_goes_to_the_others() {
    let store = memory();
    let queues = [Queue::new("a").weight(3), Queue::new("b")];
    let builder = Server::builder(store.clone())
        .config(ServerConfig::new().concurrency(8))
        .handler(async |work: Work| {
            pass(SECOND * 10).await;
            Ok(work.number)
        });
    let server = start(queues.into_iter().fold(builder, |builder, queue| builder.queue(queue)));
    let began = tokio::time::Instant::now();
    for handle in enqueue_many(store.clone(), 8, TaskOptions::new().queue("b")).await {
        finished(&handle, store.clone()).await;
    }
    assert!(began.elapsed() < SECOND * 12, "all eight at once: {:?}", began.elapsed());
    drop(server.shutdown().await);
}

#[tokio::test(start_paused = true)]
async fn a_busy_queue_does_not_hold_another_one_up() {
    let store = memory();
    let server = start(
        Server::builder(store.clone())
            .queue(Queue::new("slow").concurrency(1))
            .queue(Queue::new("fast").concurrency(1))
            .handler(async |work: Work, context: Context| {
                if context.queue().as_str() == "slow" {
                    pass(SECOND * 1_000).await;
                }
                Ok(work.number)
            }),
    );
    enqueue_many(store.clone(), 5, TaskOptions::new().queue("slow")).await;
    let client = Client::new(store);
    for number in 0..20 {
        let fast = client.enqueue(Work { number }).queue("fast").await.unwrap();
        assert_eq!(fast.result().within(SECOND * 2).await.unwrap(), number);
    }
    server.shutdown_handle().shutdown_now();
    assert_eq!(server.shutdown().await.released.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pause_stops_starts_and_a_resume_brings_them_back() {
    let store = memory();
    let manager = Manager::new(store.clone());
    let queue = QueueName::default();
    let server = serve(store.clone(), async |work: Work| Ok(work.number));
    let before = enqueue(store.clone(), TaskOptions::new()).await;
    assert_eq!(finished(&before, store.clone()).await.state, State::Completed);
    manager.control().pause_queue(&queue).await.unwrap();
    let during = enqueue(store.clone(), TaskOptions::new()).await;
    pass(SECOND * 30).await;
    assert_eq!(read(&during, store.clone()).await.state, State::Pending);
    let fetch = server.loops().into_iter().find(|it| it.name == "fetch").unwrap();
    assert!(fetch.runs < 1_000, "{fetch:?}");
    manager.control().resume_queue(&queue).await.unwrap();
    assert_eq!(during.result().within(SECOND * 2).await.unwrap(), 7);
    drop(server.shutdown().await);
    assert!(during.result().within(PATIENCE).await.is_ok());
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Mail;

impl ergon_core::Task for Mail {
    const KIND: &'static str = "mail";
    type Output = ();

    fn options() -> TaskOptions {
        TaskOptions::new().queue("mail")
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_queue_named_the_default_and_those_of_the_kinds_are_served() {
    let store = memory();
    let builder = Server::builder(store.clone())
        .handler(async |_mail: Mail| Ok(()))
        .handler(async |work: Work| Ok(work.number));
    let server = start(builder);
    let client = Client::new(store.clone());
    client.enqueue(Mail).await.unwrap().result().within(PATIENCE).await.unwrap();
    let plain = enqueue(store.clone(), TaskOptions::new()).await;
    assert_eq!(finished(&plain, store).await.state, State::Completed);
    server.shutdown().await;
}
