//! The parameters of a task: the arguments of its jobs, and shared values.

use proc_macro2::TokenStream;
use quote::quote;
use syn::spanned::Spanned;
use syn::{Attribute, FnArg, Ident, Meta, Pat, PatType, Signature, Type};

use crate::state::StateParameter;

/// An argument of the task: a field of the struct, and a parameter of both functions.
pub(crate) struct Argument {
    pub(crate) name: Ident,
    pub(crate) ty: Type,
    /// Attributes that belong to the field, such as `#[serde(…)]`.
    pub(crate) attributes: Vec<Attribute>,
    /// Attributes that decide whether there is such an argument.
    pub(crate) conditions: Vec<Attribute>,
}

/// The parameters of a task, without its context.
#[derive(Default)]
pub(crate) struct Parameters {
    pub(crate) arguments: Vec<Argument>,
    pub(crate) states: Vec<StateParameter>,
    /// The variables of all of them in the order of the signature, each with its conditions.
    pub(crate) variables: Vec<TokenStream>,
}

impl Parameters {
    /// Takes them from the signature, with the serde attributes of the arguments.
    pub(crate) fn take(signature: &mut Signature, pass_context: bool) -> syn::Result<Self> {
        let span = signature.ident.span();
        let mut inputs = signature.inputs.iter_mut();
        if pass_context && inputs.next().is_none() {
            return Err(syn::Error::new(span, "with `pass_context`, the first parameter must be the `JobContext`"));
        }
        let mut parameters = Self::default();
        for (index, input) in inputs.enumerate() {
            let input = match input {
                FnArg::Receiver(receiver) => {
                    let message = "a task must be a free function without `self`";
                    return Err(syn::Error::new(receiver.span(), message));
                }
                FnArg::Typed(input) => input,
            };
            if let Some(state) = StateParameter::take(input, index) {
                let StateParameter { variable, conditions, .. } = &state;
                parameters.variables.push(quote!(#(#conditions)* #variable));
                parameters.states.push(state);
            } else {
                let argument = take_argument(input)?;
                let Argument { name, conditions, .. } = &argument;
                parameters.variables.push(quote!(#(#conditions)* #name));
                parameters.arguments.push(argument);
            }
        }
        Ok(parameters)
    }
}

fn take_argument(parameter: &mut PatType) -> syn::Result<Argument> {
    let Pat::Ident(pattern) = &*parameter.pat else {
        return Err(syn::Error::new(
            parameter.pat.span(),
            "an argument of a task must have a name, because jobs store arguments by name",
        ));
    };
    if let Type::Reference(reference) = &*parameter.ty {
        return Err(syn::Error::new(
            reference.span(),
            "an argument of a task must be an owned value, such as `String` instead of `&str`",
        ));
    }
    if let Type::ImplTrait(implementation) = &*parameter.ty {
        return Err(syn::Error::new(
            implementation.span(),
            "an argument of a task must have a named type instead of `impl Trait`",
        ));
    }
    let (attributes, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut parameter.attrs).into_iter().partition(is_of_field);
    let conditions = kept.iter().filter(|attribute| attribute.path().is_ident("cfg")).cloned().collect();
    parameter.attrs = kept;
    Ok(Argument { name: pattern.ident.clone(), ty: (*parameter.ty).clone(), attributes, conditions })
}

/// Whether the attribute belongs to the field of the struct, not to the parameter of a function.
fn is_of_field(attribute: &Attribute) -> bool {
    let is_named = |name: &str| attribute.path().is_ident(name);
    let contains_serde = || match &attribute.meta {
        Meta::List(list) => list.tokens.clone().into_iter().any(|token| token.to_string() == "serde"),
        _ => false,
    };
    is_named("serde") || is_named("doc") || is_named("cfg_attr") && contains_serde()
}
