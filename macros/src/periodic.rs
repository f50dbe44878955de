//! Parses the options of `#[periodic(…)]` and expands them.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Attribute, Expr, ExprLit, Ident, ItemFn, Lit, LitStr, Token, Type, parse_quote};

use crate::argument::Argument;
use crate::duration::DurationOption;
use crate::options::{check_value, set};
use crate::template::Template;

/// The argument that contains the tick.
const TIMESTAMP: &str = "timestamp";

/// Moves `#[periodic]` below `#[task]`, which expands it.
pub(crate) fn leave_to_task(attribute: &TokenStream, mut function: ItemFn) -> syn::Result<TokenStream> {
    if !function.attrs.iter().any(|attribute| is_named(attribute, "task")) {
        let message = "`#[periodic]` must be used together with `#[task]`; add `#[task]` to this function";
        return Err(syn::Error::new(function.sig.ident.span(), message));
    }
    function.attrs.push(parse_quote!(#[periodic(#attribute)]));
    Ok(function.into_token_stream())
}

/// Removes the schedules from the function and parses them.
pub(crate) fn take(function: &mut ItemFn) -> syn::Result<Vec<Schedule>> {
    let (schedules, others): (Vec<_>, Vec<_>) =
        std::mem::take(&mut function.attrs).into_iter().partition(|attribute| is_named(attribute, "periodic"));
    function.attrs = others;
    schedules.iter().map(Attribute::parse_args::<Schedule>).collect()
}

/// Whether the attribute has this name, by any path.
fn is_named(attribute: &Attribute, name: &str) -> bool {
    attribute.path().segments.last().is_some_and(|segment| segment.ident == name)
}

/// One `#[periodic(…)]`.
pub(crate) struct Schedule {
    recurrence: Recurrence,
    /// The other options, in their order. Each is a method of `PeriodicTask` with one argument.
    options: Vec<(Ident, Expr)>,
    args: Vec<(Ident, Expr)>,
}

/// When a schedule ticks.
enum Recurrence {
    Cron(LitStr),
    Every(DurationOption),
}

impl ToTokens for Recurrence {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        match self {
            Self::Cron(text) => text.to_tokens(tokens),
            Self::Every(interval) => interval.to_tokens(tokens),
        }
    }
}

impl Parse for Schedule {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        const TEXTS: [&str; 6] = ["periodic_id", "queue", "lock", "queueing_lock", "limit_key", "time_zone"];
        const VALUES: [&str; 5] = ["priority", "start_within", "max_delay", "missed", "overlap"];
        let (mut recurrence, mut options, mut args) = (None, Vec::<(Ident, Expr)>::new(), None);
        let whole = input.span();
        while !input.is_empty() {
            let key: Ident = input.parse()?;
            if key == "args" {
                let content;
                syn::parenthesized!(content in input);
                let parsed = Punctuated::<NamedValue, Token![,]>::parse_terminated(&content)?;
                set(&mut args, parsed)?;
            } else if key == "cron" {
                input.parse::<Token![=]>()?;
                set_recurrence(&mut recurrence, Recurrence::Cron(input.parse()?))?;
            } else if key == "every" {
                input.parse::<Token![=]>()?;
                let interval = DurationOption::read("the interval", input.parse()?)?;
                set_recurrence(&mut recurrence, Recurrence::Every(interval))?;
            } else if TEXTS.iter().chain(&VALUES).any(|known| key == known) {
                input.parse::<Token![=]>()?;
                if options.iter().any(|(other, _)| *other == key) {
                    return Err(syn::Error::new(key.span(), "this option must be set only once"));
                }
                let value = if VALUES.iter().any(|known| key == known) {
                    input.parse()?
                } else {
                    let text: LitStr = input.parse()?;
                    check_value(&key, &text)?;
                    let text = if key == "lock" || key == "queueing_lock" { plain_lock(&key, &text)? } else { text };
                    parse_quote!(#text)
                };
                options.push((key, value));
            } else {
                let known = [&TEXTS[..], &VALUES[..]].concat().join(", ");
                let message = format!("unknown option `{key}`; the options are: cron, every, args, {known}");
                return Err(syn::Error::new(key.span(), message));
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        let recurrence = recurrence
            .ok_or_else(|| syn::Error::new(whole, "the schedule is missing; add `cron = \"…\"` or `every = \"…\"`"))?;
        let args = args.unwrap_or_default().into_iter().map(|NamedValue { name, value }| (name, value)).collect();
        Ok(Self { recurrence, options, args })
    }
}

fn set_recurrence(place: &mut Option<Recurrence>, value: Recurrence) -> syn::Result<()> {
    if place.is_some() {
        return Err(syn::Error::new_spanned(value, "a schedule must have one `cron` or one `every`, not several"));
    }
    *place = Some(value);
    Ok(())
}

/// The lock of a schedule. Its arguments are known, so it needs no placeholders.
fn plain_lock(key: &Ident, text: &LitStr) -> syn::Result<LitStr> {
    Template::parse(text)?.plain().ok_or_else(|| {
        let message =
            format!("the {key} of a schedule must not contain arguments; write their values, or set it on the task");
        syn::Error::new(text.span(), message)
    })
}

/// An argument in the form `name = value`.
struct NamedValue {
    name: Ident,
    value: Expr,
}

impl Parse for NamedValue {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let name = input.call(Ident::parse_any)?;
        input.parse::<Token![=]>()?;
        Ok(Self { name, value: input.parse()? })
    }
}

impl ToTokens for NamedValue {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        self.name.to_tokens(tokens);
    }
}

/// Expands to the function of `Task` that lists the schedules, or to nothing if there are none.
pub(crate) fn expand(schedules: &[Schedule], arguments: &[Argument], krate: &TokenStream) -> syn::Result<TokenStream> {
    if schedules.is_empty() {
        return Ok(TokenStream::new());
    }
    let schedules =
        schedules.iter().map(|schedule| schedule.expand(arguments, krate)).collect::<syn::Result<Vec<_>>>()?;
    Ok(quote! {
        fn periodic() -> ::std::vec::Vec<#krate::PeriodicTask> {
            ::std::vec![#(#schedules),*]
        }
    })
}

impl Schedule {
    fn expand(&self, arguments: &[Argument], krate: &TokenStream) -> syn::Result<TokenStream> {
        if let Some(Argument { name, .. }) = arguments.iter().find(|argument| !argument.conditions.is_empty()) {
            let message = format!("a task with `#[periodic]` must not have the argument `{name}` only with a `#[cfg]`");
            return Err(syn::Error::new(name.span(), message));
        }
        let missing = arguments.iter().find(|argument| {
            argument.name != TIMESTAMP
                && !may_be_missing(argument)
                && !self.args.iter().any(|(name, _)| *name == argument.name)
        });
        if let Some(Argument { name, .. }) = missing {
            let message = format!("the argument `{name}` is missing; add `args({name} = …)`");
            return Err(syn::Error::new_spanned(&self.recurrence, message));
        }
        let args = self.args.iter().map(|(name, value)| expand_arg(name, value, arguments));
        let args = args.collect::<syn::Result<Vec<_>>>()?;
        let schedule = match &self.recurrence {
            Recurrence::Cron(cron) => quote!(#krate::PeriodicTask::new::<Self>(#cron)),
            Recurrence::Every(interval) => {
                let interval = interval.expand();
                quote!(#krate::PeriodicTask::every::<Self>(#interval))
            }
        };
        let (options, values): (Vec<_>, Vec<_>) = self.options.iter().map(|(option, value)| (option, value)).unzip();
        Ok(quote!(#schedule #(.#options(#values))* #(#args)*))
    }
}

/// Expands one argument. The value must have the argument's type. A text may be a literal.
fn expand_arg(name: &Ident, value: &Expr, arguments: &[Argument]) -> syn::Result<TokenStream> {
    if name == TIMESTAMP {
        return Err(syn::Error::new(name.span(), "the argument `timestamp` must not be set, because it is the tick"));
    }
    let Some(argument) = arguments.iter().find(|argument| argument.name == *name) else {
        return Err(syn::Error::new(name.span(), format!("the task has no argument `{name}`")));
    };
    let ty = &argument.ty;
    let key = name.unraw().to_string();
    let value = match value {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => quote!(::core::convert::Into::into(#text)),
        value => quote!(#value),
    };
    Ok(quote!(.arg(#key, { let value: #ty = #value; value })))
}

/// Whether jobs may omit the argument: it is an `Option`, or has a serde attribute.
fn may_be_missing(argument: &Argument) -> bool {
    let is_option = match &argument.ty {
        Type::Path(path) => path.path.segments.last().is_some_and(|segment| segment.ident == "Option"),
        _ => false,
    };
    is_option || !argument.attributes.iter().all(|attribute| attribute.path().is_ident("doc"))
}
