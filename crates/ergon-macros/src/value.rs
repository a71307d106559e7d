//! Reads the values of options: texts and integers.

use std::ops::RangeInclusive;

use proc_macro2::{Literal, TokenStream};
use quote::quote;
use syn::{Error, Lit, LitInt, LitStr, Token, parse::ParseStream};

/// Reads a text and checks it.
///
/// The outer result is of the form, the inner of the value.
pub(crate) fn text(
    input: ParseStream<'_>,
    check: fn(&str) -> Result<(), String>,
) -> syn::Result<syn::Result<LitStr>> {
    let text = string(input)?;
    Ok(match check(&text.value()) {
        Ok(()) => Ok(text),
        Err(message) => Err(Error::new(text.span(), message)),
    })
}

/// Reads a text.
pub(crate) fn string(input: ParseStream<'_>) -> syn::Result<LitStr> {
    let wrong = |span| Error::new(span, "expected a text in quotes");
    match input.parse::<Lit>() {
        Ok(Lit::Str(text)) if text.suffix().is_empty() => Ok(text),
        Ok(literal) => Err(wrong(literal.span())),
        Err(error) => Err(wrong(error.span())),
    }
}

/// Reads a priority.
pub(crate) fn priority(input: ParseStream<'_>) -> syn::Result<syn::Result<TokenStream>> {
    integer(input, "priority", "i16", i16::MIN.into()..=i16::MAX.into())
}

/// Reads a number of attempts.
pub(crate) fn attempts(input: ParseStream<'_>) -> syn::Result<syn::Result<TokenStream>> {
    integer(input, "max_attempts", "u16", 1..=u16::MAX.into())
}

fn integer(
    input: ParseStream<'_>,
    what: &str,
    suffix: &str,
    range: RangeInclusive<i64>,
) -> syn::Result<syn::Result<TokenStream>> {
    let wrong = |span| Error::new(span, "expected an integer literal");
    let minus: Option<Token![-]> = input.parse()?;
    let literal = match input.parse::<Lit>() {
        Ok(Lit::Int(literal)) => literal,
        Ok(literal) => return Err(wrong(literal.span())),
        Err(error) => return Err(wrong(error.span())),
    };
    let Some(value) = value(&literal, minus.is_some(), suffix, &range) else {
        let (least, most) = (range.start(), range.end());
        let message = format!("{what} is an integer from {least} to {most}");
        return Ok(Err(Error::new(literal.span(), message)));
    };
    let mut literal_out = Literal::u64_unsuffixed(value.unsigned_abs());
    literal_out.set_span(literal.span());
    Ok(Ok(quote!(#minus #literal_out)))
}

fn value(
    literal: &LitInt,
    is_negative: bool,
    suffix: &str,
    range: &RangeInclusive<i64>,
) -> Option<i64> {
    let fits_type = literal.suffix().is_empty() || literal.suffix() == suffix;
    let size: i64 = literal.base10_parse().ok().filter(|_| fits_type)?;
    let value = if is_negative { -size } else { size };
    range.contains(&value).then_some(value)
}
