//! Assertions about what was enqueued.

use std::{fmt::Write, sync::Arc};

use ergon_core::{
    Client, KindName, Now, Order, Page, StateSet, Store, StoreError, Task, TaskFilter, TaskRecord,
    limits::PAGE_MAX,
};

use crate::{Faulty, MemoryStore, TestServer};

/// What can be asked what was enqueued: a store, or something with a store behind it.
///
/// Another store is asked through a [`Client`], or as `Arc<dyn Store>`.
pub trait AsStore {
    /// The store.
    fn as_store(&self) -> &dyn Store;
}

impl AsStore for Arc<dyn Store> {
    fn as_store(&self) -> &dyn Store {
        &**self
    }
}

impl AsStore for Client {
    fn as_store(&self) -> &dyn Store {
        &**self.store()
    }
}

impl AsStore for MemoryStore {
    fn as_store(&self) -> &dyn Store {
        self
    }
}

impl AsStore for Faulty {
    fn as_store(&self) -> &dyn Store {
        self
    }
}

impl AsStore for TestServer {
    fn as_store(&self) -> &dyn Store {
        self.store()
    }
}

impl<S: AsStore + ?Sized> AsStore for &S {
    fn as_store(&self) -> &dyn Store {
        (**self).as_store()
    }
}

/// Asserts that an unfinished task of a type is in a store, perhaps one that a predicate accepts.
///
/// Takes a store, a [`Client`](ergon_core::Client) or a [`TestServer`](crate::TestServer), then the
/// task's type, then a predicate if any. Awaits inside, so it stands where `.await` may stand.
/// Tasks that wait and tasks that run count; finished ones do not, so assert before the task has
/// run.
///
/// # Panics
///
/// When there is no such task, with what there is instead; or when the store cannot be read.
///
/// ```
/// # use ergon_core::{Client, Task};
/// # use ergon_testing::{MemoryStore, assert_enqueued, assert_not_enqueued};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize)]
/// struct Greet {
///     name: String,
/// }
/// # impl Task for Greet {
/// #     const KIND: &'static str = "greet";
/// #     type Output = ();
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::new(MemoryStore::new());
/// assert_not_enqueued!(client, Greet);
/// client.enqueue(Greet { name: "Ada".into() }).await?;
/// assert_enqueued!(client, Greet);
/// assert_enqueued!(client, Greet, |greet| greet.name == "Ada");
/// assert_not_enqueued!(client, Greet, |greet| greet.name == "Bob");
/// # Ok(())
/// # }
/// ```
#[macro_export]
macro_rules! assert_enqueued {
    ($store:expr, $task:ty $(,)?) => {
        $crate::assert_enqueued!($store, $task, |_task| true)
    };
    ($store:expr, $task:ty, $predicate:expr $(,)?) => {
        if let Err(message) = $crate::assert::is_enqueued::<$task>(&$store, $predicate).await {
            ::std::panic!("{message}");
        }
    };
}

/// Asserts that no unfinished task of a type is in a store, or none that a predicate accepts.
///
/// The counterpart of [`assert_enqueued!`](crate::assert_enqueued), with the same arguments.
///
/// # Panics
///
/// When there is such a task, with what there is; or when the store cannot be read.
#[macro_export]
macro_rules! assert_not_enqueued {
    ($store:expr, $task:ty $(,)?) => {
        $crate::assert_not_enqueued!($store, $task, |_task| true)
    };
    ($store:expr, $task:ty, $predicate:expr $(,)?) => {
        if let Err(message) = $crate::assert::is_not_enqueued::<$task>(&$store, $predicate).await {
            ::std::panic!("{message}");
        }
    };
}

/// Says whether an unfinished task of type `T` is in the store that the predicate accepts: the
/// function behind [`assert_enqueued!`](crate::assert_enqueued).
///
/// A task whose payload does not decode as `T` is not accepted.
///
/// # Errors
///
/// A text for people: what there is instead, or why the store cannot be read.
pub async fn is_enqueued<T: Task>(
    store: &(impl AsStore + Sync),
    predicate: impl Fn(&T) -> bool + Send,
) -> Result<(), String> {
    let (accepted, unfinished) = look::<T>(store.as_store(), predicate).await?;
    if accepted > 0 {
        return Ok(());
    }
    let kind = T::KIND;
    Err(format!("no such task of kind {kind:?} is enqueued\n{}", describe(&unfinished)))
}

/// Says whether no unfinished task of type `T` is in the store that the predicate accepts: the
/// function behind [`assert_not_enqueued!`](crate::assert_not_enqueued).
///
/// A task whose payload does not decode as `T` is not accepted.
///
/// # Errors
///
/// A text for people: what there is, or why the store cannot be read.
pub async fn is_not_enqueued<T: Task>(
    store: &(impl AsStore + Sync),
    predicate: impl Fn(&T) -> bool + Send,
) -> Result<(), String> {
    let (accepted, unfinished) = look::<T>(store.as_store(), predicate).await?;
    if accepted == 0 {
        return Ok(());
    }
    let kind = T::KIND;
    let rest = describe(&unfinished);
    Err(format!("{accepted} such tasks of kind {kind:?} are enqueued, none was expected\n{rest}"))
}

/// Counts the accepted tasks, and reads all that are unfinished.
async fn look<T: Task>(
    store: &dyn Store,
    predicate: impl Fn(&T) -> bool + Send,
) -> Result<(usize, Vec<TaskRecord>), String> {
    let kind = KindName::new(T::KIND).map_err(|error| error.to_string())?;
    let unfinished = unfinished(store).await;
    let unfinished = unfinished.map_err(|error| format!("the store cannot be read: {error:?}"))?;
    let of_kind = unfinished.iter().filter(|task| task.spec.kind == kind);
    let decoded = of_kind.filter_map(|task| serde_json::from_slice::<T>(&task.spec.payload).ok());
    let accepted = decoded.filter(|task| predicate(task)).count();
    Ok((accepted, unfinished))
}

async fn unfinished(store: &dyn Store) -> Result<Vec<TaskRecord>, StoreError> {
    let filter = TaskFilter::all().states(StateSet::UNFINISHED);
    let mut page = Page::of(PAGE_MAX).order(Order::OldestFirst);
    let mut tasks = Vec::new();
    loop {
        let read = store.list(&filter, &page, Now::Store).await?;
        tasks.extend(read.tasks);
        let Some(next) = read.next else {
            return Ok(tasks);
        };
        page = page.after(next);
    }
}

/// Most tasks that a message shows.
const SHOWN_MAX: usize = 20;

/// Most characters of a payload that a message shows.
const PAYLOAD_SHOWN_MAX: usize = 200;

fn describe(tasks: &[TaskRecord]) -> String {
    if tasks.is_empty() {
        return "the store holds no unfinished task".to_owned();
    }
    let mut text = format!("the store holds {} unfinished tasks:", tasks.len());
    for task in tasks.iter().take(SHOWN_MAX) {
        let spec = &task.spec;
        let payload = String::from_utf8_lossy(&spec.payload);
        let payload: String = payload.chars().take(PAYLOAD_SHOWN_MAX).collect();
        // Writing to a string cannot fail.
        write!(text, "\n  {} {} in {}: {payload}", task.state, spec.kind, spec.queue)
            .unwrap_or_default();
    }
    if tasks.len() > SHOWN_MAX {
        text.push_str("\n  …");
    }
    text
}

#[cfg(test)]
mod tests {
    use ergon_core::store::IntoStore;
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::Operation;

    #[derive(Serialize, Deserialize)]
    struct Greet {
        name: String,
    }

    impl Task for Greet {
        const KIND: &'static str = "greet";
        type Output = ();
    }

    fn greet(name: &str) -> Greet {
        Greet { name: name.to_owned() }
    }

    #[tokio::test]
    async fn anything_with_a_store_behind_can_be_asked() {
        let store = MemoryStore::new();
        let client = Client::new(store.clone());
        client.enqueue(greet("Ada")).await.unwrap();
        let shared: Arc<dyn Store> = store.clone().into_store();
        assert_enqueued!(store, Greet);
        assert_enqueued!(&store, Greet);
        assert_enqueued!(shared, Greet, |greet: &Greet| greet.name == "Ada");
        assert_enqueued!(Faulty::new(store.clone()), Greet);
        assert_enqueued!(client, Greet, |greet| greet.name.len() == 3);
        assert_not_enqueued!(client, Greet, |greet| greet.name == "Bob");
    }

    #[tokio::test]
    async fn a_failure_says_what_is_there_instead() {
        let client = Client::new(MemoryStore::new());
        let message = is_enqueued::<Greet>(&client, |_| true).await.unwrap_err();
        assert!(message.contains("no such task of kind \"greet\""), "{message}");
        assert!(message.contains("holds no unfinished task"), "{message}");

        client.enqueue(greet("Ada")).queue("mail").await.unwrap();
        client.enqueue_json("other", 1).await.unwrap();
        let message = is_enqueued::<Greet>(&client, |greet| greet.name == "Bob").await.unwrap_err();
        assert!(message.contains(r#"pending greet in mail: {"name":"Ada"}"#), "{message}");
        assert!(message.contains("pending other in default: 1"), "{message}");
        let message = is_not_enqueued::<Greet>(&client, |_| true).await.unwrap_err();
        assert!(message.starts_with("1 such tasks of kind \"greet\" are enqueued"), "{message}");
    }

    #[tokio::test]
    async fn finished_tasks_and_foreign_payloads_do_not_count() {
        let client = Client::new(MemoryStore::new());
        client.enqueue_json(Greet::KIND, 1).await.unwrap();
        assert_not_enqueued!(client, Greet);
        let id = client.enqueue(greet("Ada")).await.unwrap().id();
        assert_enqueued!(client, Greet);
        let manager = ergon_core::Manager::new(client.store());
        manager.control().cancel(id, "").await.unwrap();
        assert_not_enqueued!(client, Greet);
    }

    #[tokio::test]
    async fn more_than_a_page_is_read_and_not_all_is_shown() {
        let client = Client::new(MemoryStore::new());
        client.enqueue_many((0..1_500).map(|_| greet("Ada"))).await.unwrap();
        client.enqueue(greet("Bob")).await.unwrap();
        assert_enqueued!(client, Greet, |greet| greet.name == "Bob");
        let message = is_enqueued::<Greet>(&client, |_| false).await.unwrap_err();
        assert!(message.contains("1501 unfinished") && message.ends_with('…'), "{message}");
        assert_eq!(message.lines().count(), 2 + SHOWN_MAX + 1);
    }

    #[tokio::test]
    async fn a_store_that_cannot_be_read_is_said_so() {
        let faulty = Faulty::new(MemoryStore::new());
        faulty.fail_before(Operation::List, 2);
        let message = is_enqueued::<Greet>(&faulty, |_| true).await.unwrap_err();
        assert!(message.starts_with("the store cannot be read"), "{message}");
        assert!(is_not_enqueued::<Greet>(&faulty, |_| true).await.is_err());
    }
}
