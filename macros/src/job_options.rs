//! Expands the options of a task's jobs.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{Ident, LitStr};

use crate::argument::Argument;
use crate::duration::DurationOption;
use crate::options::Options;

/// Expands to the functions of `Task` that return the options of its jobs. Those that contain arguments are not among
/// the defaults.
pub(crate) fn expand(options: &Options, arguments: &[Argument], krate: &TokenStream) -> syn::Result<TokenStream> {
    let queue = options.queue.as_ref().map(|queue| quote!(.queue(#queue)));
    let priority = options.priority.as_ref().map(|priority| quote!(.priority(#priority)));
    let unless_enqueued = options.unless_enqueued.as_ref().map(|_| quote!(.unless_enqueued()));
    let if_enqueued = options.if_enqueued.as_ref().map(|value| if_enqueued(value, krate));
    let start_within = options.start_within.as_ref().map(|period| {
        let period = period.expand();
        quote!(.start_within(#period))
    });
    let unique_for = options.unique_for.as_ref().map(DurationOption::expand);
    let unique = if unique_for.is_some() { "unique_for" } else { "unique" };
    let (mut of_all, mut of_one) = (Vec::new(), Vec::new());
    for (method, template, period) in [
        ("lock", &options.lock, None),
        ("queueing_lock", &options.queueing_lock, None),
        ("limit_key", &options.limit_key, None),
        (unique, &options.unique, unique_for.as_ref()),
    ] {
        let Some(template) = template else { continue };
        let method = Ident::new(method, Span::call_site());
        let period = period.map(|period| quote!(, #period));
        match template.plain() {
            Some(text) => of_all.push(quote!(.#method(#text #period))),
            None => {
                let text = template.expand(arguments)?;
                of_one.push(quote!(.#method(#text #period)));
            }
        }
    }
    let of_one = (!of_one.is_empty()).then(|| {
        quote! {
            fn options(&self) -> #krate::JobOptions {
                <Self as #krate::Task>::defaults() #(#of_one)*
            }
        }
    });
    Ok(quote! {
        fn defaults() -> #krate::JobOptions {
            #krate::JobOptions::new() #queue #priority #start_within #(#of_all)* #unless_enqueued #if_enqueued
        }

        #of_one
    })
}

fn if_enqueued(value: &LitStr, krate: &TokenStream) -> TokenStream {
    let variant = match value.value().as_str() {
        "keep" => quote!(Keep),
        "replace" => quote!(Replace),
        "replace_except_schedule" => quote!(ReplaceExceptSchedule),
        _ => quote!(Fail),
    };
    quote!(.if_enqueued(#krate::IfEnqueued::#variant))
}
