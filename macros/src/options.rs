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
    pub(crate) limit_key: Option<Template>,
    pub(crate) start_within: Option<DurationOption>,
    pub(crate) unique: Option<Template>,
    pub(crate) unique_for: Option<DurationOption>,
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
    LimitKey(Template),
    StartWithin(DurationOption),
    Unique(Template),
    UniqueFor(DurationOption),
    Retry(Expr),
    Timeout(DurationOption),
    Stalled(LitStr),
    Middleware(ExprArray),
    UnlessEnqueued(Ident),
    IfEnqueued(LitStr),
    PassContext,
    Crate(Path),
}

/// The options that have a value, without `crate`.
const VALUES: [&str; 16] = [
    "name",
    "namespace",
    "aliases",
    "queue",
    "priority",
    "lock",
    "queueing_lock",
    "limit_key",
    "start_within",
    "unique",
    "unique_for",
    "if_enqueued",
    "retry",
    "timeout",
    "stalled",
    "middleware",
];

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
        if !VALUES.iter().any(|known| key == known) {
            let known = VALUES.join(", ");
            let message =
                format!("unknown option `{key}`; the options are: {known}, unless_enqueued, pass_context, crate");
            return Err(syn::Error::new(key.span(), message));
        }
        input.parse::<Token![=]>()?;
        Self::parse_value(&key, input)
    }
}

impl Entry {
    /// Parses the value of an option that has one.
    fn parse_value(key: &Ident, input: ParseStream<'_>) -> syn::Result<Self> {
        let name = key.to_string();
        match name.as_str() {
            "aliases" => return Ok(Self::Aliases(aliases(input.parse()?)?)),
            "priority" => return Ok(Self::Priority(input.parse()?)),
            "retry" => return Ok(Self::Retry(input.parse()?)),
            "timeout" => return Ok(Self::Timeout(DurationOption::read("the timeout", input.parse()?)?)),
            "start_within" => {
                return Ok(Self::StartWithin(DurationOption::read("the time to start", input.parse()?)?));
            }
            "unique_for" => {
                let period = DurationOption::read("the period of the unique key", input.parse()?)?;
                return Ok(Self::UniqueFor(period));
            }
            "middleware" => return Ok(Self::Middleware(input.parse()?)),
            _ => {}
        }
        let value: LitStr = input.parse()?;
        check_value(key, &value)?;
        Ok(match name.as_str() {
            "stalled" => Self::Stalled(value),
            "if_enqueued" => Self::IfEnqueued(value),
            "name" => Self::Name(value),
            "namespace" => Self::Namespace(value),
            "queue" => Self::Queue(value),
            "lock" => Self::Lock(Template::parse(&value)?),
            "limit_key" => Self::LimitKey(Template::parse(&value)?),
            "unique" => Self::Unique(Template::parse(&value)?),
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
                Entry::LimitKey(value) => set(&mut options.limit_key, value)?,
                Entry::StartWithin(value) => set(&mut options.start_within, value)?,
                Entry::Unique(value) => set(&mut options.unique, value)?,
                Entry::UniqueFor(value) => set(&mut options.unique_for, value)?,
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
        if let (None, Some(period)) = (&options.unique, &options.unique_for) {
            let message = "`unique_for` must be combined with a unique key; add `unique = \"…\"`";
            return Err(syn::Error::new_spanned(period, message));
        }
        Ok(options)
    }
}

impl Options {
    fn check_if_enqueued(&self) -> syn::Result<()> {
        let keeps = self.if_enqueued.as_ref().is_none_or(|value| value.value() == "keep");
        let (span, name) = match (&self.unless_enqueued, &self.if_enqueued) {
            (Some(_), Some(value)) => {
                let message = "`unless_enqueued` is the same as `if_enqueued = \"keep\"`; remove one of them";
                return Err(syn::Error::new(value.span(), message));
            }
            (Some(key), None) => (key.span(), "unless_enqueued"),
            (None, Some(value)) if value.value() != "fail" => (value.span(), "if_enqueued"),
            _ => return Ok(()),
        };
        if self.queueing_lock.is_some() || keeps && self.unique.is_some() {
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
