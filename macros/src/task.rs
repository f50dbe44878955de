//! What a function becomes.

use proc_macro2::TokenStream;
use quote::quote;
use syn::ext::IdentExt;
use syn::{Attribute, ExprArray, Ident, ItemFn, LitStr, ReturnType, Signature};

use crate::argument::{Argument, take_arguments};
use crate::options::{Options, Timeout};
use crate::periodic;

/// The struct, the function that makes a job, the body, and the implementation of `Task`.
pub(crate) fn expand(options: &Options, mut function: ItemFn) -> syn::Result<TokenStream> {
    check_signature(&function.sig)?;
    let schedules = periodic::take(&mut function)?;
    let arguments = take_arguments(&mut function.sig, options.pass_context)?;
    let krate = options.krate.as_ref().map_or_else(|| quote!(::procrastinate), |path| quote!(#path));
    let name = function.sig.ident.clone();
    let structure = structure(&function, &arguments, &krate);
    let job_function = job_function(&function, &arguments, &krate);
    let periodic = periodic::expand(&schedules, &arguments, &krate)?;
    let implementation = implementation(options, &function, &arguments, &krate, &periodic);

    let visibility = &function.vis;
    let attributes = other_attributes(&function.attrs);
    let conditions: Vec<_> = conditions(&function.attrs).collect();
    let block = &function.block;
    let mut signature = function.sig.clone();
    signature.ident = Ident::new("body", name.span());
    Ok(quote! {
        #structure
        #job_function
        #(#conditions)*
        impl #name {
            /// The code of the task, without a job.
            #[allow(clippy::too_many_arguments, clippy::unused_async, dead_code, reason = "written by #[task]")]
            #(#attributes)*
            #visibility #signature #block
        }
        #implementation
        #(#conditions)*
        #krate::__private::discover!(#name);
    })
}

fn check_signature(signature: &Signature) -> syn::Result<()> {
    let refuse = |tokens: &dyn quote::ToTokens, message: &str| Err(syn::Error::new_spanned(tokens, message));
    if !signature.generics.params.is_empty() {
        return refuse(&signature.generics, "a task cannot be generic: a job carries values, not types");
    }
    if let Some(clause) = &signature.generics.where_clause {
        return refuse(clause, "a task cannot be generic: a job carries values, not types");
    }
    if let Some(unsafety) = &signature.unsafety {
        return refuse(unsafety, "a task cannot be unsafe");
    }
    if let Some(abi) = &signature.abi {
        return refuse(abi, "a task is an ordinary Rust function");
    }
    if let Some(variadic) = &signature.variadic {
        return refuse(variadic, "a task has a fixed number of arguments");
    }
    Ok(())
}

fn structure(function: &ItemFn, arguments: &[Argument], krate: &TokenStream) -> TokenStream {
    let name = &function.sig.ident;
    let visibility = &function.vis;
    let documentation = documentation(&function.attrs);
    let serde = LitStr::new(&format!("{krate}::__private::serde").replace(' ', ""), name.span());
    let fields =
        arguments.iter().map(|Argument { name, ty, attributes }| quote!(#(#attributes)* #visibility #name: #ty));
    quote! {
        #(#documentation)*
        #[allow(non_camel_case_types, missing_docs, reason = "named as the function is")]
        #[derive(#krate::__private::serde::Serialize, #krate::__private::serde::Deserialize)]
        #[serde(crate = #serde)]
        #visibility struct #name { #(#fields),* }
    }
}

fn job_function(function: &ItemFn, arguments: &[Argument], krate: &TokenStream) -> TokenStream {
    let name = &function.sig.ident;
    let visibility = &function.vis;
    let documentation = documentation(&function.attrs);
    let parameters = arguments.iter().map(|Argument { name, ty, .. }| quote!(#name: #ty));
    let names = arguments.iter().map(|argument| &argument.name);
    quote! {
        #(#documentation)*
        #[allow(clippy::too_many_arguments, missing_docs, dead_code, reason = "written by #[task]")]
        #visibility fn #name(#(#parameters),*) -> #krate::JobToDefer {
            #krate::Task::job(#name { #(#names),* })
        }
    }
}

fn implementation(
    options: &Options,
    function: &ItemFn,
    arguments: &[Argument],
    krate: &TokenStream,
    periodic: &TokenStream,
) -> TokenStream {
    let name = &function.sig.ident;
    let task_name = task_name(options, name);
    let output = match &function.sig.output {
        ReturnType::Default => quote!(()),
        ReturnType::Type(_, ty) => quote!(#ty),
    };
    let set = |method: &str, value: Option<TokenStream>| {
        let method = Ident::new(method, name.span());
        value.map(|value| quote!(.#method(#value)))
    };
    let queue = set("queue", options.queue.as_ref().map(|value| quote!(#value)));
    let priority = set("priority", options.priority.as_ref().map(|value| quote!(#value)));
    let lock = set("lock", options.lock.as_ref().map(|value| quote!(#value)));
    let queueing_lock = set("queueing_lock", options.queueing_lock.as_ref().map(|value| quote!(#value)));

    let names: Vec<&Ident> = arguments.iter().map(|argument| &argument.name).collect();
    // Hygiene keeps this name apart from an argument that is called the same.
    let context = Ident::new("context", proc_macro2::Span::mixed_site());
    let passed_context = options.pass_context.then(|| quote!(#context,));
    let call = quote!(#name::body(#passed_context #(#names),*));
    let conditions = conditions(&function.attrs);
    let run = if function.sig.asyncness.is_some() {
        quote!(#call.await)
    } else {
        quote!(#krate::blocking(move || #call).await)
    };
    let aliases = options.aliases.as_ref().map(|array| {
        let aliases = array.elems.iter();
        quote!(fn aliases() -> &'static [&'static str] { &[#(#aliases),*] })
    });
    let retry = options
        .retry
        .as_ref()
        .map(|retry| quote!(fn retry() -> #krate::retry::Retry { #krate::retry::Retry::from(#retry) }));
    let timeout = options.timeout.as_ref().map(timeout_function);
    let stalled = options.stalled.as_ref().map(|policy| stalled_function(policy, krate));
    let middleware = options.middleware.as_ref().map(|array| middleware_function(array, krate));
    quote! {
        #(#conditions)*
        impl #krate::Task for #name {
            const NAME: &'static str = #task_name;
            type Output = #output;

            fn defaults() -> #krate::JobOptions {
                #krate::JobOptions::new() #queue #priority #lock #queueing_lock
            }

            #aliases
            #retry
            #timeout
            #stalled
            #middleware
            #periodic

            async fn run(self, #context: #krate::JobContext) -> Self::Output {
                let _ = &#context;
                let Self { #(#names),* } = self;
                #run
            }
        }
    }
}

/// The name of the task, with its namespace.
fn task_name(options: &Options, function: &Ident) -> LitStr {
    let name = options.name.clone().unwrap_or_else(|| LitStr::new(&function.unraw().to_string(), function.span()));
    match &options.namespace {
        Some(namespace) => LitStr::new(&format!("{}:{}", namespace.value(), name.value()), namespace.span()),
        None => name,
    }
}

fn timeout_function(timeout: &Timeout) -> TokenStream {
    let timeout = match timeout {
        Timeout::Written(_, duration) => {
            let (seconds, nanoseconds) = (duration.as_secs(), duration.subsec_nanos());
            quote!(::core::time::Duration::new(#seconds, #nanoseconds))
        }
        Timeout::Expression(value) => quote!(#value),
    };
    quote! {
        fn timeout() -> ::core::option::Option<::core::time::Duration> {
            ::core::option::Option::Some(#timeout)
        }
    }
}

fn middleware_function(middlewares: &ExprArray, krate: &TokenStream) -> TokenStream {
    let middlewares = middlewares.elems.iter();
    quote! {
        fn middleware() -> ::std::vec::Vec<#krate::Middleware> {
            ::std::vec![#(#krate::Middleware::from(#middlewares)),*]
        }
    }
}

fn stalled_function(policy: &LitStr, krate: &TokenStream) -> TokenStream {
    let policy = match policy.value().as_str() {
        "fail" => quote!(Fail),
        "leave" => quote!(Leave),
        _ => quote!(Retry),
    };
    quote! {
        fn stalled() -> #krate::retry::StalledJobPolicy {
            #krate::retry::StalledJobPolicy::#policy
        }
    }
}

/// What the struct and the function that makes a job take over from the function.
fn documentation(attributes: &[Attribute]) -> impl Iterator<Item = &Attribute> {
    attributes.iter().filter(|attribute| attribute.path().is_ident("doc") || attribute.path().is_ident("cfg"))
}

/// What holds for each item that is written: whether it is compiled at all.
fn conditions(attributes: &[Attribute]) -> impl Iterator<Item = &Attribute> {
    attributes.iter().filter(|attribute| attribute.path().is_ident("cfg"))
}

/// What belongs to the code alone.
fn other_attributes(attributes: &[Attribute]) -> impl Iterator<Item = &Attribute> {
    attributes.iter().filter(|attribute| !attribute.path().is_ident("doc") && !attribute.path().is_ident("cfg"))
}
