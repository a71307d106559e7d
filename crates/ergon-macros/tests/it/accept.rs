//! What compiles does what was written.

use std::{marker::PhantomData, time::Duration};

use ergon_core::{
    Jitter, KindName, NewTask, RetryPolicy, RunAt, Tag, Task, TaskId, TaskOptions, Unique,
    UniqueScope,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

const MINUTE: Duration = Duration::from_secs(60);

/// The task that the options of a kind make.
fn made<T: Task>() -> NewTask {
    let kind = KindName::new(T::KIND).unwrap();
    T::options().into_task(TaskId::MIN, kind, b"{}".to_vec()).unwrap()
}

#[derive(Serialize, Deserialize)]
struct Receipt {
    id: String,
}

#[derive(Serialize, Deserialize, Task)]
#[task(
    kind = "email.send",
    queue = "mail",
    output = Receipt,
    max_attempts = 8,
    timeout = "30s",
    priority = -5,
    retention = "7d",
    delay = "500ms",
    tags("a", "größe: 5 €"),
    tag = "b",
    metadata("team" = "billing", "empty" = ""),
    unique = Unique::by_payload().until_started(),
    retry = RetryPolicy::Fixed(MINUTE),
)]
#[task(tag = "c")]
struct Everything {}

#[test]
fn every_option_is_carried_over() {
    let task = made::<Everything>();
    assert_eq!(Everything::KIND, "email.send");
    assert_eq!(task.spec.queue.as_str(), "mail");
    assert_eq!((task.max_attempts, task.priority), (8, -5));
    assert_eq!(task.spec.timeout, Some(MINUTE / 2));
    assert_eq!(task.spec.retention, Some(MINUTE * 60 * 24 * 7));
    assert_eq!(task.run_at, RunAt::After(Duration::from_millis(500)));
    let tags: Vec<_> = task.spec.tags.iter().map(Tag::as_str).collect();
    assert_eq!(tags, ["a", "größe: 5 €", "b", "c"]);
    assert_eq!(task.spec.metadata["team"], "billing");
    assert_eq!(task.spec.metadata["empty"], "");
    assert_eq!(task.spec.unique.unwrap().scope, UniqueScope::UntilStarted);
    assert_eq!(task.spec.retry, RetryPolicy::Fixed(MINUTE));
}

#[test]
fn the_derive_says_what_one_would_write_by_hand() {
    let by_hand = TaskOptions::new()
        .queue("mail")
        .max_attempts(8)
        .timeout(MINUTE / 2)
        .priority(-5)
        .retention(MINUTE * 60 * 24 * 7)
        .delay(Duration::from_millis(500))
        .tag("a")
        .tag("größe: 5 €")
        .tag("b")
        .metadata(("team", "billing"))
        .metadata(("empty", ""))
        .unique(Unique::by_payload().until_started())
        .retry(RetryPolicy::Fixed(MINUTE))
        .tag("c");
    assert_eq!(Everything::options(), by_hand);
}

fn output_is<T: Task<Output = O>, O>() {}

#[test]
fn the_output_is_the_type_that_was_named() {
    output_is::<Everything, Receipt>();
    output_is::<SweepHTTPCache, ()>();
}

#[derive(Serialize, Deserialize, Task)]
struct SweepHTTPCache;

#[test]
fn without_options_the_type_name_is_the_kind_and_nothing_is_chosen() {
    assert_eq!(SweepHTTPCache::KIND, "sweep_http_cache");
    assert_eq!(SweepHTTPCache::options(), TaskOptions::default());
}

#[derive(Serialize, Deserialize, Task)]
#[task()]
struct r#Move {}

#[derive(Serialize, Deserialize, Task)]
#[task(kind = "A-Z:a_z/0.9")]
enum Shape {
    Circle { radius: f64 },
}

#[test]
fn raw_names_and_enums_are_taken() {
    assert_eq!(Move::KIND, "move");
    assert_eq!(Shape::KIND, "A-Z:a_z/0.9");
}

const ATTEMPTS: u16 = 3;

#[derive(Serialize, Deserialize, Task)]
#[task(queue = "strong", options = TaskOptions::new().queue("weak").max_attempts(ATTEMPTS).tag("x"))]
struct OnPreset;

#[derive(Serialize, Deserialize, Task)]
#[task(options = TaskOptions::no_retry())]
struct PresetOnly;

#[test]
fn prepared_options_are_weaker_than_those_beside_them() {
    let task = made::<OnPreset>();
    assert_eq!(task.spec.queue.as_str(), "strong");
    assert_eq!(task.max_attempts, ATTEMPTS);
    assert_eq!(PresetOnly::options(), TaskOptions::no_retry());
}

#[derive(Serialize, Deserialize, Task)]
#[task(priority = -32768, max_attempts = 65535, retention = "0s", delay = "3660d")]
struct LowEnds;

#[derive(Serialize, Deserialize, Task)]
#[task(
    priority = 32_767i16,
    max_attempts = 1u16,
    timeout = "1ms",
    retry = RetryPolicy::Exponential { base: MINUTE, cap: MINUTE * 2, jitter: Jitter::None },
)]
struct HighEnds;

#[test]
fn the_ends_of_every_range_are_taken() {
    let task = made::<LowEnds>();
    assert_eq!((task.priority, task.max_attempts), (i16::MIN, u16::MAX));
    assert_eq!(task.spec.retention, Some(Duration::ZERO));
    assert_eq!(task.run_at, RunAt::After(ergon_core::limits::HORIZON));
    let task = made::<HighEnds>();
    assert_eq!((task.priority, task.max_attempts), (i16::MAX, 1));
    assert_eq!(task.spec.timeout, Some(Duration::from_millis(1)));
}

#[derive(Serialize, Deserialize, Task)]
#[task(kind = "generic", output = Vec<Option<T>>, queue = "q")]
#[serde(bound = "")]
struct Generic<T: Serialize + DeserializeOwned + Send + Sync + 'static, const N: usize>
where
    Vec<T>: Send,
{
    #[serde(skip)]
    of: PhantomData<T>,
}

#[test]
fn type_and_const_parameters_are_kept() {
    output_is::<Generic<u8, 3>, Vec<Option<u8>>>();
    assert_eq!(Generic::<String, 0>::KIND, "generic");
    assert_eq!(made::<Generic<u8, 1>>().spec.queue.as_str(), "q");
}

/// Names that the derive must not trip over.
mod shadowed {
    #![deny(unused_qualifications)]

    #[expect(dead_code, reason = "it is here to be mistaken for another")]
    struct Duration;
    #[expect(dead_code, reason = "it is here to be mistaken for another")]
    struct TaskOptions;

    #[derive(serde::Serialize, serde::Deserialize, ergon_core::Task)]
    #[task(timeout = "1s", queue = "q")]
    pub(crate) struct Task;
}

#[test]
fn what_the_caller_calls_its_own_types_does_not_matter() {
    assert_eq!(shadowed::Task::KIND, "task");
    assert_eq!(made::<shadowed::Task>().spec.timeout, Some(MINUTE / 60));
}
