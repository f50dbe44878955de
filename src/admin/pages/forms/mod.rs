//! Forms with values that operators type.
//!
//! | file | contents |
//! |---|---|
//! | `recorded` | a change and its record in one transaction, and why it was refused |
//! | `defer` | defers a job by the name of its task |
//! | `limits` | the limits of a queue or task |

pub(crate) mod defer;
pub(crate) mod limits;
pub(crate) mod recorded;

use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;

use crate::admin::guard::Problem;
use crate::admin::pages::address::refuse_nul;

/// The body of a form. One that cannot be read, or has a NUL character, gets a page that says why.
pub(crate) struct FormBody(pub(crate) String);

impl<S: Send + Sync> FromRequest<S> for FormBody {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let body = String::from_request(request, state).await.map_err(|rejection| {
            let (title, text) = match rejection.status() {
                StatusCode::PAYLOAD_TOO_LARGE => ("The form is too large", "It may have at most two megabytes."),
                _ => ("The form cannot be read", "It is not text in UTF-8, or it has not arrived as a whole."),
            };
            Problem::new(rejection.status(), title, format!("Nothing was changed. {text}"))
        })?;
        refuse_nul(&body)?;
        Ok(Self(body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_form_that_cannot_be_read_is_refused_with_a_reason() {
        for (body, text) in [
            (b"action=retry".to_vec(), None),
            (b"reason=\xff".to_vec(), Some("not text in UTF-8")),
            (vec![b'x'; 3_000_000], Some("at most two megabytes")),
            (b"name=a%00b".to_vec(), Some("must be without NUL characters")),
        ] {
            let read = FormBody::from_request(Request::new(body.into()), &()).await;
            match (read, text) {
                (Ok(form), None) => assert_eq!(form.0, "action=retry"),
                (Err(problem), Some(text)) => assert!(format!("{problem:?}").contains(text), "{problem:?}"),
                (read, _) => panic!("{text:?}: {:?}", read.map(|form| form.0)),
            }
        }
    }
}
