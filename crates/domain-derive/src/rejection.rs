use proc_macro2::TokenStream;
use quote::quote;
use syn::DeriveInput;

pub fn expand(input: &DeriveInput, domain: &TokenStream) -> TokenStream {
    let name = &input.ident;
    let (generics, type_generics, bounds) = input.generics.split_for_impl();
    quote! {
        #[automatically_derived]
        impl #generics ::core::convert::From<#name #type_generics> for #domain::Rejection #bounds {
            fn from(rejection: #name #type_generics) -> Self {
                #domain::Rejection::of(&rejection)
            }
        }
    }
}
