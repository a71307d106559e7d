//! What was measured: statistics over runs, one line of JSON, one row of a table.

use std::fmt::{self, Write as _};

use serde::Serialize;
use serde_json::{Map, Value};

/// One measure over all runs.
#[derive(Clone, Debug)]
pub struct Measure {
    name: &'static str,
    unit: &'static str,
    values: Vec<f64>,
    raws: Vec<f64>,
    goal: Option<Goal>,
    config: Map<String, Value>,
}

/// What a measure has to reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Goal {
    /// The median is at least so much.
    AtLeast(f64),
    /// The median is at most so much.
    AtMost(f64),
    /// The median is at least so many times that of what it is compared with.
    RatioAtLeast(f64),
    /// The median is at most so many times that of what it is compared with.
    RatioAtMost(f64),
}

impl Goal {
    /// Whether it is reached; `None` when there is nothing to compare.
    fn is_met(self, value: Option<f64>, raw: Option<f64>) -> Option<bool> {
        match self {
            Self::AtLeast(least) => value.map(|value| value >= least),
            Self::AtMost(most) => value.map(|value| value <= most),
            Self::RatioAtLeast(least) => ratio(value, raw).map(|ratio| ratio >= least),
            Self::RatioAtMost(most) => ratio(value, raw).map(|ratio| ratio <= most),
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, "≥ {least}"),
            Self::AtMost(most) => write!(f, "≤ {most}"),
            Self::RatioAtLeast(least) => write!(f, "≥ {least} × raw"),
            Self::RatioAtMost(most) => write!(f, "≤ {most} × raw"),
        }
    }
}

impl Measure {
    pub(crate) fn new(name: &'static str, unit: &'static str) -> Self {
        let (values, raws) = (Vec::new(), Vec::new());
        Self { name, unit, values, raws, goal: None, config: Map::new() }
    }

    /// Adds the value of one run.
    pub(crate) fn push(&mut self, value: f64) {
        self.values.push(value);
    }

    /// Adds what the value of one run is compared with.
    pub(crate) fn push_raw(&mut self, raw: f64) {
        self.raws.push(raw);
    }

    /// Says something about how it was measured.
    pub(crate) fn note(&mut self, key: &str, value: impl Into<Value>) {
        self.config.insert(key.to_owned(), value.into());
    }

    /// The same, when the measure is made.
    pub(crate) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.note(key, value);
        self
    }

    /// Says what it has to reach.
    pub(crate) const fn with_goal(mut self, goal: Goal) -> Self {
        self.goal = Some(goal);
        self
    }

    fn is_goal_met(&self) -> Option<bool> {
        self.goal?.is_met(median(&self.values), median(&self.raws))
    }

    /// The name of the measure.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// One JSON object: `measure`, `value` (the median of the runs), `unit`, `raw` (the median of
    /// what it is compared with) and `ratio` (value by raw), both null when it is compared with
    /// nothing, `runs`, `min`, `max`, and `config`, which holds `goal` and `goal_met` too when there
    /// is one.
    #[must_use]
    pub fn line(&self) -> String {
        let (value, raw) = (median(&self.values), median(&self.raws));
        let mut config = self.config.clone();
        if let Some(goal) = self.goal {
            config.insert("goal".to_owned(), goal.to_string().into());
            config.insert("goal_met".to_owned(), self.is_goal_met().into());
        }
        let line = Line {
            measure: self.name,
            value: rounded(value),
            unit: self.unit,
            raw: rounded(raw),
            ratio: rounded(ratio(value, raw)),
            runs: self.values.len(),
            min: rounded(self.values.iter().copied().reduce(f64::min)),
            max: rounded(self.values.iter().copied().reduce(f64::max)),
            config: &config,
        };
        serde_json::to_string(&line).unwrap_or_default()
    }
}

#[derive(Serialize)]
struct Line<'m> {
    measure: &'static str,
    value: Value,
    unit: &'static str,
    raw: Value,
    ratio: Value,
    runs: usize,
    min: Value,
    max: Value,
    config: &'m Map<String, Value>,
}

/// The measures as a table for people.
#[must_use]
pub fn table(measures: &[Measure]) -> String {
    let mut text = format!(
        "{:<28}{:>12} {:<9}{:>12}{:>8}{:>25}{:>6}  {}\n",
        "measure", "median", "unit", "raw", "ratio", "min … max", "runs", "goal"
    );
    for measure in measures {
        let (value, raw) = (median(&measure.values), median(&measure.raws));
        let least = measure.values.iter().copied().reduce(f64::min);
        let most = measure.values.iter().copied().reduce(f64::max);
        let range = format!("{} … {}", shown(least), shown(most));
        let reached = match measure.is_goal_met() {
            Some(true) => ", met",
            Some(false) => ", MISSED",
            None => "",
        };
        let goal = measure.goal.map_or_else(|| "–".to_owned(), |goal| format!("{goal}{reached}"));
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:<28}{:>12} {:<9}{:>12}{:>8}{:>25}{:>6}  {goal}",
            measure.name,
            shown(value),
            measure.unit,
            shown(raw),
            shown(ratio(value, raw)),
            range,
            measure.values.len()
        );
    }
    text
}

fn ratio(value: Option<f64>, raw: Option<f64>) -> Option<f64> {
    value.zip(raw).map(|(value, raw)| value / raw)
}

/// The middle value, or the mean of the two in the middle.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let sorted = sorted(values);
    let half = sorted.len() / 2;
    let upper = *sorted.get(half)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    sorted.get(half - 1).map(|lower| f64::midpoint(*lower, upper))
}

/// The value that so many hundredths of the values do not exceed.
pub(crate) fn percentile(values: &[f64], hundredths: usize) -> Option<f64> {
    let sorted = sorted(values);
    let rank = (sorted.len() * hundredths).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// A number as people read it: no digits that a repetition would not confirm.
fn shown(value: Option<f64>) -> String {
    match value {
        Some(value) if value.abs() >= 100.0 => format!("{value:.0}"),
        Some(value) => format!("{value:.3}"),
        None => "–".to_owned(),
    }
}

fn rounded(value: Option<f64>) -> Value {
    let text = shown(value);
    let whole = text.parse::<u64>().map(Value::from);
    whole.or_else(|_| text.parse::<f64>().map(Value::from)).unwrap_or(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_percentiles_are_values_of_the_middle_and_the_tail() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0]), Some(2.5));
        let hundred: Vec<f64> = (1..=100_u32).map(f64::from).collect();
        assert_eq!(percentile(&hundred, 50), Some(50.0));
        assert_eq!(percentile(&hundred, 99), Some(99.0));
        assert_eq!(percentile(&[7.0], 99), Some(7.0));
        assert_eq!(percentile(&[], 99), None);
    }

    #[test]
    fn a_measure_is_one_json_object() {
        let mut measure = Measure::new("drain", "tasks/s").with("tasks", 200_000);
        for (value, raw) in [(100.0, 200.0), (300.0, 400.0), (200.4, 800.0)] {
            measure.push(value);
            measure.push_raw(raw);
        }
        assert_eq!(
            measure.line(),
            r#"{"measure":"drain","value":200,"unit":"tasks/s","raw":400,"ratio":0.501,"runs":3,"min":100,"max":300,"config":{"tasks":200000}}"#
        );
    }

    #[test]
    fn a_goal_is_met_or_missed() {
        let mut measure = Measure::new("enqueue_1", "tasks/s").with_goal(Goal::RatioAtLeast(0.9));
        assert_eq!(measure.is_goal_met(), None);
        measure.push(80.0);
        measure.push_raw(100.0);
        assert_eq!(measure.is_goal_met(), Some(false));
        assert!(measure.line().contains(r#""goal":"≥ 0.9 × raw","goal_met":false"#));
        assert!(table(std::slice::from_ref(&measure)).contains("≥ 0.9 × raw, MISSED"));
        for (goal, is_met) in [
            (Goal::AtLeast(80.0), true),
            (Goal::AtLeast(81.0), false),
            (Goal::AtMost(80.0), true),
            (Goal::AtMost(79.0), false),
            (Goal::RatioAtMost(0.8), true),
            (Goal::RatioAtMost(0.7), false),
        ] {
            assert_eq!(measure.clone().with_goal(goal).is_goal_met(), Some(is_met), "{goal}");
        }
    }

    #[test]
    fn a_measure_that_is_compared_with_nothing_has_no_ratio() {
        let mut measure = Measure::new("open_2m", "s");
        measure.push(0.25);
        let line: Value = serde_json::from_str(&measure.line()).unwrap();
        assert_eq!((&line["raw"], &line["ratio"]), (&Value::Null, &Value::Null));
        assert_eq!(line["value"], 0.25);
        let table = table(&[measure]);
        assert!(table.contains("0.250 s") && table.contains('–'), "{table}");
    }
}
