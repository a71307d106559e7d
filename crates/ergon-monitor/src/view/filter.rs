//! The query of a list of tasks, read from an address and written back into one.

use ergon_core::{KindName, QueueName, State, StateSet, Tag, TaskFilter, TaskId, Timestamp};
use jiff::{civil::DateTime, tz::TimeZone};

use crate::{error::PageError, link::encode};

/// Which tasks are listed, and which part of the list.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Query {
    pub(crate) filter: TaskFilter,
    /// The ids begin so, in hexadecimal digits without hyphens.
    pub(crate) id_prefix: Option<String>,
    pub(crate) place: Place,
    /// How many are shown, if that was chosen.
    pub(crate) limit: Option<usize>,
}

/// Where a page of the list begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Place {
    /// With the newest task.
    #[default]
    Start,
    /// Behind this one, with older tasks.
    OlderThan(TaskId),
    /// Before this one, with newer tasks.
    NewerThan(TaskId),
}

/// Most values of one parameter.
const VALUES_MAX: usize = 32;

impl Query {
    /// Reads the query of an address. Values that are empty, as forms send them, choose nothing, and
    /// parameters that mean something else are not looked at.
    pub(crate) fn parse(query: &str) -> Result<Self, PageError> {
        let mut parsed = Self::default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let value = value.trim();
            if !value.is_empty() {
                parsed.take(&key, value)?;
            }
        }
        let TaskFilter { queues, kinds, tags, metadata, .. } = &parsed.filter;
        let longest = [queues.len(), kinds.len(), tags.len(), metadata.len()].into_iter().max();
        if longest > Some(VALUES_MAX) {
            return Err(malformed("query", "more than 32 values"));
        }
        Ok(parsed)
    }

    fn take(&mut self, key: &str, value: &str) -> Result<(), PageError> {
        let filter = &mut self.filter;
        match key {
            "state" => {
                let state: State = value.parse().map_err(|error| malformed("state", error))?;
                filter.states = filter.states.union(StateSet::from(state));
            }
            "queue" => filter
                .queues
                .push(QueueName::new(value).map_err(|error| malformed("queue", error))?),
            "kind" => {
                filter.kinds.push(KindName::new(value).map_err(|error| malformed("kind", error))?);
            }
            "tag" => filter.tags.push(Tag::new(value).map_err(|error| malformed("tag", error))?),
            "meta" => {
                let (key, value) =
                    value.split_once(':').ok_or_else(|| malformed("meta", "not like key:value"))?;
                filter.metadata.push((key.trim().to_owned(), value.trim().to_owned()));
            }
            "from" => filter.created_from = Some(instant("from", value)?),
            "to" => filter.created_before = Some(instant("to", value)?),
            "id" => self.id_prefix = Some(prefix(value)?),
            "after" => self.place = Place::OlderThan(id("after", value)?),
            "before" => self.place = Place::NewerThan(id("before", value)?),
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=200).contains(limit));
                self.limit = Some(limit.ok_or_else(|| malformed("limit", "not 1 to 200"))?);
            }
            _ => {}
        }
        Ok(())
    }

    /// The query again, with a fixed order, without the place.
    pub(crate) fn pairs(&self) -> Vec<(&'static str, String)> {
        let mut pairs = self.pairs_but_state();
        pairs.extend(self.filter.states.iter().map(|state| ("state", state.as_str().to_owned())));
        pairs
    }

    /// The same, without states.
    pub(crate) fn pairs_but_state(&self) -> Vec<(&'static str, String)> {
        let filter = &self.filter;
        let mut pairs: Vec<(&'static str, String)> = Vec::new();
        pairs.extend(filter.queues.iter().map(|queue| ("queue", queue.to_string())));
        pairs.extend(filter.kinds.iter().map(|kind| ("kind", kind.to_string())));
        pairs.extend(filter.tags.iter().map(|tag| ("tag", tag.to_string())));
        pairs.extend(filter.metadata.iter().map(|(key, value)| ("meta", format!("{key}:{value}"))));
        pairs.extend(filter.created_from.map(|from| ("from", from.to_string())));
        pairs.extend(filter.created_before.map(|to| ("to", to.to_string())));
        pairs.extend(self.id_prefix.clone().map(|prefix| ("id", prefix)));
        pairs.extend(self.limit.map(|limit| ("limit", limit.to_string())));
        pairs
    }

    /// The query as an address has it, without the place.
    pub(crate) fn text(&self) -> String {
        let pairs = self.pairs();
        encode(pairs.iter().map(|(key, value)| (*key, value.as_str())))
    }

    /// The same for people: of no query, that all tasks are meant.
    pub(crate) fn words(&self) -> String {
        let pairs = self.pairs().into_iter().map(|(key, value)| format!("{key}={value}"));
        let words = pairs.collect::<Vec<_>>().join(" ");
        if words.is_empty() { "all tasks".to_owned() } else { words }
    }

    /// A query that this filter alone makes.
    pub(crate) fn of(filter: TaskFilter) -> Self {
        Self { filter, ..Self::default() }
    }

    /// Tells this query from every other.
    pub(crate) fn key(&self) -> String {
        format!("{:?} {:?}", self.pairs(), self.place)
    }

    /// Whether anything is chosen but states.
    pub(crate) fn is_filtered(&self) -> bool {
        let Self { filter, id_prefix, .. } = self;
        !filter.is_counted() || !filter.queues.is_empty() || id_prefix.is_some()
    }

    /// The smallest and the largest id that begins as asked for; `None` if none can.
    pub(crate) fn id_range(&self) -> Option<(TaskId, TaskId)> {
        let prefix = self.id_prefix.as_deref().unwrap_or_default();
        let fill = |digit: char, marks: (char, char)| {
            let digits: String = (0..32)
                .map(|place| match (prefix.as_bytes().get(place), place) {
                    (Some(&given), _) => char::from(given),
                    (None, 12) => marks.0,
                    (None, 16) => marks.1,
                    (None, _) => digit,
                })
                .collect();
            TaskId::from_u128(u128::from_str_radix(&digits, 16).ok()?).ok()
        };
        Some((fill('0', ('7', '8'))?, fill('f', ('7', 'b'))?))
    }
}

/// The id just before or behind another; `None` at either end.
pub(crate) fn neighbour(id: TaskId, is_next: bool) -> Option<TaskId> {
    // An id is 122 bits between marks that never change: taken together they count.
    let bits = id.as_u128();
    let millis = bits >> 80;
    let random = ((bits >> 64) & 0xfff) << 50 | (bits >> 12) & ((1 << 50) - 1);
    let number = millis << 74 | random << 12 | u128::from(id.offset());
    let number = if is_next { number.checked_add(1)? } else { number.checked_sub(1)? };
    let millis = u64::try_from(number >> 74).ok().filter(|millis| *millis < 1 << 48)?;
    let random = u64::try_from((number >> 12) & ((1 << 62) - 1)).ok()?;
    let offset = u16::try_from(number & 0xfff).ok()?;
    Some(TaskId::from_parts(millis, random, offset))
}

fn malformed(field: &str, reason: impl std::fmt::Display) -> PageError {
    PageError::Malformed(format!("{field}: {reason}"))
}

fn id(field: &str, value: &str) -> Result<TaskId, PageError> {
    value.parse().map_err(|error| malformed(field, error))
}

fn prefix(value: &str) -> Result<String, PageError> {
    let digits = value.replace('-', "").to_ascii_lowercase();
    let is_good =
        (1..=32).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_good.then_some(digits).ok_or_else(|| malformed("id", "not 1 to 32 hexadecimal digits"))
}

/// An instant after RFC 3339, or as a browser sends what was picked: without a zone, which means UTC.
pub(crate) fn instant(field: &str, value: &str) -> Result<Timestamp, PageError> {
    if let Ok(instant) = value.parse::<Timestamp>() {
        return Ok(instant);
    }
    let civil = value.parse::<DateTime>().map_err(|_error| {
        malformed(field, "not an instant like 2026-01-02T03:04:05Z, nor one without a zone")
    })?;
    TimeZone::UTC.to_timestamp(civil).map_err(|error| malformed(field, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn parse(query: &str) -> Query {
        Query::parse(query).unwrap()
    }

    #[test]
    fn a_query_survives_its_address() {
        let text = "state=failed&state=pending&queue=a&kind=k&tag=x+y&meta=a:b:c&limit=20\
                    &from=2026-01-02T03:04&to=2026-01-02T03%3A04%3A05Z&id=0192-A&empty=&x=1&kind=";
        let query = parse(text);
        assert_eq!(query.filter.states, StateSet::of(&[State::Failed, State::Pending]));
        assert_eq!(query.filter.metadata, [("a".to_owned(), "b:c".to_owned())]);
        assert_eq!(query.filter.created_from.unwrap().to_string(), "2026-01-02T03:04:00Z");
        assert_eq!(query.id_prefix.as_deref(), Some("0192a"));
        let pairs = query.pairs();
        let again = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        assert_eq!(parse(&again), query);
        assert_eq!(parse(&again).key(), query.key());
    }

    #[test]
    fn what_cannot_be_understood_is_refused() {
        let many = "tag=a&".repeat(33);
        for bad in [
            "state=available",
            "queue=a%20b",
            "kind=%3Cb%3E",
            "tag=%00",
            "meta=x",
            "from=yesterday",
            "id=xyz",
            "after=1",
            "limit=0",
            "limit=201",
            &many,
        ] {
            assert!(matches!(Query::parse(bad), Err(PageError::Malformed(_))), "{bad}");
        }
    }

    #[test]
    fn a_prefix_is_a_range_of_ids() {
        let id: TaskId = "01928f7c-4a00-7abc-8def-0123456789ab".parse().unwrap();
        let text = id.to_string().replace('-', "");
        for length in 1..=32 {
            let query = Query { id_prefix: Some(text[..length].to_owned()), ..Query::default() };
            let (from, to) = query.id_range().unwrap();
            assert!(from <= id && id <= to, "{length}");
            assert_eq!(from == to, length == 32);
            assert!(from.to_string().replace('-', "").starts_with(&text[..length]));
            assert!(to.to_string().replace('-', "").starts_with(&text[..length]));
        }
        let wrong = Query { id_prefix: Some("01928f7c4a004".to_owned()), ..Query::default() };
        assert_eq!(wrong.id_range(), None);
        assert_eq!(Query::default().id_range(), Some((TaskId::MIN, TaskId::MAX)));
    }

    #[test]
    fn neighbours_are_one_apart() {
        for millis in [1_u64, 1_700_000_000_000] {
            for (random, offset) in [(0, 0), (1, 4_095), (u64::MAX, 4_095), (1 << 50, 0)] {
                let id = TaskId::from_parts(millis, random, offset);
                let (before, next) = (neighbour(id, false).unwrap(), neighbour(id, true).unwrap());
                assert!(before < id && id < next);
                assert_eq!(neighbour(before, true), Some(id));
                assert_eq!(neighbour(next, false), Some(id));
            }
        }
        assert_eq!((neighbour(TaskId::MIN, false), neighbour(TaskId::MAX, true)), (None, None));
    }
}
