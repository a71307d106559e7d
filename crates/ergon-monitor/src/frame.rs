//! The frame around every answer: what browsers may do with it, and how a refusal looks.

use std::sync::{Arc, OnceLock};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, RETRY_AFTER,
        WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    },
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    auth::Principal,
    error::PageError,
    pages::refusal,
    shared::App,
    visit::{Visit, Wants},
};

/// What a browser may load for a page, and from where: nothing but our own styles, scripts, pictures
/// and answers.
pub(crate) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data:; connect-src 'self'; font-src 'self'; form-action 'self'; \
    base-uri 'none'; frame-ancestors 'none'";

const OPENER: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// A refusal for programs, after RFC 9457.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// What kind of problem: `urn:ergon:problem:` and a word that does not change.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// The kind, for people.
    pub(crate) title: String,
    /// The status of the response.
    pub(crate) status: u16,
    /// What is wrong with this request.
    pub(crate) detail: String,
}

/// The outermost layer of every route.
pub(crate) async fn wrap(State(app): State<App>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let visit = Visit::of(&parts, &app);
    parts.extensions.insert(visit.clone());
    // The page of a refusal greets whoever was let in; the gate leaves the name here.
    let who = Arc::new(OnceLock::<Principal>::new());
    parts.extensions.insert(Arc::clone(&who));
    let mut response = next.run(Request::from_parts(parts, body)).await;
    if let Some(error) = response.extensions_mut().remove::<PageError>() {
        response = refuse(&app, &visit, who.get(), &error);
    }
    protect(response.headers_mut());
    response
}

/// Writes a refusal, as a page or as a problem document.
fn refuse(app: &App, visit: &Visit, principal: Option<&Principal>, error: &PageError) -> Response {
    let status = error.status();
    let mut response = match visit.wants {
        Wants::Html => refusal::page(app, visit, principal, error).into_response(),
        Wants::Json => problem(error),
    };
    *response.status_mut() = status;
    let headers = response.headers_mut();
    match error {
        PageError::Unauthenticated(Some(challenge)) => {
            if let Ok(challenge) = HeaderValue::from_str(challenge) {
                headers.insert(WWW_AUTHENTICATE, challenge);
            }
        }
        PageError::TooMany { seconds, .. } => {
            headers.insert(RETRY_AFTER, HeaderValue::from(*seconds));
        }
        PageError::Store(_) => {
            headers.insert(RETRY_AFTER, HeaderValue::from(2));
        }
        _ => {}
    }
    response
}

fn problem(error: &PageError) -> Response {
    let problem = Problem {
        kind: format!("urn:ergon:problem:{}", error.code()),
        title: error.title().to_owned(),
        status: error.status().as_u16(),
        detail: error.to_string(),
    };
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    ([(CONTENT_TYPE, "application/problem+json")], body).into_response()
}

/// Sets what every answer carries; what a handler chose for caching stays.
fn protect(headers: &mut HeaderMap) {
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "same-origin"),
        (OPENER, "same-origin"),
        (RESOURCE, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}
