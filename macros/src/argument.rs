//! The arguments of a task.

use syn::spanned::Spanned;
use syn::{Attribute, FnArg, Ident, Pat, PatType, Signature, Type};

/// An argument of the task: a field of the struct, and a parameter of both functions.
pub(crate) struct Argument {
    pub(crate) name: Ident,
    pub(crate) ty: Type,
    /// `#[serde(…)]` and the like, which belong to the field.
    pub(crate) attributes: Vec<Attribute>,
}

/// The arguments of the task. Attributes of serde move from the parameters to them.
pub(crate) fn take_arguments(signature: &mut Signature, pass_context: bool) -> syn::Result<Vec<Argument>> {
    let span = signature.ident.span();
    let mut parameters = signature.inputs.iter_mut();
    if pass_context && parameters.next().is_none() {
        return Err(syn::Error::new(span, "with `pass_context` the first parameter is the `JobContext`"));
    }
    parameters
        .map(|parameter| match parameter {
            FnArg::Receiver(receiver) => {
                Err(syn::Error::new(receiver.span(), "a task is a free function, without `self`"))
            }
            FnArg::Typed(parameter) => take_argument(parameter),
        })
        .collect()
}

fn take_argument(parameter: &mut PatType) -> syn::Result<Argument> {
    let Pat::Ident(pattern) = &*parameter.pat else {
        return Err(syn::Error::new(parameter.pat.span(), "give this argument a name: jobs carry arguments by name"));
    };
    if let Type::Reference(reference) = &*parameter.ty {
        return Err(syn::Error::new(
            reference.span(),
            "a task owns its arguments: take a `String` instead of a `&str`, say",
        ));
    }
    if let Type::ImplTrait(implementation) = &*parameter.ty {
        return Err(syn::Error::new(implementation.span(), "name the type: a job carries values of one type"));
    }
    let (moved, kept) =
        std::mem::take(&mut parameter.attrs).into_iter().partition(|attribute| attribute.path().is_ident("serde"));
    parameter.attrs = kept;
    Ok(Argument { name: pattern.ident.clone(), ty: (*parameter.ty).clone(), attributes: moved })
}
