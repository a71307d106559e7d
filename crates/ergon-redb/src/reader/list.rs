//! Lists of what matches a filter, a page at a time.
//!
//! Rare states are reached through an index or through memory; everything else by walking over the
//! tasks by id, bodies and heads side by side, for so many rows at the most.

use std::{collections::HashSet, ops::Bound};

use ergon_core::{
    Order, Page, Phase, State, StateSet, StoreError, TaskFilter, TaskId, TaskPage, TaskRecord,
    filter::PageBuilder,
};
use jiff::Timestamp;
use redb::ReadOnlyTable;

use super::Snapshot;
use crate::{
    batch::{mark_of, marked_key, parse_id},
    error::{backend, corrupt},
    key::{LAST_TASK, Lane, NameId, Place, READY_KEY_LEN, parse_ready_key, ready_key},
    record::{decode_body_head, decode_head},
};

/// Rows that one call looks at, at the most: about 50 ms.
const ROWS_MAX: usize = 100_000;

/// Up to so many open tasks are found through the ready index, which has to be sorted by id first.
const OPEN_SORTED_MAX: u64 = 20_000;

/// Where a visit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// There are no more tasks.
    Reached,
    /// The visitor had enough.
    Enough,
    /// Many rows were looked at, up to this task.
    Paused(TaskId),
}

/// Reads a page.
pub(crate) fn list(
    snapshot: &Snapshot,
    filter: &TaskFilter,
    page: &Page,
    now: Timestamp,
) -> Result<TaskPage, StoreError> {
    let mut builder = PageBuilder::new(page);
    match visit(snapshot, filter, page, now, &mut |task| builder.offer(task))? {
        End::Reached | End::Enough => Ok(builder.finish()),
        End::Paused(id) => Ok(builder.cut_at(id)),
    }
}

/// Shows the tasks that match, in the order of the page, until the visitor has enough.
pub(crate) fn visit(
    snapshot: &Snapshot,
    filter: &TaskFilter,
    page: &Page,
    now: Timestamp,
    visitor: &mut dyn FnMut(TaskRecord) -> bool,
) -> Result<End, StoreError> {
    let wanted = Wanted::new(snapshot, filter, now);
    if wanted.is_nothing() {
        return Ok(End::Reached);
    }
    let states = filter.wanted_states();
    let is_within = |set: StateSet| set.contains_all(states);
    if is_within(StateSet::of(&[State::Running])) {
        let ids = snapshot.running.keys().copied().collect();
        wanted.visit_ids(in_order(ids, page).map(Ok), visitor)
    } else if is_within(StateSet::of(&[State::Failed, State::Cancelled])) {
        wanted.visit_ids(marked_ids(snapshot, states, page)?, visitor)
    } else if is_within(StateSet::UNFINISHED) && wanted.open_tasks() <= OPEN_SORTED_MAX {
        let ids = open_ids(snapshot, &wanted)?;
        wanted.visit_ids(in_order(ids, page).map(Ok), visitor)
    } else {
        wanted.walk(page, visitor)
    }
}

/// A filter in the terms of the file.
struct Wanted<'s> {
    snapshot: &'s Snapshot,
    filter: &'s TaskFilter,
    now: Timestamp,
    /// `None`: every one.
    queues: Option<HashSet<NameId>>,
    kinds: Option<HashSet<NameId>>,
}

impl<'s> Wanted<'s> {
    fn new(snapshot: &'s Snapshot, filter: &'s TaskFilter, now: Timestamp) -> Self {
        let queues = (!filter.queues.is_empty()).then(|| {
            let known = (0..).zip(snapshot.queue_names.iter());
            known.filter(|(_, name)| filter.queues.contains(name)).map(|(id, _)| id).collect()
        });
        let kinds = (!filter.kinds.is_empty()).then(|| {
            let known = (0..).zip(snapshot.kind_names.iter());
            known.filter(|(_, name)| filter.kinds.contains(name)).map(|(id, _)| id).collect()
        });
        Self { snapshot, filter, now, queues, kinds }
    }

    /// Whether no task can match, since none ever had such a queue or kind.
    fn is_nothing(&self) -> bool {
        let is_empty = |set: &Option<HashSet<NameId>>| set.as_ref().is_some_and(HashSet::is_empty);
        is_empty(&self.queues) || is_empty(&self.kinds)
    }

    fn queue_numbers(&self) -> impl Iterator<Item = NameId> {
        let all = self.snapshot.queue_names().map(|(number, _)| number);
        all.filter(|number| self.queues.as_ref().is_none_or(|wanted| wanted.contains(number)))
    }

    /// Waiting and running tasks of the wanted queues.
    fn open_tasks(&self) -> u64 {
        self.queue_numbers().map(|number| self.snapshot.queue(number).row.open).sum()
    }

    fn matches(&self, task: &TaskRecord) -> bool {
        self.filter.matches(&task.spec, task.created_at, task.state)
    }

    /// Shows those of these tasks that match.
    fn visit_ids(
        &self,
        ids: impl Iterator<Item = Result<TaskId, StoreError>>,
        visitor: &mut dyn FnMut(TaskRecord) -> bool,
    ) -> Result<End, StoreError> {
        for (rows, id) in (1..).zip(ids) {
            let id = id?;
            if let Some(task) = self.snapshot.task(id, self.now)?
                && self.matches(&task)
                && !visitor(task)
            {
                return Ok(End::Enough);
            }
            if rows == ROWS_MAX {
                return Ok(End::Paused(id));
            }
        }
        Ok(End::Reached)
    }

    /// Walks over all tasks and shows those that match.
    fn walk(
        &self,
        page: &Page,
        visitor: &mut dyn FnMut(TaskRecord) -> bool,
    ) -> Result<End, StoreError> {
        let bounds = bounds(page);
        let bodies = self.snapshot.bodies.range::<&[u8; 16]>(borrowed(&bounds)).map_err(backend)?;
        let heads = self.snapshot.heads.range::<&[u8; 16]>(borrowed(&bounds)).map_err(backend)?;
        match page.order {
            Order::OldestFirst => self.walk_rows(bodies, heads, Order::OldestFirst, visitor),
            Order::NewestFirst => {
                self.walk_rows(bodies.rev(), heads.rev(), Order::NewestFirst, visitor)
            }
        }
    }

    fn walk_rows(
        &self,
        bodies: impl Iterator<Item = Row>,
        heads: impl Iterator<Item = Row>,
        order: Order,
        visitor: &mut dyn FnMut(TaskRecord) -> bool,
    ) -> Result<End, StoreError> {
        let mut heads = heads.peekable();
        for (rows, row) in (1..).zip(bodies) {
            let (key, body) = row.map_err(backend)?;
            let key = key.value();
            let head = loop {
                match heads.next_if(|row| row.as_ref().is_ok_and(|row| !is_behind(row, key, order)))
                {
                    Some(Ok((at, head))) if at.value() == key => break Some(head),
                    Some(_) => {}
                    None => break None,
                }
            };
            if let Some(task) = self.read(key, body.value(), head.as_ref().map(|it| it.value()))?
                && !visitor(task)
            {
                return Ok(End::Enough);
            }
            if rows == ROWS_MAX {
                return parse_id(key).map(End::Paused);
            }
        }
        Ok(End::Reached)
    }

    /// Reads a task if it matches, looking first at what is cheap to see. One that does not read
    /// back is passed by.
    fn read(
        &self,
        key: &[u8; 16],
        body: &[u8],
        head: Option<&[u8]>,
    ) -> Result<Option<TaskRecord>, StoreError> {
        let read = || {
            let fields = decode_body_head(body)?;
            let is_wanted = self.queues.as_ref().is_none_or(|set| set.contains(&fields.queue))
                && self.kinds.as_ref().is_none_or(|set| set.contains(&fields.kind));
            if !is_wanted {
                return Ok(None);
            }
            let head = head.map(decode_head).transpose()?;
            let task = self.snapshot.record(parse_id(key)?, body, head, self.now)?;
            Ok(self.matches(&task).then_some(task))
        };
        match read() {
            Err(StoreError::Corrupt { .. }) => Ok(None),
            read => read,
        }
    }
}

type Guard<T> = redb::AccessGuard<'static, T>;
type Row = Result<(Guard<&'static [u8; 16]>, Guard<&'static [u8]>), redb::StorageError>;

/// Says whether a row lies behind a key, in the order of the walk.
fn is_behind(
    row: &(Guard<&'static [u8; 16]>, Guard<&'static [u8]>),
    key: &[u8; 16],
    order: Order,
) -> bool {
    match order {
        Order::OldestFirst => row.0.value() > key,
        Order::NewestFirst => row.0.value() < key,
    }
}

type Bounds<const N: usize> = (Bound<[u8; N]>, Bound<[u8; N]>);

/// The ids of a page and of those that follow it.
fn bounds(page: &Page) -> Bounds<16> {
    let after = page.after.map(|id| Bound::Excluded(id.as_u128().to_be_bytes()));
    match page.order {
        Order::OldestFirst => (after.unwrap_or(Bound::Unbounded), Bound::Included(LAST_TASK)),
        Order::NewestFirst => (Bound::Unbounded, after.unwrap_or(Bound::Included(LAST_TASK))),
    }
}

fn borrowed<const N: usize>(bounds: &Bounds<N>) -> (Bound<&[u8; N]>, Bound<&[u8; N]>) {
    (bounds.0.as_ref(), bounds.1.as_ref())
}

/// Those of the ids that a page and its followers show, in its order.
fn in_order(mut ids: Vec<TaskId>, page: &Page) -> impl Iterator<Item = TaskId> + use<> {
    ids.sort_unstable();
    if page.order == Order::NewestFirst {
        ids.reverse();
    }
    let (after, order) = (page.after, page.order);
    ids.into_iter().skip_while(move |id| {
        after.is_some_and(|after| match order {
            Order::OldestFirst => *id <= after,
            Order::NewestFirst => *id >= after,
        })
    })
}

/// Waiting and running tasks of the wanted queues and kinds, in no particular order.
fn open_ids(snapshot: &Snapshot, wanted: &Wanted<'_>) -> Result<Vec<TaskId>, StoreError> {
    let ready = snapshot.ready()?;
    let mut ids = Vec::new();
    for number in wanted.queue_numbers() {
        let from = ready_key(Lane::first_of(number), Place::MIN);
        let to = ready_key(Lane::last_of(number), Place::MAX);
        for row in ready.range::<&[u8; READY_KEY_LEN]>(&from..=&to).map_err(backend)? {
            let (lane, place) = parse_ready_key(row.map_err(backend)?.0.value());
            if wanted.kinds.as_ref().is_none_or(|kinds| kinds.contains(&lane.kind)) {
                ids.push(TaskId::from_u128(place.id).map_err(|error| corrupt(error.to_string()))?);
            }
        }
    }
    Ok(ids)
}

type Ids = Box<dyn Iterator<Item = Result<TaskId, StoreError>>>;

/// Failed and cancelled tasks, in the order of the page.
fn marked_ids(snapshot: &Snapshot, states: StateSet, page: &Page) -> Result<Merged, StoreError> {
    let marked = snapshot.marked()?;
    let phases = [(State::Failed, Phase::Failed), (State::Cancelled, Phase::Cancelled)];
    let mut sources = Vec::new();
    for (state, phase) in phases {
        if let (true, Some(mark)) = (states.contains(state), mark_of(phase)) {
            sources.push(ids_of_mark(&marked, mark, page)?.peekable());
        }
    }
    Ok(Merged { sources, order: page.order })
}

fn ids_of_mark(
    marked: &ReadOnlyTable<&'static [u8; 17], ()>,
    mark: u8,
    page: &Page,
) -> Result<Ids, StoreError> {
    let bound = |bound: Bound<[u8; 16]>, end: [u8; 16]| match bound {
        Bound::Excluded(id) => Bound::Excluded(marked_key(mark, id)),
        Bound::Included(_) | Bound::Unbounded => Bound::Included(marked_key(mark, end)),
    };
    let (from, to) = bounds(page);
    let bounds = (bound(from, [0; 16]), bound(to, [u8::MAX; 16]));
    let rows = marked.range::<&[u8; 17]>(borrowed(&bounds)).map_err(backend)?;
    let id = |row: Result<(Guard<&'static [u8; 17]>, _), redb::StorageError>| {
        let (key, _): (_, Guard<()>) = row.map_err(backend)?;
        parse_id(&crate::key::part(key.value(), 1))
    };
    Ok(match page.order {
        Order::OldestFirst => Box::new(rows.map(id)),
        Order::NewestFirst => Box::new(rows.rev().map(id)),
    })
}

/// Sorted lists of ids as one.
struct Merged {
    sources: Vec<std::iter::Peekable<Ids>>,
    order: Order,
}

impl Iterator for Merged {
    type Item = Result<TaskId, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut first: Option<(usize, Option<TaskId>)> = None;
        for (at, source) in self.sources.iter_mut().enumerate() {
            let Some(id) = source.peek() else { continue };
            // An error comes first, whatever its place.
            let Ok(id) = *id else { return source.next() };
            let is_earlier = first.is_none_or(|(_, other)| match self.order {
                Order::OldestFirst => Some(id) < other,
                Order::NewestFirst => Some(id) > other,
            });
            if is_earlier {
                first = Some((at, Some(id)));
            }
        }
        self.sources.get_mut(first?.0)?.next()
    }
}
