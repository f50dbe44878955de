//! Who may see the pages, and what a visitor may do.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use axum::http::request::Parts;

use crate::admin::action::Action;

/// What a visitor of the [admin pages](crate::admin) may do. The application decides it for each request:
/// [`AdminPages::access`](crate::admin::AdminPages::access).
///
/// # Example
///
/// ```
/// use procrastinate::admin::{Access, Action};
///
/// // Sees everything, changes nothing.
/// let reader = Access::reader("ann");
/// // Retries jobs, and does nothing else.
/// let support = Access::operator("bob").only([Action::Retry]);
/// assert!(support.allows(Action::Retry) && !support.allows(Action::Delete));
/// assert!(!reader.allows(Action::Retry));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access(Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Nobody(Refusal),
    Visitor { name: String, allowed: BTreeSet<Action>, sees_arguments: bool },
}

/// How a visitor who may not see the pages is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    Forbidden,
    Challenge(&'static str),
    Redirect(String),
}

impl Access {
    /// Sees nothing.
    pub fn nobody() -> Self {
        Self(Kind::Nobody(Refusal::Forbidden))
    }

    /// Sees nothing, and is sent to another address, such as a login page.
    pub fn redirect(to: impl Into<String>) -> Self {
        Self(Kind::Nobody(Refusal::Redirect(to.into())))
    }

    /// Sees nothing, and is asked for a name and a password, or a token.
    pub(crate) fn challenge(scheme: &'static str) -> Self {
        Self(Kind::Nobody(Refusal::Challenge(scheme)))
    }

    /// Sees all pages, and cannot change anything.
    pub fn reader(name: impl Into<String>) -> Self {
        Self::visit(name.into(), BTreeSet::new())
    }

    /// Sees all pages, and may do everything. The name is stored with what the visitor does.
    pub fn operator(name: impl Into<String>) -> Self {
        Self::visit(name.into(), Action::ALL.into_iter().collect())
    }

    fn visit(name: String, allowed: BTreeSet<Action>) -> Self {
        Self(Kind::Visitor { name, allowed, sees_arguments: true })
    }

    /// Hides the arguments of all jobs from the visitor, who cannot search in them either.
    #[must_use]
    pub fn without_arguments(mut self) -> Self {
        if let Kind::Visitor { sees_arguments, .. } = &mut self.0 {
            *sees_arguments = false;
        }
        self
    }

    /// Allows only these of the actions that were allowed before.
    #[must_use]
    pub fn only(mut self, actions: impl IntoIterator<Item = Action>) -> Self {
        if let Kind::Visitor { allowed, .. } = &mut self.0 {
            *allowed = actions.into_iter().filter(|action| allowed.contains(action)).collect();
        }
        self
    }

    /// Allows all of the former actions but these.
    #[must_use]
    pub fn except(mut self, actions: impl IntoIterator<Item = Action>) -> Self {
        if let Kind::Visitor { allowed, .. } = &mut self.0 {
            for action in actions {
                allowed.remove(&action);
            }
        }
        self
    }

    /// Whether the visitor may do this.
    pub fn allows(&self, action: Action) -> bool {
        matches!(&self.0, Kind::Visitor { allowed, .. } if allowed.contains(&action))
    }

    /// Whether the visitor may see the arguments of jobs.
    pub(crate) fn sees_arguments(&self) -> bool {
        matches!(&self.0, Kind::Visitor { sees_arguments: true, .. })
    }

    /// The visitor, or how to refuse the request.
    pub(crate) fn visitor(&self) -> Result<&str, &Refusal> {
        match &self.0 {
            Kind::Visitor { name, .. } => Ok(name),
            Kind::Nobody(refusal) => Err(refusal),
        }
    }
}

/// The application's decision who a visitor is.
#[derive(Clone)]
pub(crate) struct Decide(Arc<dyn Fn(&Parts) -> Access + Send + Sync>);

impl Decide {
    pub(crate) fn new(decide: impl Fn(&Parts) -> Access + Send + Sync + 'static) -> Self {
        Self(Arc::new(decide))
    }

    pub(crate) fn access_of(&self, request: &Parts) -> Access {
        (self.0)(request)
    }
}

impl fmt::Debug for Decide {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Decide")
    }
}
