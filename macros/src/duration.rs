//! Durations in the options of the attributes.

use std::time::Duration;

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Expr, ExprLit, Lit, LitStr};

/// A duration.
pub(crate) enum DurationOption {
    /// A text such as `"30s"`.
    Written(LitStr, Duration),
    /// An expression of the type `Duration`.
    Expression(Expr),
}

impl DurationOption {
    /// Reads the value of the option with this name.
    pub(crate) fn read(option: &str, value: Expr) -> syn::Result<Self> {
        let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = value else { return Ok(Self::Expression(value)) };
        match humantime::parse_duration(&text.value()) {
            Ok(duration) if duration.is_zero() => {
                Err(syn::Error::new(text.span(), format!("{option} must be greater than zero")))
            }
            Ok(duration) => Ok(Self::Written(text, duration)),
            Err(error) => {
                let message = format!("{option} must be a duration such as \"30s\", \"5min\" or \"1h 30min\": {error}");
                Err(syn::Error::new(text.span(), message))
            }
        }
    }

    /// Expands to a value of the type `Duration`.
    pub(crate) fn expand(&self) -> TokenStream {
        match self {
            Self::Written(_, duration) => {
                let (seconds, nanoseconds) = (duration.as_secs(), duration.subsec_nanos());
                quote!(::core::time::Duration::new(#seconds, #nanoseconds))
            }
            Self::Expression(value) => quote!(#value),
        }
    }
}

impl ToTokens for DurationOption {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        match self {
            Self::Written(text, _) => text.to_tokens(tokens),
            Self::Expression(value) => value.to_tokens(tokens),
        }
    }
}
