//! The derive macros of `anabranch-domain`. They save typing and nothing else: what they
//! write could be written by hand, and they never change what the user wrote.

mod event;
mod rejection;

use proc_macro::TokenStream;
use quote::quote;
use syn::{DeriveInput, parse_macro_input};

/// Implements `anabranch_domain::Event` for an enum: one variant for each thing that can
/// happen, named in the past tense.
///
/// The variant's name is the event's type name. Attributes on a variant:
///
/// * `#[event(version = 2)]`: the version of its schema; 1 when absent.
/// * `#[event(rename = "OrderPlaced")]`: the type name, when it is not the variant's name.
/// * `#[event(nested)]`: the variant holds another event enum and has no name of its own.
///
/// Attributes on the enum:
///
/// * `#[event(upcasts = path::to::function)]`: a function that returns the `Upcasts` which
///   read what older versions of the program have written.
/// * `#[event(crate = "path")]`: where to find `anabranch_domain`, if not there.
///
/// The enum derives `serde::Serialize` and `serde::Deserialize` too; serde's attributes on
/// fields work as ever.
#[proc_macro_derive(Event, attributes(event))]
pub fn derive_event(input: TokenStream) -> TokenStream {
    event::expand(
        parse_macro_input!(input as DeriveInput),
        quote!(::anabranch_domain),
    )
    .unwrap_or_else(syn::Error::into_compile_error)
    .into()
}

/// As `Event`, for users of the facade crate `anabranch`, which re-exports it as `Event`.
#[proc_macro_derive(FacadeEvent, attributes(event))]
pub fn derive_facade_event(input: TokenStream) -> TokenStream {
    event::expand(
        parse_macro_input!(input as DeriveInput),
        quote!(::anabranch::domain),
    )
    .unwrap_or_else(syn::Error::into_compile_error)
    .into()
}

/// Implements `From<Self>` for `anabranch_domain::Rejection`: the code is the variant's name
/// in kebab-case, the message is the `Display` form, the data is what the variant holds.
#[proc_macro_derive(Rejection)]
pub fn derive_rejection(input: TokenStream) -> TokenStream {
    rejection::expand(
        &parse_macro_input!(input as DeriveInput),
        &quote!(::anabranch_domain),
    )
    .into()
}

/// As `Rejection`, for users of the facade crate `anabranch`, which re-exports it as
/// `Rejection`.
#[proc_macro_derive(FacadeRejection)]
pub fn derive_facade_rejection(input: TokenStream) -> TokenStream {
    rejection::expand(
        &parse_macro_input!(input as DeriveInput),
        &quote!(::anabranch::domain),
    )
    .into()
}
