//! Parameters of the type `State<…>`, which are not arguments of the job.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Attribute, GenericArgument, Ident, PatType, PathArguments, Type};

/// A parameter with a shared value.
pub(crate) struct StateParameter {
    /// The variable that holds it in the generated code.
    pub(crate) variable: Ident,
    ty: Type,
    value: Type,
    /// Attributes that decide whether there is such a parameter.
    pub(crate) conditions: Vec<Attribute>,
}

impl StateParameter {
    /// Takes the parameter, if it is one.
    pub(crate) fn take(parameter: &mut PatType, index: usize) -> Option<Self> {
        let value = value_of(&parameter.ty)?.clone();
        parameter.attrs.retain(|attribute| !attribute.path().is_ident("doc"));
        let conditions = parameter.attrs.iter().filter(|attribute| attribute.path().is_ident("cfg")).cloned().collect();
        // Hygiene distinguishes this name from those of the arguments.
        let variable = Ident::new(&format!("state_{index}"), Span::mixed_site());
        Some(Self { variable, ty: (*parameter.ty).clone(), value, conditions })
    }

    /// The statement that gets the value from the context of the job.
    pub(crate) fn binding(&self, context: &Ident, krate: &TokenStream) -> TokenStream {
        let Self { variable, ty, conditions, .. } = self;
        quote!(#(#conditions)* let #variable: #ty = #krate::State::of(&#context)?;)
    }
}

/// The type of the value in a `State<…>`.
fn value_of(ty: &Type) -> Option<&Type> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last().filter(|segment| segment.ident == "State")?;
    let PathArguments::AngleBracketed(generics) = &last.arguments else { return None };
    match generics.args.first() {
        Some(GenericArgument::Type(value)) if generics.args.len() == 1 => Some(value),
        _ => None,
    }
}

/// Expands to the function of `Task` that lists the types of the values, or to nothing if there are none.
pub(crate) fn expand(states: &[StateParameter], krate: &TokenStream) -> TokenStream {
    if states.is_empty() {
        return TokenStream::new();
    }
    let types = states.iter().map(|StateParameter { value, conditions, .. }| {
        let span = Span::call_site().located_at(value.span());
        quote_spanned!(span=> #(#conditions)* #krate::RequiredState::of::<#value>())
    });
    quote! {
        fn required_state() -> ::std::vec::Vec<#krate::RequiredState> {
            ::std::vec::Vec::from([#(#types),*])
        }
    }
}
