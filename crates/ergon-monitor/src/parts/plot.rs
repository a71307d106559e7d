//! Charts over time, drawn by the server: SVG, and a table that says the same.

use maud::{Markup, html};

use super::{instant, number};
use crate::{
    value::{Whole, brief, span},
    view::{
        activity::{Activity, ActivityView, Percentiles, Point},
        errors::HourFigure,
        range::Range,
    },
};

const WIDTH: u64 = 720;
const HEIGHT: u64 = 120;

/// Lines of a chart of how long things took: name, class, and how the line is broken, so that it is told
/// apart without its colour.
const LINES: [(&str, &str, Option<&str>); 3] = [
    ("50 %", "stroke-completed", None),
    ("95 %", "stroke-running", Some("8 4")),
    ("99 %", "stroke-failed", Some("2 4")),
];

/// Leads to the same page for another time.
pub(crate) fn ranges(address: &str, chosen: Range) -> Markup {
    let mark = if address.contains('?') { '&' } else { '?' };
    html! {
        nav.tabs aria-label="Time" {
            @for range in Range::ALL {
                a href={ (address) (mark) "range=" (range.as_str()) } aria-current=[(range == chosen).then_some("page")] { (range.as_str()) }
            }
        }
    }
}

/// What servers did: figures, charts and their table. `address` is that of the page, without a range.
pub(crate) fn shown(view: &ActivityView, address: &str) -> Markup {
    let total = &view.total;
    html! {
        (ranges(address, view.range))
        @if let Some(before) = view.cut_before {
            p.muted { "What happened before " (instant(before)) " is too much to be shown." }
        }
        @if total.started.0 == 0 && total.completed.0 == 0 && total.failed_attempts() == 0 {
            p.muted { "Nothing, as far as servers told: each tells every ten seconds." }
        } @else {
            (summary(total))
            div.plots {
                (throughput(view))
                (durations("How long tasks waited", view, |activity| &activity.waited))
                (durations("How long attempts ran", view, |activity| &activity.ran))
            }
            (table(view))
        }
    }
}

fn summary(total: &Activity) -> Markup {
    html! {
        p {
            (number(total.completed.0)) " attempts completed, " (number(total.failed_attempts())) " failed"
            @if let Some(share) = total.failure_share() { " (" (format!("{:.1}", share * 100.0)) " %)" }
            @if total.cancelled.0 > 0 { ", " (number(total.cancelled.0)) " were cancelled" }
            @if total.rescued.0 > 0 { ", " (number(total.rescued.0)) " were taken back from servers that died" }
            ". Waited " (trio(&total.waited)) "; ran " (trio(&total.ran)) " (50, 95, 99 %)."
        }
    }
}

fn micros(value: Option<Whole>) -> String {
    value.map_or_else(|| "–".to_owned(), |Whole(us)| span(std::time::Duration::from_micros(us)))
}

fn trio(percentiles: &Percentiles) -> String {
    let Percentiles { p50_us, p95_us, p99_us, .. } = *percentiles;
    [p50_us, p95_us, p99_us].map(micros).join(" / ")
}

/// A value as a height of at most `most`; what is not zero is seen.
fn height(value: u64, largest: u64, most: u64) -> u64 {
    if value == 0 {
        return 0;
    }
    let height = u128::from(value) * u128::from(most) / u128::from(std::cmp::max(largest, 1));
    u64::try_from(height).unwrap_or(most).clamp(1, most)
}

/// The left edge of a point, and how wide it is.
fn column(place: usize, points: usize) -> (u64, u64) {
    let edge = |place: usize| WIDTH * place as u64 / std::cmp::max(points, 1) as u64;
    let (left, right) = (edge(place), edge(place + 1));
    (left, std::cmp::max((right - left).saturating_sub(1), 1))
}

/// A chart with its title, the largest value, and its first and last instant.
fn figure(title: &str, most: &str, points: &[Point], keys: &Markup, drawing: &Markup) -> Markup {
    html! {
        figure.plot {
            figcaption { (title) ", at most " (most) " " (keys) }
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label={ (title) ", at most " (most) } preserveAspectRatio="none" focusable="false" {
                line class="axis" x1="0" x2=(WIDTH) y1=(HEIGHT) y2=(HEIGHT) {}
                (drawing)
            }
            @if let (Some(first), Some(last)) = (points.first(), points.last()) {
                div.ends { (instant(first.start)) (instant(last.start)) }
            }
        }
    }
}

/// Attempts that ended: a bar a point, failures on top of those that completed.
fn throughput(view: &ActivityView) -> Markup {
    let ended = |activity: &Activity| {
        [activity.completed.0, activity.cancelled.0, activity.failed_attempts()]
    };
    const CLASSES: [&str; 3] = ["state-completed", "state-cancelled", "state-failed"];
    let sum = |point: &Point| ended(&point.activity).into_iter().fold(0, u64::saturating_add);
    let largest = view.points.iter().map(sum).max().unwrap_or(0);
    let drawing = html! {
        @for (place, point) in view.points.iter().enumerate() {
            @let (x, width) = column(place, view.points.len());
            @for (y, tall, class) in stack(ended(&point.activity), largest).into_iter().zip(CLASSES).map(|((y, tall), class)| (y, tall, class)) {
                @if tall > 0 { rect class=(class) x=(x) y=(y) width=(width) height=(tall) {} }
            }
        }
    };
    let keys = html! {
        @for (class, word) in CLASSES.into_iter().zip(["completed", "cancelled", "failed"]) {
            span class={ "key " (class) } { "■ " (word) } " "
        }
    };
    let title = format!("Attempts that ended within {}", view.range.step_words());
    figure(&title, &brief(largest), &view.points, &keys, &drawing)
}

/// Tops and heights of parts that stand on each other.
fn stack<const N: usize>(parts: [u64; N], largest: u64) -> [(u64, u64); N] {
    let mut top = HEIGHT;
    parts.map(|part| {
        let tall = std::cmp::min(height(part, largest, HEIGHT), top);
        top -= tall;
        (top, tall)
    })
}

/// How long things took: a line a percentile, with gaps where nothing was measured.
fn durations(title: &str, view: &ActivityView, of: impl Fn(&Activity) -> &Percentiles) -> Markup {
    let values = |which: usize| {
        let points = view.points.iter().map(|point| of(&point.activity));
        points.map(move |it| [it.p50_us, it.p95_us, it.p99_us].into_iter().nth(which).flatten())
    };
    let largest = values(2).flatten().map(|Whole(us)| us).max().unwrap_or(0);
    let drawing = html! {
        @for (which, (_, class, dashes)) in LINES.iter().enumerate() {
            @for points in lines(values(which), view.points.len(), largest) {
                polyline class=(class) points=(points) stroke-dasharray=[*dashes] {}
            }
        }
    };
    let keys = html! {
        @for (name, class, dashes) in LINES {
            span class={ "key " (class) } { @if dashes.is_some() { "╌ " } @else { "─ " } (name) } " "
        }
    };
    let most = span(std::time::Duration::from_micros(largest));
    figure(title, &most, &view.points, &keys, &drawing)
}

/// The points of lines, each without a gap; a point on its own is a short line.
fn lines(values: impl Iterator<Item = Option<Whole>>, points: usize, largest: u64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut is_open = false;
    for (place, value) in values.enumerate() {
        let Some(Whole(value)) = value else {
            is_open = false;
            continue;
        };
        let (left, width) = column(place, points);
        // Two of the height are left for the width of the line.
        let y = HEIGHT - 1 - height(value, largest, HEIGHT - 2);
        let piece = format!("{left},{y} {},{y}", left + width);
        match lines.last_mut().filter(|_| is_open) {
            Some(line) => {
                line.push(' ');
                line.push_str(&piece);
            }
            None => lines.push(piece),
        }
        is_open = true;
    }
    lines
}

fn table(view: &ActivityView) -> Markup {
    html! {
        details #numbers {
            summary { "The same as numbers" }
            table {
                caption { "What servers did, point by point" }
                thead { tr {
                    th scope="col" { "From (UTC)" } th.num scope="col" { "Completed" } th.num scope="col" { "Failed" }
                    th.num scope="col" { "Cancelled" } th scope="col" { "Waited 50 / 95 / 99 %" } th scope="col" { "Ran 50 / 95 / 99 %" }
                } }
                tbody { @for Point { start, activity } in view.points.iter().rev() { tr {
                    td data-label="From (UTC)" { (instant(*start)) }
                    td.num data-label="Completed" { (number(activity.completed.0)) }
                    td.num data-label="Failed" { (number(activity.failed_attempts())) }
                    td.num data-label="Cancelled" { (number(activity.cancelled.0)) }
                    td data-label="Waited 50 / 95 / 99 %" { (trio(&activity.waited)) }
                    td data-label="Ran 50 / 95 / 99 %" { (trio(&activity.ran)) }
                } } }
            }
        }
    }
}

/// How often something happened, hour by hour, within a line of a table.
pub(crate) fn spark(hours: &[HourFigure]) -> Markup {
    let largest = hours.iter().map(|hour| hour.count.0).max().unwrap_or(0);
    html! {
        svg.spark viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label={ "By hour, at most " (brief(largest)) } preserveAspectRatio="none" focusable="false" {
            @for (place, hour) in hours.iter().enumerate() {
                @let (x, width) = column(place, hours.len());
                @let tall = height(hour.count.0, largest, HEIGHT);
                @if tall > 0 { rect class="state-failed" x=(x) y=(HEIGHT - tall) width=(width) height=(tall) {} }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_stand_on_each_other_and_never_leave_the_chart() {
        assert_eq!(stack([5, 0, 5], 10), [(60, 60), (60, 0), (0, 60)]);
        assert_eq!(stack([1_000_000, 1, 1], 1_000_002), [(1, 119), (0, 1), (0, 0)]);
        assert_eq!(stack([0, 0, 0], 0), [(HEIGHT, 0); 3]);
        assert_eq!(stack([u64::MAX], u64::MAX), [(0, HEIGHT)]);
    }

    #[test]
    fn lines_have_gaps_where_nothing_was_measured() {
        let values = [Some(10), Some(5), None, Some(10), None].map(|value| value.map(Whole));
        let drawn = lines(values.into_iter(), 5, 10);
        assert_eq!(drawn, ["0,1 143,1 144,60 287,60", "432,1 575,1"]);
    }

    #[test]
    fn columns_fill_the_width() {
        assert_eq!((column(0, 60), column(59, 60)), ((0, 11), (708, 11)));
        assert_eq!((column(0, 1), column(0, 5_000).1), ((0, 719), 1));
    }
}
