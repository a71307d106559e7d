//! Reads `#[task(…)]`.

use proc_macro2::{Ident, TokenStream};
use quote::quote;
use syn::{
    Attribute, Error, Expr, LitStr, Token, Type, ext::IdentExt, parenthesized, parse::ParseStream,
    punctuated::Punctuated,
};

use crate::{
    duration::{Least, duration},
    name::{check_metadata_key, check_metadata_value, check_name, check_tag},
    value::{attempts, priority, text},
};

/// Every option, in the order of the documentation.
const OPTIONS: [&str; 14] = [
    "kind",
    "output",
    "queue",
    "priority",
    "max_attempts",
    "timeout",
    "delay",
    "retention",
    "tag",
    "tags",
    "metadata",
    "unique",
    "retry",
    "options",
];

/// Those that may stand more than once.
const REPEATABLE: [&str; 3] = ["tag", "tags", "metadata"];

/// Most tags of one task: `TAGS_MAX` of ergon-core.
const TAGS_MAX: usize = 32;

/// What the attributes of a type choose.
#[derive(Default)]
pub(crate) struct Chosen {
    /// The kind, checked.
    pub(crate) kind: Option<LitStr>,
    /// The type of the output.
    pub(crate) output: Option<Type>,
    /// The weaker base of the options.
    pub(crate) options: Option<Expr>,
    /// Calls of the setters of `TaskOptions`, in the order of the attributes.
    pub(crate) setters: Vec<TokenStream>,
    names: Vec<String>,
    tags: Vec<String>,
    metadata_keys: Vec<String>,
    error: Option<Error>,
}

impl Chosen {
    /// Reads the attributes of a type.
    ///
    /// What is wrong with a value does not end the reading, so that all of it is reported at once.
    pub(crate) fn read(attributes: &[Attribute]) -> Self {
        let mut chosen = Self::default();
        for attribute in attributes {
            if attribute.path().is_ident("task") {
                let read = attribute.parse_args_with(|input: ParseStream<'_>| chosen.list(input));
                chosen.note(read);
            }
        }
        chosen
    }

    /// Adds something that is wrong.
    pub(crate) fn refuse(&mut self, error: Error) {
        match &mut self.error {
            Some(first) => first.combine(error),
            None => self.error = Some(error),
        }
    }

    /// Reports what is wrong, if anything is.
    pub(crate) fn finish(&mut self) -> syn::Result<()> {
        self.error.take().map_or(Ok(()), Err)
    }

    fn note<T>(&mut self, result: syn::Result<T>) -> Option<T> {
        result.map_err(|error| self.refuse(error)).ok()
    }

    fn list(&mut self, input: ParseStream<'_>) -> syn::Result<()> {
        while !input.is_empty() {
            let name = input.call(Ident::parse_any)?;
            self.name(&name)?;
            self.option(&name, input)?;
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(())
    }

    /// Checks the name of an option. An unknown one ends the reading, since nobody knows the form of
    /// its value.
    fn name(&mut self, name: &Ident) -> syn::Result<()> {
        let text = name.to_string();
        if !OPTIONS.contains(&text.as_str()) {
            let message = match text.as_str() {
                "scheduled_at" | "deadline" => format!(
                    "`{text}` is an instant, which is chosen call by call: \
                     `client.enqueue(task).{text}(instant)`"
                ),
                _ => {
                    let known = OPTIONS.map(|option| format!("`{option}`")).join(", ");
                    format!("unknown option `{text}`; the options are {known}")
                }
            };
            return Err(Error::new(name.span(), message));
        }
        if self.names.contains(&text) && !REPEATABLE.contains(&text.as_str()) {
            self.refuse(Error::new(name.span(), format!("`{text}` is chosen twice")));
        }
        self.names.push(text);
        Ok(())
    }

    fn option(&mut self, name: &Ident, input: ParseStream<'_>) -> syn::Result<()> {
        match name.to_string().as_str() {
            "tags" => return self.tags(input),
            "metadata" => return self.metadata(input),
            _ => input.parse::<Token![=]>()?,
        };
        match name.to_string().as_str() {
            "kind" => {
                let kind = text(input, check_name)?;
                self.kind = self.note(kind);
            }
            "output" => self.output = Some(input.parse()?),
            "options" => self.options = Some(input.parse()?),
            "queue" => {
                let queue = text(input, check_name)?;
                self.set(name, queue.map(|queue| quote!(#queue)));
            }
            "tag" => {
                let tag = text(input, check_tag)?;
                self.tag(tag);
            }
            "priority" => {
                let priority = priority(input)?;
                self.set(name, priority);
            }
            "max_attempts" => {
                let attempts = attempts(input)?;
                self.set(name, attempts);
            }
            "timeout" => {
                let timeout = duration(input, Least::OneMillisecond)?;
                self.set(name, timeout);
            }
            "delay" | "retention" => {
                let span = duration(input, Least::Zero)?;
                self.set(name, span);
            }
            // `unique` and `retry`.
            _ => {
                let expression: Expr = input.parse()?;
                self.set(name, Ok(quote!(#expression)));
            }
        }
        Ok(())
    }

    fn set(&mut self, setter: &Ident, value: syn::Result<TokenStream>) {
        if let Some(value) = self.note(value) {
            self.setters.push(quote!(.#setter(#value)));
        }
    }

    fn tags(&mut self, input: ParseStream<'_>) -> syn::Result<()> {
        let list;
        parenthesized!(list in input);
        while !list.is_empty() {
            let tag = text(&list, check_tag)?;
            self.tag(tag);
            if !list.is_empty() {
                list.parse::<Token![,]>()?;
            }
        }
        Ok(())
    }

    fn tag(&mut self, tag: syn::Result<LitStr>) {
        let Some(tag) = self.note(tag) else { return };
        let value = tag.value();
        if self.tags.contains(&value) {
            let message = format!("tag {value:?} is chosen twice");
            return self.refuse(Error::new(tag.span(), message));
        }
        self.tags.push(value);
        if self.tags.len() > TAGS_MAX {
            let message = format!("a task has at most {TAGS_MAX} tags");
            return self.refuse(Error::new(tag.span(), message));
        }
        self.setters.push(quote!(.tag(#tag)));
    }

    fn metadata(&mut self, input: ParseStream<'_>) -> syn::Result<()> {
        let list;
        parenthesized!(list in input);
        let entries = Punctuated::<_, Token![,]>::parse_terminated_with(&list, |entry| {
            let key = text(entry, check_metadata_key)?;
            entry.parse::<Token![=]>()?;
            Ok((key, text(entry, check_metadata_value)?))
        })?;
        for (key, value) in entries {
            let (Some(key), Some(value)) = (self.note(key), self.note(value)) else {
                continue;
            };
            if self.metadata_keys.contains(&key.value()) {
                let message = format!("metadata {:?} is chosen twice", key.value());
                self.refuse(Error::new(key.span(), message));
                continue;
            }
            self.metadata_keys.push(key.value());
            self.setters.push(quote!(.metadata((#key, #value))));
        }
        Ok(())
    }
}
