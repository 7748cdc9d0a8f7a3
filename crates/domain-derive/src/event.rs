use std::collections::BTreeMap;

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::meta::ParseNestedMeta;
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Fields, Ident, LitInt, LitStr, Path, Result, Type, Variant};

pub fn expand(input: DeriveInput, domain: TokenStream) -> Result<TokenStream> {
    let Data::Enum(data) = &input.data else {
        return Err(Error::new(
            input.ident.span(),
            "an event type is an enum: one variant for each thing that can happen",
        ));
    };
    if !input.generics.params.is_empty() {
        return Err(Error::new(
            input.generics.span(),
            "an event type has no generic parameters: what is stored has one shape",
        ));
    }
    if data.variants.is_empty() {
        return Err(Error::new(
            input.ident.span(),
            "an event type has at least one variant",
        ));
    }
    refuse_serde_on_enum(&input)?;
    let options = enum_options(&input, domain)?;
    let variants = data
        .variants
        .iter()
        .map(parse_variant)
        .collect::<Result<Vec<_>>>()?;
    refuse_repeated_names(&variants)?;
    Ok(implementation(&input.ident, &options, &variants))
}

struct EnumOptions {
    domain: TokenStream,
    upcasts: Option<Path>,
    downcasts: Option<Path>,
}

enum EventVariant<'a> {
    /// An event with a name of its own.
    Own {
        ident: &'a Ident,
        name: String,
        name_span: Span,
        version: u32,
    },
    /// A variant that holds another event enum.
    Nested { ident: &'a Ident, inner: &'a Type },
}

fn enum_options(input: &DeriveInput, domain: TokenStream) -> Result<EnumOptions> {
    let mut options = EnumOptions {
        domain,
        upcasts: None,
        downcasts: None,
    };
    for attr in input.attrs.iter().filter(|a| a.path().is_ident("event")) {
        attr.parse_nested_meta(|meta| {
            if meta.path.is_ident("upcasts") {
                options.upcasts = Some(meta.value()?.parse()?);
                Ok(())
            } else if meta.path.is_ident("downcasts") {
                options.downcasts = Some(meta.value()?.parse()?);
                Ok(())
            } else if meta.path.is_ident("crate") {
                let path: Path = meta.value()?.parse::<LitStr>()?.parse()?;
                options.domain = quote!(#path);
                Ok(())
            } else if ["version", "rename", "nested"]
                .iter()
                .any(|n| meta.path.is_ident(n))
            {
                Err(meta
                    .error("this belongs on a variant: each event has its own name and version"))
            } else {
                let expected = "`upcasts = function`, `downcasts = function` or `crate = \"path\"`";
                Err(unknown(&meta, expected))
            }
        })?;
    }
    Ok(options)
}

fn parse_variant(variant: &Variant) -> Result<EventVariant<'_>> {
    let (mut version, mut rename, mut nested) = (None, None, None);
    for attr in variant.attrs.iter().filter(|a| a.path().is_ident("event")) {
        attr.parse_nested_meta(|meta| {
            if meta.path.is_ident("version") {
                let literal: LitInt = meta.value()?.parse()?;
                let number: u32 = literal.base10_parse()?;
                if number == 0 {
                    return Err(Error::new(literal.span(), "schema versions begin at 1"));
                }
                version = Some(number);
                Ok(())
            } else if meta.path.is_ident("rename") {
                let literal: LitStr = meta.value()?.parse()?;
                check_name(&literal)?;
                rename = Some(literal);
                Ok(())
            } else if meta.path.is_ident("nested") {
                nested = Some(meta.path.span());
                Ok(())
            } else if ["upcasts", "downcasts", "crate"]
                .iter()
                .any(|name| meta.path.is_ident(name))
            {
                Err(meta.error("this belongs on the enum, above its name"))
            } else {
                Err(unknown(
                    &meta,
                    "`version = 2`, `rename = \"Name\"` or `nested`",
                ))
            }
        })?;
    }
    refuse_serde_on_variant(variant)?;
    if let Some(span) = nested {
        if version.is_some() || rename.is_some() {
            return Err(Error::new(
                span,
                "a nested variant has no name and no version of its own; its inner events have",
            ));
        }
        return match &variant.fields {
            Fields::Unnamed(fields) if fields.unnamed.len() == 1 => Ok(EventVariant::Nested {
                ident: &variant.ident,
                inner: &fields.unnamed[0].ty,
            }),
            _ => Err(Error::new(
                span,
                "a nested variant holds just one value, another event enum: `Order(OrderEvent)`",
            )),
        };
    }
    Ok(EventVariant::Own {
        ident: &variant.ident,
        name_span: rename
            .as_ref()
            .map_or(variant.ident.span(), |literal| literal.span()),
        name: rename.map_or_else(|| variant.ident.to_string(), |literal| literal.value()),
        version: version.unwrap_or(1),
    })
}

fn unknown(meta: &ParseNestedMeta<'_>, expected: &str) -> Error {
    meta.error(format!("unknown event attribute; expected {expected}"))
}

/// The rules of `anabranch_model::EventType`, and the names kept for the platform.
fn check_name(literal: &LitStr) -> Result<()> {
    let name = literal.value();
    let fault = if name.is_empty() {
        "an event's name is not empty"
    } else if name.len() > 255 {
        "an event's name has at most 255 bytes"
    } else if name.chars().any(char::is_control) {
        "an event's name has no control characters"
    } else if name.starts_with('$') {
        "names that begin with '$' are reserved for the platform"
    } else {
        return Ok(());
    };
    Err(Error::new(literal.span(), fault))
}

fn refuse_repeated_names(variants: &[EventVariant<'_>]) -> Result<()> {
    let mut seen: BTreeMap<&str, &Ident> = BTreeMap::new();
    for variant in variants {
        if let EventVariant::Own {
            ident,
            name,
            name_span,
            ..
        } = variant
            && let Some(first) = seen.insert(name, ident)
        {
            return Err(Error::new(
                *name_span,
                format!("variants `{first}` and `{ident}` have the same event name \"{name}\""),
            ));
        }
    }
    Ok(())
}

/// Serde attributes that would change how the variant's name is written or found. The name
/// is stored beside the data, so serde must not put it elsewhere.
fn refuse_serde_on_enum(input: &DeriveInput) -> Result<()> {
    refuse_serde(
        &input.attrs,
        &[
            (
                "tag",
                "the type name is stored beside the data: remove this attribute",
            ),
            (
                "content",
                "the type name is stored beside the data: remove this attribute",
            ),
            (
                "untagged",
                "the type name is stored beside the data: remove this attribute",
            ),
            (
                "rename_all",
                "name events with `#[event(rename = \"…\")]` on the variant instead",
            ),
            (
                "deny_unknown_fields",
                "a reader of events is tolerant: a field that a later version adds must not stop it",
            ),
        ],
    )
}

fn refuse_serde_on_variant(variant: &Variant) -> Result<()> {
    const NAME: &str = "name the event with `#[event(rename = \"…\")]` instead";
    refuse_serde(
        &variant.attrs,
        &[
            ("rename", NAME),
            ("alias", "read an older name with an upcast instead"),
            ("skip", "an event that cannot be stored or read is no event"),
            (
                "skip_serializing",
                "an event that cannot be stored is no event",
            ),
            (
                "skip_deserializing",
                "an event that cannot be read is no event",
            ),
            (
                "other",
                "unknown events are told apart before their data is read",
            ),
            (
                "untagged",
                "the type name is stored beside the data: remove this attribute",
            ),
        ],
    )
}

fn refuse_serde(attrs: &[syn::Attribute], refused: &[(&str, &str)]) -> Result<()> {
    for attr in attrs.iter().filter(|a| a.path().is_ident("serde")) {
        attr.parse_nested_meta(|meta| {
            if let Some((_, why)) = refused.iter().find(|(name, _)| meta.path.is_ident(name)) {
                return Err(meta.error(why));
            }
            // Whatever else serde knows: step over its value.
            if meta.input.peek(syn::Token![=]) {
                meta.value()?.parse::<TokenTreeUntilComma>()?;
            } else if meta.input.peek(syn::token::Paren) {
                meta.input.parse::<proc_macro2::Group>()?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

struct TokenTreeUntilComma;

impl syn::parse::Parse for TokenTreeUntilComma {
    fn parse(input: syn::parse::ParseStream<'_>) -> Result<Self> {
        while !input.is_empty() && !input.peek(syn::Token![,]) {
            input.parse::<proc_macro2::TokenTree>()?;
        }
        Ok(Self)
    }
}

/// The arms of the functions of an event type.
#[derive(Default)]
struct Arms {
    kinds: Vec<TokenStream>,
    kind_arms: Vec<TokenStream>,
    encode_arms: Vec<TokenStream>,
    version_arms: Vec<TokenStream>,
    nested_versions: Vec<TokenStream>,
    decode_arms: Vec<TokenStream>,
    nested_decodes: Vec<TokenStream>,
    shape_arms: Vec<TokenStream>,
    nested_shapes: Vec<TokenStream>,
}

fn arms(domain: &TokenStream, variants: &[EventVariant<'_>]) -> Arms {
    let mut arms = Arms::default();
    for variant in variants {
        match variant {
            EventVariant::Own {
                ident,
                name,
                version,
                ..
            } => {
                let kind = quote!(#domain::EventKind { name: #name, version: #version });
                let serde_name = ident.to_string();
                let serde_name = serde_name.strip_prefix("r#").unwrap_or(&serde_name);
                arms.kinds.push(quote!(kinds.push(#kind);));
                arms.kind_arms.push(quote!(Self::#ident { .. } => #kind,));
                arms.version_arms
                    .push(quote!(#name => ::core::option::Option::Some(#version),));
                arms.decode_arms.push(quote! {
                    #name => #domain::__derive::decode(#kind, #serde_name, version, data),
                });
                arms.shape_arms
                    .push(quote!(#name => #domain::__derive::shape::<Self>(#serde_name),));
            }
            EventVariant::Nested { ident, inner } => {
                let event = quote!(<#inner as #domain::Event>);
                arms.kinds.push(quote!(kinds.extend(#event::kinds());));
                arms.kind_arms
                    .push(quote!(Self::#ident(inner) => #domain::Event::kind(inner),));
                arms.encode_arms
                    .push(quote!(Self::#ident(inner) => #domain::Event::encode(inner, out),));
                arms.nested_versions.push(quote! {
                    if let ::core::option::Option::Some(version) = #event::version_of(name) {
                        return ::core::option::Option::Some(version);
                    }
                });
                arms.nested_shapes.push(quote! {
                    if #event::version_of(name).is_some() {
                        return #event::shape_of(name);
                    }
                });
                arms.nested_decodes.push(quote! {
                    if #event::version_of(name).is_some() {
                        return #event::decode(name, version, data).map(Self::#ident);
                    }
                });
            }
        }
    }
    if arms.encode_arms.len() < variants.len() {
        arms.encode_arms
            .push(quote!(_ => #domain::__derive::encode(self, out),));
    }
    arms
}

fn implementation(
    enum_name: &Ident,
    options: &EnumOptions,
    variants: &[EventVariant<'_>],
) -> TokenStream {
    let domain = &options.domain;
    let Arms {
        kinds,
        kind_arms,
        encode_arms,
        version_arms,
        nested_versions,
        decode_arms,
        nested_decodes,
        shape_arms,
        nested_shapes,
    } = arms(domain, variants);
    let upcasts = options.upcasts.as_ref().map(|path| {
        quote! {
            fn upcasts() -> #domain::Upcasts {
                #path()
            }
        }
    });
    let downcasts = options.downcasts.as_ref().map(|path| {
        quote! {
            fn downcasts() -> #domain::Downcasts {
                #path()
            }
        }
    });
    quote! {
        #[automatically_derived]
        impl #domain::Event for #enum_name {
            fn kinds() -> ::std::vec::Vec<#domain::EventKind> {
                let mut kinds = ::std::vec::Vec::new();
                #(#kinds)*
                kinds
            }

            fn version_of(name: &str) -> ::core::option::Option<u32> {
                match name {
                    #(#version_arms)*
                    _ => {
                        #(#nested_versions)*
                        ::core::option::Option::None
                    }
                }
            }

            fn kind(&self) -> #domain::EventKind {
                match self { #(#kind_arms)* }
            }

            fn encode(
                &self,
                out: &mut ::std::vec::Vec<u8>,
            ) -> ::core::result::Result<(), #domain::EncodeError> {
                match self { #(#encode_arms)* }
            }

            fn decode(
                name: &str,
                version: u32,
                data: &[u8],
            ) -> ::core::result::Result<Self, #domain::DecodeError> {
                match name {
                    #(#decode_arms)*
                    _ => {
                        #(#nested_decodes)*
                        ::core::result::Result::Err(#domain::__derive::unknown::<Self>(name))
                    }
                }
            }

            fn shape_of(name: &str) -> #domain::types::Shape {
                match name {
                    #(#shape_arms)*
                    _ => {
                        #(#nested_shapes)*
                        #domain::types::Shape::Unknown
                    }
                }
            }

            #upcasts

            #downcasts
        }
    }
}
