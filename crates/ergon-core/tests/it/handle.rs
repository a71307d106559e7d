//! What a handle tells of its task, and how it waits for the result.

use ergon_core::{
    Command, CommandVerdict, ErrorKind, Handle, Manager, ResultError, Selection, State, StoreError,
    store::{Maintain, PruneRequest},
};
use ergon_testing::{Faulty, Operation};
use tokio::time::Instant;

use super::*;

async fn enqueued(client: &Client) -> Handle<u64> {
    client.enqueue(Plain(1)).await.unwrap().into_handle()
}

fn fail(error: &str) -> Conclusion {
    Conclusion::Fail { kind: ErrorKind::Error, error: error.to_owned() }
}

#[tokio::test(start_paused = true)]
async fn the_state_is_that_of_the_moment() {
    let (client, store) = client();
    let handle = client.enqueue(Plain(1)).delay(SECOND).await.unwrap().into_handle();
    assert_eq!(handle.state().await.unwrap(), Some(State::Scheduled));
    tokio::time::advance(SECOND).await;
    assert_eq!(handle.state().await.unwrap(), Some(State::Pending));
    let (id, token) = claim(&store, "plain").await;
    assert_eq!(handle.state().await.unwrap(), Some(State::Running));
    let delay = SECOND;
    let kind = ErrorKind::Error;
    let conclusion = Conclusion::Retry { delay, kind, error: String::new() };
    store.finish(&[Outcome { id, token, conclusion }], Now::Store).await.unwrap();
    assert_eq!(handle.state().await.unwrap(), Some(State::Retrying));
    assert_eq!(handle.task().await.unwrap().unwrap().progress.attempt, 1);
}

#[tokio::test(start_paused = true)]
async fn the_result_arrives_when_the_task_is_completed() {
    let (client, store) = client();
    let handle = enqueued(&client).await;
    let waiting = handle.result().within(SECOND * 10);
    let work = async {
        tokio::time::sleep(SECOND * 3).await;
        run(&store, complete("42")).await;
    };
    let started = Instant::now();
    let (result, ()) = tokio::join!(waiting.into_future(), work);
    assert_eq!((result.unwrap(), started.elapsed()), (42, SECOND * 3));
    // It is there for everybody who asks, also for a handle made of the id alone.
    assert_eq!(handle.result().await.unwrap(), 42);
    assert_eq!(client.handle::<Plain>(handle.id()).result().await.unwrap(), 42);
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_the_wait_has_no_end() {
    let (client, store) = client();
    let handle = enqueued(&client).await;
    let work = async {
        tokio::time::sleep(SECOND * 1_000).await;
        run(&store, complete("1")).await;
    };
    let (result, ()) = tokio::join!(handle.result().into_future(), work);
    assert_eq!(result.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn no_result_reads_as_nothing() {
    let (client, store) = client();
    let handle = client.handle::<Unencodable>(enqueued(&client).await.id());
    run(&store, Conclusion::Complete { result: None }).await;
    let () = handle.result().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_at_its_limit() {
    let (client, store) = client();
    let handle = enqueued(&client).await;
    let started = Instant::now();
    let error = handle.result().within(SECOND * 5).await.unwrap_err();
    let ResultError::Timeout { within } = error else { unreachable!("{error:?}") };
    assert_eq!((within, started.elapsed()), (SECOND * 5, SECOND * 5));
    // Zero asks without waiting.
    let error = handle.result().within(Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, ResultError::Timeout { .. }), "{error:?}");
    run(&store, complete("1")).await;
    assert_eq!(handle.result().within(Duration::ZERO).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failed_task_tells_what_its_last_attempt_said() {
    let (client, store) = client();
    let handle = enqueued(&client).await;
    let kind = ErrorKind::Error;
    let delay = Duration::ZERO;
    run(&store, Conclusion::Retry { delay, kind, error: "first".to_owned() }).await;
    run(&store, fail("second")).await;
    let error = handle.result().await.unwrap_err();
    assert_eq!(error.to_string(), "the task failed: second");
    assert_eq!(handle.state().await.unwrap(), Some(State::Failed));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_task_tells_why() {
    let (client, store) = client();
    let by_operator = enqueued(&client).await;
    let manager = Manager::new(store.clone());
    manager.control().cancel(by_operator.id(), "moot").await.unwrap();
    let error = by_operator.result().await.unwrap_err();
    assert_eq!(error.to_string(), "the task was cancelled: moot");
    let by_handler = enqueued(&client).await;
    run(&store, Conclusion::Cancel { reason: "bad address".to_owned() }).await;
    let error = by_handler.result().await.unwrap_err();
    assert_eq!(error.to_string(), "the task was cancelled: bad address");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_fails_when_told_to_stop_tells_why_it_was_to_stop() {
    let (client, store) = client();
    let handle = enqueued(&client).await;
    let (id, token) = claim(&store, "plain").await;
    Manager::new(store.clone()).control().cancel(id, "moot").await.unwrap();
    let outcome = Outcome { id, token, conclusion: fail("interrupted") };
    let verdicts = store.finish(&[outcome], Now::Store).await.unwrap();
    assert_eq!(verdicts, [Verdict::CancelRequested]);
    let error = handle.result().await.unwrap_err();
    assert_eq!(error.to_string(), "the task was cancelled: moot");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_was_removed_is_gone() {
    let (client, store) = client();
    let handle = enqueued(&client).await;
    run(&store, complete("1")).await;
    tokio::time::advance(SECOND * 3600 * 25).await;
    assert_eq!(store.prune(&PruneRequest::default()).await.unwrap().done, 1);
    assert_eq!(handle.state().await.unwrap(), None);
    let error = handle.result().await.unwrap_err();
    assert!(matches!(error, ResultError::Gone { id } if id == handle.id()), "{error:?}");
    // While somebody waits, too.
    let handle = enqueued(&client).await;
    let delete = async {
        tokio::time::sleep(SECOND).await;
        let one = Selection::Ids(vec![handle.id()]);
        Manager::new(store.clone()).control().apply(&one, &Command::Delete).await.unwrap();
    };
    let (result, ()) = tokio::join!(handle.result().into_future(), delete);
    assert!(matches!(result, Err(ResultError::Gone { .. })), "{result:?}");
}

#[tokio::test(start_paused = true)]
async fn a_result_of_another_type_is_an_error() {
    let (client, store) = client();
    let handle = enqueued(&client).await;
    run(&store, complete("\"text\"")).await;
    let error = handle.result().await.unwrap_err();
    assert!(matches!(error, ResultError::Decode { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_is_an_error() {
    let (_, store) = client();
    let faulty = Faulty::new(store);
    let client = Client::new(faulty.clone());
    let handle = enqueued(&client).await;
    faulty.fail_before(Operation::WaitForFinish, 1);
    let error = handle.result().await.unwrap_err();
    let ResultError::Store { source } = error else { unreachable!("{error:?}") };
    assert!(source.is_transient());
    faulty.fail_before(Operation::Tasks, 1);
    let error = handle.state().await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_task_reopened_before_its_result_was_read_says_so() {
    let (_, store) = client();
    let faulty = Faulty::new(store.clone());
    let handle = enqueued(&Client::new(faulty.clone())).await;
    run(&store, complete("1")).await;
    faulty.delay(Operation::Tasks, SECOND * 2);
    let reopen = async {
        tokio::time::sleep(SECOND).await;
        Manager::new(store.clone()).control().retry(handle.id()).await.unwrap()
    };
    let (result, reopened) = tokio::join!(handle.result().into_future(), reopen);
    assert_eq!(reopened, CommandVerdict::Applied);
    let error = result.unwrap_err();
    assert!(matches!(error, ResultError::Reopened { id } if id == handle.id()), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_handle_says_which_task_it_is_of_and_nothing_of_the_store() {
    let (client, _store) = client();
    let handle = enqueued(&client).await;
    assert_eq!(format!("{handle:?}"), format!("Handle({})", handle.id()));
}
