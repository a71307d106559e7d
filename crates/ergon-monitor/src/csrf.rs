//! Requests that change something have to come from our own pages, or from a program.
//!
//! No session is kept: a form carries a token that only a holder of the key can have made. The key is
//! in the store, so that every process that shares the store takes the forms of every other.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ergon_core::{
    Rng, Store,
    document::{DocumentRange, Expect, Put, PutVerdict, Space},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{
    HeaderMap, Method,
    header::{CONTENT_TYPE, ORIGIN},
    request::Parts,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use tokio::time::Instant;

use crate::{
    auth::Principal, config::MonitorConfig, error::PageError, guard::read_body, shared::App,
    visit::Visit,
};

/// The field of a form that carries the token.
pub(crate) const TOKEN_FIELD: &str = "_token";

/// The document that holds the key.
const KEY: &str = "monitor.form-key";

/// How long a store that could not give the key is left alone.
const KEY_RETRY: Duration = Duration::from_secs(30);

type Key = [u8; 32];

/// The key as the store keeps it.
#[derive(Serialize, Deserialize)]
struct KeptKey {
    key: String,
}

/// Makes and checks the tokens of forms.
pub(crate) struct Forms {
    own: Key,
    age_max: Duration,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    key: Option<Key>,
    asked_at: Option<Instant>,
}

impl std::fmt::Debug for Forms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forms").field("age_max", &self.age_max).finish_non_exhaustive()
    }
}

impl Forms {
    pub(crate) fn new(rng: &dyn Rng, age_max: Duration) -> Self {
        Self { own: draw(rng), age_max, kept: Mutex::default() }
    }

    /// The key that forms are signed with: that of the store, or else one of our own.
    fn key(&self) -> Key {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).key.unwrap_or(self.own)
    }

    /// Reads the key from the store, or gives it ours, unless that was tried a moment ago.
    pub(crate) async fn prepare(&self, store: &dyn Store, within: Duration) {
        {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let is_fresh = kept.asked_at.is_some_and(|at| at.elapsed() < KEY_RETRY);
            if kept.key.is_some() || is_fresh {
                return;
            }
            kept.asked_at = Some(Instant::now());
        }
        // A store that cannot keep the key is no hindrance: ours is as good for this process.
        if let Ok(Some(key)) = tokio::time::timeout(within, self.share(store)).await {
            self.kept.lock().unwrap_or_else(PoisonError::into_inner).key = Some(key);
        }
    }

    async fn share(&self, store: &dyn Store) -> Option<Key> {
        if let Some(key) = read(store).await {
            return Some(key);
        }
        let body = serde_json::to_vec(&KeptKey { key: hex::encode(self.own) }).ok()?;
        let put = Put::new(Space::Setting, KEY, body).expect(Expect::Absent);
        match store.put(&[put]).await.ok()?.first()? {
            PutVerdict::Done { .. } => Some(self.own),
            PutVerdict::Conflict => read(store).await,
        }
    }

    /// A token for a form that is shown to this one now.
    pub(crate) fn token(&self, principal: &Principal, now: Timestamp) -> String {
        let age_max = i64::try_from(self.age_max.as_secs()).unwrap_or(i64::MAX);
        let until = now.as_second().saturating_add(age_max);
        let mac = sign(&self.key(), until, principal).finalize().into_bytes();
        let mut bytes = until.to_be_bytes().to_vec();
        bytes.extend_from_slice(&mac);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Says whether the token was made for this one, and not too long ago.
    fn is_good(&self, token: &str, principal: &Principal, now: Timestamp) -> bool {
        let bytes = URL_SAFE_NO_PAD.decode(token).unwrap_or_default();
        let Some((until, mac)) = bytes.split_first_chunk::<8>() else { return false };
        let until = i64::from_be_bytes(*until);
        // A form that was signed before the key of the store was known is as good.
        let is_signed = [self.key(), self.own].iter().any(|key| {
            let expected = sign(key, until, principal).finalize().into_bytes();
            bool::from(expected.as_slice().ct_eq(mac))
        });
        is_signed && now.as_second() < until
    }
}

async fn read(store: &dyn Store) -> Option<Key> {
    let found = store.documents(&DocumentRange::one(Space::Setting, KEY)).await.ok()?;
    let kept: KeptKey = serde_json::from_slice(&found.first()?.body).ok()?;
    let mut key = Key::default();
    hex::decode_to_slice(kept.key, &mut key).ok()?;
    Some(key)
}

fn draw(rng: &dyn Rng) -> Key {
    let mut key = Key::default();
    for chunk in key.chunks_exact_mut(8) {
        chunk.copy_from_slice(&rng.next_u64().to_le_bytes());
    }
    key
}

fn sign(key: &Key, until: i64, principal: &Principal) -> Hmac<Sha256> {
    // A key of any length is taken; the empty one stands for an error that cannot be.
    let mut mac = Hmac::<Sha256>::new_from_slice(key)
        .unwrap_or_else(|_error| Hmac::<Sha256>::new(&Default::default()));
    mac.update(b"ergon form\0");
    mac.update(&until.to_be_bytes());
    mac.update(principal.name().as_bytes());
    mac
}

/// Says whether the browser, or the program, means it: by what browsers say of where a request comes
/// from, which no page can change.
fn comes_from_us(
    headers: &HeaderMap,
    visit: &Visit,
    config: &MonitorConfig,
) -> Result<(), &'static str> {
    if let Some(site) = headers.get("sec-fetch-site") {
        return if site == "same-origin" { Ok(()) } else { Err("it comes from another site") };
    }
    let Some(origin) = headers.get(ORIGIN).and_then(|origin| origin.to_str().ok()) else {
        return Err("it does not say where it comes from: send Origin, or use a bearer token");
    };
    let scheme = if visit.is_https { "https" } else { "http" };
    let own = visit.host.as_deref().map(|host| format!("{scheme}://{host}"));
    let is_own = |address: &str| address.eq_ignore_ascii_case(origin);
    if own.as_deref().is_some_and(is_own) || config.public_url.as_deref().is_some_and(is_own) {
        Ok(())
    } else {
        Err("it comes from another site")
    }
}

/// What kind of body a request brings.
enum Content {
    None,
    Form,
    Json,
}

fn content(headers: &HeaderMap) -> Option<Content> {
    let Some(content) = headers.get(CONTENT_TYPE) else { return Some(Content::None) };
    let name = content.to_str().ok()?.split(';').next()?.trim().to_ascii_lowercase();
    match name.as_str() {
        "application/x-www-form-urlencoded" => Some(Content::Form),
        "application/json" => Some(Content::Json),
        _ => None,
    }
}

/// The middleware of everything that may change something. Behind it the body is whole, and in
/// memory.
pub(crate) async fn check(State(app): State<App>, request: Request, next: Next) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return next.run(request).await;
    }
    match pass(&app, request).await {
        Ok(request) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

async fn pass(app: &App, request: Request) -> Result<Request, PageError> {
    let (parts, body): (Parts, Body) = request.into_parts();
    let (Some(visit), Some(principal)) =
        (parts.extensions.get::<Visit>(), parts.extensions.get::<Principal>())
    else {
        return Err(PageError::Unauthenticated(None));
    };
    let forged = |why: &str| PageError::Forbidden(format!("this request is not taken: {why}"));
    if !principal.is_explicit {
        comes_from_us(&parts.headers, visit, &app.config).map_err(forged)?;
    }
    let config = &app.config;
    let content = content(&parts.headers).ok_or(PageError::MediaType)?;
    let body = read_body(body, config.body_bytes_max, config.body_timeout).await?;
    let needs_token = match content {
        // Without a body nothing says what it is; a form of a browser always does.
        Content::None if !body.is_empty() => return Err(PageError::MediaType),
        Content::None | Content::Json => false,
        Content::Form => !principal.is_explicit,
    };
    if needs_token {
        let mut fields = form_urlencoded::parse(&body);
        let token = fields.find(|(name, _)| name == TOKEN_FIELD).map(|(_, token)| token);
        let token = token.ok_or_else(|| forged("the form has no token"))?;
        if !app.forms.is_good(&token, principal, app.clock.now()) {
            return Err(forged("the form is too old: go back, load the page anew, and try again"));
        }
    }
    Ok(Request::from_parts(parts, Body::from(body)))
}

#[cfg(test)]
mod tests {
    use ergon_core::SystemRng;

    use super::*;
    use crate::auth::Role;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_token_is_good_for_its_owner_and_for_a_while() {
        let forms = Forms::new(&SystemRng, HOUR);
        let (ana, bob) = (Principal::new("ana", Role::Admin), Principal::new("bob", Role::Admin));
        let token = forms.token(&ana, at(1_000));
        assert!(forms.is_good(&token, &ana, at(1_000)));
        assert!(forms.is_good(&token, &ana, at(1_000 + 3_599)));
        assert!(!forms.is_good(&token, &ana, at(1_000 + 3_600)));
        assert!(!forms.is_good(&token, &bob, at(1_000)));
        assert!(!Forms::new(&SystemRng, HOUR).is_good(&token, &ana, at(1_000)));
        let mut changed = token.clone().into_bytes();
        changed[3] ^= 1;
        for bad in ["", "x", &token[1..], &String::from_utf8(changed).unwrap()] {
            assert!(!forms.is_good(bad, &ana, at(1_000)), "{bad}");
        }
    }
}
