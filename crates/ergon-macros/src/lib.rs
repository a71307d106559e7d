//! The derive macro of ergon's `Task` trait; use it through `ergon-core`.

use proc_macro::TokenStream;

/// Implements `ergon_core::Task`.
#[proc_macro_derive(Task, attributes(task))]
pub fn derive_task(_input: TokenStream) -> TokenStream {
    TokenStream::new()
}
