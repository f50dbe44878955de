//! The attributes of the `procrastinate` crate. Use them as `procrastinate::task` and `procrastinate::periodic`. That
//! crate documents them, because its types are in their examples.
#![allow(missing_docs, reason = "documented where the procrastinate crate exports them")]

mod argument;
mod duration;
mod job_options;
mod options;
mod periodic;
mod place;
mod state;
mod task;
mod template;
#[cfg(test)]
mod tests;

use proc_macro::TokenStream;

#[proc_macro_attribute]
pub fn task(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let options = syn::parse_macro_input!(attribute as options::Options);
    if place::is_in_impl(proc_macro::Span::call_site()) {
        let message = "a task must be a free function; move it out of the `impl` or `trait`";
        return syn::Error::new(proc_macro2::Span::call_site(), message).into_compile_error().into();
    }
    let function = syn::parse_macro_input!(item as syn::ItemFn);
    task::expand(&options, function).unwrap_or_else(syn::Error::into_compile_error).into()
}

#[proc_macro_attribute]
pub fn periodic(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let function = syn::parse_macro_input!(item as syn::ItemFn);
    periodic::leave_to_task(&attribute.into(), function).unwrap_or_else(syn::Error::into_compile_error).into()
}
