//! The gate: says of a request who sent it.

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, header::AUTHORIZATION, request::Parts};
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};

use super::{Auth, Authenticate, Denial, Principal, Rights, Role, User};
use crate::{
    error::PageError,
    limit::{Buckets, Failures},
    network::Network,
    shared::App,
    text::clean,
    visit::Visit,
};

/// What browsers are asked for.
const BASIC: &str = r#"Basic realm="ergon", charset="UTF-8""#;

/// What programs are asked for.
const BEARER: &str = r#"Bearer realm="ergon""#;

/// Longest time of an own check.
const CUSTOM_TIMEOUT: Duration = Duration::from_secs(1);

/// Lets people in, and keeps those out that try too often.
#[derive(Debug)]
pub(crate) struct Gate {
    auth: Auth,
    failures: Failures,
    requests: Buckets,
}

impl Gate {
    pub(crate) fn new(auth: Auth, failures_max: u32, per_second: u32, burst: u32) -> Self {
        let failures = Failures::new(failures_max);
        Self { auth, failures, requests: Buckets::new(per_second, burst) }
    }

    /// Says who sent the request.
    pub(crate) async fn admit(&self, parts: &Parts, visit: &Visit) -> Result<Principal, PageError> {
        let known_as = visit.client.map(|address| address.to_string()).unwrap_or_default();
        if let Some(seconds) = self.failures.locked_for(&known_as) {
            return Err(PageError::TooMany { what: "wrong credentials", seconds });
        }
        let admitted = self.check(parts, visit).await;
        let has_tried = parts.headers.contains_key(AUTHORIZATION);
        if has_tried && matches!(admitted, Err(PageError::Unauthenticated(_))) {
            self.failures.count(&known_as);
        }
        let bucket = match &admitted {
            Ok(principal) => format!("={}", principal.name),
            Err(_) => known_as,
        };
        if let Some(seconds) = self.requests.take(&bucket) {
            return Err(PageError::TooMany { what: "requests", seconds });
        }
        admitted
    }

    /// Says whether whoever was let in still would be, with the same rights. It counts as no request.
    pub(crate) async fn still(&self, parts: &Parts, visit: &Visit, who: &Principal) -> bool {
        self.check(parts, visit).await.is_ok_and(|principal| principal == *who)
    }

    async fn check(&self, parts: &Parts, visit: &Visit) -> Result<Principal, PageError> {
        let headers = &parts.headers;
        match &self.auth {
            Auth::LoopbackOnly => loopback(headers, visit),
            Auth::Basic(users) => basic(users, headers),
            Auth::Bearer(tokens) => {
                let shown = credentials(headers, "bearer").unwrap_or_default();
                let known = tokens.iter().map(|token| {
                    let is_it = token.secret.is(shown.as_bytes());
                    (is_it, token.name.as_str(), token.rights)
                });
                found(known).map(Principal::explicit).ok_or_else(|| denied(BEARER))
            }
            Auth::ForwardedUser { header, trusted_proxies, roles } => {
                let is_trusted = |peer| trusted_proxies.iter().any(|proxy| proxy.contains(peer));
                if !visit.peer.is_some_and(is_trusted) {
                    return Err(forbidden("only a trusted proxy may ask this monitor"));
                }
                let mut named = headers.get_all(header).iter();
                let name = match (named.next().map(|value| value.to_str()), named.next()) {
                    (Some(Ok(name)), None) if is_name(name) => name,
                    _ => return Err(PageError::Unauthenticated(None)),
                };
                let rights = roles.of(name).ok_or_else(|| forbidden("you have no role here"))?;
                Ok(Principal { name: name.to_owned(), rights, is_explicit: false })
            }
            Auth::Custom(custom) => ask(&**custom, parts, visit.client).await,
            Auth::None(_) => Ok(Principal::new("anyone", Role::Admin)),
        }
    }
}

fn loopback(headers: &HeaderMap, visit: &Visit) -> Result<Principal, PageError> {
    let Some(peer) = visit.peer else {
        let hint = "the address of the peer is not known: serve the router with \
                    into_make_service_with_connect_info::<SocketAddr>()";
        return Err(forbidden(hint));
    };
    let is_forwarded = headers.keys().any(|name| {
        name == "forwarded" || name == "via" || name.as_str().starts_with("x-forwarded-")
    });
    if is_forwarded {
        return Err(forbidden("a proxy forwarded this request, and only this machine may ask"));
    }
    if peer.to_canonical().is_loopback() {
        Ok(Principal::new("local", Role::Admin))
    } else {
        Err(forbidden("only this machine may ask this monitor"))
    }
}

fn basic(users: &[User], headers: &HeaderMap) -> Result<Principal, PageError> {
    let encoded = credentials(headers, "basic").unwrap_or_default();
    let decoded = STANDARD.decode(encoded).unwrap_or_default();
    let colon = decoded.iter().position(|&byte| byte == b':');
    // Without a colon there is no name, and no user has an empty one.
    let (name, password) = decoded.split_at(colon.unwrap_or(0));
    let password = password.strip_prefix(b":").unwrap_or_default();
    let known = users.iter().map(|user| {
        let is_it = user.name.as_bytes().ct_eq(name) & user.secret.is(password);
        (is_it, user.name.as_str(), user.rights)
    });
    found(known).ok_or_else(|| denied(BASIC))
}

/// The one that was recognised. Everyone is looked at, so that the time tells nothing.
fn found<'a>(known: impl Iterator<Item = (Choice, &'a str, Rights)>) -> Option<Principal> {
    let mut place = u32::MAX;
    let known: Vec<_> = known.collect();
    for (index, (is_it, ..)) in (0_u32..).zip(&known) {
        place.conditional_assign(&index, *is_it);
    }
    let (_, name, rights) = known.get(usize::try_from(place).ok()?)?;
    Some(Principal { name: (*name).to_owned(), rights: *rights, is_explicit: false })
}

/// What stands behind the scheme in `Authorization`.
fn credentials<'h>(headers: &'h HeaderMap, scheme: &str) -> Option<&'h str> {
    let (found, rest) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    found.eq_ignore_ascii_case(scheme).then(|| rest.trim())
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 128 && !name.chars().any(char::is_control)
}

async fn ask(
    custom: &dyn Authenticate,
    parts: &Parts,
    client: Option<IpAddr>,
) -> Result<Principal, PageError> {
    let answer = tokio::time::timeout(CUSTOM_TIMEOUT, custom.authenticate(parts, client)).await;
    match answer {
        Ok(Ok(principal)) => Ok(principal),
        Ok(Err(Denial::Unauthenticated { challenge })) => {
            Err(PageError::Unauthenticated(challenge))
        }
        Ok(Err(Denial::Forbidden { reason })) => Err(forbidden(&clean(&reason))),
        Err(_elapsed) => Err(forbidden("the check of who you are took too long")),
    }
}

fn denied(challenge: &str) -> PageError {
    PageError::Unauthenticated(Some(challenge.to_owned()))
}

fn forbidden(reason: &str) -> PageError {
    PageError::Forbidden(reason.to_owned())
}

/// The middleware: a handler behind it finds a [`Principal`] with the request.
pub(crate) async fn require(State(app): State<App>, request: Request, next: Next) -> Response {
    let Some(visit) = request.extensions().get::<Visit>().cloned() else {
        return PageError::Misdirected.into_response();
    };
    let (mut parts, body): (Parts, Body) = request.into_parts();
    match app.gate.admit(&parts, &visit).await {
        Ok(principal) => {
            if let Some(who) = parts.extensions.get::<Arc<OnceLock<Principal>>>() {
                who.get_or_init(|| principal.clone());
            }
            parts.extensions.insert(principal);
            // Forms are signed by the key of the store, so that every process takes them.
            app.forms.prepare(&**app.manager.store(), app.config.store_timeout).await;
            next.run(Request::from_parts(parts, body)).await
        }
        Err(error) => error.into_response(),
    }
}

/// The proxies that are believed, whichever setting names them.
pub(crate) fn proxies(auth: &Auth, trusted: &[Network]) -> Vec<Network> {
    let mut proxies = trusted.to_vec();
    if let Auth::ForwardedUser { trusted_proxies, .. } = auth {
        proxies.extend_from_slice(trusted_proxies);
    }
    proxies
}
