//! How a server ends.

use std::{
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use ergon_core::{
    Conclusion, Outcome, State, TaskError, TaskOptions, Verdict, store::Dispatch as _,
};
use ergon_server::{CancelReason, Context, Server, ServerConfig};
use ergon_testing::{Faulty, MemoryStore, Operation, Signal};
use tokio::time::Instant;

use crate::support::{SECOND, Work, enqueue, enqueue_many, memory, pass, read, serve, start};

#[tokio::test(start_paused = true)]
async fn a_shutdown_lets_handlers_end_and_claims_nothing_more() {
    let (store, started) = (memory(), Signal::new());
    let starting = started.clone();
    let server = serve(store.clone(), move |work: Work| {
        starting.fire();
        async move {
            pass(SECOND * 20).await;
            Ok(work.number)
        }
    });
    let handles = enqueue_many(store.clone(), 15, TaskOptions::new()).await;
    started.wait_for(10).await;
    let began = Instant::now();
    let report = server.shutdown().await;
    assert_eq!((report.started, report.completed), (10, 10));
    assert!(report.released.is_empty() && report.is_clean());
    assert!(began.elapsed() <= SECOND * 21);
    for (index, handle) in handles.iter().enumerate() {
        let expected = if index < 10 { State::Completed } else { State::Pending };
        assert_eq!(read(handle, store.clone()).await.state, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn handlers_that_do_not_end_are_told_then_dropped_and_their_tasks_given_back() {
    let (store, started) = (memory(), Signal::new());
    let told = Arc::new(Mutex::new(Vec::new()));
    let (starting, telling) = (started.clone(), Arc::clone(&told));
    let server =
        start(Server::builder(store.clone()).handler(move |work: Work, context: Context| {
            let told = Arc::clone(&telling);
            starting.fire();
            async move {
                let reason = context.cancelled().await;
                told.lock().unwrap().push((reason, Instant::now()));
                match work.number {
                    0 => Ok(0),
                    1 => Err(TaskError::retry("stopped half way")),
                    2 => Err(TaskError::fail("broken")),
                    _ => std::future::pending().await,
                }
            }
        }));
    let handles = enqueue_many(store.clone(), 5, TaskOptions::new().max_attempts(1)).await;
    started.wait_for(5).await;
    let began = Instant::now();
    let report = server.shutdown().await;
    let took = began.elapsed();
    assert!(took >= SECOND * 35 && took <= SECOND * 36, "{took:?}");
    for &(reason, at) in told.lock().unwrap().iter() {
        assert_eq!((reason, at - began >= SECOND * 30), (CancelReason::Shutdown, true));
    }
    assert_eq!((report.completed, report.failed, report.retried), (1, 1, 0));
    let mut released: Vec<_> = [&handles[1], &handles[3], &handles[4]].map(|it| it.id()).into();
    released.sort_unstable();
    assert_eq!(report.released, released);
    assert!(report.is_clean());
    for handle in [&handles[1], &handles[3], &handles[4]] {
        let task = read(handle, store.clone()).await;
        assert_eq!((task.state, task.progress.attempt), (State::Pending, 0));
        assert_eq!(task.progress.crash_count, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn asked_a_second_time_a_server_ends_at_once() {
    let (store, started) = (memory(), Signal::new());
    let starting = started.clone();
    let server = serve(store.clone(), move |_work: Work| {
        starting.fire();
        std::future::pending()
    });
    let handle = enqueue(store.clone(), TaskOptions::new()).await;
    started.wait().await;
    let again = server.shutdown_handle();
    let began = Instant::now();
    let second = async {
        pass(SECOND).await;
        again.shutdown();
    };
    let (report, ()) = tokio::join!(server.shutdown(), second);
    assert!(began.elapsed() <= SECOND * 2, "{:?}", began.elapsed());
    assert_eq!(report.released, [handle.id()]);
    assert_eq!(read(&handle, store).await.state, State::Pending);
}

#[tokio::test(start_paused = true)]
async fn the_handle_ends_a_server_that_runs_until_something_else() {
    let store = memory();
    let server = Server::builder(store).handler(async |work: Work| Ok(work.number));
    let server = server.build().unwrap();
    let handle = server.shutdown_handle();
    handle.shutdown();
    let report = server.run_until(std::future::pending::<()>()).await.unwrap();
    assert_eq!(report.started, 0);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_server_gives_its_tasks_back() {
    let (store, started) = (memory(), Signal::new());
    let starting = started.clone();
    let server = serve(store.clone(), move |_work: Work| {
        starting.fire();
        std::future::pending()
    });
    let handle = enqueue(store.clone(), TaskOptions::new()).await;
    started.wait().await;
    drop(server);
    pass(SECOND).await;
    let task = read(&handle, store).await;
    assert_eq!((task.state, task.progress.attempt), (State::Pending, 0));
}

#[tokio::test(start_paused = true)]
async fn what_a_claim_under_way_takes_is_given_back_and_not_started() {
    let store = memory();
    let faulty = Faulty::new(store.clone());
    faulty.delay(Operation::Claim, SECOND * 5);
    let ran = Signal::new();
    let running = ran.clone();
    let server = serve(faulty.clone(), move |work: Work| {
        running.fire();
        async move { Ok(work.number) }
    });
    let handle = enqueue(store.clone(), TaskOptions::new()).await;
    pass(SECOND).await;
    assert_eq!(faulty.calls(Operation::Claim), 1);
    let report = server.shutdown().await;
    assert_eq!((report.started, ran.count()), (0, 0));
    assert_eq!(report.released, [handle.id()]);
    let task = read(&handle, store).await;
    assert_eq!((task.state, task.progress.attempt), (State::Pending, 0));
    assert_eq!(task.progress.token.get(), 1, "it had been claimed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_handler_that_blocks_is_reported_and_its_task_stays_held() {
    let (store, started) = (MemoryStore::new(), Signal::new());
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let (starting, waiting) = (started.clone(), Arc::clone(&gate));
    let config = ServerConfig::new().grace_period(Duration::ZERO).abort_period(Duration::ZERO);
    let server =
        start(Server::builder(store.clone()).config(config).handler(move |_work: Work| {
            let gate = Arc::clone(&waiting);
            starting.fire();
            async move {
                let (is_open, changed) = &*gate;
                let guard = is_open.lock().unwrap();
                drop(changed.wait_while(guard, |is_open| !*is_open).unwrap());
                Ok(1)
            }
        }));
    let handle = enqueue(store.clone(), TaskOptions::new()).await;
    started.wait().await;
    let began = std::time::Instant::now();
    let report = server.shutdown().await;
    assert!(began.elapsed() < SECOND * 5, "{:?}", began.elapsed());
    assert_eq!(report.stuck, [handle.id()]);
    assert!(report.released.is_empty() && !report.is_clean());
    let task = read(&handle, store.clone()).await;
    assert_eq!(task.state, State::Running, "it may still be running");
    let (id, token) = (handle.id(), task.progress.token);
    let conclusion = Conclusion::Release;
    let outcome = Outcome { id, token, conclusion };
    let verdicts = store.finish(&[outcome], ergon_core::Now::Store).await.unwrap();
    assert_eq!(verdicts, [Verdict::Applied], "its claim was live until now");
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_tasks_on_many_threads_all_run_once() {
    let store = MemoryStore::new();
    let handles = enqueue_many(store.clone(), 2_000, TaskOptions::new()).await;
    let all = Signal::new();
    let counting = all.clone();
    let mut config = ServerConfig::new();
    config.concurrency = Some(64);
    let server = start(Server::builder(store.clone()).config(config).handler(move |work: Work| {
        counting.fire();
        async move {
            if work.number.is_multiple_of(3) {
                tokio::task::yield_now().await;
            }
            Ok(work.number)
        }
    }));
    all.wait_for(2_000).await;
    let report = server.shutdown().await;
    assert_eq!((report.started, report.completed, report.stale), (2_000, 2_000, 0));
    for handle in handles {
        assert_eq!(read(&handle, store.clone()).await.state, State::Completed);
    }
}
