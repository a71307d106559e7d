//! The derive macro of ergon's `Task` trait; use it through `ergon-core`.

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

mod attribute;
mod duration;
mod expand;
mod name;
mod value;

/// Implements `ergon_core::Task`: the kind, the type of the output, and the options that every task
/// of the kind has unless a call chooses otherwise.
///
/// It writes what one would write by hand, and nothing else:
///
/// ```
/// use ergon_core::Task;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Receipt {
///     id: String,
/// }
///
/// #[derive(Serialize, Deserialize, Task)]
/// #[task(kind = "email.send", queue = "mail", output = Receipt, max_attempts = 8, timeout = "30s")]
/// struct SendEmail {
///     to: String,
/// }
///
/// assert_eq!(SendEmail::KIND, "email.send");
/// ```
///
/// stands for
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize)]
/// # struct Receipt;
/// # #[derive(Serialize, Deserialize)]
/// # struct SendEmail;
/// impl ergon_core::Task for SendEmail {
///     const KIND: &'static str = "email.send";
///     type Output = Receipt;
///
///     fn options() -> ergon_core::TaskOptions {
///         ergon_core::TaskOptions::new()
///             .queue("mail")
///             .max_attempts(8)
///             .timeout(std::time::Duration::from_millis(30_000))
///     }
/// }
/// ```
///
/// # Options
///
/// They stand in `#[task(…)]` on the type, in any order, in one attribute or in several. All but
/// `kind`, `output` and `options` have the name and the meaning of the setter of
/// `ergon_core::TaskOptions`.
///
/// | option | value | checked while compiling | default |
/// |---|---|---|---|
/// | `kind = "email.send"` | text | 1 to 128 bytes of `[A-Za-z0-9._:/-]` | the type's name in `snake_case` |
/// | `output = Receipt` | type | that it can be an output | `()` |
/// | `queue = "mail"` | text | 1 to 128 bytes of `[A-Za-z0-9._:/-]` | `default` |
/// | `priority = 5` | integer | an `i16` | 0 |
/// | `max_attempts = 8` | integer | 1 to 65,535 | 25 |
/// | `timeout = "30s"` | duration | above zero, at most 10 years | what the server says |
/// | `delay = "5s"` | duration | at most 10 years | none |
/// | `retention = "7d"` | duration | at most 10 years | what the store says |
/// | `tag = "a"` | text, may be repeated | 1 to 64 bytes without control characters; at most 32 | none |
/// | `tags("a", "b")` | texts, may be repeated | as `tag` | none |
/// | `metadata("team" = "billing")` | entries, may be repeated | key 1 to 128 bytes without control characters, not beginning with `ergon.`; value without NUL | none |
/// | `unique = Unique::by_payload()` | expression of type `ergon_core::Unique` | its type | not unique |
/// | `retry = RetryPolicy::Fixed(WAIT)` | expression of type `ergon_core::RetryPolicy` | its type | exponential with jitter |
/// | `options = TaskOptions::no_retry()` | expression of type `ergon_core::TaskOptions` | its type | nothing chosen |
///
/// A duration is a whole number with a unit: `"500ms"`, `"30s"`, `"5m"`, `"2h"`, `"7d"`. A day has 24
/// hours.
///
/// `options` is weaker than everything that stands beside it: a preset, or a place for values that
/// are no literals. The instants `scheduled_at` and `deadline` are not options of a kind; they are
/// chosen call by call.
///
/// # Generic types
///
/// Type parameters are kept as they stand. The bounds that `Task` asks for
/// (`Serialize + DeserializeOwned + Send + Sync + 'static`) are written on the type, or in its
/// `where` clause. Every type that the parameters stand for has the same kind, and a server can
/// handle one of them. Lifetimes are refused: a task owns its payload.
///
/// # Requirements
///
/// The crate `ergon-core` is named `ergon_core` in the caller's `Cargo.toml`, as by default, and the
/// type implements `Serialize` and `Deserialize`.
#[proc_macro_derive(Task, attributes(task))]
pub fn derive_task(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand::task(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}
