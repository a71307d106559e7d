//! Charts, drawn by the server: SVG with a table beside it that says the same.

use maud::{Markup, html};

use super::number;

/// One bar.
pub(crate) struct Bar<'b> {
    /// What it stands for.
    pub(crate) label: &'b str,
    /// How long it is.
    pub(crate) value: u64,
    /// The class that colours it.
    pub(crate) class: &'b str,
}

const WIDTH: u64 = 240;
const ROW: usize = 22;

/// Bars one below the other, and the table that says the same. Zero is a bar of no length.
pub(crate) fn bars(title: &str, bars: &[Bar<'_>]) -> Markup {
    let longest = bars.iter().map(|bar| bar.value).max().unwrap_or(0);
    let height = bars.len() * ROW;
    html! {
        figure.chart {
            figcaption { (title) }
            svg viewBox={ "0 0 " (WIDTH) " " (height) } role="img" aria-label=(title) preserveAspectRatio="none" focusable="false" {
                @for (place, bar) in bars.iter().enumerate() {
                    rect class=(bar.class) x="0" y=(place * ROW + 3) height=(ROW - 6) width=(width(bar.value, longest)) rx="2" {}
                }
            }
            table {
                caption.hidden { (title) }
                thead.hidden { tr { th scope="col" { "State" } th scope="col" { "Tasks" } } }
                tbody { @for bar in bars { tr { th scope="row" { (bar.label) } td.num { (number(bar.value)) } } } }
            }
        }
    }
}

/// The length of a bar; what is not zero is seen.
fn width(value: u64, longest: u64) -> u64 {
    if value == 0 {
        return 0;
    }
    let length = u128::from(value) * u128::from(WIDTH) / u128::from(std::cmp::max(longest, 1));
    std::cmp::max(u64::try_from(length).unwrap_or(WIDTH), 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_numbers() {
        assert_eq!([width(0, 10), width(5, 10), width(10, 10)], [0, 120, 240]);
        assert_eq!((width(1, u64::MAX), width(u64::MAX, u64::MAX), width(0, 0)), (2, 240, 0));
        let markup = bars("<b>", &[Bar { label: "a&b", value: 3, class: "x" }]).into_string();
        assert!(
            markup.contains("&lt;b&gt;") && markup.contains("a&amp;b") && !markup.contains("<b>")
        );
    }
}
