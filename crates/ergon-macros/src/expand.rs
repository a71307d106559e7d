//! Writes the implementation of `Task`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Attribute, Data, DeriveInput, Error, ext::IdentExt};

use crate::{
    attribute::Chosen,
    name::{check_name, snake_case},
};

/// The implementation of `Task` for a type.
pub(crate) fn task(input: &DeriveInput) -> syn::Result<TokenStream> {
    let mut chosen = Chosen::read(&input.attrs);
    check_type(input, &mut chosen);
    let kind = match chosen.kind.take() {
        Some(kind) => quote!(#kind),
        None => default_kind(input, &mut chosen),
    };
    chosen.finish()?;
    let name = &input.ident;
    let (impl_generics, type_generics, where_clause) = input.generics.split_for_impl();
    let output = chosen.output.as_ref().map_or_else(|| quote!(()), |output| quote!(#output));
    let options = options(&chosen);
    Ok(quote! {
        #[automatically_derived]
        impl #impl_generics ::ergon_core::Task for #name #type_generics #where_clause {
            const KIND: &'static str = #kind;
            type Output = #output;
            #options
        }
    })
}

fn default_kind(input: &DeriveInput, chosen: &mut Chosen) -> TokenStream {
    let kind = snake_case(&input.ident.unraw().to_string());
    if check_name(&kind).is_err() {
        let message = format!("{kind:?} cannot be a kind; choose one: #[task(kind = \"…\")]");
        chosen.refuse(Error::new(input.ident.span(), message));
    }
    quote!(#kind)
}

/// The function of that name, or nothing when the default says the same.
fn options(chosen: &Chosen) -> Option<TokenStream> {
    let setters = &chosen.setters;
    let body = match (setters.is_empty(), &chosen.options) {
        (true, None) => return None,
        (true, Some(base)) => quote!(#base),
        (false, None) => quote!(::ergon_core::TaskOptions::new() #(#setters)*),
        (false, Some(base)) => quote!(::ergon_core::TaskOptions::new() #(#setters)* .or(#base)),
    };
    Some(quote! {
        fn options() -> ::ergon_core::TaskOptions {
            #body
        }
    })
}

fn check_type(input: &DeriveInput, chosen: &mut Chosen) {
    for parameter in input.generics.lifetimes() {
        let message = "a task owns its payload: it is stored, and read back later in another \
            process; use `String` for `&str`, `Vec<T>` for `&[T]`";
        chosen.refuse(Error::new_spanned(parameter, message));
    }
    let fields: Vec<_> = match &input.data {
        Data::Struct(data) => data.fields.iter().collect(),
        Data::Enum(data) => {
            for variant in &data.variants {
                refuse_attributes(&variant.attrs, chosen);
            }
            data.variants.iter().flat_map(|variant| &variant.fields).collect()
        }
        Data::Union(data) => {
            let message = "a task is a struct or an enum";
            chosen.refuse(Error::new_spanned(data.union_token, message));
            data.fields.named.iter().collect()
        }
    };
    for field in fields {
        refuse_attributes(&field.attrs, chosen);
    }
}

/// The compiler takes the attribute anywhere within the type; on a part of it, it would do nothing.
fn refuse_attributes(attributes: &[Attribute], chosen: &mut Chosen) {
    for attribute in attributes {
        if attribute.path().is_ident("task") {
            let message = "`#[task(…)]` stands on the type, not on a part of it";
            chosen.refuse(Error::new_spanned(attribute, message));
        }
    }
}
