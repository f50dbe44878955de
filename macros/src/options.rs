//! What stands in the parentheses of `#[task(…)]`.

use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Expr, Ident, LitStr, Path, Token};

/// The options of one task.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) name: Option<LitStr>,
    pub(crate) queue: Option<LitStr>,
    pub(crate) priority: Option<Expr>,
    pub(crate) lock: Option<LitStr>,
    pub(crate) queueing_lock: Option<LitStr>,
    pub(crate) retry: Option<Expr>,
    pub(crate) pass_context: bool,
    pub(crate) krate: Option<Path>,
}

enum Entry {
    Name(LitStr),
    Queue(LitStr),
    Priority(Expr),
    Lock(LitStr),
    QueueingLock(LitStr),
    Retry(Expr),
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
        let known = ["name", "queue", "priority", "lock", "queueing_lock", "retry"];
        if !known.iter().any(|known| key == known) {
            let message = format!("unknown option `{key}`; there are: {}, pass_context, crate", known.join(", "));
            return Err(syn::Error::new(key.span(), message));
        }
        input.parse::<Token![=]>()?;
        if key == "priority" {
            return Ok(Self::Priority(input.parse()?));
        }
        if key == "retry" {
            return Ok(Self::Retry(input.parse()?));
        }
        let value: LitStr = input.parse()?;
        check_value(&key, &value)?;
        Ok(match key.to_string().as_str() {
            "name" => Self::Name(value),
            "queue" => Self::Queue(value),
            "lock" => Self::Lock(value),
            _ => Self::QueueingLock(value),
        })
    }
}

/// The library checks names anew for each job; what is written in the source can be refused when it is compiled.
fn check_value(key: &Ident, value: &LitStr) -> syn::Result<()> {
    const LONGEST_NAME: usize = 128;
    let text = value.value();
    let is_name = key == "name" || key == "queue";
    if is_name && text.is_empty() {
        return Err(syn::Error::new(value.span(), format!("the {key} must not be empty")));
    }
    if is_name && text.len() > LONGEST_NAME {
        let message = format!("the {key} has {} bytes, and {LONGEST_NAME} are allowed", text.len());
        return Err(syn::Error::new(value.span(), message));
    }
    if text.contains('\0') {
        return Err(syn::Error::new(value.span(), "PostgreSQL cannot store the NUL character"));
    }
    Ok(())
}

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut options = Self::default();
        for entry in Punctuated::<Entry, Token![,]>::parse_terminated(input)? {
            match entry {
                Entry::Name(value) => set(&mut options.name, value)?,
                Entry::Queue(value) => set(&mut options.queue, value)?,
                Entry::Priority(value) => set(&mut options.priority, value)?,
                Entry::Lock(value) => set(&mut options.lock, value)?,
                Entry::QueueingLock(value) => set(&mut options.queueing_lock, value)?,
                Entry::Retry(value) => set(&mut options.retry, value)?,
                Entry::Crate(value) => set(&mut options.krate, value)?,
                Entry::PassContext => options.pass_context = true,
            }
        }
        Ok(options)
    }
}

fn set<T: quote::ToTokens>(place: &mut Option<T>, value: T) -> syn::Result<()> {
    if place.is_some() {
        return Err(syn::Error::new_spanned(value, "this option is given twice"));
    }
    *place = Some(value);
    Ok(())
}
