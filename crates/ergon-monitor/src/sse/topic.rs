//! Which page a stream follows, and which events may change it.

use ergon_core::{Event, EventKind, KindName, QueueName, TaskId, event::Fact};
use percent_encoding::percent_decode_str;

use crate::{
    error::PageError,
    link::{escape, queue_of},
    view::filter::Query,
};

/// Parameters that mean something to the stream, or nothing to the part of a page that changes.
const OWN: [&str; 6] = ["view", "after", "before", "since", "notice", "fragment"];

/// Parameters of the page that are called otherwise in the address of a stream.
const RENAMED: [(&str, &str); 2] = [("page.after", "after"), ("page.before", "before")];

/// What is one and many in one word; else there is an `s` between one and many.
const ONE_AND_MANY: &str = "bulk";

/// A page to be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Its path behind the base path.
    pub(super) path: String,
    /// Its query.
    pub(super) query: String,
    /// The revision that whoever asks has.
    pub(super) since: Option<String>,
    pub(super) topic: Topic,
}

/// What a page is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    /// Everything but how far single tasks have come.
    All,
    /// One queue.
    Queue(QueueName),
    /// One task.
    Task(TaskId),
    /// Tasks of some queues and kinds; of all where there are none.
    Tasks(Vec<QueueName>, Vec<KindName>),
}

impl Wanted {
    /// Reads the query of the address of a stream.
    pub(super) fn parse(query: &str) -> Result<Self, PageError> {
        let malformed = |reason: &str| PageError::Malformed(format!("view: {reason}"));
        let (mut view, mut since) = (None, None);
        let mut page = form_urlencoded::Serializer::new(String::new());
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match (key.as_ref(), value) {
                ("view", value) => view = Some(value.into_owned()),
                ("since", value) => {
                    since = Some(value.into_owned()).filter(|since| !since.is_empty());
                }
                (own, _) if OWN.contains(&own) => {}
                (key, value) => {
                    let renamed = RENAMED.iter().find(|(name, _)| *name == key);
                    page.append_pair(renamed.map_or(key, |(_, name)| *name), &value);
                }
            }
        }
        let view = view.ok_or_else(|| malformed("not said"))?;
        let query = page.finish();
        let path = path_of(&view).ok_or_else(|| malformed("there is no such one"))?;
        let topic = topic_of(&view, &query).ok_or_else(|| malformed("this is no name or id"))?;
        Ok(Self { path, query, since, topic })
    }
}

/// The view that a stream of the page at this path is asked for with.
pub(crate) fn view_of(path: &str) -> Option<String> {
    let path = path.strip_prefix('/').unwrap_or(path);
    match path.split_once('/') {
        None if path.is_empty() => Some("overview".to_owned()),
        None => is_word(path).then(|| path.to_owned()),
        Some((group, name)) => {
            let word = if group == ONE_AND_MANY { group } else { group.strip_suffix('s')? };
            if !is_word(word) {
                return None;
            }
            let name = percent_decode_str(name).decode_utf8().ok()?;
            // A queue of dots alone has a mark in its address.
            let name =
                if word == "queue" { name.strip_prefix('~').unwrap_or(&name) } else { &name };
            Some(format!("{word}:{name}"))
        }
    }
}

fn path_of(view: &str) -> Option<String> {
    match view.split_once(':') {
        None if view == "overview" => Some("/".to_owned()),
        None => is_word(view).then(|| format!("/{view}")),
        Some(("queue", name)) => {
            // As links write it.
            let name = queue_of(name)?;
            Some(crate::link::Links::new("", "").queue(&name))
        }
        Some((word, name)) => {
            let is_good = is_word(word) && !name.is_empty();
            let many = if word == ONE_AND_MANY { "" } else { "s" };
            is_good.then(|| format!("/{word}{many}/{}", escape(name)))
        }
    }
}

fn is_word(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
}

fn topic_of(view: &str, query: &str) -> Option<Topic> {
    Some(match view.split_once(':') {
        Some(("queue", name)) => Topic::Queue(QueueName::new(name).ok()?),
        Some(("task", id)) => Topic::Task(id.parse().ok()?),
        None if view == "tasks" => match Query::parse(query) {
            Ok(query) => Topic::Tasks(query.filter.queues, query.filter.kinds),
            // Whoever asks for the page is told what is wrong with it.
            Err(_malformed) => Topic::All,
        },
        Some(_) | None => Topic::All,
    })
}

impl Topic {
    /// Says whether the page may look otherwise after this event.
    pub(super) fn concerns(&self, event: &Event) -> bool {
        match &event.fact {
            Fact::Task { task, .. } => match self {
                Self::Task(id) => task.id == *id,
                Self::All => event.kind() != EventKind::TaskProgressed,
                Self::Queue(queue) => {
                    task.queue == *queue && event.kind() != EventKind::TaskProgressed
                }
                Self::Tasks(queues, kinds) => {
                    (queues.is_empty() || queues.contains(&task.queue))
                        && (kinds.is_empty() || kinds.contains(&task.kind))
                        && event.kind() != EventKind::TaskProgressed
                }
            },
            Fact::Queue { queue, .. } => match self {
                Self::All => true,
                Self::Queue(own) => queue == own,
                Self::Task(_) | Self::Tasks(..) => false,
            },
            Fact::Server { .. } => matches!(self, Self::All),
            // Which tasks were removed is not said, and what is to come is not known.
            Fact::Pruned { .. } | _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use ergon_core::{
        TaskEvent, Timestamp,
        event::{QueueEvent, TaskRef},
    };

    use super::*;

    #[test]
    fn views_and_paths_mean_the_same() {
        for (path, view) in [
            ("/", "overview"),
            ("/tasks", "tasks"),
            ("/system", "system"),
            ("/bulk", "bulk"),
            ("/bulk/0192", "bulk:0192"),
            ("/errors/ab12", "error:ab12"),
            ("/queues/mail", "queue:mail"),
            ("/queues/a%2Fb%3Ac", "queue:a/b:c"),
            ("/queues/~..", "queue:.."),
            (
                "/tasks/01928f7c-4a00-7abc-8def-0123456789ab",
                "task:01928f7c-4a00-7abc-8def-0123456789ab",
            ),
        ] {
            assert_eq!(view_of(path).as_deref(), Some(view));
            assert_eq!(path_of(view).as_deref(), Some(path));
        }
        assert_eq!(
            (view_of(""), view_of("/A"), view_of("/x/y")),
            (Some("overview".to_owned()), None, None)
        );
        assert_eq!((path_of("../x"), path_of("task:"), path_of("queue:a b")), (None, None, None));
    }

    #[test]
    fn the_parameters_of_the_page_are_its_own() {
        let asked = "view=tasks&after=m1.7&since=ab&state=failed&page.after=x&tag=a%26b&notice=n";
        let wanted = Wanted::parse(asked).unwrap();
        assert_eq!(wanted.query, "state=failed&after=x&tag=a%26b");
        assert_eq!((wanted.path.as_str(), wanted.since.as_deref()), ("/tasks", Some("ab")));
        for bad in ["", "view=", "view=..%2Fx", "view=task:7", "view=queue:a%20b", "view=a/b"] {
            assert!(matches!(Wanted::parse(bad), Err(PageError::Malformed(_))), "{bad}");
        }
    }

    #[test]
    fn pages_are_concerned_by_what_they_show() {
        let queue = |name| QueueName::new(name).unwrap();
        let kind = |name| KindName::new(name).unwrap();
        let id = TaskId::from_parts(1, 2, 3);
        let task = TaskRef { id, queue: queue("a"), kind: kind("k"), attempt: 1 };
        let now = Timestamp::UNIX_EPOCH;
        let of_task = Event::task(now, task.clone(), TaskEvent::Released);
        let progress = Event::task(now, task, TaskEvent::Progressed { done: 1, total: None });
        let of_queue = Event::queue(now, queue("a"), QueueEvent::Paused);
        let pruned = Event::pruned(now, 1);
        for (topic, expected) in [
            (Topic::All, [true, false, true, true]),
            (Topic::Queue(queue("a")), [true, false, true, true]),
            (Topic::Queue(queue("b")), [false, false, false, true]),
            (Topic::Task(id), [true, true, false, true]),
            (Topic::Task(TaskId::from_parts(1, 2, 4)), [false, false, false, true]),
            (Topic::Tasks(vec![], vec![]), [true, false, false, true]),
            (Topic::Tasks(vec![queue("a")], vec![kind("k")]), [true, false, false, true]),
            (Topic::Tasks(vec![queue("b")], vec![]), [false, false, false, true]),
            (Topic::Tasks(vec![], vec![kind("l")]), [false, false, false, true]),
        ] {
            let found =
                [&of_task, &progress, &of_queue, &pruned].map(|event| topic.concerns(event));
            assert_eq!(found, expected, "{topic:?}");
        }
    }
}
