//! Texts of options with placeholders for arguments, such as `"customer:{order.customer}"`.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote_spanned};
use syn::ext::IdentExt;
use syn::{Ident, LitStr, Member};

use crate::argument::Argument;

/// A text with placeholders. Each is an argument or a field of one, and may have a format: `{order.id:05}`.
pub(crate) struct Template {
    /// The text with each path removed, for `format!`.
    format: LitStr,
    placeholders: Vec<Placeholder>,
}

/// The path of a placeholder.
struct Placeholder {
    argument: Ident,
    fields: Vec<Member>,
}

impl Template {
    pub(crate) fn parse(text: &LitStr) -> syn::Result<Self> {
        // Errors of the compiler point to the text, but suggest no change of it.
        let span = Span::call_site().located_at(text.span());
        let refuse = |message: &str| Err(syn::Error::new(span, message));
        let value = text.value();
        let (mut format, mut placeholders) = (String::new(), Vec::new());
        let mut rest = value.as_str();
        while let Some(at) = rest.find(['{', '}']) {
            format.push_str(&rest[..at]);
            let brace = &rest[at..];
            rest = &brace[1..];
            if brace.starts_with("{{") || brace.starts_with("}}") {
                format.push_str(&brace[..2]);
                rest = &brace[2..];
            } else if brace.starts_with('}') {
                return refuse("a `}` must follow a placeholder; write `}}` for the character itself");
            } else {
                let Some((placeholder, after)) = rest.split_once('}') else {
                    return refuse("a placeholder must end with `}`; write `{{` for the character itself");
                };
                let (path, specification) = placeholder.split_once(':').unwrap_or((placeholder, ""));
                if specification.contains(['$', '{']) {
                    return refuse("the format of a placeholder must not refer to another argument");
                }
                placeholders.push(Placeholder::parse(path, span)?);
                format.push_str(&if specification.is_empty() {
                    "{}".to_owned()
                } else {
                    format!("{{:{specification}}}")
                });
                rest = after;
            }
        }
        format.push_str(rest);
        Ok(Self { format: LitStr::new(&format, span), placeholders })
    }

    /// The text itself, if it has no placeholders.
    pub(crate) fn plain(&self) -> Option<LitStr> {
        let text = self.format.value().replace("{{", "{").replace("}}", "}");
        self.placeholders.is_empty().then(|| LitStr::new(&text, self.format.span()))
    }

    /// An expression that makes the text from `self`, the arguments of a job.
    pub(crate) fn expand(&self, arguments: &[Argument]) -> syn::Result<TokenStream> {
        let values = self.placeholders.iter().map(|placeholder| placeholder.expand(arguments));
        let values = values.collect::<syn::Result<Vec<_>>>()?;
        let format = &self.format;
        Ok(quote_spanned!(format.span()=> ::std::format!(#format, #(#values),*)))
    }
}

impl ToTokens for Template {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        self.format.to_tokens(tokens);
    }
}

impl Placeholder {
    fn parse(path: &str, span: Span) -> syn::Result<Self> {
        let unsuitable = || {
            let message = format!(
                "the placeholder `{{{path}}}` must name an argument, as in `{{order}}`, or a field of one, as in \
                 `{{order.customer}}`"
            );
            syn::Error::new(span, message)
        };
        let mut names = path.split('.').map(str::trim);
        let first = names.next().unwrap_or_default();
        let mut argument = syn::parse::Parser::parse_str(Ident::parse_any, first).map_err(|_| unsuitable())?;
        argument.set_span(span);
        let fields = names.map(|name| {
            let mut field = syn::parse_str::<Member>(name).map_err(|_| unsuitable())?;
            match &mut field {
                Member::Named(name) => name.set_span(span),
                Member::Unnamed(index) => index.span = span,
            }
            Ok(field)
        });
        let fields = fields.collect::<syn::Result<Vec<_>>>()?;
        Ok(Self { argument, fields })
    }

    fn expand(&self, arguments: &[Argument]) -> syn::Result<TokenStream> {
        let wanted = &self.argument;
        let Some(argument) = arguments.iter().find(|argument| argument.name.unraw() == wanted.unraw()) else {
            let names: Vec<_> = arguments.iter().map(|argument| argument.name.unraw().to_string()).collect();
            let known = match names.as_slice() {
                [] => "it has none".to_owned(),
                names => format!("its arguments are: {}", names.join(", ")),
            };
            return Err(syn::Error::new(wanted.span(), format!("the task has no argument `{wanted}`; {known}")));
        };
        let mut name = argument.name.clone();
        name.set_span(wanted.span());
        let fields = &self.fields;
        Ok(quote_spanned!(wanted.span()=> self.#name #(.#fields)*))
    }
}
