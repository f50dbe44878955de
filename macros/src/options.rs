//! Parses the options of `#[task(…)]`.

use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Expr, ExprArray, ExprLit, Ident, Lit, LitStr, Path, Token};

use crate::duration::DurationOption;

use crate::template::Template;

/// The options of one task.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) name: Option<LitStr>,
    pub(crate) namespace: Option<LitStr>,
    pub(crate) aliases: Option<ExprArray>,
    pub(crate) queue: Option<LitStr>,
    pub(crate) priority: Option<Expr>,
    pub(crate) lock: Option<Template>,
    pub(crate) queueing_lock: Option<Template>,
    pub(crate) unless_enqueued: Option<Ident>,
    pub(crate) if_enqueued: Option<LitStr>,
    pub(crate) retry: Option<Expr>,
    pub(crate) timeout: Option<DurationOption>,
    pub(crate) stalled: Option<LitStr>,
    pub(crate) middleware: Option<ExprArray>,
    pub(crate) pass_context: bool,
    pub(crate) krate: Option<Path>,
}

enum Entry {
    Name(LitStr),
    Namespace(LitStr),
    Aliases(ExprArray),
    Queue(LitStr),
    Priority(Expr),
    Lock(Template),
    QueueingLock(Template),
    Retry(Expr),
    Timeout(DurationOption),
    Stalled(LitStr),
    Middleware(ExprArray),
    UnlessEnqueued(Ident),
    IfEnqueued(LitStr),
    PassContext,
    Crate(Path),
}

impl Parse for Entry {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        if input.peek(Token![crate]) {
            input.parse::<Token![crate]>()?;
            input.parse::<Token![=]>()?;
            return Ok(Self::Crate(input.call(Path::parse_mod_style)?));
        }
        let key: Ident = input.parse()?;
        if key == "pass_context" {
            return Ok(Self::PassContext);
        }
        if key == "unless_enqueued" {
            return Ok(Self::UnlessEnqueued(key));
        }
        let known = [
            "name",
            "namespace",
            "aliases",
            "queue",
            "priority",
            "lock",
            "queueing_lock",
            "if_enqueued",
            "retry",
            "timeout",
            "stalled",
            "middleware",
        ];
        if !known.iter().any(|known| key == known) {
            let known = known.join(", ");
            let message =
                format!("unknown option `{key}`; the options are: {known}, unless_enqueued, pass_context, crate");
            return Err(syn::Error::new(key.span(), message));
        }
        input.parse::<Token![=]>()?;
        if key == "aliases" {
            return Ok(Self::Aliases(aliases(input.parse()?)?));
        }
        if key == "priority" {
            return Ok(Self::Priority(input.parse()?));
        }
        if key == "retry" {
            return Ok(Self::Retry(input.parse()?));
        }
        if key == "timeout" {
            return Ok(Self::Timeout(DurationOption::read("the timeout", input.parse()?)?));
        }
        if key == "middleware" {
            return Ok(Self::Middleware(input.parse()?));
        }
        let value: LitStr = input.parse()?;
        check_value(&key, &value)?;
        Ok(match key.to_string().as_str() {
            "stalled" => Self::Stalled(value),
            "if_enqueued" => Self::IfEnqueued(value),
            "name" => Self::Name(value),
            "namespace" => Self::Namespace(value),
            "queue" => Self::Queue(value),
            "lock" => Self::Lock(Template::parse(&value)?),
            _ => Self::QueueingLock(Template::parse(&value)?),
        })
    }
}

/// Checks a value at compile time. The library checks names again for each job.
pub(crate) fn check_value(key: &Ident, value: &LitStr) -> syn::Result<()> {
    const LONGEST_NAME: usize = 128;
    let text = value.value();
    let is_name = ["name", "namespace", "alias", "queue"].iter().any(|name| key == name);
    if is_name && text.is_empty() {
        return Err(syn::Error::new(value.span(), format!("the {key} must not be empty")));
    }
    if is_name && text.len() > LONGEST_NAME {
        let message = format!("the {key} must be at most {LONGEST_NAME} bytes, but is {}", text.len());
        return Err(syn::Error::new(value.span(), message));
    }
    if key == "stalled" && !["retry", "fail", "leave"].contains(&text.as_str()) {
        return Err(syn::Error::new(
            value.span(),
            format!("`stalled` must be \"retry\", \"fail\" or \"leave\", not \"{text}\""),
        ));
    }
    if key == "if_enqueued" && !["fail", "keep", "replace", "replace_except_schedule"].contains(&text.as_str()) {
        let rule = "`if_enqueued` must be \"fail\", \"keep\", \"replace\" or \"replace_except_schedule\"";
        return Err(syn::Error::new(value.span(), format!("{rule}, not \"{text}\"")));
    }
    if text.contains('\0') {
        return Err(syn::Error::new(value.span(), "must not contain the NUL character, which PostgreSQL cannot store"));
    }
    Ok(())
}

/// Checks that each alias is a text with a valid name.
fn aliases(array: ExprArray) -> syn::Result<ExprArray> {
    for alias in &array.elems {
        let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = alias else {
            return Err(syn::Error::new(alias.span(), "an alias must be a name in quotation marks"));
        };
        check_value(&Ident::new("alias", text.span()), text)?;
    }
    Ok(array)
}

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut options = Self::default();
        for entry in Punctuated::<Entry, Token![,]>::parse_terminated(input)? {
            match entry {
                Entry::Name(value) => set(&mut options.name, value)?,
                Entry::Namespace(value) => set(&mut options.namespace, value)?,
                Entry::Aliases(value) => set(&mut options.aliases, value)?,
                Entry::Queue(value) => set(&mut options.queue, value)?,
                Entry::Priority(value) => set(&mut options.priority, value)?,
                Entry::Lock(value) => set(&mut options.lock, value)?,
                Entry::QueueingLock(value) => set(&mut options.queueing_lock, value)?,
                Entry::Retry(value) => set(&mut options.retry, value)?,
                Entry::Timeout(value) => set(&mut options.timeout, value)?,
                Entry::Stalled(value) => set(&mut options.stalled, value)?,
                Entry::Middleware(value) => set(&mut options.middleware, value)?,
                Entry::Crate(value) => set(&mut options.krate, value)?,
                Entry::UnlessEnqueued(key) => set(&mut options.unless_enqueued, key)?,
                Entry::IfEnqueued(value) => set(&mut options.if_enqueued, value)?,
                Entry::PassContext => options.pass_context = true,
            }
        }
        options.check_if_enqueued()?;
        Ok(options)
    }
}

impl Options {
    fn check_if_enqueued(&self) -> syn::Result<()> {
        let (span, name) = match (&self.unless_enqueued, &self.if_enqueued) {
            (Some(_), Some(value)) => {
                let message = "`unless_enqueued` is the same as `if_enqueued = \"keep\"`; remove one of them";
                return Err(syn::Error::new(value.span(), message));
            }
            (Some(key), None) => (key.span(), "unless_enqueued"),
            (None, Some(value)) if value.value() != "fail" => (value.span(), "if_enqueued"),
            _ => return Ok(()),
        };
        if self.queueing_lock.is_some() {
            return Ok(());
        }
        let message = format!("`{name}` must be combined with a queueing lock; add `queueing_lock = \"…\"`");
        Err(syn::Error::new(span, message))
    }
}

pub(crate) fn set<T: quote::ToTokens>(place: &mut Option<T>, value: T) -> syn::Result<()> {
    if place.is_some() {
        return Err(syn::Error::new_spanned(value, "this option must be set only once"));
    }
    *place = Some(value);
    Ok(())
}
