//! Durations as text: a whole number with a unit.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Error, parse::ParseStream};

use crate::value::string;

/// Farthest that a task can be scheduled, run or kept: `HORIZON` of ergon-core, 10 years.
const HORIZON_MILLIS: u64 = 10 * 366 * DAY;

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// The shortest duration that an option takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Least {
    /// None at all.
    Zero,
    /// One millisecond: zero would mean never.
    OneMillisecond,
}

/// Reads a duration.
///
/// The outer result is of the form, the inner of the value.
pub(crate) fn duration(
    input: ParseStream<'_>,
    least: Least,
) -> syn::Result<syn::Result<TokenStream>> {
    let text = string(input)?;
    Ok(match millis(&text.value(), least) {
        Ok(millis) => Ok(quote!(::core::time::Duration::from_millis(#millis))),
        Err(message) => Err(Error::new(text.span(), message)),
    })
}

/// The milliseconds that a text says.
fn millis(text: &str, least: Least) -> Result<u64, String> {
    let digits_len = text.bytes().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, unit) = text.split_at(digits_len);
    let unit = match unit {
        "ms" => Some(1),
        "s" => Some(SECOND),
        "m" => Some(MINUTE),
        "h" => Some(HOUR),
        "d" => Some(DAY),
        _ => None,
    };
    let Some(unit) = unit.filter(|_| !digits.is_empty()) else {
        return Err(format!(
            "{text:?} is not a duration; write a whole number with a unit: \"500ms\", \"30s\", \
             \"5m\", \"2h\", \"7d\""
        ));
    };
    // A number of so many digits that it does not parse is too large, too.
    let millis = digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .filter(|&millis| millis <= HORIZON_MILLIS);
    match (millis, least) {
        (None, _) => Err(format!("{text:?} is longer than 10 years")),
        (Some(0), Least::OneMillisecond) => {
            Err("a timeout of zero would end every attempt before it starts".to_owned())
        }
        (Some(millis), _) => Ok(millis),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read() {
        for (text, expected) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("7d", 604_800_000),
            ("007s", 7_000),
            ("0s", 0),
            ("3660d", HORIZON_MILLIS),
        ] {
            assert_eq!(millis(text, Least::Zero), Ok(expected), "{text:?}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in
            ["", "s", "5", "5 s", " 5s", "5s ", "-5s", "+5s", "1.5s", "5S", "5min", "1h30m", "٥s"]
        {
            let error = millis(text, Least::Zero).unwrap_err();
            assert!(error.contains("is not a duration"), "{text:?}: {error}");
        }
        for text in ["3661d", "18446744073709551616ms", "18446744073709551615d"] {
            let error = millis(text, Least::Zero).unwrap_err();
            assert!(error.contains("longer than 10 years"), "{text:?}: {error}");
        }
        assert!(millis("0s", Least::OneMillisecond).is_err());
        assert_eq!(millis("1ms", Least::OneMillisecond), Ok(1));
    }

    #[test]
    fn the_horizon_is_that_of_the_core() {
        let horizon = ergon_core::limits::HORIZON.as_millis();
        assert_eq!(u128::from(HORIZON_MILLIS), horizon);
    }
}
