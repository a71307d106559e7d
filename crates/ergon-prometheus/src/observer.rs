//! What observers are doing, in plain numbers, from wherever they run.

use std::{collections::BTreeMap, fmt, time::Duration};

use crate::names::OTHER;

/// Most observers that the series tell apart; the others are counted together as `_other`.
pub const OBSERVERS_MAX: usize = 32;

/// What one observer of events has done since it began, and what it has to do.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ObserverNumbers {
    /// Its name. Those of equal names are counted together.
    pub name: String,
    /// Events that it has still to take.
    pub lag: u64,
    /// Events that it was too slow for.
    pub missed: u64,
    /// How often it was told that events are missing.
    pub gaps: u64,
    /// How often it panicked.
    pub panics: u64,
    /// How long it was at work.
    pub busy: Duration,
}

impl ObserverNumbers {
    /// Nothing done yet.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
}

/// Tells what observers are doing, at every scrape: it must neither block nor panic.
pub(crate) struct Feed(Box<dyn Fn() -> Vec<ObserverNumbers> + Send + Sync>);

impl Feed {
    pub(crate) fn new(feed: impl Fn() -> Vec<ObserverNumbers> + Send + Sync + 'static) -> Self {
        Self(Box::new(feed))
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Feed")
    }
}

/// What all observers are doing, by name, at most so many names and `_other`; and how many have no
/// name of their own.
pub(crate) fn observers(feeds: &[Feed]) -> (Vec<ObserverNumbers>, u64) {
    let mut by_name = BTreeMap::<String, ObserverNumbers>::new();
    let mut folded = 0;
    for numbers in feeds.iter().flat_map(|feed| (feed.0)()) {
        let has_name = numbers.name == OTHER
            || by_name.contains_key(&numbers.name)
            || by_name.keys().filter(|name| *name != OTHER).count() < OBSERVERS_MAX;
        folded += u64::from(!has_name);
        let name = if has_name { numbers.name } else { OTHER.to_owned() };
        let sum = by_name.entry(name.clone()).or_insert_with(|| ObserverNumbers::new(name));
        sum.lag += numbers.lag;
        sum.missed += numbers.missed;
        sum.gaps += numbers.gaps;
        sum.panics += numbers.panics;
        sum.busy = sum.busy.saturating_add(numbers.busy);
    }
    (by_name.into_values().collect(), folded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_observers_are_counted_together() {
        let feed = || {
            let names = (0..100).map(|number| format!("observer {number}"));
            let of = |name| ObserverNumbers { lag: 1, ..ObserverNumbers::new(name) };
            names.chain(["observer 0".to_owned()]).map(of).collect()
        };
        let (numbers, folded) = observers(&[Feed::new(feed)]);
        assert_eq!((numbers.len(), folded), (OBSERVERS_MAX + 1, 68));
        assert_eq!(numbers.iter().map(|it| it.lag).sum::<u64>(), 101);
        let of = |name: &str| numbers.iter().find(|it| it.name == name).map(|it| it.lag);
        assert_eq!((of("observer 0"), of(OTHER)), (Some(2), Some(68)));
    }
}
